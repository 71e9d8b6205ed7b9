"""One look at each photo of a set: its labels beside what one maker predicted, reduced to what every score needs."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np

from oapseg.evaluate.benchmark import Benchmark
from oapseg.evaluate.ground_truth import shard_labels
from oapseg.evaluate.merge import merge
from oapseg.evaluate.overlaps import Overlaps, Photo, find_overlaps
from oapseg.evaluate.panoptic import Shared, shared_segments
from oapseg.evaluate.predict import REGION
from oapseg.evaluate.predictions import Predictions
from oapseg.evaluate.saliency import PhotoSaliency, photo_saliency
from oapseg.evaluate.semantic import Confusion, confusion, predicted_clusters, renamed, resized_crop, true_classes
from oapseg.params import EvaluateParams
from oapseg.shards.manifest import Manifest
from oapseg.shards.sources import TASK_LABELS

PLACE: Final = "place"  # of a mask among all its maker's


class Seen(NamedTuple):
    """What was seen in the photos that carry labels of each kind, in their order."""

    overlaps: Overlaps  # instances
    confusions: list[Confusion]  # semantic
    regions: list[Confusion]  # the same, with the place of a mask among all its maker's for its cluster
    shared: list[Shared]  # panoptic
    saliency: list[PhotoSaliency]


def look(
    manifest: Manifest,
    predictions: Predictions,
    benchmark: Benchmark,
    params: EvaluateParams,
    region_kind: str = REGION,
) -> Seen:
    """Photos shard by shard, one in memory at a time; `region_kind` is what makes up a semantic map.

    Errors: `ValueError` where predictions are of other shards, or two photos have one COCO id.
    """
    if len(predictions.parts) != len(manifest.shards):
        raise ValueError(
            f"{predictions.folder}: predictions of {len(predictions.parts)} shards; {manifest.location} has "
            f"{len(manifest.shards)}; run the step predict again"
        )
    confusions: list[Confusion] = []
    regions: list[Confusion] = []
    shared: list[Shared] = []
    saliency: list[PhotoSaliency] = []

    def photos() -> Iterator[Photo]:
        for labels, results, first in _pairs(manifest, predictions):
            size = (labels["height"], labels["width"])
            results = [each | {PLACE: place} for place, each in enumerate(results, first)]
            tasks = {task for task in benchmark.tasks if TASK_LABELS[task] & labels.keys()}
            if "semantic" in tasks:
                maps = (
                    true_classes(labels, benchmark.classes.class_of),
                    predicted_clusters(results, size, region_kind, key=PLACE),
                )
                truth, masks = (resized_crop(each, benchmark.short_side_px, benchmark.crop_px) for each in maps)
                counts = confusion(truth, masks)
                regions.append(counts)
                confusions.append(renamed(counts, {each[PLACE]: each["category_id"] for each in results}))
            if "panoptic" in tasks:
                merged = merge(
                    results,
                    size,
                    min_score=params.panoptic_score,
                    max_overlap=params.panoptic_overlap,
                    region_kind=region_kind,
                )
                shared.append(shared_segments(labels["panoptic"], merged))
            if "saliency" in tasks:
                saliency.append(
                    photo_saliency(
                        labels["instances"],
                        results,
                        size,
                        min_score=params.saliency_score,
                        min_area=params.saliency_area,
                        min_ratio=params.saliency_ratio,
                    )
                )
            if "instance" in tasks:
                yield Photo(labels | {"id": labels["image_id"]}, labels["instances"], results)

    return Seen(find_overlaps(photos(), least_iou=params.vote_iou), confusions, regions, shared, saliency)


def _pairs(manifest: Manifest, predictions: Predictions) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]], int]]:
    """The labels and results of each photo, and the place of its first mask."""
    names: dict[int, str] = {}
    first = 0
    for number in range(len(manifest.shards)):
        found = predictions.part(number)
        counts = [len(results) for results in found.values()]
        places = dict(zip(found, np.cumsum([first, *counts]).tolist(), strict=False))
        for labels in shard_labels(manifest, number):
            image_id, name = labels["image_id"], labels["name"]
            if image_id in names:
                both = f"{names[image_id]} and {name}"
                raise ValueError(f"{manifest.location}: {both} are both image {image_id}; score the two sources apart")
            names[image_id] = name
            yield labels, found.get(image_id, []), places.get(image_id, 0)
        first += sum(counts)
