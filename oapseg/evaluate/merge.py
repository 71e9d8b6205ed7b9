"""Overlapping masks and regions of a photo as one panoptic segmentation, each pixel in one segment at most."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from oapseg.evaluate.counts import VOID, decode, label_map
from oapseg.evaluate.overlaps import INSTANCE


class Merged(NamedTuple):
    """Disjoint predicted segments of one photo; a pixel's segment is `VOID` where nothing was predicted."""

    segments: Int[np.ndarray, "H W"]
    clusters: Int[np.ndarray, " S"]
    instance: Bool[np.ndarray, " S"]  # or a region


def merge(
    results: Sequence[dict[str, Any]],
    size: tuple[int, int],
    *,
    min_score: float,
    max_overlap: float,
    region_kind: str = "region",
) -> Merged:
    """Disjoint segments from a photo's results, as Panoptic FPN merges them.

    Instance masks scored at least `min_score`, best first and then in the order given, take what is still free; one of
    which more than the share `max_overlap` is taken is dropped. Regions get what is left.
    """
    taken = np.zeros(size[::-1], dtype=bool).T
    segments = np.full(size[::-1], VOID, dtype=np.int32).T
    clusters: list[int] = []
    scored = [each for each in results if each.get("kind", INSTANCE) == INSTANCE and each["score"] >= min_score]
    for result in sorted(scored, key=lambda each: -each["score"]):
        mask = decode(result, size)
        area, free = np.count_nonzero(mask), mask & ~taken
        left = np.count_nonzero(free)
        if left == 0 or area - left > max_overlap * area:
            continue
        segments[free] = len(clusters)
        taken |= free
        clusters.append(result["category_id"])
    num_instances = len(clusters)
    regions = sorted((each for each in results if each.get("kind") == region_kind), key=lambda each: -each["score"])
    region_map = label_map(regions, size) + num_instances
    np.copyto(segments, region_map, where=~taken & (region_map >= num_instances))
    clusters += [region["category_id"] for region in regions]
    return Merged(segments, np.array(clusters, dtype=np.int64), np.arange(len(clusters)) < num_instances)
