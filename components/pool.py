"""Step `pool`: pseudo-masks of every photo of a set by one generator, on one machine or shared by many workers."""

import argparse
import os
from collections.abc import Sequence

from components.shard import parse_part
from oapseg.encode.load import load_folder
from oapseg.evaluate.cost import read_cost, read_memory, write_memory
from oapseg.evaluate.generators import check_name, make_generator, rounded
from oapseg.evaluate.pooling import NAMED_FAILED, Job, fingerprint, pool_set, probe_set
from oapseg.evaluate.predict import check_side, choose_device
from oapseg.evaluate.predictions import Parts
from oapseg.evaluate.probe import Probed
from oapseg.params import load_params
from oapseg.shards.manifest import load_manifest
from oapseg.shards.parts import Part


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("generator", help="a generator, with its section of pool")
    parser.add_argument("--encoder", required=True, help="folder of the encoder whose features are pooled")
    parser.add_argument("--shards", required=True, help="shards of the photos")
    parser.add_argument("--out", required=True, help="folder or s3:// URL for the masks, a part a shard")
    parser.add_argument(
        "--part", metavar="I/N", help="the shards of worker I of N, from 1 on; default: RANK and WORLD_SIZE, if set"
    )


def main(args: argparse.Namespace) -> None:
    params = load_params(args.params)
    check_name(args.generator)
    part = own_part() if args.part is None else parse_part(args.part)
    manifest = load_manifest(args.shards)
    encoder = load_folder(args.encoder).to(choose_device(params.predict.device))
    generator = make_generator(args.generator, params, encoder)
    check_side(params.predict, encoder)
    decided = fingerprint(args.generator, params, encoder, manifest)
    parts = Parts(args.out, manifest, decided, shared=part is not None)
    mine = range(len(manifest.shards)) if part is None else part.shards(len(manifest.shards))
    num_photos = sum(manifest.shard_sizes[mine.start : mine.stop])
    job = Job(args.generator, generator, parts, int(params.shards.max_broken * num_photos))
    pool_set(manifest, encoder, [job], params, part=part, what=f"masks by {args.generator}")
    if job.given_up is not None:
        raise ValueError(f"{job.given_up} (shards.max_broken)")
    probed = read_memory(args.out, decided)
    if probed is None and num_photos and (part is None or part.number == 1):
        probed = probe_set(args.generator, params, encoder, manifest)
        write_memory(args.out, decided, probed)
    print(summary(args.out, mine, job.failed, probed))
    if (changed := rounded(args.generator, params, encoder)) is not None:
        print(changed)


def own_part() -> Part | None:
    """The part of this process where a launcher started several: `RANK` of `WORLD_SIZE`.

    Errors: `ValueError` where they are no place among the workers.
    """
    rank, world = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if not (rank.isdecimal() and world.isdecimal() and int(rank) < int(world)):
        raise ValueError(f"RANK, WORLD_SIZE: must be a rank from 0 on and the number of ranks, are {rank}, {world}")
    return None if int(world) == 1 else Part(int(rank) + 1, int(world))


def summary(out: str, mine: Sequence[int], failed: dict[str, str], probed: Probed | None) -> str:
    """What was made and what it took, in a line."""
    cost = read_cost(out, mine)
    seconds = cost.seconds / max(cost.photos, 1)
    masks = cost.measures.get("instance", 0.0) + cost.measures.get("semantic", 0.0)
    memory = f", {probed.peak_bytes / 1e6:.0f} MB for one" if probed and probed.peak_bytes is not None else ""
    memory = f", memory not known ({probed.failure})" if probed and probed.failure is not None else memory
    said = ", ".join(f"{name} ({reason})" for name, reason in list(failed.items())[:NAMED_FAILED]) or "none"
    return (
        f"{out}: {cost.photos} photos in {len(mine)} parts, {masks:.1f} masks a photo; {seconds:.4f} s a photo besides "
        f"the encoder{memory}; failed: {said}"
    )
