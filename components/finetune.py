"""Go on from a pretrained checkpoint on a weighted mix of shards; the same loop as pretraining."""

import argparse
from pathlib import Path

from oapseg.params import load_params
from oapseg.shards.manifest import load_manifest
from oapseg.train.run import finetune


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--start", required=True, type=Path, help="folder of the pretraining to go on from")
    parser.add_argument("--encoder", required=True, type=Path, help="folder of the encoder")
    parser.add_argument(
        "--set",
        required=True,
        nargs=2,
        action="append",
        metavar=("NAME", "SHARDS"),
        help="a set of finetune.mix and its shards; once for each",
    )
    parser.add_argument("--out", required=True, type=Path, help="folder for checkpoints, history and model")


def main(args: argparse.Namespace) -> None:
    params = load_params(args.params)
    sets = {name: load_manifest(shards) for name, shards in args.set}
    print(finetune(params, sets, args.encoder, args.start, args.out))
