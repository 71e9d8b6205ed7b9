"""A public benchmark from its official layout to its scores: shards, predictions and metrics, kept for the next run."""

import argparse
from pathlib import Path

from components.evaluate import Scored, score
from components.predict import predict_sets
from oapseg import storage
from oapseg.evaluate.benchmark import public_benchmark
from oapseg.params import BenchmarkParams, Params, load_params
from oapseg.shards.manifest import Manifest, load_manifest
from oapseg.shards.sources import list_benchmark
from oapseg.shards.write import write_set

SOURCE = "source.json"  # what the shards were made of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="a benchmark of section benchmarks")
    parser.add_argument("--root", help="folder that stands for the benchmark's root")
    parser.add_argument("--encoder", required=True, help="folder of the plain encoder that the generator pools")
    parser.add_argument(
        "--model",
        required=True,
        nargs=2,
        action="append",
        metavar=("NAME", "FOLDER"),
        help="a trained model, or several",
    )
    parser.add_argument("--out", required=True, type=Path, help="folder for shards, predictions and metrics.json")


def main(args: argparse.Namespace) -> None:
    params = load_params(args.params)
    if args.name not in params.benchmarks:
        raise ValueError(f"benchmarks has no {args.name}; it has {', '.join(params.benchmarks)}")
    if params.evaluate.fit_on == "train":
        raise ValueError("evaluate.fit_on is train; a public benchmark maps clusters to classes on its own photos: val")
    chosen = params.benchmarks[args.name]
    manifest = shards_of(args.name, chosen, args.root, args.out, params)
    more = {"max_masks": max(params.predict.max_masks, chosen.max_dets)}
    params = params.model_copy(update={"predict": params.predict.model_copy(update=more)})
    predictions = str(args.out / "predict")
    predict_sets({predictions: manifest}, args.encoder, dict(args.model), params)
    scored = Scored(manifest, predictions, public_benchmark(args.name, manifest, chosen))
    score(scored, scored, params, args.out)


def shards_of(name: str, chosen: BenchmarkParams, root: str | None, out: Path, params: Params) -> Manifest:
    """The benchmark's shards, made once for one source.

    Errors: `MissingData` where the data set is not there, with what to put where.
    """
    said = {"root": root, **chosen.model_dump(mode="json")}
    if storage.exists(out / SOURCE) and storage.read_json(out / SOURCE) == said:
        return load_manifest(str(out / "shards"))
    listings = list_benchmark(name, chosen, root)
    storage.delete(out / "shards")
    manifest = write_set(
        listings,
        str(out / "shards"),
        samples_per_shard=params.shards.samples_per_shard,
        max_broken=params.shards.max_broken,
        max_pixels=params.shards.max_pixels,
        workers=params.shards.workers,
    )
    storage.write_json(out / SOURCE, said)
    return manifest
