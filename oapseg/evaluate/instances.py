"""Instance scores by COCO's protocol, whatever the classes (section 5.2) or class by class."""

from collections.abc import Container, Mapping
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from oapseg.evaluate.coco import (
    Matches,
    average_precision,
    average_recall,
    match,
    precision_at_recalls,
)
from oapseg.evaluate.columns import Column
from oapseg.evaluate.intervals import Measured, with_all
from oapseg.evaluate.matching import AREAS_PX, IOU_THRESHOLDS, NO_CLASS
from oapseg.evaluate.overlaps import Measure, Overlaps

AT_50: Final = 0  # place of IoU 0.50 among `IOU_THRESHOLDS`


class Outcomes(NamedTuple):
    """What came of each photo at IoU 0.50, classes aside, crowds neither counted nor blamed."""

    image_ids: Int[np.ndarray, " B"]
    truths: Int[np.ndarray, " B"]  # annotations
    found: Int[np.ndarray, " B"]  # of them, matched with a prediction
    wrong: Int[np.ndarray, " B"]  # predictions that match none
    best_iou: Float[np.ndarray, " B"]  # mean over annotations of the largest IoU of any prediction; NaN without


def score_class_agnostic(overlaps: Overlaps, resamples: Int[np.ndarray, "R B"], max_dets: int) -> dict[str, Measured]:
    """Instance masks against all annotations as one category, as shares in [0, 1]."""
    return score_coco(overlaps, *one_class(overlaps), resamples, max_dets)


def score_coco(
    overlaps: Overlaps,
    classes: Int[np.ndarray, " S"],
    label_classes: Int[np.ndarray, " L"],
    resamples: Int[np.ndarray, "R B"],
    max_dets: int,
    *,
    unjudged: Bool[np.ndarray, " S"] | None = None,
    groups: Mapping[str, Container[int]] | None = None,
) -> dict[str, Measured]:
    """AP, AP50, AP75 and AR of masks and boxes, over all sizes and by size: means over classes with annotations.

    Classes and the LVIS rules are those of `coco.match`; masks are absent where the labels are boxes alone. The columns
    of `resamples` are the photos in the order of their image ids. `groups` of classes get an AP of their own, `APr` for
    the group `r`.
    """
    groups = groups or {}
    weights = with_all(resamples)
    scores: dict[str, Measured] = {}
    for measure in overlaps.pairs:
        by_class: dict[str, list[Float[np.ndarray, "R T"]]] = {}
        for number, area, matches in match(overlaps, measure, classes, label_classes, max_dets, unjudged=unjudged):
            of_class = _of_class(matches, area, weights, max_dets)
            if area == "all":
                of_class |= {f"AP{group}": of_class["AP"] for group, members in groups.items() if number in members}
            for name, values in of_class.items():
                by_class.setdefault(name, []).append(values)
        for group in groups:
            scores[f"{measure}_AP{group}"] = _mean(by_class.get(f"AP{group}", []), len(weights))
        for area in AREAS_PX:
            scores |= {
                f"{measure}_{name}": _mean(by_class.get(name, []), len(weights)) for name in _names(area, max_dets)
            }
    return scores


def precision_recall(
    overlaps: Overlaps, measure: Measure, weights: Int[np.ndarray, "R B"], max_dets: int
) -> Float[np.ndarray, "R T 101"]:
    """Class-agnostic precision at `RECALL_THRESHOLDS` of `coco`, for each of `IOU_THRESHOLDS`; NaN without labels."""
    for _, area, matches in match(overlaps, measure, *one_class(overlaps), max_dets):
        if area == "all":
            return precision_at_recalls(matches, weights)
    return np.full((len(weights), len(IOU_THRESHOLDS), 101), np.nan)


def outcomes(overlaps: Overlaps, measure: Measure, max_dets: int, *, min_score: float = 0.0) -> Outcomes:
    """What came of each photo: predictions scored at least `min_score`."""
    num_photos = len(overlaps.image_ids)
    classes = Column(np.int64)
    truths, found, wrong, things = np.zeros((4, num_photos), dtype=np.int64)
    best = np.zeros(num_photos)
    for part in overlaps.parts():
        classes.append(np.where(part.score < min_score, NO_CLASS, 0))
        np.add.at(wrong, part.photo[part.score >= min_score], 1)
        counted = ~part.crowd
        np.add.at(things, part.label_photo[counted], 1)
        np.add.at(best, part.label_photo[counted], part.pairs[measure].best[counted])
    wrong = np.minimum(wrong, max_dets)
    for _, area, matches in match(overlaps, measure, classes.array(), one_class(overlaps)[1], max_dets):
        if area == "all":
            truths, wrong = matches.num_truths, np.zeros_like(wrong)
            for judged in matches.parts():
                hit = judged.hits(AT_50)
                np.add.at(found, judged.photo[hit], 1)
                np.add.at(wrong, judged.photo[~(hit | judged.ignores(AT_50))], 1)
    best = np.where(things > 0, best / np.maximum(things, 1), np.nan)
    return Outcomes(overlaps.image_ids, truths, found, wrong, best)


def one_class(overlaps: Overlaps) -> tuple[Int[np.ndarray, " S"], Int[np.ndarray, " L"]]:
    """The class of every prediction and of every annotation, where they are all of one."""
    return np.broadcast_to(np.int64(0), overlaps.score.shape), np.broadcast_to(np.int64(0), overlaps.crowd.shape)


def protocol(max_dets: int) -> str:
    """How these scores are computed, in words."""
    return (
        f"COCO, IoU 0.50:0.95, at most {max_dets} masks a photo, no score cut; instance masks only, one category, "
        "crowds ignored"
    )


def _names(area: str, max_dets: int) -> list[str]:
    if area != "all":
        return [f"AP_{area}", f"AR{max_dets}_{area}"]
    return ["AP", "AP50", "AP75", *(f"AR{limit}" for limit in (1, 10) if limit < max_dets), f"AR{max_dets}"]


def _of_class(
    matches: Matches, area: str, weights: Int[np.ndarray, "R B"], max_dets: int
) -> dict[str, Float[np.ndarray, "R T"]]:
    """Scores of one class and area range, by threshold."""
    precision = average_precision(matches, weights)
    if area != "all":
        return {f"AP_{area}": precision, f"AR{max_dets}_{area}": average_recall(matches, weights, max_dets)}
    scores = {"AP": precision}
    for percent in (50, 75):
        threshold = int(np.argmin(np.abs(IOU_THRESHOLDS - percent / 100)))
        scores[f"AP{percent}"] = precision[:, threshold : threshold + 1]
    limits = [*(limit for limit in (1, 10) if limit < max_dets), max_dets]
    return scores | {f"AR{limit}": average_recall(matches, weights, limit) for limit in limits}


def _mean(values: list[Float[np.ndarray, "R T"]], num_rows: int) -> Measured:
    """The mean over classes that have annotations, and over IoU thresholds."""
    if not values:
        return Measured(np.nan, np.full(num_rows - 1, np.nan))
    each = np.stack(values).mean(-1)
    present = ~np.isnan(each)
    count = present.sum(0)
    means = np.where(count > 0, np.where(present, each, 0.0).sum(0) / np.maximum(count, 1), np.nan)
    return Measured(float(means[0]), means[1:])
