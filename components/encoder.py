"""Find the encoder that section `encode` names and put it where later steps read it, or train one by DINO."""

import argparse
from pathlib import Path

from oapseg import storage
from oapseg.encode.load import resolve
from oapseg.monitor.history import TABLE, history_csv
from oapseg.params import load_params
from oapseg.shards.manifest import load_manifest
from oapseg.train.run import train_encoder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shards", required=True, help="shards to train on, where encoder.train is true")
    parser.add_argument("--out", required=True, type=Path, help="folder for the encoder")


def main(args: argparse.Namespace) -> None:
    params = load_params(args.params)
    if params.encoder.train:
        train_encoder(params, load_manifest(args.shards), args.out)
    else:
        encoder = resolve(params.encode, args.out)
        storage.write_text(args.out / TABLE, history_csv({}))  # no curve: `dvc plots` calls a file not there a failure
        print(f"{args.out}: {params.encode.name}, patch {encoder.patch_px} px, {encoder.channels} channels")
