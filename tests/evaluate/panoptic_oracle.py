"""Panoptic quality by its definition, pixel by pixel and pair by pair, from two maps of segments.

What panopticapi computes: a predicted and a true segment of one category match where the IoU is above one half, the
union being without pixels that are void in the truth. Unmatched true segments are missed, but for crowds; unmatched
predicted ones are wrong, but where more than half of them lies on void or on the crowd of their category.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

VOID = -1


class Labelling(NamedTuple):
    """Segment numbers of a photo's pixels, and of each segment its category and whether it is a crowd."""

    segments: np.ndarray
    categories: list[int]
    crowds: list[bool]


def panoptic_quality(
    photos: Iterable[tuple[Labelling, Labelling]], categories: dict[int, bool]
) -> dict[str, dict[str, float]]:
    """PQ, SQ and RQ over all, things and stuff, of pairs (truth, predicted); `categories` says which are things."""
    sums = {category: {"iou": 0.0, "tp": 0, "fp": 0, "fn": 0} for category in categories}
    for truth, predicted in photos:
        _count(truth, predicted, sums)
    groups: dict[str, Any] = {"": {True, False}, "_things": {True}, "_stuff": {False}}
    return {
        suffix: _mean(sums, [c for c, thing in categories.items() if thing in kinds])
        for suffix, kinds in groups.items()
    }


def _count(truth: Labelling, predicted: Labelling, sums: dict[int, dict[str, float]]) -> None:
    true_masks = [truth.segments == number for number in range(len(truth.categories))]
    found_masks = [predicted.segments == number for number in range(len(predicted.categories))]
    void = truth.segments == VOID
    matched_true, matched_found = set(), set()
    for t, true_mask in enumerate(true_masks):
        for p, found_mask in enumerate(found_masks):
            if truth.crowds[t] or truth.categories[t] != predicted.categories[p]:
                continue
            intersection = int((true_mask & found_mask).sum())
            union = int(true_mask.sum()) + int(found_mask.sum()) - intersection - int((void & found_mask).sum())
            if intersection / union > 0.5:
                sums[truth.categories[t]]["tp"] += 1
                sums[truth.categories[t]]["iou"] += intersection / union
                matched_true.add(t)
                matched_found.add(p)
    for t, category in enumerate(truth.categories):
        if t not in matched_true and not truth.crowds[t]:
            sums[category]["fn"] += 1
    for p, category in enumerate(predicted.categories):
        if p in matched_found:
            continue
        excused = int((void & found_masks[p]).sum())
        for t, true_mask in enumerate(true_masks):
            if truth.crowds[t] and truth.categories[t] == category:
                excused += int((true_mask & found_masks[p]).sum())
        if not excused / int(found_masks[p].sum()) > 0.5:
            sums[category]["fp"] += 1


def _mean(sums: dict[int, dict[str, float]], categories: list[int]) -> dict[str, float]:
    totals, count = {"PQ": 0.0, "SQ": 0.0, "RQ": 0.0}, 0
    for category in categories:
        iou, tp, fp, fn = (sums[category][key] for key in ("iou", "tp", "fp", "fn"))
        if tp + fp + fn == 0:
            continue
        count += 1
        totals["PQ"] += iou / (tp + 0.5 * fp + 0.5 * fn)
        totals["SQ"] += iou / tp if tp else 0.0
        totals["RQ"] += tp / (tp + 0.5 * fp + 0.5 * fn)
    return {name: total / count if count else float("nan") for name, total in totals.items()}


def merged(results: list[dict[str, Any]], masks: list[np.ndarray], shape: tuple[int, int], stuff_px: int) -> Labelling:
    """Panoptic FPN's merge, pixel by pixel: things scored 0.5 or more, best first, then stuff on what is left.

    A result is {`category_id`, `score`, `kind`}; `category_id` is its class already.
    """
    owner: dict[tuple[int, int], int] = {}
    categories: list[int] = []
    order = sorted(range(len(results)), key=lambda n: (-results[n]["score"], n))
    for n in [n for n in order if results[n]["kind"] == "instance" and results[n]["score"] >= 0.5]:
        pixels = [(int(y), int(x)) for y, x in np.argwhere(masks[n])]
        free = [pixel for pixel in pixels if pixel not in owner]
        if not free or (len(pixels) - len(free)) / len(pixels) > 0.5:
            continue
        owner |= dict.fromkeys(free, len(categories))
        categories.append(results[n]["category_id"])
    for category in sorted({result["category_id"] for result in results if result["kind"] == "region"}):
        free = [
            (int(y), int(x))
            for n, result in enumerate(results)
            if result["kind"] == "region" and result["category_id"] == category
            for y, x in np.argwhere(masks[n])
            if (int(y), int(x)) not in owner
        ]
        if len(free) >= max(stuff_px, 1):
            owner |= dict.fromkeys(free, len(categories))
            categories.append(category)
    segments = np.full(shape, VOID)
    for pixel, number in owner.items():
        segments[pixel] = number
    return Labelling(segments, categories, [False] * len(categories))
