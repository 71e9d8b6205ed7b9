"""One photo and its labels as the two files of a sample; runs in the writer's processes, so without torch."""

import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from oapseg.shards.listing import Item
from oapseg.shards.upright import BrokenPhoto, open_upright

JPEG_QUALITY = 95


class Packed(NamedTuple):
    """The files of a sample, or why there are none. Encoded bytes: pixels never travel between processes."""

    name: str
    jpg: bytes = b""
    json: bytes = b""
    broken: str | None = None


def pack(item: Item, kind: str, image_id: int, max_pixels: int) -> Packed:
    """Check a photo by decoding it, and encode its labels."""
    try:
        data = item.read()
        image = open_upright(data, max_pixels)
        labels = {**item.labels, "source": kind, "name": item.name, "image_id": image_id}
        stated = (labels.get("width", image.width), labels.get("height", image.height))
        if stated != image.size:
            raise BrokenPhoto("size differs from its labels")
        labels["width"], labels["height"] = image.size
        if "instances" in labels:
            labels["instances"] = _instances(labels["instances"], image.height, image.width)
        if item.panoptic_png is not None:
            labels["panoptic"] = _panoptic(labels["panoptic"], Path(item.panoptic_png), image.size)
    except BrokenPhoto as error:
        return Packed(item.name, broken=str(error))
    except KeyError as error:
        return Packed(item.name, broken=f"labels without {error}")
    except OSError as error:
        return Packed(item.name, broken=f"cannot be read ({error.strerror or type(error).__name__})")
    jpg = data if image.format in ("JPEG", "MPO") else _jpeg(image)
    return Packed(item.name, jpg, json.dumps(labels, sort_keys=True, separators=(",", ":")).encode())


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return file.getvalue()


def _instances(annotations: list[dict[str, Any]], height: int, width: int) -> list[dict[str, Any]]:
    """COCO annotations with run-length regions; one without any region is left out."""
    packed = []
    for annotation in annotations:
        rle = _rle(annotation.get("segmentation"), height, width)
        if rle is None:
            continue
        packed.append(
            {
                "id": annotation["id"],
                "category_id": annotation["category_id"],
                "segmentation": rle,
                "bbox": annotation.get("bbox") or [float(side) for side in coco_mask.toBbox(rle)],
                "area": annotation.get("area") or float(coco_mask.area(rle)),
                "iscrowd": annotation.get("iscrowd", 0),
            }
        )
    return packed


def _rle(segmentation: Any, height: int, width: int) -> dict[str, Any] | None:
    """Polygons, a plain run-length list or a compressed one, as a compressed one with text."""
    if isinstance(segmentation, dict) and list(segmentation.get("size", [])) != [height, width]:
        raise BrokenPhoto("size differs from its labels")
    try:
        if isinstance(segmentation, dict):
            rle = segmentation
            if isinstance(rle["counts"], list):
                rle = coco_mask.frPyObjects(rle, height, width)
            coco_mask.decode(rle)  # refuses runs beyond the photo
        else:
            polygons = [polygon for polygon in segmentation or [] if len(polygon) >= 6]
            if not polygons:
                return None
            rle = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
    except (KeyError, TypeError, ValueError):
        raise BrokenPhoto("damaged labels") from None
    return _text(rle)


def _text(rle: dict[str, Any]) -> dict[str, Any]:
    counts = rle["counts"]
    return {"size": list(rle["size"]), "counts": counts if isinstance(counts, str) else counts.decode("ascii")}


def _panoptic(segments: list[dict[str, Any]], png: Path, size: tuple[int, int]) -> list[dict[str, Any]]:
    """The segments with their regions, cut from a PNG whose colours are ids (R + 256 G + 65536 B)."""
    with Image.open(png) as file:
        if file.size != size:
            raise BrokenPhoto("size differs from its labels")
        colours = np.asarray(file.convert("RGB")).astype(np.int64)
    ids = colours @ np.array([1, 256, 65536])
    regions = ((segment, (ids == segment["id"]).astype(np.uint8)) for segment in segments)
    return [
        {**segment, "segmentation": _text(coco_mask.encode(np.asfortranarray(mask)))}
        for segment, mask in regions
        if mask.any()
    ]
