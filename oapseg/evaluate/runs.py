"""A run on disk, found again: photos with labels, predictions of them, and what they were scored by.

A run is a folder, such as `work` of the pipeline or `work/field/NAME` of a benchmark. In it lie `predict/` of the step
predict; `metrics.json` and `details.json` of the step evaluate, or these two in `evaluate/`; and, where they are not
named apart, the shards that were scored, `shards/val` or `shards`.
"""

from dataclasses import dataclass, fields
from typing import Any, Final, NamedTuple

from oapseg import storage
from oapseg.evaluate.benchmark import Benchmark, on_other_photos
from oapseg.evaluate.look import Seen, look
from oapseg.evaluate.panoptic import Classes
from oapseg.evaluate.predict import REGION
from oapseg.evaluate.predictions import Maker, Predictions, read_makers
from oapseg.evaluate.scores import Score, read_scores
from oapseg.match.kmeans import fit_centres, nearest_centre
from oapseg.params import EvaluateParams
from oapseg.shards.manifest import FILE_NAME, Manifest, load_manifest

METRICS: Final = "metrics.json"
DETAILS: Final = "details.json"


class Scored(NamedTuple):
    """Photos, the predictions of them, and what they are scored by."""

    manifest: Manifest
    predictions: str
    benchmark: Benchmark


@dataclass(frozen=True)
class Run:
    """What `open_run` found; `fit` is where clusters get their classes, and is `val` itself where that is the same."""

    folder: str
    val: Scored
    fit: Scored
    makers: dict[str, Maker]
    scores: dict[str, Score]
    details: dict[str, Any]
    params: EvaluateParams
    seed: int


def open_run(folder: str, shards: str | None = None, train_shards: str | None = None) -> Run:
    """A run, with nothing of it computed; `shards` stand for its own.

    Errors: `ValueError` where there is no run, it is not whole, or the shards are not those that were scored.
    """
    place = next((each for each in (storage.join(folder, "evaluate"), folder) if _has(each, METRICS)), None)
    if place is None:
        raise ValueError(f"{folder}: no run: neither {METRICS} nor evaluate/{METRICS}; run the step evaluate first")
    if not _has(place, DETAILS):
        raise ValueError(f"{place}: {METRICS} without {DETAILS}, of an older version; run the step evaluate again")
    details = storage.read_json(storage.join(place, DETAILS))
    try:
        benchmark = benchmark_from_json(details["benchmark"])
        params = EvaluateParams.model_validate(details["scored_by"]["evaluate"])
        seed = int(details["scored_by"]["seed"])
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{place}/{DETAILS}: of another version of the step evaluate; run it again") from None
    predictions = storage.join(folder, "predict")
    val = Scored(_shards(folder, shards, ("shards/val", "shards"), "--shards"), predictions, benchmark)
    if val.manifest.sha256 != benchmark.data:
        raise ValueError(f"{val.manifest.location}: not the photos and labels that {folder} was scored on")
    fit = val
    scores = read_scores(storage.read_json(storage.join(place, METRICS)))
    if params.fit_on == "train" and benchmark.maps_clusters:
        manifest = _shards(folder, train_shards, ("shards/finetune", "shards/fit"), "--train-shards")
        split = next((score.fit_on for score in scores.values() if score.fit_on), "train")
        fit = Scored(manifest, storage.join(predictions, "train"), on_other_photos(benchmark, manifest, split))
    return Run(folder, val, fit, read_makers(predictions), scores, details, params, seed)


def seen_of(name: str, val: Scored, fit: Scored, params: EvaluateParams, seed: int) -> tuple[Seen, Seen]:
    """What one maker predicted for the scored photos, and for those that its clusters get their classes on."""
    made, fitted, kind = clustered(name, val, fit, params, seed)
    seen = look(val.manifest, made, val.benchmark, params, kind)
    if val is fit:
        return seen, seen
    return seen, look(fit.manifest, fitted, fit.benchmark, params, kind)


def clustered(
    name: str, val: Scored, fit: Scored, params: EvaluateParams, seed: int
) -> tuple[Predictions, Predictions, str]:
    """One maker's predictions of both, and the kind of those that make up a semantic map.

    Masks whose maker knows no clusters get them by k-means of their features.
    """
    made, fitted = (Predictions(storage.join(each.predictions, name)) for each in (val, fit))
    if (features := fitted.features()) is None:
        return made, fitted, REGION
    centres = fit_centres(features, params.feature_clusters, seed)
    for each in (made, fitted):
        if (features := each.features()) is not None:
            each.clusters = [nearest_centre(part, centres) for part in features.parts()]
    return made, fitted, "semantic"


def benchmark_json(benchmark: Benchmark) -> dict[str, Any]:
    """A benchmark as plain values."""
    said = {field.name: getattr(benchmark, field.name) for field in fields(benchmark)}
    class_of, things = benchmark.classes
    return said | {
        "classes": {"class_of": {str(each): name for each, name in class_of.items()}, "things": sorted(things)},
        "class_names": {str(each): name for each, name in benchmark.class_names.items()},
    }


def benchmark_from_json(said: dict[str, Any]) -> Benchmark:
    """What `benchmark_json` made. Errors: `KeyError`, `TypeError` or `ValueError` where it is of another make."""
    plain: dict[str, Any] = {key: tuple(each) if isinstance(each, list) else each for key, each in said.items()}
    classes = {int(each): name for each, name in said["classes"]["class_of"].items()}
    plain["classes"] = Classes(classes, frozenset(said["classes"]["things"]))
    plain["class_names"] = {int(each): name for each, name in said["class_names"].items()}
    return Benchmark(**plain)


def _has(folder: str, name: str) -> bool:
    return storage.exists(storage.join(folder, name))


def _shards(folder: str, given: str | None, places: tuple[str, ...], option: str) -> Manifest:
    if given is not None:
        return load_manifest(given)
    for place in places:
        if _has(storage.join(folder, place), FILE_NAME):
            return load_manifest(storage.join(folder, place))
    raise ValueError(f"{folder}: no shards in {' or '.join(places)}; name them by {option}")
