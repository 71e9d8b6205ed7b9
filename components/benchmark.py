"""A public benchmark from its official layout to its scores: shards, predictions and metrics, kept for the next run."""

import argparse
import sys
from pathlib import Path

from components.container import MISSING
from components.evaluate import score
from components.predict import predict_sets
from oapseg import storage
from oapseg.evaluate.benchmark import on_other_photos, public_benchmark, settings_of, split_of
from oapseg.evaluate.runs import Scored
from oapseg.params import BenchmarkParams, Params, load_params
from oapseg.shards.listing import MissingData
from oapseg.shards.manifest import Manifest, load_manifest
from oapseg.shards.sources import list_benchmark
from oapseg.shards.write import write_set

SOURCE = "source.json"  # what the shards were made of
PROTOCOL = {"fit_sources", "predict", "evaluate", "crf"}  # of a benchmark; decide no shard of what is scored


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


def main(args: argparse.Namespace) -> int:
    """Exit code 3 where the data set is not there, so that a run of all benchmarks can tell that from bad input."""
    params = load_params(args.params)
    if args.name not in params.benchmarks:
        raise ValueError(f"benchmarks has no {args.name}; it has {', '.join(params.benchmarks)}")
    try:
        run(args.name, settings_of(args.name, params), args)
    except MissingData as error:
        print(f"python -m components benchmark: {error}", file=sys.stderr)
        return MISSING
    return 0


def run(name: str, params: Params, args: argparse.Namespace) -> None:
    """Shards, predictions and scores, of the photos that are scored and of those that clusters get their classes on.

    `params` are `settings_of` the benchmark.

    Errors: `MissingData` where the data set is not there; `ValueError` where it has no other photos to fit on.
    """
    chosen, predictions = params.benchmarks[name], str(args.out / "predict")
    val = shards_of(name, chosen, args.root, args.out, "shards", params)
    benchmark = public_benchmark(name, val, chosen)
    scored = fit = Scored(val, predictions, benchmark)
    sets = {predictions: val}
    if params.evaluate.fit_on == "train" and benchmark.maps_clusters:
        if chosen.fit_sources is None:
            raise ValueError(
                f"benchmarks.{name} has no fit_sources: with evaluate.fit_on train it must name labelled photos for "
                "the clusters' classes; set them, or evaluate.fit_on: val"
            )
        others = chosen.model_copy(update={"sources": chosen.fit_sources})
        train = shards_of(name, others, args.root, args.out, "shards/fit", params)
        place = storage.join(predictions, "train")
        sets[place] = train
        fit = Scored(train, place, on_other_photos(benchmark, train, split_of(others.sources)))
    section = f"predict (with benchmarks.{name}.predict)" if chosen.predict.model_dump(exclude_none=True) else "predict"
    predict_sets(sets, args.encoder, dict(args.model), params, section)
    score(scored, fit, params, args.out)


def shards_of(name: str, chosen: BenchmarkParams, root: str | None, out: Path, folder: str, params: Params) -> Manifest:
    """The shards of a benchmark's sources in a folder of `out`, made once for one source.

    Errors: `MissingData` where the data set is not there, with what to put where.
    """
    said = {"root": root, **chosen.model_dump(mode="json", exclude=PROTOCOL)}
    source = out / folder / SOURCE
    if storage.exists(source) and storage.read_json(source) == said:
        return load_manifest(str(out / folder))
    listings = list_benchmark(name, chosen, root)
    storage.delete(out / folder)
    manifest = write_set(
        listings,
        str(out / folder),
        samples_per_shard=params.shards.samples_per_shard,
        max_broken=params.shards.max_broken,
        max_pixels=params.shards.max_pixels,
        workers=params.shards.workers,
    )
    storage.write_json(source, said)
    return manifest
