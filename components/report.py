"""One self-contained HTML page of the run.

Without the folders of a training it is the page of a benchmark: `--evaluate`, `--predictions` and `--shards` of
`work/field/NAME`.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import UInt8
from torch import Tensor

from oapseg import storage
from oapseg.evaluate.details import PHOTO_SCORE
from oapseg.evaluate.predict import REGION
from oapseg.evaluate.predictions import Predictions
from oapseg.evaluate.runs import DETAILS, METRICS, benchmark_from_json
from oapseg.evaluate.scores import GENERATOR, MODEL, read_scores
from oapseg.monitor.history import read_history
from oapseg.params import ReportParams, load_params
from oapseg.report.choose import WITH_MASKS, Named, class_panels, look_up, numbers_of, photo_values, shown_task
from oapseg.report.exemplars import most_used
from oapseg.report.page import Content, render
from oapseg.report.photos import Row, extremes, side_by_side, spread
from oapseg.shards.manifest import Manifest, load_manifest

TITLE = "Training report"
MAX_PAGE_BYTES = 5_000_000  # what mail and chat carry
PHOTO_SHARE, EXEMPLAR_SHARE = 0.55, 0.2  # of those; the rest is text and curves
PANELS = 4  # pictures a photo, at most
EXEMPLAR_BYTES = 6_000  # more, and an exemplar looks no better


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--evaluate", required=True, type=Path, help="folder that the step evaluate wrote")
    parser.add_argument("--predictions", required=True, help="folder that the step predict wrote")
    parser.add_argument("--pretrain", type=Path, help="folder of the pretraining, with its history")
    parser.add_argument("--finetune", type=Path, help="folder of the fine-tuning, with its history and the model")
    parser.add_argument("--shards", required=True, help="the shards that were scored")
    parser.add_argument("--out", required=True, type=Path, help="folder for the page")


def main(args: argparse.Namespace) -> None:
    params = load_params(args.params).report
    scores = read_scores(storage.read_json(args.evaluate / METRICS))
    details = storage.read_json(args.evaluate / DETAILS)
    folders = {name: getattr(args, name) for name in ("pretrain", "finetune") if getattr(args, name)}
    histories = {name: read_history(folder) for name, folder in folders.items()}
    manifest = load_manifest(args.shards)
    clusters = most_used(
        manifest,
        Predictions(storage.join(args.predictions, MODEL)),
        clusters=params.clusters,
        each=params.exemplars,
        min_score=details["scored_by"]["evaluate"]["vote_score"],
        max_bytes=min(EXEMPLAR_BYTES, _budget(EXEMPLAR_SHARE, params.clusters * params.exemplars)),
    )
    generator = next((score.generator for score in scores.values() if score.generator), GENERATOR)
    photos = chosen_photos(manifest, args.predictions, details, params, generator)
    model = str(args.finetune / "model") if args.finetune else "MODEL"
    page = render(TITLE, Content(scores, details, histories, photos, clusters, model))
    storage.write_text(args.out / "index.html", page)


def chosen_photos(
    manifest: Manifest, predictions: str, details: dict[str, Any], params: ReportParams, generator: str
) -> dict[str, list[Row]]:
    """Rows of the photos that the model is best, middling and worst on, and of photos spread over the set."""
    task = shown_task(details, MODEL)
    if task is None:
        return {}
    numbers, values = numbers_of(manifest, task), photo_values(details, MODEL, task)
    chosen = {how.capitalize(): ids for how, ids in extremes(values, params.extremes).items()}
    chosen["Spread evenly over the set, not chosen"] = [list(numbers)[at] for at in spread(params.photos, len(numbers))]
    max_bytes = _budget(PHOTO_SHARE, PANELS * sum(map(len, chosen.values())))
    makers = {name: Predictions(storage.join(predictions, name)) for name in (GENERATOR, MODEL)}
    benchmark = benchmark_from_json(details["benchmark"])
    mapping = details["makers"][MODEL]["mapping"].get("semantic", {})
    named = {MODEL: Named(REGION, {int(cluster): each for cluster, each in mapping.items()})}
    rows: dict[str, list[Row]] = {}
    for how, ids in chosen.items():
        for shown in look_up(manifest, makers, [numbers[each] for each in ids]):
            if task in WITH_MASKS:
                pooled, found = shown.instances(GENERATOR), shown.instances(MODEL)
                panels = side_by_side(shown.image, shown.labels["instances"], pooled, found, max_bytes, generator)
            else:
                panels = class_panels(shown, benchmark, named, {MODEL: MODEL}, max_bytes)
            rows.setdefault(how, []).append(
                Row(shown.name, _said(details, task, shown.labels["image_id"], values), panels)
            )
    return rows


class Scored(NamedTuple):
    """A photo that was scored, with its instances: annotated, pooled by the generator, predicted by the model."""

    name: str
    image: UInt8[Tensor, "H W 3"]
    annotations: list[dict[str, Any]]
    generator: list[dict[str, Any]]
    model: list[dict[str, Any]]


def scored_photos(predictions: str, shards: str, count: int) -> Iterator[Scored]:
    """`count` photos with instance labels, spread over the set, from what the step predict wrote."""
    manifest = load_manifest(shards)
    labelled = list(numbers_of(manifest, "instance").values())
    makers = {name: Predictions(storage.join(predictions, name)) for name in (GENERATOR, MODEL)}
    for shown in look_up(manifest, makers, [labelled[place] for place in spread(count, len(labelled))]):
        pooled, found = shown.instances(GENERATOR), shown.instances(MODEL)
        yield Scored(shown.name, shown.image, shown.labels["instances"], pooled, found)


def _said(details: dict[str, Any], task: str, image_id: int, values: dict[int, float | None]) -> str:
    """What came of a photo, in a few words."""
    value = values.get(image_id)
    said = "" if value is None else f"{PHOTO_SCORE[task]}: {100 * value:.0f} %"
    outcomes = details["makers"][MODEL].get("outcomes")
    if task == "instance" and outcomes is not None:
        place = outcomes["image_ids"].index(image_id)
        truths, found, wrong = (outcomes[name][place] for name in ("truths", "found", "wrong"))
        score = details["scored_by"]["evaluate"]["panoptic_score"]
        said = f"{found} of {truths} found, {wrong} wrong, by masks scored {score:g} or more"
    return said


def _budget(share: float, pictures: int) -> int:
    """Bytes of a picture, such that all of them take that share of the page."""
    return int(MAX_PAGE_BYTES * share / max(pictures, 1))
