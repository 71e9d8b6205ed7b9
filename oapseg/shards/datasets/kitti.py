"""KITTI's 2D objects: the training photos of the left colour camera with their boxes."""

from collections.abc import Mapping
from pathlib import Path

from oapseg.params import Source
from oapseg.shards.listing import (
    Category,
    Item,
    LabelFile,
    Labels,
    Listing,
    existing_folder,
    numbered,
    photo_names,
)
from oapseg.shards.upright import BrokenPhoto

DONT_CARE = "DontCare"  # a region whose objects are not labelled, which a crowd is in COCO's terms
NAMES = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc", DONT_CARE)
CATEGORIES: tuple[Category, ...] = tuple(
    {"id": number, "name": name, "isthing": 1} for number, name in enumerate(NAMES, 1)
)
BY_ID: dict[int, Category | None] = {category["id"]: category for category in CATEGORIES}
FIELDS = 15  # of a line of a label file


def list_kitti(folder: Path, source: Source) -> Listing:
    """`training/image_2/` with the boxes of `training/label_2/`, as instances without regions."""
    del source
    photos = existing_folder(folder / "training" / "image_2")
    boxes = existing_folder(folder / "training" / "label_2")
    items = [
        Item(
            name,
            str(photos / name),
            labels=numbered(name),
            label_files=(LabelFile("instances", read_boxes, (str(boxes / f"{Path(name).stem}.txt"),), BY_ID),),
            stated_in=f"{Path(name).stem}.txt",
        )
        for name in photo_names(photos)
    ]
    return Listing("kitti", "KITTI training", items, CATEGORIES)


def read_boxes(
    paths: tuple[str, ...], categories: Mapping[int, Category | None], labels: Labels, size: tuple[int, int]
) -> Labels:
    """The boxes of a label file; a line has a type, three facts, then left, top, right and bottom in pixels."""
    del labels, size
    name = Path(paths[0]).name
    ids = {category["name"]: category["id"] for category in categories.values() if category is not None}
    try:
        lines = Path(paths[0]).read_text().splitlines()
    except FileNotFoundError:
        raise BrokenPhoto(f"{name}: no such label file") from None
    instances = []
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields:
            continue
        if fields[0] not in ids:
            raise BrokenPhoto(f"{name}: line {number}: type {fields[0]!r} is none of KITTI's")
        try:
            left, top, right, bottom = map(float, fields[4:8])
        except ValueError:
            fields = []
        if len(fields) < FIELDS:
            raise BrokenPhoto(f"{name}: line {number} is not a type and {FIELDS - 1} numbers")
        box = [left, top, right - left, bottom - top]
        crowd = int(fields[0] == DONT_CARE)
        instances.append({"id": number, "category_id": ids[fields[0]], "bbox": box, "iscrowd": crowd})
    return {"instances": instances}
