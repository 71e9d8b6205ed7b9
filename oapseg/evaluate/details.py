"""What the scores of a benchmark come from: curves, confusions, breakdowns, and what came of each photo.

In: what one maker was `Seen` to predict. Out: plain values, which the step evaluate writes to `details.json` and the
report draws. Shares are in [0, 1], as everywhere but in `metrics.json`; NaN is null.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from oapseg.evaluate import class_aware, instances, panoptic, semantic
from oapseg.evaluate.benchmark import Benchmark
from oapseg.evaluate.coco import average_precision, average_recall, match
from oapseg.evaluate.counts import share
from oapseg.evaluate.ground_truth import all_labels
from oapseg.evaluate.intervals import Measured, resample_photos, with_all
from oapseg.evaluate.look import Seen
from oapseg.evaluate.matching import IOU_THRESHOLDS
from oapseg.evaluate.overlaps import MEASURES, Measure, Overlaps
from oapseg.evaluate.runs import benchmark_json
from oapseg.params import EvaluateParams
from oapseg.shards.manifest import Manifest
from oapseg.shards.sources import TASK_LABELS

CROWDING: Final = (1, 2, 4, 8, 16)  # fewest instances of a photo in each group of photos
DIGITS: Final = 4  # of a share


class PhotoScores(NamedTuple):
    """How good the predictions of each photo are for one task, in [0, 1]; NaN where nothing is to be scored."""

    image_ids: Int[np.ndarray, " B"]
    values: Float[np.ndarray, " B"]


PHOTO_SCORE: Final = {  # what `PhotoScores` holds, by task
    "instance": "mean over the annotated things of the largest IoU of any mask",
    "panoptic": "panoptic quality of the photo alone",
    "semantic": "share of the labelled pixels whose cluster has their class",
    "saliency": "IoU of the foreground",
}


def details_text(makers: Mapping[str, dict[str, Any]], benchmark: Benchmark, params: EvaluateParams, seed: int) -> str:
    """`details.json`: what was scored and how, and what is drawn of each maker, a line each."""
    said = {
        "benchmark": benchmark_json(benchmark),
        "scored_by": {"seed": seed, "evaluate": params.model_dump(mode="json")},
    }
    head = json.dumps(said, sort_keys=True, allow_nan=False).removesuffix("}")
    lines = [
        f"{json.dumps(name)}: {json.dumps(each, sort_keys=True, allow_nan=False)}" for name, each in makers.items()
    ]
    return head + ', "makers": {\n' + ",\n".join(lines) + "\n}}\n"


def details_of(
    seen: Seen, fit: Seen, ids: Mapping[str, list[int]], benchmark: Benchmark, params: EvaluateParams
) -> dict[str, Any]:
    """All that is drawn of one maker. `fit` is where clusters get their classes, `ids` is `task_ids` of the photos."""
    details: dict[str, Any] = {"mapping": {}, "confusion": {}}
    overlaps = seen.overlaps
    if len(overlaps.image_ids):
        measure = chosen_measure(overlaps, benchmark)
        details["measure"] = measure
        details["precision_recall"] = _precision_recall(overlaps, measure, benchmark.max_dets)
        resamples = resample_photos(len(overlaps.image_ids), params.bootstrap, params.bootstrap_seed)
        details["crowding"] = _crowding(overlaps, measure, benchmark.max_dets, resamples)
        outcomes = instances.outcomes(overlaps, measure, benchmark.max_dets, min_score=params.panoptic_score)
        counts = {name: getattr(outcomes, name).tolist() for name in ("truths", "found", "wrong")}
        details["outcomes"] = {"image_ids": outcomes.image_ids.tolist(), **counts}
        if benchmark.things:
            mapping = _instance_mapping(fit, benchmark, params)
            table = class_aware.confusion(overlaps, measure, benchmark.things, mapping, min_score=params.vote_score)
            details["mapping"]["instance"] = {str(cluster): name for cluster, name in mapping.items()}
            details["confusion"]["instance"] = {"classes": sorted(benchmark.things), "cells": _cells(table)}
    if seen.confusions:
        mapping = semantic.fit_mapping(fit.confusions, benchmark.classes.order(), params.mapping)
        table = _pixel_confusion(seen.confusions, mapping, benchmark.classes.order())
        details["mapping"]["semantic"] = {str(cluster): name for cluster, name in mapping.items()}
        details["confusion"]["semantic"] = {"classes": benchmark.classes.order(), "cells": _cells(table)}
    scores = photo_scores(seen, fit, ids, benchmark, params)
    details["photos"] = {
        task: {"image_ids": each.image_ids.tolist(), "values": _rounded(each.values)} for task, each in scores.items()
    }
    return details


def photo_scores(
    seen: Seen, fit: Seen, ids: Mapping[str, list[int]], benchmark: Benchmark, params: EvaluateParams
) -> dict[str, PhotoScores]:
    """What `PHOTO_SCORE` says, by task, for the tasks of the benchmark that any photo is labelled for."""
    values: dict[str, Float[np.ndarray, " B"]] = {}
    if len(seen.overlaps.image_ids):
        measure = chosen_measure(seen.overlaps, benchmark)
        values["instance"] = instances.outcomes(seen.overlaps, measure, benchmark.max_dets).best_iou
    if seen.shared:
        named = panoptic.fit_mapping(fit.shared, benchmark.classes, params.mapping)
        counts = panoptic.quality_counts(seen.shared, named, benchmark.classes, min_stuff_px=params.stuff_px)
        iou, tp, fp, fn = (each.sum(1).astype(float) for each in counts)
        values["panoptic"] = share(iou, tp + (fp + fn) / 2)
    if seen.confusions:
        classes = benchmark.classes.order()
        mapping = semantic.fit_mapping(fit.confusions, classes, params.mapping)
        pixels = semantic.class_pixels(seen.confusions, mapping, classes)
        values["semantic"] = share(pixels.hit.sum(1).astype(float), pixels.truth.sum(1).astype(float))
    if seen.saliency:
        values["saliency"] = np.array([photo.iou for photo in seen.saliency])
    # Overlaps alone are in the order of the ids, the rest in that of the photos.
    order = {task: sorted(ids[task]) if task == "instance" else ids[task] for task in values}
    return {task: PhotoScores(np.array(order[task], dtype=np.int64), each) for task, each in values.items()}


def task_ids(manifest: Manifest, tasks: Iterable[str]) -> dict[str, list[int]]:
    """The image ids of the photos labelled for each task, in their order."""
    ids: dict[str, list[int]] = {task: [] for task in tasks}
    for labels in all_labels(manifest):
        for task, members in ids.items():
            if TASK_LABELS[task] & labels.keys():
                members.append(labels["image_id"])
    return ids


def chosen_measure(overlaps: Overlaps, benchmark: Benchmark) -> Measure:
    """Masks where both the labels and the benchmark have them."""
    return next(each for each in MEASURES if each in overlaps.pairs and each in benchmark.measures)


def _instance_mapping(fit: Seen, benchmark: Benchmark, params: EvaluateParams) -> dict[int, int]:
    return class_aware.fit_mapping(
        fit.overlaps,
        benchmark.things,
        rule=params.mapping,
        min_score=params.vote_score,
        min_iou=params.vote_iou,
    )


def _precision_recall(overlaps: Overlaps, measure: Measure, max_dets: int) -> dict[str, list[float | None]]:
    """Precision at 101 recalls, at IoU 0.50, at 0.75, and the mean over COCO's thresholds."""
    whole = np.ones((1, len(overlaps.image_ids)), dtype=np.int64)
    curves = instances.precision_recall(overlaps, measure, whole, max_dets)[0]
    chosen = {f"{iou:.2f}": curves[int(np.argmin(np.abs(IOU_THRESHOLDS - iou)))] for iou in (0.5, 0.75)}
    return {name: _rounded(curve) for name, curve in {**chosen, "0.50:0.95": curves.mean(0)}.items()}


def _crowding(
    overlaps: Overlaps, measure: Measure, max_dets: int, resamples: Int[np.ndarray, "R B"]
) -> list[dict[str, Any]]:
    """AP50 and average recall of the photos with few and with many instances, crowds not counted."""
    weights = with_all(resamples)
    groups = []
    for _, area, matches in match(overlaps, measure, *instances.one_class(overlaps), max_dets):
        if area != "all":
            continue
        for fewest, more in zip(CROWDING, (*CROWDING[1:], None), strict=True):
            chosen = (matches.num_truths >= fewest) & (matches.num_truths < (more or np.inf))
            if chosen.any():
                of_group = matches.of_photos(chosen)
                precision = average_precision(of_group, weights)[:, 0]
                recall = average_recall(of_group, weights, max_dets).mean(1)
                scores = {"AP50": _interval(precision), f"AR{max_dets}": _interval(recall)}
                most = None if more is None else more - 1
                groups.append({"fewest": fewest, "most": most, "photos": int(chosen.sum()), **scores})
    return groups


def _pixel_confusion(
    photos: Iterable[semantic.Confusion], mapping: Mapping[int, int], classes: list[int]
) -> Int[np.ndarray, "M N"]:
    """Pixels of each class by what they are taken for; then those whose cluster has no class, then those of none."""
    place = {name: number for number, name in enumerate(classes)}
    table = np.zeros((len(classes), len(classes) + 2), dtype=np.int64)
    for photo in photos:
        for cluster, true, pixels in zip(*(each.tolist() for each in photo), strict=True):
            if true in place:
                taken = len(classes) + 1 if cluster < 0 else place.get(mapping.get(cluster, -1), len(classes))
                table[place[true], taken] += pixels
    return table


def _cells(table: Int[np.ndarray, "M N"]) -> list[list[int]]:
    """Row, column and count where there is any."""
    rows, columns = np.nonzero(table)
    return np.stack([rows, columns, table[rows, columns]], 1).tolist()


def _interval(values: Float[np.ndarray, " rows"]) -> dict[str, float | None]:
    ends = Measured(float(values[0]), values[1:]).interval() or (np.nan, np.nan)
    return dict(zip(("value", "low", "high"), _rounded([values[0], *ends]), strict=True))


def _rounded(values: Iterable[float]) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), DIGITS) for value in values]
