"""Step `shard`: the photos of one set to tar shards and a manifest, in one go or in parts on many machines."""

import argparse
import re

from oapseg.params import load_params
from oapseg.shards.manifest import Manifest
from oapseg.shards.parts import Part, join_parts
from oapseg.shards.sources import list_set
from oapseg.shards.write import write_set


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("set", help="a set of shards.sets")
    parser.add_argument("--root", help="folder that stands for the set's root, where an engine gives one")
    parser.add_argument("--out", required=True, help="folder or s3:// URL for the shards and manifest.json")
    parser.add_argument("--part", metavar="I/N", help="write part I of N alone, I from 1 on; join them afterwards")
    parser.add_argument("--parts", metavar="N", type=int, help="number of parts to join")
    parser.add_argument(
        "--join", action="store_true", help="make one set of the parts in --out, as if written in one go"
    )


def main(args: argparse.Namespace) -> None:
    params = load_params(args.params).shards
    if args.set not in params.sets:
        raise ValueError(f"shards.sets has no {args.set}; it has {', '.join(sorted(params.sets))}")
    if args.join != (args.parts is not None) or (args.join and args.part):
        raise ValueError("--join needs --parts N, the number of parts, and neither goes with --part")
    if args.join and args.parts < 1:
        raise ValueError(f"--parts: must be at least 1, is {args.parts}")
    if args.join:
        print(summary(join_parts(args.out, args.parts)))
        return
    part = None if args.part is None else parse_part(args.part)
    manifest = write_set(
        list_set(params.sets[args.set], args.root),
        args.out,
        samples_per_shard=params.samples_per_shard,
        max_broken=params.max_broken,
        max_pixels=params.max_pixels,
        workers=params.workers,
        part=part,
    )
    print(f"part {args.part} of {summary(manifest)}" if part else summary(manifest))


def parse_part(text: str) -> Part:
    """`I/N` as a part. Errors: `ValueError` where it is not of that form, or I is not in 1..N."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"--part: must be I/N with I in 1..N, such as 3/8, is {text!r}")
    return Part(int(match[1]), int(match[2]))


def summary(manifest: Manifest) -> str:
    """What was written, and what was left out and why, in a line."""
    size_mb = sum(shard.bytes for shard in manifest.shards) / 1e6
    skipped = [f"{len(names)} {reason} ({names[0]})" for reason, names in sorted(manifest.skipped.items())]
    return (
        f"{manifest.location}: {manifest.num_samples} photos in {len(manifest.shards)} shards, {size_mb:.1f} MB, "
        f"labels {', '.join(manifest.labels) or 'none'}, skipped {', '.join(skipped) or 'none'}"
    )
