"""Panoptic quality (section 5.2): scored masks and regions merged into disjoint segments, named, and matched by IoU.

Merging knows clusters alone, so each photo is looked at once: what its segments share with the true ones is all that
the mapping from clusters to classes, the join of stuff and the matching need.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from oapseg.evaluate.counts import VOID, label_map, mean_over_classes, pool, share, shared_pixels
from oapseg.evaluate.intervals import Measured
from oapseg.evaluate.merge import Merged
from oapseg.match.clusters import MAPPINGS, UNMAPPED, pixel_votes

MATCH_IOU = 0.5  # above it a pair of disjoint segments is matched, which makes the matching unique (Kirillov et al.)
EXCUSED = 0.5  # a segment of which more lies on void or on a crowd of its class is not wrong (panopticapi)


class Shared(NamedTuple):
    """Pixels that predicted and true segments of one photo share; row 0 and column 0 are void."""

    pixels: Int[np.ndarray, "S+1 U+1"]
    clusters: Int[np.ndarray, " S"]
    instance: Bool[np.ndarray, " S"]
    categories: Int[np.ndarray, " U"]
    crowd: Bool[np.ndarray, " U"]


class Classes(NamedTuple):
    """What is scored: the class of each category (one without a class is void), and the classes that are things."""

    class_of: Mapping[int, int]
    things: frozenset[int]

    def order(self) -> list[int]:
        """The classes in rising order, as columns are."""
        return sorted(set(self.class_of.values()))


class PanopticMapping(NamedTuple):
    """The class of each cluster that has one, for its instance masks and for its regions."""

    instances: Mapping[int, int]
    regions: Mapping[int, int]


class QualityCounts(NamedTuple):
    """Sums of each photo by class: IoU of matched pairs, matched pairs, wrong segments, missed segments."""

    iou: Float[np.ndarray, "B M"]
    tp: Int[np.ndarray, "B M"]
    fp: Int[np.ndarray, "B M"]
    fn: Int[np.ndarray, "B M"]


def classes_of(categories: Sequence[dict[str, Any]]) -> Classes:
    """Every category of a manifest a class of its own."""
    things = frozenset(category["id"] for category in categories if category["isthing"])
    return Classes({category["id"]: category["id"] for category in categories}, things)


def shared_segments(labels: Sequence[dict[str, Any]], merged: Merged) -> Shared:
    """What the merged segments of a photo share with its panoptic labels, which are disjoint."""
    truth = label_map(labels, merged.segments.shape)
    return Shared(
        shared_pixels(merged.segments, truth, len(merged.clusters), len(labels)),
        merged.clusters,
        merged.instance,
        np.array([label["category_id"] for label in labels], dtype=np.int64),
        np.array([bool(label["iscrowd"]) for label in labels], dtype=bool),
    )


def fit_mapping(photos: Sequence[Shared], classes: Classes, rule: str, *, apart: bool = True) -> PanopticMapping:
    """Clusters to classes by one confusion of pixels over all photos (CUPS; its rule is `hungarian+votes`).

    Instance masks and regions of a cluster are mapped each by themselves. With `apart` instance masks are things and
    regions are stuff; without it any class goes, in one assignment. Crowds vote, void does not.
    """
    order = classes.order()
    num_clusters = 1 + max((int(photo.clusters.max(initial=-1)) for photo in photos), default=-1)
    seen = [np.zeros((3, 0), dtype=np.int64)]
    for photo in photos:
        rows = photo.clusters + np.where(photo.instance, 0, num_clusters)
        columns = _places(photo.categories, classes)
        row, column = np.nonzero((photo.pixels[1:, 1:] > 0) & (columns != VOID))
        seen.append(np.stack([rows[row], columns[column], photo.pixels[row + 1, column + 1]]))
    pairs = torch.from_numpy(np.concatenate(seen, axis=1))
    votes = pixel_votes(*pairs, shape=(2 * num_clusters, len(order)))
    if apart:
        thing = torch.tensor([each in classes.things for each in order], dtype=torch.bool)
        votes[:num_clusters, ~thing] = 0
        votes[num_clusters:, thing] = 0
    mapping = MAPPINGS[rule](votes).tolist()
    halves = mapping[:num_clusters], mapping[num_clusters:]
    return PanopticMapping(*({k: order[m] for k, m in enumerate(half) if m != UNMAPPED} for half in halves))


def quality_counts(
    photos: Sequence[Shared], mapping: PanopticMapping, classes: Classes, *, min_stuff_px: int
) -> QualityCounts:
    """Matches of each photo by class, as panopticapi counts them.

    Segments of one stuff class are one segment, on either side; predicted stuff of fewer than `min_stuff_px` pixels is
    void, and so is a segment without a class and a region whose class is a thing. A predicted and a true segment of
    one class match where their IoU, less what is void in the truth, is above one half. A crowd is never missed, and
    several of one class are one.
    """
    shape = len(photos), len(classes.order())
    counts = QualityCounts(np.zeros(shape), *(np.zeros(shape, dtype=np.int32) for _ in range(3)))
    for number, photo in enumerate(photos):
        for each, values in zip(counts, _match(photo, mapping, classes, min_stuff_px), strict=True):
            each[number] = values
    return counts


def score_panoptic(counts: QualityCounts, classes: Classes, resamples: Int[np.ndarray, "R B"]) -> dict[str, Measured]:
    """`PQ`, `SQ`, `RQ`, and each with `_things` and `_stuff`: means over the classes that are true or predicted."""
    thing = np.array([each in classes.things for each in classes.order()], dtype=bool)
    groups = {"": np.ones_like(thing), "_things": thing, "_stuff": ~thing}
    by_class = class_quality(counts, resamples)
    return {
        f"{name}{suffix}": mean_over_classes(values[:, chosen])
        for suffix, chosen in groups.items()
        for name, values in by_class.items()
    }


def class_quality(counts: QualityCounts, resamples: Int[np.ndarray, "R B"]) -> dict[str, Float[np.ndarray, "R+1 M"]]:
    """`PQ`, `SQ` and `RQ` of each class over all photos, first of the photos as they are; NaN of an absent class."""
    iou, tp, fp, fn = (pool(each, resamples) for each in counts)
    segments = tp + (fp + fn) / 2
    matched = np.where(segments > 0, np.nan_to_num(share(iou, tp)), np.nan)
    return {"PQ": share(iou, segments), "SQ": matched, "RQ": share(tp, segments)}


def protocol(min_score: float, max_overlap: float, min_stuff_px: int) -> str:
    """How these scores are computed, in words; the mapping is said beside it."""
    return (
        f"panopticapi, IoU above 0.5, mean over classes; merged as Panoptic FPN does: instance score {min_score:g}, "
        f"overlap {max_overlap:g}, stuff from {min_stuff_px} px; without a class: void"
    )


def _match(photo: Shared, mapping: PanopticMapping, classes: Classes, min_stuff_px: int) -> np.ndarray:
    """IoU, matched, wrong and missed of one photo by class."""
    thing = np.array([each in classes.things for each in classes.order()], dtype=bool)
    named = _places(photo.categories, classes)
    columns, true, crowd = _grouped(photo.pixels.T, named, photo.crowd, thing)
    predicted = _named(photo, mapping, classes)
    predicted[~photo.instance & thing[predicted]] = VOID
    rows, found, _ = _grouped(columns.T, predicted, np.zeros_like(photo.instance), thing)
    areas = rows.sum(1)[1:]
    small = ~thing[found] & (areas < min_stuff_px)
    rows = np.concatenate([rows[:1] + rows[1:][small].sum(0), rows[1:][~small]])
    found, areas = found[~small], areas[~small]
    shared, void = rows[1:, 1:], rows[1:, 0]
    union = areas[:, None] + rows.sum(0)[None, 1:] - shared - void[:, None]
    same = found[:, None] == true[None]
    iou = np.where(same & ~crowd, shared / np.maximum(union, 1), 0.0)
    hit = iou > MATCH_IOU
    excused = void + np.where(same & crowd, shared, 0).sum(1) > EXCUSED * areas
    count = len(thing)
    return np.stack(
        [
            np.bincount(found, np.where(hit, iou, 0.0).sum(1), count),
            np.bincount(found, hit.any(1), count),
            np.bincount(found, ~hit.any(1) & ~excused, count),
            np.bincount(true, ~hit.any(0) & ~crowd, count),
        ]
    )


def _grouped(
    pixels: Int[np.ndarray, "rows columns"],
    named: Int[np.ndarray, " S"],
    crowd: Bool[np.ndarray, " S"],
    thing: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows with stuff and crowds joined by class, void first; class and crowd of each further row, none empty."""
    keys = []
    for number, (name, is_crowd) in enumerate(zip(named.tolist(), crowd.tolist(), strict=True)):
        alone = name != VOID and thing[name] and not is_crowd
        keys.append((name, is_crowd, number if alone else VOID))
    groups = sorted({key for key in keys if key[0] != VOID})
    row = {group: number for number, group in enumerate(groups, 1)}
    table = np.zeros((len(groups) + 1, pixels.shape[1]), dtype=np.int64)
    np.add.at(table, [0, *(row.get(key, 0) for key in keys)], pixels)
    present = table[1:].any(1)
    names = np.array([name for name, _, _ in groups], dtype=np.int64)
    crowds = np.array([is_crowd for _, is_crowd, _ in groups], dtype=bool)
    return table[np.concatenate([[True], present])], names[present], crowds[present]


def _named(photo: Shared, mapping: PanopticMapping, classes: Classes) -> Int[np.ndarray, " S"]:
    """The column of each predicted segment's class; `VOID` without one."""
    place = {each: column for column, each in enumerate(classes.order())}
    kinds = [mapping.instances if instance else mapping.regions for instance in photo.instance]
    named = [kind.get(cluster, VOID) for kind, cluster in zip(kinds, photo.clusters.tolist(), strict=True)]
    return np.array([place.get(name, VOID) for name in named], dtype=np.int64)


def _places(categories: Int[np.ndarray, " U"], classes: Classes) -> Int[np.ndarray, " U"]:
    """The column of each category's class; `VOID` without one."""
    place = {each: column for column, each in enumerate(classes.order())}
    return np.array([place.get(classes.class_of.get(each, VOID), VOID) for each in categories.tolist()], dtype=np.int64)
