"""Small counts of a photo, from two labellings of its pixels, and what they come to over photos drawn again."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from pycocotools import mask as coco_mask

from oapseg.evaluate.columns import release
from oapseg.evaluate.intervals import Measured

VOID: Final = -1  # of a pixel: not labelled, or not predicted
PHOTOS_AT_ONCE = 2**10


def decode(segment: dict[str, Any], size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """The mask of an annotation, result or segment (`segmentation` as COCO run lengths), column-major.

    Errors: `ValueError` where its size is not that of the photo.
    """
    rle = segment["segmentation"]
    if tuple(rle["size"]) != size:
        named = ", ".join(f"{key} {segment[key]}" for key in ("image_id", "id", "category_id") if key in segment)
        raise ValueError(f"mask of {named}: {rle['size'][0]} x {rle['size'][1]} px in a photo of {size[0]} x {size[1]}")
    if isinstance(rle["counts"], list):
        rle = coco_mask.frPyObjects(rle, *size)
    mask: Bool[np.ndarray, "H W"] = coco_mask.decode(rle).view(bool)
    return mask


def label_map(
    segments: Sequence[dict[str, Any]], size: tuple[int, int], labels: Sequence[int] | None = None
) -> Int[np.ndarray, "H W"]:
    """The label of the segment at each pixel, the first of several, `VOID` where there is none.

    The label of a segment is its number without `labels`. Columns lie one after another in memory, as run lengths do.
    """
    painted = np.full(size[::-1], VOID, dtype=np.int32)
    for number in reversed(range(len(segments))):
        mask = decode(segments[number], size)
        np.copyto(painted, number if labels is None else labels[number], where=mask.T)
    return painted.T


def shared_pixels(
    rows: Int[np.ndarray, "H W"], columns: Int[np.ndarray, "H W"], num_rows: int, num_columns: int
) -> Int[np.ndarray, "rows columns"]:
    """Pixels by label in two maps of labels from 0; row 0 and column 0 are void, label n is row or column n + 1."""
    pairs = (rows.ravel(order="F") + 1).astype(np.int64) * (num_columns + 1) + (columns.ravel(order="F") + 1)
    return np.bincount(pairs, minlength=(num_rows + 1) * (num_columns + 1)).reshape(num_rows + 1, num_columns + 1)


def pool(counts: Shaped[np.ndarray, " B *M"], resamples: Int[np.ndarray, "R B"]) -> Float[np.ndarray, " R+1 *M"]:
    """Sums over the photos as they are, and then over each resample of them; some photos are weighed at a time."""
    sums = np.zeros((1 + len(resamples), *counts.shape[1:]))
    for first in range(0, len(counts), PHOTOS_AT_ONCE):
        some = slice(first, first + PHOTOS_AT_ONCE)
        drawn = resamples[:, some]
        weights = np.concatenate([np.ones((1, drawn.shape[1])), drawn])
        sums += np.tensordot(weights, counts[some].astype(float), axes=1)
        release(resamples)
    return sums


def share(part: Float[np.ndarray, " *M"], whole: Float[np.ndarray, " *M"]) -> Float[np.ndarray, " *M"]:
    """Part by whole; NaN where the whole is nothing."""
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def mean_over_classes(values: Float[np.ndarray, "rows M"]) -> Measured:
    """The mean over the classes that are scored, in each resample those of its own."""
    scored = ~np.isnan(values)
    return measured(share(np.where(scored, values, 0.0).sum(1), scored.sum(1).astype(float)))


def mean_over_photos(values: Float[np.ndarray, " B"], resamples: Int[np.ndarray, "R B"]) -> Measured:
    """The mean over the photos that are scored (not NaN), each as often as it was drawn."""
    scored = ~np.isnan(values)
    return measured(share(pool(np.where(scored, values, 0.0), resamples), pool(scored, resamples)))


def measured(values: Float[np.ndarray, " rows"]) -> Measured:
    return Measured(float(values[0]), values[1:])
