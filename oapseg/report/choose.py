"""Which photos a page shows, and what there is to draw of each: labels, and what every maker of masks predicted."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from torch import Tensor

from oapseg.evaluate.benchmark import Benchmark
from oapseg.evaluate.counts import VOID
from oapseg.evaluate.ground_truth import all_labels
from oapseg.evaluate.overlaps import INSTANCE
from oapseg.evaluate.predictions import Predictions
from oapseg.evaluate.semantic import predicted_clusters, true_classes
from oapseg.progress import track
from oapseg.report.photos import Panel, class_maps
from oapseg.shards.manifest import Manifest
from oapseg.shards.read import Photos
from oapseg.shards.sources import TASK_LABELS

TASKS: Final = ("instance", "panoptic", "semantic", "saliency")  # the first one that there is decides what is shown
WITH_MASKS: Final = ("instance", "saliency")  # the others show a class at each pixel


class Shown(NamedTuple):
    """A photo with its labels and the results of each maker."""

    labels: dict[str, Any]
    image: UInt8[Tensor, "H W 3"]
    results: dict[str, list[dict[str, Any]]]

    @property
    def name(self) -> str:
        return str(self.labels["name"])

    def instances(self, maker: str) -> list[dict[str, Any]]:
        """The maker's masks of things."""
        return [each for each in self.results[maker] if each["kind"] == INSTANCE]


class Named(NamedTuple):
    """How a maker's results become classes: the kind that makes up a map, and the class of each cluster."""

    kind: str
    classes: Mapping[int, int]


def shown_task(details: dict[str, Any], maker: str) -> str | None:
    """The task whose photos are shown."""
    return next((task for task in TASKS if task in details["makers"][maker]["photos"]), None)


def photo_values(details: dict[str, Any], maker: str, task: str) -> dict[int, float | None]:
    """How good the maker is on each photo, by image id."""
    photos = details["makers"][maker]["photos"][task]
    return dict(zip(photos["image_ids"], photos["values"], strict=True))


def numbers_of(manifest: Manifest, task: str) -> dict[int, int]:
    """The number in the set of each photo labelled for a task, by image id, in order."""
    return {
        labels["image_id"]: number
        for number, labels in enumerate(all_labels(manifest))
        if TASK_LABELS[task] & labels.keys()
    }


def look_up(manifest: Manifest, makers: Mapping[str, Predictions], numbers: Sequence[int]) -> Iterator[Shown]:
    """Photos by their number in the set, in this order."""
    parts = np.repeat(np.arange(len(manifest.shards)), manifest.shard_sizes)
    photos = Photos(manifest)
    for number in track(numbers, "photos side by side", len(numbers)):
        sample, part = photos[number], int(parts[number])
        results = {name: each.part(part).get(sample.labels["image_id"], []) for name, each in makers.items()}
        yield Shown(sample.labels, sample.image, results)


def class_panels(
    shown: Shown, benchmark: Benchmark, named: Mapping[str, Named], titles: Mapping[str, str], max_bytes: int
) -> tuple[Panel, ...]:
    """The true class at each pixel, and what each maker says."""
    size = (shown.image.shape[0], shown.image.shape[1])
    maps = {
        titles[maker]: _classes(predicted_clusters(shown.results[maker], size, how.kind), how.classes)
        for maker, how in named.items()
    }
    truth = true_classes(shown.labels, benchmark.classes.class_of, size)
    return class_maps(shown.image, truth, maps, benchmark.class_names, max_bytes)


def _classes(clusters: Int[np.ndarray, "H W"], classes: Mapping[int, int]) -> Int[np.ndarray, "H W"]:
    """The class of each pixel's cluster; `VOID` of one without."""
    named = np.full(clusters.shape, VOID, dtype=np.int64)
    for cluster in np.unique(clusters).tolist():
        named[clusters == cluster] = classes.get(cluster, VOID)
    return named
