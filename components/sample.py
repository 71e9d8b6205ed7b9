"""Step `sample`: draw the embedded photos and their labels."""

import argparse

from oapseg.shards.sample import main

__all__ = ["add_arguments", "main"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", required=True, help="folder for the photos and their labels, in COCO's layout")
