"""COCO's greedy matching of predictions and annotations of some photos, for all area ranges and thresholds at once."""

from typing import Final

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from oapseg.evaluate.overlaps import Overlaps, Pairs

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # COCO's grid
AREAS_PX = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}  # COCO's, px²
NO_CLASS: Final = -1
# What came of a prediction in each of `AREAS_PX`, thresholds as bits, the first the lowest; `worse` is minus its score.
JUDGED: Final = np.dtype(
    [("worse", "f8"), ("class", "i4"), ("photo", "i4"), ("rank", "i4"), ("hit", "u2", (4,)), ("ignored", "u2", (4,))]
)
# An annotation, and whether it counts in each of `AREAS_PX`.
COUNTED: Final = np.dtype([("class", "i4"), ("photo", "i4"), ("counts", "?", (4,))])
THRESHOLDS: Final = range(len(IOU_THRESHOLDS))
ALL_BITS: Final = np.uint16(2 ** len(IOU_THRESHOLDS) - 1)


def judge(
    part: Overlaps,
    pairs: Pairs,
    classes: Int[np.ndarray, " S"],
    label_classes: Int[np.ndarray, " L"],
    max_dets: int,
    unjudged: Bool[np.ndarray, " S"] | None,
) -> tuple[Shaped[np.ndarray, " s"], Shaped[np.ndarray, " l"]]:
    """What comes of the predictions of some photos, and which annotations count: `JUDGED` and `COUNTED`."""
    rank = ranks(part.photo, classes, part.score)
    kept = (classes >= 0) & (rank < max_dets)
    limits = np.array(list(AREAS_PX.values()))[:, :, None]  # A 2 1
    outside = _outside(pairs.area, limits)
    if unjudged is not None:
        outside = outside | unjudged
    uncounted = part.crowd | _outside(part.label_area, limits)
    same = kept[pairs.prediction] & (classes[pairs.prediction] == label_classes[pairs.annotation])
    choosers, hit, ignored = _assign(
        pairs.prediction[same], pairs.annotation[same], pairs.iou[same], rank, uncounted, part
    )
    bits = (1 << np.arange(len(IOU_THRESHOLDS), dtype=np.uint16))[:, None]
    hits = np.zeros((len(AREAS_PX), len(rank)), dtype=np.uint16)
    ignores = np.where(outside, ALL_BITS, np.uint16(0))
    hits[:, choosers] = (hit * bits).sum(1, dtype=np.uint16)
    ignores[:, choosers] = (ignored * bits).sum(1, dtype=np.uint16) | (ignores[:, choosers] & ~hits[:, choosers])
    rows = np.empty(int(kept.sum()), dtype=JUDGED)
    columns_of = {"worse": -part.score, "class": classes, "photo": part.photo, "rank": rank}
    for name, values in {**columns_of, "hit": hits.T, "ignored": ignores.T}.items():
        rows[name] = values[kept]
    labelled = label_classes >= 0
    truths = np.empty(int(labelled.sum()), dtype=COUNTED)
    for name, values in {"class": label_classes, "photo": part.label_photo, "counts": ~uncounted.T}.items():
        truths[name] = values[labelled]
    return rows, truths


def ranks(
    photo: Int[np.ndarray, " S"], classes: Int[np.ndarray, " S"], score: Float[np.ndarray, " S"]
) -> Int[np.ndarray, " S"]:
    """Place of each prediction among those of its photo and class, best score first, ties in the order given."""
    order = np.lexsort((-score, classes, photo))
    starts = _starts(photo[order], classes[order])
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = _places(starts, len(order))
    return rank


def _assign(
    prediction: Int[np.ndarray, " P"],
    annotation: Int[np.ndarray, " P"],
    iou: Float[np.ndarray, " P"],
    rank: Int[np.ndarray, " S"],
    uncounted: Bool[np.ndarray, "A L"],
    part: Overlaps,
) -> tuple[Int[np.ndarray, " D"], Bool[np.ndarray, "A T D"], Bool[np.ndarray, "A T D"]]:
    """COCO's greedy matching: the D predictions with a pair, and whether each is a hit or to be ignored.

    Predictions choose by falling score: of the annotations that are free, the one that counts with the largest IoU, the
    last of equals; without one, so among those that do not count; a crowd is always free. The nth choosers of all
    photos choose together, for all area ranges and thresholds.
    """
    # Within a prediction the better pair comes later, so that the best is the last that may be chosen.
    order = np.lexsort((annotation, iou, prediction, rank[prediction], part.photo[prediction]))
    prediction, annotation, iou = prediction[order], annotation[order], iou[order]
    starts = _starts(prediction)
    choosers = prediction[starts]
    turn = _places(_starts(part.photo[choosers]), len(choosers))
    lengths = np.diff(np.append(starts, len(prediction)))
    thresholds = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)[:, None]  # COCOeval's guard
    hit = np.zeros((len(uncounted), len(IOU_THRESHOLDS), len(choosers)), dtype=bool)
    ignored = hit.copy()
    taken = np.zeros((len(uncounted), len(IOU_THRESHOLDS), len(part.crowd)), dtype=bool)
    for members in np.split(np.argsort(turn, kind="stable"), np.flatnonzero(np.diff(np.sort(turn))) + 1):
        if members.size == 0:
            continue
        length = lengths[members]
        first = np.cumsum(length) - length
        pairs = np.arange(length.sum()) + np.repeat(starts[members] - first, length)
        labels = annotation[pairs]
        free = (iou[pairs] >= thresholds) & (~taken[:, :, labels] | part.crowd[labels])
        preference = 1 + np.arange(len(pairs)) + len(pairs) * ~uncounted[:, None, labels]
        best = np.maximum.reduceat(np.where(free, preference, 0), first, axis=2)
        area, threshold, chooser = np.nonzero(best)
        taken[area, threshold, labels[(best[area, threshold, chooser] - 1) % len(pairs)]] = True
        hit[:, :, members] = best > len(pairs)
        ignored[:, :, members] = (best > 0) & (best <= len(pairs))
    return choosers, hit, ignored


def _outside(area: Float[np.ndarray, " S"], limits: Float[np.ndarray, "A 2 1"]) -> Bool[np.ndarray, "A S"]:
    return (area < limits[:, 0]) | (area > limits[:, 1])


def _starts(*keys: Int[np.ndarray, " S"]) -> Int[np.ndarray, " G"]:
    """Where runs of equal keys begin."""
    if len(keys[0]) == 0:
        return np.zeros(0, dtype=np.int64)
    return np.flatnonzero(np.append(True, np.logical_or.reduce([key[1:] != key[:-1] for key in keys])))


def _places(starts: Int[np.ndarray, " G"], length: int) -> Int[np.ndarray, " S"]:
    """Places within runs, from 0."""
    return np.arange(length) - np.repeat(starts, np.diff(np.append(starts, length)))
