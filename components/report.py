"""One self-contained HTML page of the run, and the training histories as tables for `dvc plots`."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8
from rich.console import Console
from rich.progress import track
from torch import Tensor

from oapseg import storage
from oapseg.evaluate.ground_truth import all_labels
from oapseg.evaluate.overlaps import INSTANCE
from oapseg.evaluate.predictions import Predictions
from oapseg.evaluate.scores import read_scores
from oapseg.params import load_params
from oapseg.report.history import history_csv, read_history
from oapseg.report.page import render
from oapseg.report.photos import Panel, side_by_side, spread
from oapseg.shards.manifest import load_manifest
from oapseg.shards.read import Photos

TITLE = "Training report"
MAX_PAGE_BYTES = 5_000_000  # what mail and chat carry
PICTURE_SHARE = 0.9  # of those; the rest is text and curves
PANELS = 4  # pictures a photo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--evaluate", required=True, type=Path, help="folder that the step evaluate wrote")
    parser.add_argument("--predictions", required=True, help="folder that the step predict wrote")
    parser.add_argument("--pretrain", required=True, type=Path, help="folder of the pretraining, with its history")
    parser.add_argument("--finetune", required=True, type=Path, help="folder of the fine-tuning, with its history")
    parser.add_argument("--shards", required=True, help="the shards that were scored")
    parser.add_argument("--out", required=True, type=Path, help="folder for the page and the tables")


def main(args: argparse.Namespace) -> None:
    params = load_params(args.params).report
    scores = read_scores(storage.read_json(args.evaluate / "metrics.json"))
    histories = {name: read_history(getattr(args, name)) for name in ("pretrain", "finetune")}
    rows = photo_rows(args.predictions, args.shards, params.photos)
    for name, columns in histories.items():
        storage.write_text(args.out / f"{name}.csv", history_csv(columns))
    storage.write_text(args.out / "index.html", render(TITLE, scores, histories, rows))


class Scored(NamedTuple):
    """A photo that was scored, with its instances: annotated, pooled by the generator, predicted by the model."""

    name: str
    image: UInt8[Tensor, "H W 3"]
    annotations: list[dict[str, Any]]
    generator: list[dict[str, Any]]
    model: list[dict[str, Any]]


def photo_rows(predictions: str, shards: str, count: int) -> list[tuple[str, list[Panel]]]:
    """The pictures of `count` labelled photos spread over the set, by the photo's name."""
    budget = int(MAX_PAGE_BYTES * PICTURE_SHARE / (PANELS * max(count, 1)))
    return [
        (photo.name, side_by_side(photo.image, photo.annotations, photo.generator, photo.model, budget))
        for photo in scored_photos(predictions, shards, count)
    ]


def scored_photos(predictions: str, shards: str, count: int) -> Iterator[Scored]:
    """`count` photos with instance labels, spread over the set, from what the step predict wrote."""
    manifest = load_manifest(shards)
    labelled = [number for number, labels in enumerate(all_labels(manifest)) if "instances" in labels]
    made = {name: Predictions(storage.join(predictions, name)) for name in ("generator", "model")}
    parts = np.repeat(np.arange(len(manifest.shards)), manifest.shard_sizes)
    photos = Photos(manifest)
    numbers = [labelled[place] for place in spread(count, len(labelled))]
    for number in track(numbers, description="photos side by side", console=Console(stderr=True)):
        photo = photos[number]
        found = {name: each.part(int(parts[number])).get(photo.labels["image_id"], []) for name, each in made.items()}
        instances = {name: [each for each in results if each["kind"] == INSTANCE] for name, results in found.items()}
        yield Scored(
            photo.labels["name"], photo.image, photo.labels["instances"], instances["generator"], instances["model"]
        )
