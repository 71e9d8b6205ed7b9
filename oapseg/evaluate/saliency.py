"""Foreground and instances without classes, photo by photo: F-score, IoU, CorLoc, Rand index, assigned instances.

All scores are means over photos of a score of each photo, as deep spectral methods and TokenCut report them; a photo
that has nothing to score (no true foreground for F, IoU and CorLoc) is left out of that mean. Crowds are no instances,
and their pixels are left out.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from pycocotools import mask as coco_mask
from scipy.optimize import linear_sum_assignment

from oapseg.evaluate.counts import label_map, mean_over_photos, measured, pool, share, shared_pixels
from oapseg.evaluate.intervals import Measured
from oapseg.evaluate.overlaps import INSTANCE

BETA_SQUARED: Final = 0.3  # of the F-score that weighs precision more, as salient object detection has it
THRESHOLDS: Final = np.arange(255) / 255  # of the score of a pixel, for the maximal F-score
CORLOC_IOU: Final = 0.5
BOX_OVERLAPS: Final = (0.01, 0.14, 0.34, np.inf)  # bounds of the splits by occlusion (deep spectral, table III)
SIZE_RATIOS: Final = (1.26, 1.64, np.inf)  # bounds of the splits by size ratio (its table IV)

Pixels = int | Int[np.ndarray, " T"]


class PhotoSaliency(NamedTuple):
    """Scores of one photo in [0, 1], NaN where there is nothing to score; and what it is split by."""

    f_beta_curve: Float[np.ndarray, " 255"]  # at each of `THRESHOLDS`
    corloc: float
    f1: float = np.nan
    f_beta: float = np.nan
    iou: float = np.nan
    accuracy: float = np.nan
    ari: float = np.nan
    fg_ari: float = np.nan
    instance_iou: float = np.nan
    box_overlap: float = np.nan
    size_ratio: float = np.nan


def photo_saliency(
    annotations: Sequence[dict[str, Any]],
    results: Sequence[dict[str, Any]],
    size: tuple[int, int],
    *,
    min_score: float,
    min_area: float,
    min_ratio: float,
) -> PhotoSaliency:
    """Instance masks of a photo against its annotations, whatever their classes.

    Foreground is what an instance mask scored at least `min_score` covers; where masks overlap, a pixel belongs to the
    best one. Instances are scored where there are two or more, each at least the share `min_area` of the photo, and
    the smallest at least `min_ratio` of the largest. Where annotations have boxes alone, CorLoc alone is scored.
    """
    masks = sorted(
        (each for each in results if each.get("kind", INSTANCE) == INSTANCE), key=lambda each: -each["score"]
    )
    things = [each for each in annotations if not each["iscrowd"]]
    crowds = [each for each in annotations if each["iscrowd"]]
    corloc = _corloc(things, masks)
    if not all("segmentation" in each for each in annotations):
        return PhotoSaliency(np.full(len(THRESHOLDS), np.nan), corloc)
    labels = [*things, *crowds]
    table = shared_pixels(label_map(masks, size), label_map(labels, size), len(masks), len(labels))
    table = table[:, : len(things) + 1]
    scores = np.array([mask["score"] for mask in masks], dtype=float)
    confident = int(np.count_nonzero(scores >= min_score))
    shown = np.concatenate([table[:1] + table[confident + 1 :].sum(0), table[1 : confident + 1]])
    hit, false, missed = (int(part.sum()) for part in (shown[1:, 1:], shown[1:, 0], shown[0, 1:]))
    nothing = hit + missed == 0
    areas = table[:, 1:].sum(0)
    return PhotoSaliency(
        f_beta_curve=_curve(table, scores, nothing),
        corloc=corloc,
        f1=np.nan if nothing else f_score(hit, hit + false, hit + missed, 1.0),
        f_beta=np.nan if nothing else f_score(hit, hit + false, hit + missed, BETA_SQUARED),
        iou=np.nan if nothing else hit / (hit + false + missed),
        accuracy=float((hit + shown[0, 0]) / shown.sum()) if shown.any() else np.nan,
        ari=adjusted_rand(shown),
        fg_ari=adjusted_rand(shown[:, 1:]),
        instance_iou=assigned_iou(shown) if _scored(areas, size, min_area, min_ratio) else np.nan,
        box_overlap=box_overlap(_boxes(things)),
        size_ratio=size_ratio(areas),
    )


def score_saliency(photos: Sequence[PhotoSaliency], resamples: Int[np.ndarray, "R B"]) -> dict[str, Measured]:
    """`F1`, `F_beta`, `max_F_beta`, `IoU`, `accuracy`, `CorLoc`, `ARI`, `FG_ARI` and `instance_mIoU` with its splits.

    The maximum is over one threshold for all photos, found anew for each resample. A split is named by its bounds:
    `instance_mIoU_overlap_0.01_0.14` from 0.01 to below 0.14, the last without an upper bound.
    """
    columns = {name: np.array([getattr(photo, name) for photo in photos]) for name in PhotoSaliency._fields[1:]}
    names = {
        "F1": "f1",
        "F_beta": "f_beta",
        "IoU": "iou",
        "accuracy": "accuracy",
        "CorLoc": "corloc",
        "ARI": "ari",
        "FG_ARI": "fg_ari",
        "instance_mIoU": "instance_iou",
    }
    scores = {name: mean_over_photos(columns[field], resamples) for name, field in names.items()}
    curves = np.array([photo.f_beta_curve for photo in photos]).reshape(len(photos), len(THRESHOLDS))
    scored = ~np.isnan(curves)
    curves[~scored] = 0.0
    scores["max_F_beta"] = measured(share(pool(curves, resamples), pool(scored, resamples)).max(1))
    for split, field, bounds in (("overlap", "box_overlap", BOX_OVERLAPS), ("ratio", "size_ratio", SIZE_RATIOS)):
        for low, high in pairwise(bounds):
            within = (columns[field] >= low) & (columns[field] < high)
            name = f"instance_mIoU_{split}_{low:g}" + (f"_{high:g}" if np.isfinite(high) else "")
            scores[name] = mean_over_photos(np.where(within, columns["instance_iou"], np.nan), resamples)
    return scores


def f_score(hit: Pixels, predicted: Pixels, true: Pixels, beta_squared: float) -> Any:
    """(1 + b) P R / (b P + R) with P = hit / predicted and R = hit / true; 0 without a prediction."""
    return (1 + beta_squared) * hit / (predicted + beta_squared * true)


def adjusted_rand(shared: Int[np.ndarray, "rows columns"]) -> float:
    """Adjusted Rand index of two labellings from the pixels they share; NaN without a pixel."""
    total = int(shared.sum())
    if total == 0:
        return np.nan
    both, first, second = (int((each.astype(object) ** 2).sum()) for each in (shared, shared.sum(1), shared.sum(0)))
    together, apart = both - total, total**2 - first - second + both
    split, joined = second - both, first - both
    if split == joined == 0:
        return 1.0
    chance = (together + split) * (split + apart) + (together + joined) * (joined + apart)
    return 2 * (together * apart - split * joined) / chance


def assigned_iou(shared: Int[np.ndarray, "rows columns"]) -> float:
    """Mean IoU of the true instances with the masks assigned to them, one to one; 0 of one without a mask.

    Row 0 and column 0 are background.
    """
    hit = shared[1:, 1:]
    union = shared.sum(1)[1:, None] + shared.sum(0)[None, 1:] - hit
    iou = hit / np.maximum(union, 1)
    return float(iou[linear_sum_assignment(iou, maximize=True)].sum() / hit.shape[1])


def box_overlap(boxes_xywh: Float[np.ndarray, "S 4"]) -> float:
    """Share of the area of all boxes together that lies in two or more; NaN without a box.

    The overlap ratio by which deep spectral splits its test set (section IV, table III: "MBOR", after OVIS, Qi et al.
    2022, whose BOR it is: the union of all pairwise intersections by the union of all boxes). OVIS averages it over the
    frames of a video; a photo, and here each frame, has its own.
    """
    left, top, width, height = boxes_xywh.T
    xs, ys = np.unique([left, left + width]), np.unique([top, top + height])
    across = (left[:, None] <= xs[:-1]) & (xs[:-1] < (left + width)[:, None])
    down = (top[:, None] <= ys[:-1]) & (ys[:-1] < (top + height)[:, None])
    depth = down.astype(int).T @ across.astype(int)
    cells = np.outer(np.diff(ys), np.diff(xs))
    covered = cells[depth > 0].sum()
    return float(cells[depth > 1].sum() / covered) if covered > 0 else np.nan


def size_ratio(areas_px: Int[np.ndarray, " S"]) -> float:
    """The sum of each instance's area by the largest one's, 1 for one alone (deep spectral, table IV).

    The lower it is, the more the sizes of two instances differ. NaN without an instance.
    """
    return float(areas_px.sum() / areas_px.max()) if areas_px.any() else np.nan


def protocol(min_score: float, min_area: float, min_ratio: float) -> str:
    """How these scores are computed, in words."""
    return (
        f"means over photos; foreground: masks scored at least {min_score:g}, best first; F_beta with beta² "
        f"{BETA_SQUARED:g}; CorLoc: box of the best mask, IoU {CORLOC_IOU:g}; instances assigned one to one in photos "
        f"of two or more, each at least {min_area:g} of the photo, smallest to largest at least {min_ratio:g}"
    )


def _curve(table: Int[np.ndarray, "rows columns"], scores: Float[np.ndarray, " S"], nothing: bool) -> np.ndarray:
    """F-score at each threshold, of the pixels whose best mask is scored above it."""
    if nothing:
        return np.full(len(THRESHOLDS), np.nan)
    above = (scores[None] > THRESHOLDS[:, None]).astype(np.int64)
    hit, predicted = above @ table[1:, 1:].sum(1), above @ table[1:].sum(1)
    return np.asarray(f_score(hit, predicted, int(table[:, 1:].sum()), BETA_SQUARED))


def _scored(areas: Int[np.ndarray, " S"], size: tuple[int, int], min_area: float, min_ratio: float) -> bool:
    if len(areas) < 2:
        return False
    large, alike = areas / (size[0] * size[1]) >= min_area, areas.min() / max(areas.max(), 1) >= min_ratio
    return bool(large.all() and alike)


def _corloc(things: Sequence[dict[str, Any]], masks: Sequence[dict[str, Any]]) -> float:
    """1 where the box of the best mask meets that of any thing, 0 where not; NaN without a thing."""
    if not things:
        return np.nan
    if not masks:
        return 0.0
    overlap = coco_mask.iou(_boxes(masks[:1]), _boxes(things), [0] * len(things))
    return float((overlap >= CORLOC_IOU).any())


def _boxes(members: Sequence[dict[str, Any]]) -> Float[np.ndarray, "S 4"]:
    return np.array([each["bbox"] for each in members], dtype=float).reshape(-1, 4)
