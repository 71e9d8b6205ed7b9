"""Train the Adaptive Concept Generator, which the generator `acseg` finds its concepts with."""

import argparse
from pathlib import Path

from oapseg.params import load_params
from oapseg.shards.manifest import load_manifest
from oapseg.train.acg import train_concepts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shards", required=True, help="shards to learn from")
    parser.add_argument("--encoder", required=True, type=Path, help="folder of the encoder whose patches are grouped")
    parser.add_argument("--out", required=True, type=Path, help="folder for checkpoints, history and weights")


def main(args: argparse.Namespace) -> None:
    params = load_params(args.params)
    print(train_concepts(params, load_manifest(args.shards), args.encoder, args.out))
