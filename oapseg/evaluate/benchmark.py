"""What is scored: photos with labels, the tasks they are scored on, and the classes that their categories make."""

from collections.abc import Mapping
from dataclasses import dataclass

from oapseg.evaluate.panoptic import Classes, classes_of
from oapseg.params import BenchmarkParams, EvaluateParams
from oapseg.shards.datasets.class_maps import CLASS_MAPS
from oapseg.shards.manifest import Manifest
from oapseg.shards.sources import TASK_LABELS

OWN_TASKS = ("instance", "semantic", "panoptic")  # of photos that are no public benchmark
MEASURES = ("mask", "box")


@dataclass(frozen=True)
class Benchmark:
    """`class_names` are those of the classes, which `classes` makes of the labels' categories."""

    name: str
    split: str
    data: str  # hash of photos and labels
    tasks: tuple[str, ...]
    classes: Classes
    class_names: Mapping[int, str]
    things: tuple[int, ...]  # categories of instances
    measures: tuple[str, ...]
    max_dets: int
    short_side_px: int | None = None  # of the semantic maps
    crop_px: int | None = None


def own_benchmark(name: str, manifest: Manifest, split: str, params: EvaluateParams) -> Benchmark:
    """One's own labelled photos: every task that their labels allow, every category a class.

    Errors: `ValueError` where there is no label to score against.
    """
    tasks = tuple(task for task in OWN_TASKS if TASK_LABELS[task] & set(manifest.labels))
    if not tasks:
        raise ValueError(
            f"{manifest.location}: no instance, semantic or panoptic labels to score against (labels: "
            f"{', '.join(manifest.labels) or 'none'}); set shards.sets.val to a labelled source, such as kind: coco"
        )
    return Benchmark(
        name=name,
        split=split,
        data=manifest.sha256,
        tasks=tasks,
        classes=classes_of(manifest.categories),
        class_names={category["id"]: category["name"] for category in manifest.categories},
        things=_things(manifest),
        measures=MEASURES,
        max_dets=params.max_dets,
    )


def public_benchmark(name: str, manifest: Manifest, params: BenchmarkParams) -> Benchmark:
    """A benchmark of section `benchmarks`."""
    classes = classes_of(manifest.categories)
    names = {category["id"]: category["name"] for category in manifest.categories}
    if params.classes is not None:
        chosen = CLASS_MAPS[params.classes]
        things = frozenset(place for place, thing in enumerate(chosen.isthing) if thing)
        classes, names = Classes(chosen.of, things), dict(enumerate(chosen.names))
    splits = dict.fromkeys(source.split or source.path for source in params.sources)
    return Benchmark(
        name=name,
        split=", ".join(splits),
        data=manifest.sha256,
        tasks=tuple(params.tasks),
        classes=classes,
        class_names=names,
        things=_things(manifest),
        measures=tuple(params.measures),
        max_dets=params.max_dets,
        short_side_px=params.short_side_px,
        crop_px=params.crop_px,
    )


def _things(manifest: Manifest) -> tuple[int, ...]:
    return tuple(category["id"] for category in manifest.categories if category["isthing"])
