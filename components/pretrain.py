"""Train the segmenter on photos without labels, its pseudo-masks pooled from the teacher inside each step."""

import argparse
from pathlib import Path

from oapseg.params import load_params
from oapseg.shards.manifest import load_manifest
from oapseg.train.run import pretrain


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shards", required=True, help="shards to learn from")
    parser.add_argument("--encoder", required=True, type=Path, help="folder of the encoder to start from")
    parser.add_argument("--out", required=True, type=Path, help="folder for checkpoints, history and model")


def main(args: argparse.Namespace) -> None:
    params = load_params(args.params)
    print(pretrain(params, load_manifest(args.shards), args.encoder, args.out))
