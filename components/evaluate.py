"""Score what the step predict made against the labels of the same photos; needs no accelerator."""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from oapseg import storage
from oapseg.evaluate.benchmark import Benchmark, own_benchmark
from oapseg.evaluate.look import Seen, look
from oapseg.evaluate.predict import REGION
from oapseg.evaluate.predictions import MAKERS, Predictions, read_makers
from oapseg.evaluate.scores import GAIN, MODEL, SIZES, Group, Score, as_json, as_scores, headlines, score_maker
from oapseg.match.kmeans import fit_centres, nearest_centre
from oapseg.params import Params, load_params
from oapseg.shards.manifest import Manifest, load_manifest

LOG_COLUMNS = 110  # of a table that goes to a log


class Scored(NamedTuple):
    """Photos, the predictions of them, and what they are scored by."""

    manifest: Manifest
    predictions: str
    benchmark: Benchmark


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--predictions", required=True, help="folder that the step predict wrote")
    parser.add_argument("--shards", required=True, help="labelled shards to score on")
    parser.add_argument("--train-shards", help="labelled shards for the clusters' classes, where fit_on is train")
    parser.add_argument("--benchmark", help="what to call it; default: the name of the folder of shards")
    parser.add_argument("--out", required=True, type=Path, help="folder for metrics.json and headlines.json")


def main(args: argparse.Namespace) -> None:
    params = load_params(args.params)
    val = _scored(args.shards, args.predictions, args.benchmark or _name(args.shards), params)
    fit = val
    if params.evaluate.fit_on == "train":
        if args.train_shards is None:
            raise ValueError("evaluate.fit_on is train, so --train-shards must name labelled shards")
        fit = _scored(args.train_shards, storage.join(args.predictions, "train"), _name(args.train_shards), params)
        if not storage.exists(storage.join(fit.predictions, MAKERS)):
            raise ValueError("evaluate.fit_on is train, but its photos were not predicted; set predict.train: true")
    score(val, fit, params, args.out)


def score(val: Scored, fit: Scored, params: Params, out: Path) -> None:
    """Scores of every maker to `out`, and on the console; `fit` is where clusters get their classes."""
    groups: dict[str, Group] = {}
    makers = read_makers(val.predictions)
    for name, maker in makers.items():
        seen, seen_fit = seen_of(name, val, fit, params)
        groups[name] = score_maker(
            maker, seen, seen_fit, fit.benchmark.split, val.benchmark, params.evaluate, params.seed
        )
    scores = as_scores(groups)
    storage.write_json(out / "metrics.json", as_json(scores))
    storage.write_json(out / "headlines.json", headlines(scores, val.benchmark.max_dets))
    print_scores(scores, list(makers))


def seen_of(name: str, val: Scored, fit: Scored, params: Params) -> tuple[Seen, Seen]:
    """What one maker predicted for the scored photos, and for those that its clusters get their classes on."""
    made, fitted = (Predictions(storage.join(each.predictions, name)) for each in (val, fit))
    kind = REGION
    if (features := fitted.features()) is not None:
        kind = "semantic"
        centres = fit_centres(np.concatenate(features), params.evaluate.feature_clusters, params.seed)
        for each in (made, fitted):
            each.clusters = [nearest_centre(part, centres) for part in each.features() or []]
    seen = look(val.manifest, made, val.benchmark, params.evaluate, kind)
    if val is fit:
        return seen, seen
    return seen, look(fit.manifest, fitted, fit.benchmark, params.evaluate, kind)


def print_scores(scores: dict[str, Score], makers: list[str]) -> None:
    """The table that ends the step, over all sizes; `metrics.json` has the rest."""
    columns = [*makers, GAIN]
    names = dict.fromkeys(flat.split(".")[1] for flat in scores if not flat.endswith(SIZES))
    benchmarks = dict.fromkeys(score.benchmark for score in scores.values())
    table = Table(title=f"{', '.join(benchmarks)}: percent, 95 % intervals", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for maker in columns:
        table.add_column(maker, justify="right", no_wrap=True)
    for name in names:
        table.add_row(name.replace("_", " "), *(_cell(scores.get(f"{maker}.{name}")) for maker in columns))
    console = Console(highlight=False)
    console.width = max(console.width, 0 if console.is_terminal else LOG_COLUMNS)
    console.print(table)
    for text in dict.fromkeys(_said(score) for flat, score in scores.items() if flat.startswith(f"{MODEL}.")):
        console.print(text)


def _said(score: Score) -> str:
    mapped = "" if score.mapping is None else f" Clusters to classes: {score.mapping}, fitted on {score.fit_on}."
    return f"{score.images} photos of {score.split}. {score.protocol}.{mapped}"


def _cell(score: Score | None) -> str:
    """Value and interval; `z` keeps a small loss from printing as -0.0."""
    if score is None:
        return "-"
    return f"{score.value:z.1f}" + ("" if score.low is None else f" [{score.low:z.1f}, {score.high:z.1f}]")


def _scored(shards: str, predictions: str, name: str, params: Params) -> Scored:
    manifest = load_manifest(shards)
    return Scored(manifest, predictions, own_benchmark(name, manifest, _name(shards), params.evaluate))


def _name(shards: str) -> str:
    """The name of a set of shards: its folder."""
    return shards.removesuffix("manifest.json").rstrip("/").rsplit("/", 1)[-1]
