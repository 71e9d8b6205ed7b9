"""Pictures whose pixels are labels, as run lengths; read in the writer's processes, so without torch."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from PIL import Image
from pycocotools import mask as coco_mask

from oapseg.shards.annotations import text_rle
from oapseg.shards.listing import Category, Labels
from oapseg.shards.upright import BrokenPhoto

ONE_NUMBER = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")  # Pillow's modes of one number a pixel
FOREGROUND = 128  # smallest value of the foreground in a mask of 0 and 255, softened or not


def region(mask: Bool[np.ndarray, "H W"]) -> dict[str, Any]:
    """A mask as COCO's compressed run lengths with text counts."""
    return text_rle(coco_mask.encode(np.asfortranarray(mask.astype(np.uint8))))


def class_ids(path: str, size: tuple[int, int]) -> Int[np.ndarray, "H W"]:
    """The numbers of a picture of one number a pixel, such as a palette's; `size` is the photo's width and height.

    Errors: `BrokenPhoto` names the file where it cannot be read, is of another size or in colours.
    """
    picture = _opened(path, size)
    if picture.mode not in ONE_NUMBER:
        raise BrokenPhoto(f"{Path(path).name}: pixels are {picture.mode}; class ids are one number a pixel")
    return np.asarray(picture).astype(np.int64)


def read_panoptic(
    paths: tuple[str, ...], categories: Mapping[int, Category | None], labels: Labels, size: tuple[int, int]
) -> Labels:
    """The segments of `labels` with their regions, cut from a PNG whose colours are ids (R + 256 G + 65536 B)."""
    del categories
    name, segments = Path(paths[0]).name, labels["panoptic"]
    colours = np.asarray(_opened(paths[0], size).convert("RGB")).astype(np.int64)
    ids = colours @ np.array([1, 256, 65536])
    listed, shown = {segment["id"] for segment in segments}, set(np.unique(ids).tolist()) - {0}
    if shown - listed:
        raise BrokenPhoto(f"{name}: pixels of segment {min(shown - listed)}, which its JSON does not list")
    if listed - shown:
        raise BrokenPhoto(f"{name}: no pixel of segment {min(listed - shown)}, which its JSON lists")
    return {"panoptic": [{**segment, "segmentation": region(ids == segment["id"])} for segment in segments]}


def read_semantic(
    paths: tuple[str, ...], categories: Mapping[int, Category | None], labels: Labels, size: tuple[int, int]
) -> Labels:
    """A segment a class from a picture of class ids."""
    del labels
    ids = class_ids(paths[0], size)
    segments = []
    for value in np.unique(ids).tolist():
        category = known(value, categories, paths[0])
        if category is not None:
            segments.append({"category_id": category["id"], "segmentation": region(ids == value)})
    return {"semantic": segments}


def read_foreground(
    paths: tuple[str, ...], categories: Mapping[int, Category | None], labels: Labels, size: tuple[int, int]
) -> Labels:
    """The white of a black and white picture as one instance, or none where all is black."""
    del labels
    mask = np.asarray(_opened(paths[0], size).convert("L")) >= FOREGROUND
    category = known(1, categories, paths[0])
    if not mask.any() or category is None:
        return {"instances": []}
    return {"instances": [{"id": 1, "category_id": category["id"], "segmentation": region(mask)}]}


def known(value: int, categories: Mapping[int, Category | None], path: str) -> Category | None:
    """The category of a pixel value; None where it is void."""
    if value not in categories:
        raise BrokenPhoto(f"{Path(path).name}: pixels of class {value}, which is none of the source's")
    return categories[value]


def found_classes(paths: list[str]) -> list[int]:
    """All numbers that the pictures show, for sources that list their classes nowhere; damaged ones show none."""
    found: set[int] = set()
    for path in paths:
        try:
            with Image.open(path) as picture:
                if picture.mode in ONE_NUMBER:
                    found |= set(np.unique(np.asarray(picture).astype(np.int64)).tolist())
        except (OSError, SyntaxError, ValueError, struct.error):
            continue
    return sorted(found)


def _opened(path: str, size: tuple[int, int]) -> Image.Image:
    name = Path(path).name
    try:
        with Image.open(path) as picture:
            found = picture.size
            if found == size:
                picture.load()
                return picture.copy()
    except FileNotFoundError:
        raise BrokenPhoto(f"{name}: no such label picture") from None
    except (OSError, SyntaxError, ValueError, IndexError, struct.error, Image.DecompressionBombError):
        raise BrokenPhoto(f"{name}: not a whole picture") from None
    raise BrokenPhoto(f"{name}: {found[0]} x {found[1]} px, the photo has {size[0]} x {size[1]}")
