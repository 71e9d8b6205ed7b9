"""COCO annotations of one photo, checked against its size, their regions as run lengths with text counts."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from pycocotools import mask as coco_mask

from oapseg.shards.upright import BrokenPhoto

Rle = dict[str, Any]
KEPT = ("difficult", "truncated")  # what a data set says beyond COCO, and scores use
FAR = 3  # coordinates beyond so many sides of the photo are damage; less far out, they are clipped, as all do


def pack_annotations(
    annotations: Iterable[dict[str, Any]], height: int, width: int, stated_in: str = ""
) -> list[dict[str, Any]]:
    """The annotations with a region each, or with a box alone where their data set has no regions.

    `stated_in` names their file. Errors: `BrokenPhoto` names it, the annotation and what is wrong with it.
    """
    packed = []
    for annotation in annotations:
        try:
            packed.append(_packed(annotation, height, width))
        except BrokenPhoto as error:
            where = f"{stated_in}: " if stated_in else ""
            raise BrokenPhoto(f"{where}annotation {annotation['id']}: {error}") from None
    return packed


def text_rle(rle: Rle) -> Rle:
    """Compressed run lengths with text counts, as JSON takes them."""
    counts = rle["counts"]
    return {"size": list(rle["size"]), "counts": counts if isinstance(counts, str) else counts.decode("ascii")}


def _packed(annotation: dict[str, Any], height: int, width: int) -> dict[str, Any]:
    stated_box, segmentation = annotation.get("bbox"), annotation.get("segmentation")
    if stated_box:
        _check_box(stated_box, height, width)
    stated_area = annotation.get("area")
    if stated_area is not None and not (_is_real(stated_area) and stated_area >= 0):
        raise BrokenPhoto(f"area {stated_area!r} is none")
    shown = {key: annotation[key] for key in ("id", "category_id")}
    more = {"iscrowd": annotation.get("iscrowd", 0)} | {key: annotation[key] for key in KEPT if key in annotation}
    if not segmentation:
        if not stated_box:
            raise BrokenPhoto("neither a region nor a box")
        x, y, w, h = stated_box
        if w * h == 0:
            raise BrokenPhoto(f"zero area (bbox {stated_box})")
        if x >= width or y >= height or x + w <= 0 or y + h <= 0:
            raise BrokenPhoto(f"bbox {stated_box} lies outside the photo of {width} x {height} px")
        return shown | {"bbox": stated_box, "area": w * h} | more
    rle = _rle(segmentation, height, width)
    area = float(coco_mask.area(rle))
    if area == 0 and not (stated_area and stated_box and stated_box[2] * stated_box[3]):
        raise BrokenPhoto("zero area (no pixel of the photo lies in its region)")
    box = stated_box or [float(side) for side in coco_mask.toBbox(rle)]
    return shown | {"segmentation": text_rle(rle), "bbox": box, "area": stated_area or area} | more


def _check_box(box: Any, height: int, width: int) -> None:
    if not (isinstance(box, list) and len(box) == 4 and all(map(_is_real, box)) and min(box[2:]) >= 0):
        raise BrokenPhoto(f"bbox {box!r} is none (x, y, width, height in pixels)")
    _check_range("bbox", box, height, width)


def _check_range(what: str, coordinates: Sequence[float | int], height: int, width: int) -> None:
    far = max(coordinates, key=abs)
    if abs(far) > FAR * max(height, width):
        raise BrokenPhoto(f"{what} coordinate {far:g} is far outside the photo of {width} x {height} px")


def _rle(segmentation: Any, height: int, width: int) -> Rle:
    """Polygons, a plain run-length list or a compressed one, as a compressed one."""
    if isinstance(segmentation, dict):
        return _checked_rle(segmentation, height, width)
    if not isinstance(segmentation, list) or not all(isinstance(polygon, list) for polygon in segmentation):
        raise BrokenPhoto("segmentation is neither polygons nor run lengths")
    for polygon in segmentation:
        if len(polygon) % 2 or not all(map(_is_real, polygon)):
            raise BrokenPhoto("polygon is not a list of x, y, x, y, ... in pixels")
        _check_range("polygon", polygon or [0], height, width)
    polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
    if not polygons:
        raise BrokenPhoto("zero area (no polygon of three points)")
    for polygon in polygons:
        xs, ys = polygon[::2], polygon[1::2]
        if max(xs) < 0 or min(xs) > width or max(ys) < 0 or min(ys) > height:
            raise BrokenPhoto(f"polygon lies outside the photo of {width} x {height} px")
    return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))


def _checked_rle(rle: Rle, height: int, width: int) -> Rle:
    size = rle.get("size")
    if size != [height, width]:
        raise BrokenPhoto(f"run lengths of size {size}, the photo's is {[height, width]} (height, width)")
    try:
        counts = rle["counts"]
        runs = counts if isinstance(counts, list) else _runs(counts)
        pixels = sum(runs)
        plain = coco_mask.frPyObjects(rle, height, width) if isinstance(counts, list) else rle
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise BrokenPhoto("damaged run lengths") from None
    if min(runs, default=0) < 0:
        raise BrokenPhoto("run lengths below zero")
    if pixels != height * width:
        raise BrokenPhoto(f"run lengths of {pixels} px, the photo has {height * width}")
    return plain


def _runs(counts: str) -> list[int]:
    """The runs of COCO's compressed text: five bits a character, from the third on as the difference to the last but
    one. pycocotools reads a text that ends too early without a word.
    """
    runs: list[int] = []
    value = shift = 0
    for byte in counts.encode("ascii"):
        if not 48 <= byte < 112:
            raise ValueError("no character of run lengths")
        five = byte - 48
        value |= (five & 31) << shift
        shift += 5
        if five & 32:
            continue
        if five & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("the last run has no end")
    return runs


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
