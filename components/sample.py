"""Step `sample`: draw the embedded photos and their labels."""

import argparse

from oapseg.params import load_params
from oapseg.shards.sample import make_sample


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, help="folder for the photos and their labels, in COCO's layout")


def main(args: argparse.Namespace) -> None:
    params = load_params(args.params)
    make_sample(args.out, params.sample, seed=params.seed, workers=params.shards.workers)
