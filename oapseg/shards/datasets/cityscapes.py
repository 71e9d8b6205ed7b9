"""Cityscapes with its fine labels: segments of things and stuff by label id."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from oapseg.params import Source
from oapseg.shards.label_pictures import class_ids, known, read_semantic, region
from oapseg.shards.listing import Category, Item, LabelFile, Labels, Listing, existing_folder, photo_names

PHOTO, LABELS, INSTANCES = "_leftImg8bit.png", "_gtFine_labelIds.png", "_gtFine_instanceIds.png"
INSTANCES_A_LABEL = 1000  # an instance's pixel is its label id times this, plus its number
FIRST_CLASS = 7  # ids below are void: unlabeled, the car itself, borders, static, dynamic, ground
NAMES = (
    "road", "sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel", "pole",
    "polegroup", "traffic light", "traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car", "truck",
    "bus", "caravan", "trailer", "train", "motorcycle", "bicycle",
)  # fmt: skip
FIRST_THING = 24  # the classes with instances are the last: person to bicycle
CATEGORIES: tuple[Category, ...] = tuple(
    {"id": number, "name": name, "isthing": int(number >= FIRST_THING)}
    for number, name in enumerate(NAMES, FIRST_CLASS)
)
BY_VALUE: dict[int, Category | None] = {
    **dict.fromkeys(range(FIRST_CLASS)),
    **{category["id"]: category for category in CATEGORIES},
}


def list_cityscapes(folder: Path, source: Source) -> Listing:
    """The photos of `leftImg8bit/<split>/<city>/` with the labels of `gtFine/<split>/<city>/`.

    A photo with instance ids has panoptic segments, which tell the classes too; one with label ids alone has semantic
    ones. A group of things that nobody told apart is a crowd.
    """
    photos = existing_folder(folder / "leftImg8bit" / str(source.split))
    fine = existing_folder(folder / "gtFine" / str(source.split))
    names = [name for name in photo_names(photos) if name.endswith(PHOTO)]
    items = [Item(name, str(photos / name), label_files=_files(fine, name.removesuffix(PHOTO))) for name in names]
    return Listing("cityscapes", f"Cityscapes {source.split}, fine", items, CATEGORIES)


def _files(fine: Path, stem: str) -> tuple[LabelFile, ...]:
    instances, labels = fine / f"{stem}{INSTANCES}", fine / f"{stem}{LABELS}"
    if instances.is_file():
        return (LabelFile("panoptic", read_segments, (str(instances),), BY_VALUE),)
    return (LabelFile("semantic", read_semantic, (str(labels),), BY_VALUE),) if labels.is_file() else ()


def read_segments(
    paths: tuple[str, ...], categories: Mapping[int, Category | None], labels: Labels, size: tuple[int, int]
) -> Labels:
    """A panoptic segment an instance, a group or a class of stuff; its id is the pixel's value."""
    del labels
    ids = class_ids(paths[0], size)
    segments = []
    for value in np.unique(ids).tolist():
        one = value >= INSTANCES_A_LABEL
        category = known(value // INSTANCES_A_LABEL if one else value, categories, paths[0])
        if category is None:
            continue
        crowd = int(category["isthing"] and not one)
        shown = {"id": value, "category_id": category["id"], "iscrowd": crowd, "isthing": category["isthing"]}
        segments.append({**shown, "segmentation": region(ids == value)})
    return {"panoptic": segments}
