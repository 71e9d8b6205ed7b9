"""What a task makes of what a model saw in a photo: COCO results of instances, or disjoint segments of all of it."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from oapseg.evaluate.counts import VOID
from oapseg.evaluate.merge import merge
from oapseg.evaluate.overlaps import INSTANCE as INSTANCE_NAME
from oapseg.evaluate.predict import coco_results
from oapseg.masks import INSTANCE
from oapseg.model.predicted import Predicted

TASKS: Final = ("instance", "semantic", "panoptic")
Names = Mapping[int, str | None]  # of the clusters


@dataclass(frozen=True)
class Layout:
    """How masks and regions become disjoint segments; the keys of section `evaluate` that say it."""

    min_score: float
    max_overlap: float
    stuff_px: int


class Segments(NamedTuple):
    """Disjoint segments of one photo: the place of each pixel's segment in `infos`, or `VOID`."""

    segments: Int[np.ndarray, "H W"]
    infos: list[dict[str, Any]]  # COCO's `segments_info`


def instances(image_id: int, predicted: Predicted, names: Names, min_score: float) -> list[dict[str, Any]]:
    """COCO results of the instance masks scored `min_score` and more, best first; they may overlap."""
    kept = (predicted.kind == INSTANCE) & (predicted.scores >= min_score)
    chosen = predicted._replace(
        soft=predicted.soft[kept],
        scores=predicted.scores[kept],
        clusters=predicted.clusters[kept],
        kind=predicted.kind[kept],
        belonging=predicted.belonging[:0],
        belonging_to=predicted.belonging_to[:0],
    )
    results = coco_results(image_id, chosen)
    return [result | {"name": names.get(result["category_id"])} for result in results]


def panoptic(predicted: Predicted, names: Names, layout: Layout) -> Segments:
    """Things by their instance masks, stuff by the map of clusters around them, as Panoptic FPN merges them."""
    kept = (predicted.kind == INSTANCE) & (predicted.scores >= layout.min_score)
    chosen = predicted._replace(
        soft=predicted.soft[kept],
        scores=predicted.scores[kept],
        clusters=predicted.clusters[kept],
        kind=predicted.kind[kept],
    )
    results = coco_results(0, chosen)
    # Merging keeps of a result its category alone: its place instead of its cluster leads back to all of it.
    placed = [result | {"category_id": place} for place, result in enumerate(results)]
    merged = merge(placed, predicted.size, min_score=layout.min_score, max_overlap=layout.max_overlap)
    found = [results[place] for place in merged.clusters.tolist()]
    return _segments(merged.segments, found, names, layout.stuff_px)


def semantic(predicted: Predicted, names: Names) -> Segments:
    """The cluster of every pixel: as many segments as there are clusters in the photo, all of them stuff."""
    segments = np.full(predicted.size, VOID, dtype=np.int32)
    found: list[dict[str, Any]] = []
    for cluster, where in predicted.regions():
        segments[where.cpu().numpy()] = len(found)
        found.append({"category_id": cluster, "kind": "region"})
    return _segments(segments, found, names, stuff_px=0)


def _segments(segments: Int[np.ndarray, "H W"], found: list[dict[str, Any]], names: Names, stuff_px: int) -> Segments:
    """Segments that are left, numbered anew, with what COCO says of each."""
    areas = np.bincount(segments.ravel() + 1, minlength=len(found) + 1)[1:].tolist()
    number = np.full(len(found) + 1, VOID, dtype=np.int32)  # the last stands for void, which is -1
    infos: list[dict[str, Any]] = []
    for place, (result, area) in enumerate(zip(found, areas, strict=True)):
        thing = result["kind"] == INSTANCE_NAME
        if area < (1 if thing else max(stuff_px, 1)):
            continue
        number[place] = len(infos)
        cluster = result["category_id"]
        info = {
            "id": len(infos) + 1,
            "category_id": category_id(cluster, thing, names),
            "cluster": cluster,
            "name": names.get(cluster),
            "isthing": int(thing),
            "iscrowd": 0,
            "area": area,
            "bbox": _box_xywh(segments == place),
        }
        infos.append(info | {"score": result["score"]} if thing else info)
    return Segments(number[segments], infos)


def category_id(cluster: int, thing: bool, names: Names) -> int:
    """A cluster is two categories, since in COCO one is of things or of stuff: its number, and so many further on."""
    return cluster if thing else cluster + len(names)


def categories(names: Names, task: str) -> list[dict[str, Any]]:
    """COCO's categories: the clusters of things, of stuff, or both."""
    kinds = {"instance": (True,), "semantic": (False,), "panoptic": (True, False)}[task]
    return [
        {
            "id": category_id(cluster, thing, names),
            "name": name or f"cluster {cluster}",
            "cluster": cluster,
            "isthing": int(thing),
        }
        for thing in kinds
        for cluster, name in sorted(names.items())
    ]


def id_png(segments: Int[np.ndarray, "H W"]) -> bytes:
    """A picture in COCO's panoptic format: the segment's id is R + 256 G + 65,536 B, and 0 is void."""
    data = io.BytesIO()
    Image.fromarray(rgb_of_ids(segments + 1)).save(data, "PNG")
    return data.getvalue()


def rgb_of_ids(ids: Int[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    return np.stack([ids >> shift & 255 for shift in (0, 8, 16)], -1).astype(np.uint8)


def _box_xywh(mask: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]
