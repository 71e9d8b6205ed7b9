"""Step `compare`: a leaderboard of generators on the same photos, their masks made where the step pool has not yet."""

import argparse

from oapseg.encode.load import load_folder
from oapseg.evaluate.compare import check_names
from oapseg.evaluate.predict import choose_device
from oapseg.params import load_params
from oapseg.pool import GENERATORS
from oapseg.report.compare_command import run
from oapseg.shards.manifest import load_manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--encoder", required=True, help="folder of the encoder whose features are pooled")
    parser.add_argument("--shards", required=True, help="shards of the photos, with labels or without")
    parser.add_argument("--pooled", help="folder with what the step pool made, one below it for each generator")
    parser.add_argument("--generators", metavar="A,B", help="which ones; default: all")
    parser.add_argument("--out", required=True, help="folder for the leaderboard, and for masks that are made here")


def main(args: argparse.Namespace) -> None:
    params = load_params(args.params)
    names = list(GENERATORS) if args.generators is None else args.generators.split(",")
    check_names(names)
    manifest = load_manifest(args.shards)
    encoder = load_folder(args.encoder).to(choose_device(params.predict.device))
    run(manifest, encoder, names, params, args.out, args.pooled)
