"""What is scored: photos with labels, the tasks they are scored on, and the classes that their categories make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from oapseg.evaluate.panoptic import Classes, classes_of
from oapseg.params import BenchmarkParams, EvaluateParams, Params, Source
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
    things: tuple[int, ...]  # categories of instances, by rising id
    measures: tuple[str, ...]
    max_dets: int
    short_side_px: int | None = None  # of the semantic maps
    crop_px: int | None = None
    frequencies: tuple[str, ...] = ()  # of each of `things` where they have any: r, c or f (LVIS)

    @property
    def maps_clusters(self) -> bool:
        """Whether any of its scores needs a class for each cluster."""
        return bool({"semantic", "panoptic"} & set(self.tasks) or ("instance" in self.tasks and self.things))


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
        frequencies=_frequencies(manifest),
    )


def settings_of(name: str, params: Params) -> Params:
    """All parameters as they hold on a public benchmark: what its protocol says in the place of what the sections say.

    This is the one place where the two meet: what predicts, scores and reports it is given these. `evaluate.max_dets`
    is the benchmark's, and `predict.max_masks` at least as many.
    """
    chosen = params.benchmarks[name]
    looked = chosen.predict.model_dump(exclude_none=True)
    looked["max_masks"] = max(params.predict.max_masks, chosen.max_dets)
    scored = chosen.evaluate.model_dump(exclude_none=True) | {"max_dets": chosen.max_dets}
    crf = params.refine.crf if chosen.crf is None else chosen.crf
    sections = {
        "predict": params.predict.model_copy(update=looked),
        "evaluate": params.evaluate.model_copy(update=scored),
        "refine": params.refine.model_copy(update={"crf": crf}),
    }
    return params.model_copy(update=sections)


def public_benchmark(name: str, manifest: Manifest, params: BenchmarkParams) -> Benchmark:
    """A benchmark of section `benchmarks`."""
    classes = classes_of(manifest.categories)
    names = {category["id"]: category["name"] for category in manifest.categories}
    if params.classes is not None:
        chosen = CLASS_MAPS[params.classes]
        things = frozenset(place for place, thing in enumerate(chosen.isthing) if thing)
        classes, names = Classes(chosen.of, things), dict(enumerate(chosen.names))
    return Benchmark(
        name=name,
        split=split_of(params.sources),
        data=manifest.sha256,
        tasks=tuple(params.tasks),
        classes=classes,
        class_names=names,
        things=_things(manifest),
        measures=tuple(params.measures),
        max_dets=params.max_dets,
        short_side_px=params.short_side_px,
        crop_px=params.crop_px,
        frequencies=_frequencies(manifest),
    )


def split_of(sources: Sequence[Source]) -> str:
    """The splits of some sources, in words."""
    return ", ".join(dict.fromkeys(source.split or source.path for source in sources))


def on_other_photos(benchmark: Benchmark, manifest: Manifest, split: str) -> Benchmark:
    """The same classes and protocol on other photos: those that its clusters get their classes on."""
    return replace(benchmark, split=split, data=manifest.sha256)


def _things(manifest: Manifest) -> tuple[int, ...]:
    return tuple(category["id"] for category in manifest.categories if category["isthing"])


def _frequencies(manifest: Manifest) -> tuple[str, ...]:
    found = tuple(category.get("frequency", "") for category in manifest.categories if category["isthing"])
    return found if all(found) else ()
