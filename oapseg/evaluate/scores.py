"""All scores of one evaluation, each with what makes it comparable: protocol, split, photos, interval, rules."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from oapseg.evaluate import class_aware, instances
from oapseg.evaluate.intervals import Measured, gain, resample_photos
from oapseg.params import EvaluateParams

HEADLINES = (
    "mask_AP",
    "mask_AP50",
    "box_AP",
    "box_AP50",
)  # what `headlines.json` holds, with AR; `metrics.json` has all
SIZES = ("_small", "_medium", "_large")  # endings of scores of one size
MODEL_RULE = "objectness x mean mask probability inside the mask"
DECAY_RULE = f"{MODEL_RULE}, less where a better mask of its kind overlaps (matrix NMS, linear)"
EQUAL_RULE = "ones: every mask 1.0, ties in the generator's order"
OWN_RULE = "the generator's own"


@dataclass(frozen=True)
class Score:
    """One number, in percent, with the ends of its 95 % interval by the bootstrap over photos."""

    value: float
    low: float | None
    high: float | None
    protocol: str
    split: str
    images: int
    score_rule: str
    generator: str | None = None  # what pooled the masks, where the number is of them
    mapping: str | None = None
    fit_on: str | None = None
    mapped_clusters: int | None = None


@dataclass(frozen=True)
class Labelled:
    """Photos with labels, and what was predicted for them."""

    split: str
    truth: dict[str, Any]
    model: list[dict[str, Any]]


def score_all(
    val: Labelled, generator: list[dict[str, Any]], fit: Labelled, params: EvaluateParams, seed: int
) -> dict[str, Score]:
    """Scores by flat name: `generator.*`, `model.*`, `gain.*` (model less generator, paired) and `classes.*`.

    `fit` is where clusters are given their classes. What cannot be measured (AP of small things
    without one) is absent.
    """
    images = len(val.truth["images"])
    resamples = resample_photos(images, params.bootstrap, seed)
    before = instances.score_class_agnostic(val.truth, generator, resamples, params.max_dets)
    after = instances.score_class_agnostic(val.truth, val.model, resamples, params.max_dets)
    rule = EQUAL_RULE if all(mask["score"] == 1 for mask in generator) else OWN_RULE
    own_rule = DECAY_RULE if params.decay_overlaps else MODEL_RULE
    if params.windows > 1:
        own_rule += f"; the whole photo and {params.windows} x {params.windows} windows of it"
    said: dict[str, Any] = {"protocol": instances.protocol(params.max_dets), "split": val.split, "images": images}
    paired = {name: gain(after[name], before[name]) for name in after}
    pooled = {"generator": params.generator, "score_rule": rule}
    scores = _records("generator", before, said | pooled)
    scores |= _records("model", after, said | {"score_rule": own_rule})
    scores |= _records("gain", paired, said | pooled | {"score_rule": f"model: {own_rule}; generator: {rule}"})
    if not val.truth["categories"]:
        return scores
    mapping = class_aware.fit_mapping(
        fit.truth, fit.model, rule=params.mapping, min_score=params.vote_score, min_iou=params.vote_iou
    )
    classes = class_aware.score_class_aware(val.truth, val.model, mapping, resamples, params.max_dets)
    said |= {
        "protocol": class_aware.protocol(params.max_dets),
        "score_rule": own_rule,
        "mapping": params.mapping,
        "fit_on": fit.split,
        "mapped_clusters": len(mapping),
    }
    return scores | _records("classes", classes, said)


def headlines(scores: dict[str, Score], max_dets: int) -> dict[str, float]:
    """The few numbers by which two runs are compared, as `dvc metrics show` and Kubeflow's pages list them."""
    names = {*HEADLINES, f"mask_AR{max_dets}", f"box_AR{max_dets}"}
    return {flat: score.value for flat, score in scores.items() if flat.split(".")[1] in names}


def as_json(scores: dict[str, Score]) -> dict[str, dict[str, Any]]:
    """Scores as plain values, without what does not apply to them."""
    return {
        name: {key: value for key, value in asdict(score).items() if value is not None}
        for name, score in scores.items()
    }


def read_scores(values: dict[str, Any]) -> dict[str, Score]:
    """What `as_json` made, as scores again. Errors: `ValueError` where they are of another make."""
    try:
        return {name: Score(**{"low": None, "high": None, **value}) for name, value in values.items()}
    except (TypeError, AttributeError) as error:
        raise ValueError(f"metrics.json: not as the step evaluate writes it ({error})") from None


def _records(group: str, measured: dict[str, Measured], said: dict[str, Any]) -> dict[str, Score]:
    scores = {}
    for name, each in measured.items():
        if np.isnan(each.value):
            continue
        low, high = (None, None) if (ends := each.interval()) is None else (_percent(end) for end in ends)
        scores[f"{group}.{name}"] = Score(_percent(each.value), low, high, **said)
    return scores


def _percent(share: float) -> float:
    return round(100 * share, 3)
