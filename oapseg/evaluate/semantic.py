"""Semantic scores (section 5.2): every pixel's cluster, taken for a class, against its true class.

What is not labelled is left out. What is labelled and not predicted, or predicted by a cluster without a class, is
wrong: U2Seg's code leaves such pixels out of the truth as well, which raises every score.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from oapseg.evaluate.counts import VOID, label_map, mean_over_classes, measured, pool, share
from oapseg.evaluate.intervals import Measured
from oapseg.match.clusters import MAPPINGS, UNMAPPED, pixel_votes


class Confusion(NamedTuple):
    """How many labelled pixels of one photo each pair of a cluster and a class has; a cluster may be `VOID`."""

    clusters: Int[np.ndarray, " N"]
    classes: Int[np.ndarray, " N"]
    pixels: Int[np.ndarray, " N"]


class ClassPixels(NamedTuple):
    """Pixels of each photo by class: rightly predicted, true, and predicted where something is true."""

    hit: Int[np.ndarray, "B M"]
    truth: Int[np.ndarray, "B M"]
    predicted: Int[np.ndarray, "B M"]


def true_classes(
    labels: dict[str, Any], class_of: Mapping[int, int] | None = None, size: tuple[int, int] | None = None
) -> Int[np.ndarray, "H W"]:
    """The class at each pixel, from the semantic labels of a photo, else the panoptic ones (crowds among them).

    `class_of` gives the class of each category, such as 27 for 182; a category without one is void. Without it a
    category is a class. `size` is `height` and `width` of the labels, where it is not said.

    Errors: `ValueError` where the photo has neither kind of label.
    """
    segments = labels.get("semantic", labels.get("panoptic"))
    if segments is None:
        raise ValueError(f"photo {labels.get('name')}: neither semantic nor panoptic labels to score against")
    categories = [segment["category_id"] for segment in segments]
    classes = categories if class_of is None else [class_of.get(category, VOID) for category in categories]
    return label_map(segments, size or (labels["height"], labels["width"]), classes)


def predicted_clusters(
    results: Sequence[dict[str, Any]], size: tuple[int, int], kind: str = "region", *, key: str = "category_id"
) -> Int[np.ndarray, "H W"]:
    """The cluster (or another number) at each pixel by the masks of one kind of a photo's results, best score first."""
    masks = sorted((each for each in results if each.get("kind") == kind), key=lambda each: -each["score"])
    return label_map(masks, size, [mask[key] for mask in masks])


def resized_crop(
    labels: Int[np.ndarray, "H W"], short_side_px: int | None, crop_px: int | None
) -> Int[np.ndarray, "h w"]:
    """A map at the short side `short_side_px` (nearest neighbour), cut to the square of `crop_px` at its centre.

    What is null is left as it is. COCO-Stuff-27 is scored at 320 px and 320 px (IIC, PiCIE, STEGO).

    Departs from STEGO: masks are predicted on the whole photo, once for all tasks and at its own size, and both maps
    are then looked at in the same pixels; STEGO's network sees the crop alone.
    """
    height, width = labels.shape
    short = min(height, width)
    chosen = []
    for side in (height, width):
        length = side if short_side_px is None else short_side_px * side // short
        kept = length if crop_px is None else min(crop_px, length)
        first = round((length - kept) / 2)
        chosen.append(((np.arange(first, first + kept) + 0.5) * side / length).astype(int))
    return labels[np.ix_(*chosen)]


def confusion(truth: Int[np.ndarray, "H W"], predicted: Int[np.ndarray, "H W"]) -> Confusion:
    """Counts of one photo from its two maps of labels from 0, `VOID` where there is none."""
    labelled = truth != VOID
    classes, clusters = truth[labelled].astype(np.int64), predicted[labelled].astype(np.int64)
    width, known = int(classes.max(initial=0)) + 1, clusters != VOID
    least = clusters.min(where=known, initial=clusters.max(initial=VOID))  # numbers of regions are high and close
    counts = np.bincount(np.where(known, clusters - least + 1, 0) * width + classes)
    pairs = np.flatnonzero(counts)
    return Confusion(np.where(pairs < width, VOID, pairs // width - 1 + least), pairs % width, counts[pairs])


def renamed(photo: Confusion, names: Mapping[int, int]) -> Confusion:
    """The counts of a photo whose clusters have other numbers, several perhaps the same; `VOID` stays."""
    named = np.array([names[each] if each != VOID else VOID for each in photo.clusters.tolist()], dtype=np.int64)
    pairs, place = np.unique(np.stack([named, photo.classes]), axis=1, return_inverse=True)
    pixels = np.zeros(pairs.shape[1], dtype=np.int64)
    np.add.at(pixels, place, photo.pixels)
    return Confusion(pairs[0], pairs[1], pixels)


def fit_mapping(photos: Sequence[Confusion], classes: Sequence[int], rule: str) -> dict[int, int]:
    """The class of each cluster that has one, from the confusion of all photos together (`rule` of `MAPPINGS`)."""
    order = np.array(sorted(classes), dtype=np.int64)
    _, clusters, true, pixels = _together(photos)
    kept = (clusters != VOID) & np.isin(true, order)
    votes = pixel_votes(
        torch.from_numpy(clusters[kept]),
        torch.from_numpy(np.searchsorted(order, true[kept])),
        torch.from_numpy(pixels[kept]),
        shape=(int(clusters.max(initial=VOID)) + 1, len(order)),
    )
    mapping = MAPPINGS[rule](votes).tolist()
    return {cluster: int(order[index]) for cluster, index in enumerate(mapping) if index != UNMAPPED}


def class_pixels(photos: Sequence[Confusion], mapping: Mapping[int, int], classes: Sequence[int]) -> ClassPixels:
    """Counts of each photo by class, in rising order of the classes; pixels of other true classes are left out."""
    order = np.array(sorted(classes), dtype=np.int64)
    photo, clusters, true, pixels = _together(photos)
    named = np.array([mapping.get(int(cluster), VOID) for cluster in clusters], dtype=np.int64)
    scored = np.isin(true, order)

    def count(of: Int[np.ndarray, " N"], chosen: np.ndarray) -> Int[np.ndarray, "B M"]:
        cells = photo[chosen] * len(order) + np.searchsorted(order, of[chosen])
        sums = np.bincount(cells, weights=pixels[chosen], minlength=len(photos) * len(order))
        return sums.astype(np.int64).reshape(len(photos), len(order))

    return ClassPixels(
        hit=count(true, scored & (named == true)),
        truth=count(true, scored),
        predicted=count(named, scored & np.isin(named, order)),
    )


def score_semantic(counts: ClassPixels, resamples: Int[np.ndarray, "R B"]) -> dict[str, Measured]:
    """`accuracy` of pixels, `mean_accuracy` over true classes, `mIoU` over classes that are true or predicted.

    The mean leaves out a class that is neither true nor predicted, as torchmetrics, scikit-learn and STEGO do.
    """
    hit, truth = pool(counts.hit, resamples), pool(counts.truth, resamples)
    return {
        "accuracy": measured(share(hit.sum(1), truth.sum(1))),
        "mean_accuracy": mean_over_classes(share(hit, truth)),
        "mIoU": mean_over_classes(class_iou(counts, resamples)),
    }


def class_iou(counts: ClassPixels, resamples: Int[np.ndarray, "R B"]) -> Float[np.ndarray, "R+1 M"]:
    """IoU of each class over all photos, first of the photos as they are; NaN of a class neither true nor predicted."""
    hit = pool(counts.hit, resamples)
    return share(hit, pool(counts.truth, resamples) + pool(counts.predicted, resamples) - hit)


def protocol(short_side_px: int | None = None, crop_px: int | None = None) -> str:
    """How these scores are computed, in words; the mapping is said beside it."""
    view = "whole photos" if short_side_px is None else f"maps of whole photos at short side {short_side_px} px"
    view += "" if crop_px is None else f", cut to the centre square of {crop_px} px"
    return (
        f"pixels of all photos together, {view}; void left out, pixels without a mapped cluster wrong; "
        "mIoU over classes that are true or predicted"
    )


def _together(photos: Sequence[Confusion]) -> tuple[np.ndarray, ...]:
    """Number of the photo, cluster, class and pixels of all pairs of all photos."""
    none = np.zeros(0, dtype=np.int64)
    number = np.repeat(np.arange(len(photos)), [len(photo.pixels) for photo in photos])
    joined = [np.concatenate(fields) for fields in zip(*photos, strict=True)] or [none] * 3
    return number, *joined
