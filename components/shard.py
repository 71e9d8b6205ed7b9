"""Step `shard`: the photos of one set to tar shards and a manifest."""

import argparse

from oapseg.params import load_params
from oapseg.shards.manifest import Manifest
from oapseg.shards.sources import list_set
from oapseg.shards.write import write_set


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("set", help="a set of shards.sets")
    parser.add_argument("--root", help="folder that stands for the set's root, where an engine gives one")
    parser.add_argument("--out", required=True, help="folder for the shards and manifest.json")


def main(args: argparse.Namespace) -> None:
    params = load_params(args.params).shards
    if args.set not in params.sets:
        raise ValueError(f"shards.sets has no {args.set}; it has {', '.join(sorted(params.sets))}")
    manifest = write_set(
        list_set(params.sets[args.set], args.root),
        args.out,
        samples_per_shard=params.samples_per_shard,
        max_broken=params.max_broken,
        max_pixels=params.max_pixels,
        workers=params.workers,
    )
    print(summary(manifest))


def summary(manifest: Manifest) -> str:
    """What was written, and what was left out and why, in a line."""
    size_mb = sum(shard.bytes for shard in manifest.shards) / 1e6
    skipped = [f"{len(names)} {reason} ({names[0]})" for reason, names in sorted(manifest.skipped.items())]
    return (
        f"{manifest.location}: {manifest.num_samples} photos in {len(manifest.shards)} shards, {size_mb:.1f} MB, "
        f"labels {', '.join(manifest.labels) or 'none'}, skipped {', '.join(skipped) or 'none'}"
    )
