"""COCO's instance protocol over all photos at once: greedy matching, precision and recall, with photos weighted.

With every weight 1 the numbers are those of pycocotools' `COCOeval` (a test holds them equal); an integer weight stands
for that many copies of a photo, without matching it again.

Photos are matched part by part. What comes of every prediction is brought into the order of the scores, in a file where
there are many, and precision and recall are counted as it is read, so that memory does not grow with the photos but for
some numbers a photo.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt16

from oapseg.evaluate import columns
from oapseg.evaluate.columns import Sorted, release
from oapseg.evaluate.matching import ALL_BITS, AREAS_PX, COUNTED, IOU_THRESHOLDS, JUDGED, THRESHOLDS, judge
from oapseg.evaluate.overlaps import Measure, Overlaps

RECALL_THRESHOLDS = np.linspace(0, 1, 101)  # COCO's grid
CELLS_AT_ONCE = 2**19  # predictions times resamples that are weighed at once


class Judged(NamedTuple):
    """Some predictions, best score first, ties in the order of photos; thresholds are bits, the first the lowest."""

    photo: Int[np.ndarray, " S"]
    rank: Int[np.ndarray, " S"]  # place among the predictions of its photo, from 0
    hit: UInt16[np.ndarray, " S"]  # matched with an annotation that counts
    ignored: UInt16[np.ndarray, " S"]  # matched with a crowd or out of the area range

    def hits(self, threshold: int) -> Bool[np.ndarray, " S"]:
        return (self.hit & np.uint16(1 << threshold)) != 0

    def ignores(self, threshold: int) -> Bool[np.ndarray, " S"]:
        return (self.ignored & np.uint16(1 << threshold)) != 0

    def some(self, chosen: Bool[np.ndarray, " S"]) -> "Judged":
        return Judged(*(each[chosen] for each in self))


class Matches(NamedTuple):
    """Predictions of one class over all photos, and what came of them in one area range."""

    rows: Shaped[np.ndarray, " S"]  # `JUDGED`, best score first, ties in the order of photos
    area: int
    num_truths: Int[np.ndarray, " B"]  # annotations that count
    photos: Bool[np.ndarray, " B"] | None = None  # the only ones that are looked at

    def parts(self) -> Iterator[Judged]:
        """Some predictions, then the next."""
        for first in range(0, len(self.rows), columns.HELD):
            rows = self.rows[first : first + columns.HELD]
            if self.photos is not None:
                rows = rows[self.photos[rows["photo"]]]
            kept = rows["photo"], rows["rank"], rows["hit"][:, self.area], rows["ignored"][:, self.area]
            yield Judged(*map(np.ascontiguousarray, kept))
            release(self.rows)

    def of_photos(self, chosen: Bool[np.ndarray, " B"]) -> "Matches":
        """As if there were no other photos."""
        return self._replace(photos=chosen, num_truths=np.where(chosen, self.num_truths, 0))


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
    judged, counted = Sorted(JUDGED, "class", "worse", "photo"), Sorted(COUNTED, "class")
    num_judged, num_counted = Counter[int](), Counter[int]()
    first = first_label = 0
    for part in overlaps.parts():
        last, last_label = first + len(part.score), first_label + len(part.crowd)
        of_part = classes[first:last], label_classes[first_label:last_label]
        excused = None if unjudged is None else unjudged[first:last]
        rows, truths = judge(part, part.pairs[measure], *of_part, max_dets, excused)
        judged.append(rows)
        counted.append(truths)
        num_judged.update(_by_class(rows))
        num_counted.update(_by_class(truths))
        first, first_label = last, last_label
        release(classes, label_classes, unjudged)
    rows, truths = judged.array(), counted.array()
    of_class, labels_of_class = _slices(num_judged), _slices(num_counted)
    for number in sorted(num_counted):
        members = rows[of_class.get(number, slice(0))]
        for area, name in enumerate(AREAS_PX):
            num_truths = _counted(truths[labels_of_class[number]], area, len(overlaps.image_ids))
            yield number, name, Matches(members, area, num_truths)


def precision_at_recalls(matches: Matches, weights: Int[np.ndarray, "R B"]) -> Float[np.ndarray, "R T 101"]:
    """Interpolated precision at COCO's 101 recalls, 0 where a recall is never reached; NaN without annotations."""
    num_truths = _weighed(matches.num_truths[None], weights)[:, 0]
    curves = np.zeros((len(weights), len(IOU_THRESHOLDS), len(RECALL_THRESHOLDS)))
    curves[num_truths == 0] = np.nan
    scored = np.flatnonzero(num_truths)
    if scored.size == 0 or not any(part.hit.any() for part in matches.parts()):
        return curves
    needed = _hits_needed(num_truths)
    right_so_far, seen_so_far = np.zeros((2, len(IOU_THRESHOLDS), len(weights)), dtype=np.int64)
    for part in matches.parts():
        part = part.some(part.ignored != ALL_BITS)  # the others are as if they were not there
        if not len(part.photo):
            continue
        marks = [(np.flatnonzero(part.hits(each)), np.flatnonzero(part.ignores(each))) for each in THRESHOLDS]
        befores = [np.searchsorted(ignores, hits) for hits, ignores in marks]
        cells = len(scored) * max(len(part.photo), weights.shape[1])
        for rows in np.array_split(scored, min(len(scored), 1 + cells // CELLS_AT_ONCE)):
            # `take` keeps rows contiguous, which indexing does not: 15 times as fast to sum. Sums stay far below 2**31.
            weight = np.take(weights[rows].astype(np.int32, copy=False), part.photo, axis=1)
            counted = np.cumsum(weight, axis=1, dtype=np.int32)
            for threshold, ((hits, ignores), before) in enumerate(zip(marks, befores, strict=True)):
                excused = np.pad(np.cumsum(np.take(weight, ignores, axis=1), axis=1), ((0, 0), (1, 0)))
                seen = np.take(counted, hits, axis=1) - np.take(excused, before, axis=1)
                seen += seen_so_far[threshold, rows, None]
                seen_so_far[threshold, rows] += counted[:, -1] - excused[:, -1]
                if not len(hits):
                    continue
                right = np.cumsum(np.take(weight, hits, axis=1), axis=1) + right_so_far[threshold, rows, None]
                right_so_far[threshold, rows] = right[:, -1]
                # Precision falls from one hit to the next, so that its envelope is made by the hits alone. That of all
                # parts at a recall is the best of theirs.
                envelope = np.maximum.accumulate((right / (seen + np.spacing(1)))[:, ::-1], axis=1)[:, ::-1]
                reached = _first_at_least(right, needed[rows])
                best = np.take_along_axis(np.pad(envelope, ((0, 0), (0, 1))), reached, axis=1)
                curves[rows, threshold] = np.maximum(curves[rows, threshold], best)
        release(weights)
    return curves


def average_precision(matches: Matches, weights: Int[np.ndarray, "R B"]) -> Float[np.ndarray, "R T"]:
    """Mean of the interpolated precision over 101 recalls, at each IoU threshold; NaN without annotations."""
    return precision_at_recalls(matches, weights).mean(-1)


def average_recall(matches: Matches, weights: Int[np.ndarray, "R B"], max_dets: int) -> Float[np.ndarray, "R T"]:
    """Share of the annotations found by the `max_dets` best predictions of each photo; NaN without annotations."""
    found = np.zeros((len(IOU_THRESHOLDS), weights.shape[1]), dtype=np.int64)
    for part in matches.parts():
        kept = part.rank < max_dets
        for threshold in THRESHOLDS:
            found[threshold] += np.bincount(part.photo[part.hits(threshold) & kept], minlength=weights.shape[1])
    counts = _weighed(np.concatenate([matches.num_truths[None], found]), weights)
    num_truths = counts[:, :1]
    return np.where(num_truths > 0, counts[:, 1:] / np.maximum(num_truths, 1), np.nan)


def _by_class(rows: Shaped[np.ndarray, " N"]) -> dict[int, int]:
    """How many there are of each class."""
    classes, counts = np.unique(rows["class"], return_counts=True)
    return dict(zip(classes.tolist(), counts.tolist(), strict=True))


def _slices(counts: Mapping[int, int]) -> dict[int, slice]:
    """Where each class is among rows in the order of classes."""
    ends = accumulate(counts[each] for each in sorted(counts))
    return {number: slice(end - counts[number], end) for number, end in zip(sorted(counts), ends, strict=True)}


def _counted(truths: Shaped[np.ndarray, " L"], area: int, num_photos: int) -> Int[np.ndarray, " B"]:
    """How many annotations of each photo count in an area range."""
    num_truths = np.zeros(num_photos, dtype=np.int64)
    for first in range(0, len(truths), columns.HELD):
        some = truths[first : first + columns.HELD]
        num_truths += np.bincount(some["photo"][some["counts"][:, area]], minlength=num_photos)
        release(truths)
    return num_truths


def _weighed(counts: Int[np.ndarray, "N B"], weights: Int[np.ndarray, "R B"]) -> Int[np.ndarray, "R N"]:
    """Sums of counts over weighted photos; photos without any are left out, as most are of a rare class."""
    some = np.asarray(counts.any(0))
    # Sums are far below 2**53, so that floats are exact; integer products have no fast library.
    values = counts[:, some].T.astype(float)
    sums = np.empty((len(weights), len(counts)), dtype=np.int64)
    at_once = max(1, columns.HELD // max(1, len(some)))
    for first in range(0, len(weights), at_once):
        rows = slice(first, first + at_once)
        sums[rows] = np.rint(weights[rows, some].astype(float) @ values)
        release(weights)
    return sums


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
