"""COCO's instance protocol over all photos at once: greedy matching, precision and recall, with photos weighted.

With every weight 1 the numbers are those of pycocotools' `COCOeval` (a test holds them equal); an integer weight stands
for that many copies of a photo, without matching it again.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt16

from oapseg.evaluate.overlaps import Measure, Overlaps

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)  # COCO's grid
RECALL_THRESHOLDS = np.linspace(0, 1, 101)  # COCO's grid
AREAS_PX = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}  # COCO's, px²
NO_CLASS: Final = -1
PHOTOS_AT_ONCE = 1024  # that are matched together
ROWS_IN_MEMORY = 2**22  # predictions times resamples that are weighed at once


class Matches(NamedTuple):
    """Predictions of one class and area range over all photos, best score first, ties in the order of photos."""

    photo: Int[np.ndarray, " S"]
    rank: Int[np.ndarray, " S"]  # place among the predictions of its photo, from 0
    score: Float[np.ndarray, " S"]
    hit: Bool[np.ndarray, "T S"]  # matched with an annotation that counts
    ignored: Bool[np.ndarray, "T S"]  # matched with a crowd or out of the area range
    num_truths: Int[np.ndarray, " B"]  # annotations that count


def match(
    overlaps: Overlaps,
    measure: Measure,
    classes: Int[np.ndarray, " S"],
    label_classes: Int[np.ndarray, " L"],
    max_dets: int,
    *,
    unjudged: Bool[np.ndarray, " S"] | None = None,
) -> Iterator[tuple[int, str, Matches]]:
    """Class, name of area range and matches, for every class of annotations.

    Classes count from 0; what is `NO_CLASS` is left out. Of each photo and class the `max_dets` best predictions count.
    `unjudged` predictions are never wrong (LVIS).
    """
    found = overlaps.pairs[measure]
    rank = _ranks(overlaps.photo, classes, overlaps.score)
    kept = (classes >= 0) & (rank < max_dets)
    limits = np.array(list(AREAS_PX.values()))[:, :, None]  # A 2 1
    outside = _outside(found.area, limits)
    if unjudged is not None:
        outside = outside | unjudged
    uncounted = overlaps.crowd | _outside(overlaps.label_area, limits)
    same = kept[found.prediction] & (classes[found.prediction] == label_classes[found.annotation])
    matched, hit, ignored = _assign_in_parts(
        found.prediction[same], found.annotation[same], found.iou[same], rank, uncounted, overlaps
    )
    order = np.flatnonzero(kept)
    order = order[np.lexsort((overlaps.photo[order], -overlaps.score[order], classes[order]))]
    column = np.full(len(classes), -1, dtype=np.int32)
    column[matched] = np.arange(len(matched))
    num_photos = len(overlaps.image_ids)
    for number in np.unique(label_classes[label_classes >= 0]).tolist():
        first, last = np.searchsorted(classes[order], [number, number + 1])
        members = order[first:last]
        with_pair = np.flatnonzero(column[members] >= 0)
        columns = column[members[with_pair]]
        of_class = label_classes == number
        for area, name in enumerate(AREAS_PX):
            hits = np.zeros((len(IOU_THRESHOLDS), len(members)), dtype=bool)
            hits[:, with_pair] = _bits(hit[area, columns])
            ignores = np.repeat(outside[area, members][None], len(IOU_THRESHOLDS), axis=0)
            ignores[:, with_pair] = _bits(ignored[area, columns]) | (ignores[:, with_pair] & ~hits[:, with_pair])
            counted = overlaps.label_photo[of_class & ~uncounted[area]]
            num_truths = np.bincount(counted, minlength=num_photos)
            yield (
                number,
                name,
                Matches(overlaps.photo[members], rank[members], overlaps.score[members], hits, ignores, num_truths),
            )


def precision_at_recalls(matches: Matches, weights: Int[np.ndarray, "R B"]) -> Float[np.ndarray, "R T 101"]:
    """Interpolated precision at COCO's 101 recalls, 0 where a recall is never reached; NaN without annotations."""
    num_truths = _weighed(matches.num_truths[None], weights)[:, 0]
    curves = np.zeros((len(weights), len(IOU_THRESHOLDS), len(RECALL_THRESHOLDS)))
    curves[num_truths == 0] = np.nan
    counts = ~matches.ignored.all(0)  # the others are as if they were not there
    photo, place = matches.photo[counts], np.cumsum(counts, dtype=np.int32) - 1
    scored = np.flatnonzero(num_truths)
    if not matches.hit.any() or scored.size == 0:
        return curves
    needed = _hits_needed(num_truths)
    for rows in np.array_split(scored, min(len(scored), 1 + len(scored) * len(photo) // ROWS_IN_MEMORY)):
        # `take` keeps rows contiguous, which indexing does not: 15 times as fast to sum. Sums stay far below 2**31.
        weight = np.take(weights[rows].astype(np.int32), photo, axis=1)
        counted = np.cumsum(weight, axis=1, dtype=np.int32)
        for threshold in range(len(IOU_THRESHOLDS)):
            hits = place[np.flatnonzero(matches.hit[threshold])]
            ignores = place[np.flatnonzero(matches.ignored[threshold] & counts)]
            right = np.cumsum(np.take(weight, hits, axis=1), axis=1)
            excused = np.pad(np.cumsum(np.take(weight, ignores, axis=1), axis=1), ((0, 0), (1, 0)))
            seen = np.take(counted, hits, axis=1) - np.take(excused, np.searchsorted(ignores, hits), axis=1)
            # Precision falls from one hit to the next, so that its envelope is made by the hits alone.
            envelope = np.maximum.accumulate((right / (seen + np.spacing(1)))[:, ::-1], axis=1)[:, ::-1]
            reached = _first_at_least(right, needed[rows])
            curves[rows, threshold] = np.take_along_axis(np.pad(envelope, ((0, 0), (0, 1))), reached, axis=1)
    return curves


def average_precision(matches: Matches, weights: Int[np.ndarray, "R B"]) -> Float[np.ndarray, "R T"]:
    """Mean of the interpolated precision over 101 recalls, at each IoU threshold; NaN without annotations."""
    return precision_at_recalls(matches, weights).mean(-1)


def average_recall(matches: Matches, weights: Int[np.ndarray, "R B"], max_dets: int) -> Float[np.ndarray, "R T"]:
    """Share of the annotations found by the `max_dets` best predictions of each photo; NaN without annotations."""
    kept = matches.rank < max_dets
    found = np.stack([np.bincount(matches.photo[hit & kept], minlength=weights.shape[1]) for hit in matches.hit])
    counts = _weighed(np.concatenate([matches.num_truths[None], found]), weights)
    num_truths = counts[:, :1]
    return np.where(num_truths > 0, counts[:, 1:] / np.maximum(num_truths, 1), np.nan)


def _ranks(
    photo: Int[np.ndarray, " S"], classes: Int[np.ndarray, " S"], score: Float[np.ndarray, " S"]
) -> Int[np.ndarray, " S"]:
    """Place of each prediction among those of its photo and class, best score first, ties in the order given."""
    order = np.lexsort((-score, classes, photo))
    starts = _starts(photo[order], classes[order])
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = _places(starts, len(order))
    return rank


def _assign_in_parts(
    prediction: Int[np.ndarray, " P"],
    annotation: Int[np.ndarray, " P"],
    iou: Float[np.ndarray, " P"],
    rank: Int[np.ndarray, " S"],
    uncounted: Bool[np.ndarray, "A L"],
    overlaps: Overlaps,
) -> tuple[Int[np.ndarray, " D"], UInt16[np.ndarray, "A D"], UInt16[np.ndarray, "A D"]]:
    """`_assign` of some photos at a time, for the sake of memory; thresholds are bits, the first the lowest."""
    ends = np.arange(PHOTOS_AT_ONCE, len(overlaps.image_ids) + PHOTOS_AT_ONCE, PHOTOS_AT_ONCE)
    cuts = [0, *np.searchsorted(overlaps.photo[prediction], ends).tolist()]
    bits = (1 << np.arange(len(IOU_THRESHOLDS), dtype=np.uint16))[None, :, None]
    matched = [np.zeros(0, dtype=np.int32)]
    hit, ignored = ([np.zeros((len(uncounted), 0), dtype=np.uint16)] for _ in range(2))
    for first, last in pairwise(cuts):
        part = slice(first, last)
        choosers, *both = _assign(prediction[part], annotation[part], iou[part], rank, uncounted, overlaps)
        matched.append(choosers)
        for kept, each in zip((hit, ignored), both, strict=True):
            kept.append((each * bits).sum(1, dtype=np.uint16))
    return np.concatenate(matched), np.concatenate(hit, axis=1), np.concatenate(ignored, axis=1)


def _bits(packed: UInt16[np.ndarray, " D"]) -> Bool[np.ndarray, "T D"]:
    """What `_assign_in_parts` says of each threshold."""
    return (packed >> np.arange(len(IOU_THRESHOLDS), dtype=np.uint16)[:, None] & 1).astype(bool)


def _assign(
    prediction: Int[np.ndarray, " P"],
    annotation: Int[np.ndarray, " P"],
    iou: Float[np.ndarray, " P"],
    rank: Int[np.ndarray, " S"],
    uncounted: Bool[np.ndarray, "A L"],
    overlaps: Overlaps,
) -> tuple[Int[np.ndarray, " D"], Bool[np.ndarray, "A T D"], Bool[np.ndarray, "A T D"]]:
    """COCO's greedy matching: the D predictions with a pair, and whether each is a hit or to be ignored.

    Predictions choose by falling score: of the annotations that are free, the one that counts with the largest IoU, the
    last of equals; without one, so among those that do not count; a crowd is always free. The nth choosers of all
    photos choose together, for all area ranges and thresholds.
    """
    # Within a prediction the better pair comes later, so that the best is the last that may be chosen.
    order = np.lexsort((annotation, iou, prediction, rank[prediction], overlaps.photo[prediction]))
    prediction, annotation, iou = prediction[order], annotation[order], iou[order]
    starts = _starts(prediction)
    choosers = prediction[starts]
    turn = _places(_starts(overlaps.photo[choosers]), len(choosers))
    lengths = np.diff(np.append(starts, len(prediction)))
    thresholds = np.minimum(IOU_THRESHOLDS, 1 - 1e-10)[:, None]  # COCOeval's guard
    hit = np.zeros((len(uncounted), len(IOU_THRESHOLDS), len(choosers)), dtype=bool)
    ignored = hit.copy()
    labels_from = int(annotation.min(initial=len(overlaps.crowd)))
    num_labels = int(annotation.max(initial=-1)) + 1 - labels_from if len(annotation) else 0
    taken = np.zeros((len(uncounted), len(IOU_THRESHOLDS), num_labels), dtype=bool)
    for members in np.split(np.argsort(turn, kind="stable"), np.flatnonzero(np.diff(np.sort(turn))) + 1):
        if members.size == 0:
            continue
        length = lengths[members]
        first = np.cumsum(length) - length
        pairs = np.arange(length.sum()) + np.repeat(starts[members] - first, length)
        labels = annotation[pairs]
        free = (iou[pairs] >= thresholds) & (~taken[:, :, labels - labels_from] | overlaps.crowd[labels])
        preference = 1 + np.arange(len(pairs)) + len(pairs) * ~uncounted[:, None, labels]
        best = np.maximum.reduceat(np.where(free, preference, 0), first, axis=2)
        area, threshold, chooser = np.nonzero(best)
        taken[area, threshold, labels[(best[area, threshold, chooser] - 1) % len(pairs)] - labels_from] = True
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


def _weighed(counts: Int[np.ndarray, "N B"], weights: Int[np.ndarray, "R B"]) -> Int[np.ndarray, "R N"]:
    """Sums of counts over weighted photos; photos without any are left out, as most are of a rare class."""
    some = counts.any(0)
    # Sums are far below 2**53, so that floats are exact; integer products have no fast library.
    return np.rint(weights[:, some].astype(float) @ counts[:, some].T.astype(float)).astype(np.int64)


def _hits_needed(num_truths: Int[np.ndarray, " R"]) -> Int[np.ndarray, "R 101"]:
    """The fewest hits whose share of the annotations, as a float, is at least each recall."""
    total = np.maximum(num_truths, 1)[:, None]
    needed = np.ceil(RECALL_THRESHOLDS * total)
    needed = np.where((needed - 1) / total >= RECALL_THRESHOLDS, needed - 1, needed)
    return np.where(needed / total < RECALL_THRESHOLDS, needed + 1, needed).astype(np.int64)


def _first_at_least(rising: Int[np.ndarray, "R N"], needed: Int[np.ndarray, "R 101"]) -> Int[np.ndarray, "R 101"]:
    """Where each row first reaches each of its values, N where never: one search over all rows, set apart."""
    apart = (np.arange(len(rising)) * (1 + max(rising.max(initial=0), needed.max())))[:, None]
    found = np.searchsorted((rising + apart).reshape(-1), (needed + apart).reshape(-1)).reshape(needed.shape)
    return found - np.arange(len(rising))[:, None] * rising.shape[1]
