"""Score what the step predict made against the labels of the same photos; needs no accelerator."""

import argparse
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from oapseg import storage
from oapseg.evaluate.benchmark import own_benchmark
from oapseg.evaluate.concepts import add_concepts
from oapseg.evaluate.details import details_of, details_text, task_ids
from oapseg.evaluate.predictions import MAKERS, read_makers
from oapseg.evaluate.resamples import RESAMPLES, write_resamples
from oapseg.evaluate.runs import DETAILS, METRICS, Scored, seen_of
from oapseg.evaluate.scores import GAIN, MODEL, SIZES, Group, Score, as_json, as_scores, headlines, score_maker
from oapseg.params import Params, load_params
from oapseg.shards.manifest import load_manifest

LOG_COLUMNS = 130  # of a table that goes to a log


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--predictions", required=True, help="folder that the step predict wrote")
    parser.add_argument("--shards", required=True, help="labelled shards to score on")
    parser.add_argument("--train-shards", help="labelled shards for the clusters' classes, where fit_on is train")
    parser.add_argument("--benchmark", help="what to call it; default: the name of the folder of shards")
    parser.add_argument("--out", required=True, type=Path, help="folder for metrics, details and headlines")


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
    details: dict[str, dict[str, Any]] = {}
    makers = read_makers(val.predictions)
    ids = task_ids(val.manifest, val.benchmark.tasks)
    for name, maker in makers.items():
        seen, seen_fit = seen_of(name, val, fit, params.evaluate, params.seed)
        groups[name] = score_maker(
            maker, seen, seen_fit, fit.benchmark.split, val.benchmark, params.evaluate, params.evaluate.bootstrap_seed
        )
        add_concepts(groups[name], name, maker, val, fit, (seen, seen_fit), params.evaluate, params.seed)
        details[name] = details_of(seen, seen_fit, ids, val.benchmark, params.evaluate)
    scores = as_scores(groups)
    storage.write_text(out / DETAILS, details_text(details, val.benchmark, params.evaluate, params.seed))
    storage.write_json(out / METRICS, as_json(scores))
    storage.write_json(out / "headlines.json", headlines(scores, val.benchmark.max_dets))
    drawn = params.evaluate.bootstrap, params.evaluate.bootstrap_seed
    write_resamples(out / RESAMPLES, groups[MODEL], *drawn)
    print_scores(scores, list(makers))


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
    for text in dict.fromkeys(_said(score) for flat, score in scores.items() if not flat.startswith(f"{GAIN}.")):
        console.print(text)


def _said(score: Score) -> str:
    mapped = "" if score.mapping is None else f" Clusters to classes: {score.mapping}, fitted on {score.fit_on}."
    return f"{score.images} photos of {score.split}. {score.protocol}.{mapped}"


def _cell(score: Score | None) -> str:
    """Value and interval; `z` keeps a small loss from printing as -0.0."""
    if score is None:
        return "-"
    deviation = "" if score.deviation is None else f" ± {score.deviation:.1f}"
    return f"{score.value:z.1f}{deviation}" + ("" if score.low is None else f" [{score.low:z.1f}, {score.high:z.1f}]")


def _scored(shards: str, predictions: str, name: str, params: Params) -> Scored:
    manifest = load_manifest(shards)
    return Scored(manifest, predictions, own_benchmark(name, manifest, _name(shards), params.evaluate))


def _name(shards: str) -> str:
    """The name of a set of shards: its folder."""
    return shards.removesuffix("manifest.json").rstrip("/").rsplit("/", 1)[-1]
