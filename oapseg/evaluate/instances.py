"""Class-agnostic instance scores (section 5.2): every annotation and every mask is one category."""

from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int

from oapseg.evaluate.coco import AREAS_PX, IOU_THRESHOLDS, Matches, Measure, average_precision, average_recall, match
from oapseg.evaluate.intervals import Measured

MEASURES: Final[dict[str, Measure]] = {"mask": "segm", "box": "bbox"}
INSTANCE = "instance"  # `kind` of a prediction that stands for one thing


def score_class_agnostic(
    truth: dict[str, Any], predictions: list[dict[str, Any]], resamples: Int[np.ndarray, "R B"], max_dets: int
) -> dict[str, Measured]:
    """Instance masks against the annotations of a COCO data set, whatever their classes, as shares in [0, 1].

    Semantic masks are left out: they join all things of a kind, which is no instance.
    """
    one = [{"id": 1, "name": "object"}]
    annotations = [annotation | {"category_id": 1} for annotation in truth["annotations"]]
    masks = [each | {"category_id": 1} for each in predictions if each["kind"] == INSTANCE]
    return score_coco({**truth, "annotations": annotations, "categories": one}, masks, resamples, max_dets)


def score_coco(
    truth: dict[str, Any], predictions: list[dict[str, Any]], resamples: Int[np.ndarray, "R B"], max_dets: int
) -> dict[str, Measured]:
    """AP, AP50, AP75 and AR of masks and boxes, over all sizes and by size: means over categories with annotations."""
    scores: dict[str, Measured] = {}
    for name, measure in MEASURES.items():
        groups = match(truth, predictions, measure, max_dets)
        for area in AREAS_PX:
            matches = [found for (_, size), found in groups.items() if size == area]
            scores |= {f"{name}_{key}": value for key, value in _of_area(matches, area, resamples, max_dets).items()}
    return scores


def protocol(max_dets: int) -> str:
    """How these scores are computed, in words."""
    return (
        f"COCO, IoU 0.50:0.95, at most {max_dets} masks a photo, no score cut; instance masks only, one category, "
        "crowds ignored"
    )


def _of_area(
    categories: list[Matches], area: str, resamples: Int[np.ndarray, "R B"], max_dets: int
) -> dict[str, Measured]:
    """Scores of one area range; the first row of weights is the photos as they are."""
    weights = np.concatenate([np.ones((1, resamples.shape[1]), dtype=resamples.dtype), resamples])
    precision = np.stack([[average_precision(each, row) for row in weights] for each in categories])  # K R T
    limits = [limit for limit in (1, 10) if limit < max_dets] if area == "all" else []
    recalls = {
        limit: np.stack([average_recall(each, weights, limit) for each in categories]) for limit in [*limits, max_dets]
    }
    suffix = "" if area == "all" else f"_{area}"
    scores = {f"AP{suffix}": _mean(precision)}
    if area == "all":
        for percent in (50, 75):
            threshold = int(np.argmin(np.abs(IOU_THRESHOLDS - percent / 100)))
            scores[f"AP{percent}"] = _mean(precision[..., threshold : threshold + 1])
    return scores | {f"AR{limit}{suffix}": _mean(recall) for limit, recall in recalls.items()}


def _mean(values: Float[np.ndarray, "K R T"]) -> Measured:
    """The mean over categories that have annotations, and over IoU thresholds."""
    present = ~np.isnan(values).any(-1)
    count = present.sum(0)
    total = np.where(present, values.mean(-1), 0.0).sum(0)
    means = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return Measured(float(means[0]), means[1:])
