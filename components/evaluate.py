"""Predict once, then score: the trained model and the generator on labelled shards, to metrics and predictions."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from oapseg import storage
from oapseg.checkpoint.export import load_model
from oapseg.encode.load import load_folder
from oapseg.evaluate.ground_truth import load_ground_truth
from oapseg.evaluate.predict import check_side, choose_device, predict_generator, predict_model, write_results
from oapseg.evaluate.scores import SIZES, Labelled, Score, as_json, headlines, score_all
from oapseg.params import Params, load_params
from oapseg.pool import GENERATORS
from oapseg.pool.generator import Generator
from oapseg.shards.manifest import load_manifest
from oapseg.shards.read import Photos


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="folder of the trained model")
    parser.add_argument("--encoder", required=True, help="folder of the plain encoder that the generator pools")
    parser.add_argument("--shards", required=True, help="labelled shards to score on")
    parser.add_argument(
        "--train-shards", help="labelled shards for the cluster mapping, where evaluate.fit_on is train"
    )
    parser.add_argument("--out", required=True, type=Path, help="folder for metrics, scores and predictions")


def main(args: argparse.Namespace) -> None:
    params = load_params(args.params)
    manifest = load_manifest(args.shards)
    truth = load_ground_truth(manifest)
    fit_truth = truth if params.evaluate.fit_on == "val" else _train_truth(args.train_shards)
    generator = choose_generator(params)
    device = choose_device(params.evaluate.device)
    segmenter = load_model(args.model, device)
    encoder = load_folder(args.encoder).to(device)
    for each in (segmenter.backbone.encoder, encoder):
        check_side(params.evaluate, each)

    def predict(shards: str, name: str) -> list[dict[str, Any]]:
        return _kept(args.out, name, predict_model(segmenter, Photos(load_manifest(shards)), params.evaluate))

    model = predict(args.shards, "model")
    pooled = predict_generator(encoder, generator.batch, Photos(manifest), params.evaluate)
    val = Labelled(_split(args.shards), truth, model)
    fit = val
    if params.evaluate.fit_on == "train":
        fit = Labelled(_split(args.train_shards), fit_truth, predict(args.train_shards, "model_train"))
    scores = score_all(val, _kept(args.out, "generator", pooled), fit, params.evaluate, params.seed)

    storage.write_json(args.out / "ground_truth.json", truth)
    storage.write_json(args.out / "metrics.json", as_json(scores))
    storage.write_json(args.out / "headlines.json", headlines(scores, params.evaluate.max_dets))
    print_scores(scores)


def choose_generator(params: Params) -> Generator:
    """The generator that section `evaluate` names, built from its own section.

    Errors: `ValueError` where there is none of that name.
    """
    name = params.evaluate.generator
    if name not in GENERATORS:
        raise ValueError(f"evaluate.generator: no generator {name!r}; allowed are {', '.join(sorted(GENERATORS))}")
    generator: Generator = GENERATORS[name](**params.pool[name])
    return generator


def print_scores(scores: dict[str, Score]) -> None:
    """The table that ends the step, over all sizes; `metrics.json` has the rest."""
    pooled = scores["generator.mask_AP"]
    table = Table(
        title=f"Percent on {pooled.images} photos of {pooled.split}, 95 % intervals", box=SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("", no_wrap=True)
    for heading in (pooled.generator, "model", "gain", "class"):
        table.add_column(str(heading), justify="right", no_wrap=True)
    for name in dict.fromkeys(flat.split(".")[1] for flat in scores if not flat.endswith(SIZES)):
        cells = [_cell(scores[f"{group}.{name}"]) for group in ("generator", "model", "gain")]
        classes = scores.get(f"classes.{name}")
        table.add_row(name.replace("_", " "), *cells, "-" if classes is None else f"{classes.value:.1f}")
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{pooled.protocol}. Scores of {pooled.generator}: {pooled.score_rule}.")
    if (mapped := scores.get("classes.mask_AP")) is not None:
        console.print(
            f"By class: {mapped.mapping}, fitted on {mapped.fit_on}, {mapped.mapped_clusters} clusters mapped."
        )


def _cell(score: Score) -> str:
    """Value and interval; `z` keeps a small loss from printing as -0.0."""
    return f"{score.value:z.1f}" + ("" if score.low is None else f" [{score.low:z.1f}, {score.high:z.1f}]")


def _kept(out: Path, name: str, results: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Results on disk first, as they come, then all of them for scoring."""
    path = out / "predictions" / f"{name}.json"
    write_results(path, results)
    read: list[dict[str, Any]] = storage.read_json(path)
    return read


def _train_truth(shards: str | None) -> dict[str, Any]:
    if shards is None:
        raise ValueError("evaluate.fit_on is train, so --train-shards must name labelled shards")
    return load_ground_truth(load_manifest(shards))


def _split(shards: str) -> str:
    """The name of a set of shards: its folder."""
    return shards.removesuffix("manifest.json").rstrip("/").rsplit("/", 1)[-1]
