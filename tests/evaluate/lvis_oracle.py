"""LVIS's scores, re-derived from its rules: one photo, class, size and threshold after another, in plain loops.

Federated labels (Gupta et al. 2019): a photo is searched for some classes only. Its positives are those annotated in
it, its negatives are listed; predictions of any other class are left out. A class that is not annotated exhaustively in
a photo has no wrong predictions there. Of a photo the best 300 predictions of all classes together count.
"""

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
SIZES = {"": (0, 1e10), "_small": (0, 32**2), "_medium": (32**2, 96**2), "_large": (96**2, 1e10)}


def lvis_scores(truth: dict[str, Any], found: list[dict[str, Any]], measure: str, max_dets: int) -> dict[str, float]:
    """AP, AP50, AP75, AR<max_dets>, AP and AR by size, and APr, APc, APf; -1 where there is nothing to find."""
    key = "segmentation" if measure == "mask" else "bbox"
    kept = [each for image in truth["images"] for each in _kept(truth, image, found, max_dets)]
    precision = {}  # of a class, size and threshold: at each recall
    recall = {}
    for category in (each["id"] for each in truth["categories"]):
        for size, limits in SIZES.items():
            for place, threshold in enumerate(THRESHOLDS):
                outcomes, truths = [], 0
                for image in sorted(truth["images"], key=lambda each: each["id"]):
                    things = [each for each in truth["annotations"] if _is(each, image, category)]
                    masks = [each for each in kept if _is(each, image, category)]
                    some, count = _photo(image, category, things, masks, key, threshold, limits)
                    outcomes += some
                    truths += count
                if truths:
                    curve = _curve(outcomes, truths)
                    precision[category, size, place], recall[category, size, place] = curve
    scores = {}
    for size in SIZES:
        scores[f"AP{size}"] = _mean(value for (_, of, _), value in precision.items() if of == size)
        scores[f"AR{max_dets}{size}"] = _mean(value for (_, of, _), value in recall.items() if of == size)
    for name, chosen in (("AP50", 0), ("AP75", 5)):
        scores[name] = _mean(value for (_, of, place), value in precision.items() if of == "" and place == chosen)
    for letter in "rcf":
        ids = {each["id"] for each in truth["categories"] if each["frequency"] == letter}
        scores[f"AP{letter}"] = _mean(value for (one, of, _), value in precision.items() if of == "" and one in ids)
    return scores


def _is(each: dict[str, Any], image: dict[str, Any], category: int) -> bool:
    return each["image_id"] == image["id"] and each["category_id"] == category


def _kept(
    truth: dict[str, Any], image: dict[str, Any], found: list[dict[str, Any]], max_dets: int
) -> list[dict[str, Any]]:
    """The best predictions of a photo, less those of classes that it was not searched for."""
    of_photo = [each for each in found if each["image_id"] == image["id"]]
    best = sorted(of_photo, key=lambda each: -each["score"])[:max_dets]
    positive = {each["category_id"] for each in truth["annotations"] if each["image_id"] == image["id"]}
    return [each for each in best if each["category_id"] in positive | set(image["neg_category_ids"])]


def _photo(
    image: dict[str, Any],
    category: int,
    things: list[dict[str, Any]],
    masks: list[dict[str, Any]],
    key: str,
    threshold: float,
    limits: tuple[float, float],
) -> tuple[list[tuple[float, bool]], int]:
    """Score and rightness of each prediction that is judged, best first, and how many things count."""
    low, high = limits
    counts = [low <= each["area"] <= high for each in things]
    free = [True] * len(things)
    judged = []
    for mask in sorted(masks, key=lambda each: -each["score"]):
        ious = [float(coco_mask.iou([mask[key]], [each[key]], [0])[0, 0]) for each in things]
        chosen = None
        for wanted in (True, False):  # things that count come first, whatever the overlap with others
            best = min(threshold, 1 - 1e-10)
            for number in range(len(things)):
                if free[number] and counts[number] == wanted and ious[number] >= best:
                    best, chosen = ious[number], number
            if chosen is not None:
                break
        if chosen is not None:
            free[chosen] = False
            if counts[chosen]:
                judged.append((mask["score"], True))
            continue
        area = float(coco_mask.area(mask[key])) if key == "segmentation" else mask["bbox"][2] * mask["bbox"][3]
        if low <= area <= high and category not in image["not_exhaustive_category_ids"]:
            judged.append((mask["score"], False))
    return judged, sum(counts)


def _curve(outcomes: list[tuple[float, bool]], truths: int) -> tuple[float, float]:
    """Mean of the interpolated precision over 101 recalls, and the largest recall."""
    right, points = 0, []
    for seen, (_, is_right) in enumerate(sorted(outcomes, key=lambda each: -each[0]), 1):
        right += is_right
        points.append((right / truths, right / (seen + np.spacing(1))))
    values = [max((precision for recall, precision in points if recall >= least), default=0.0) for least in RECALLS]
    return float(np.mean(values)), right / truths


def _mean(values: Any) -> float:
    known = list(values)
    return float(np.mean(known)) if known else -1.0
