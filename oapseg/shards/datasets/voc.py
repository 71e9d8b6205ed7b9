"""PASCAL VOC, one year of its devkit: boxes in XML, segmentations in PNG with the devkit's palette."""

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from oapseg.params import Source
from oapseg.shards.label_pictures import class_ids, known, read_semantic, region
from oapseg.shards.listing import Category, Item, LabelFile, Labels, Listing, existing_file, existing_folder
from oapseg.shards.upright import BrokenPhoto

VOID = 255
NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
CATEGORIES: tuple[Category, ...] = tuple(
    {"id": number, "name": name, "isthing": int(number > 0)} for number, name in enumerate(NAMES)
)
BY_VALUE: dict[int, Category | None] = {VOID: None, **{category["id"]: category for category in CATEGORIES}}


def list_voc(folder: Path, source: Source) -> Listing:
    """The photos of `ImageSets/<split>.txt`; a split without a folder is one of `Main`.

    Those of `Main` have the boxes of `Annotations/`, with `difficult` and `truncated`, as instances without regions;
    those of `Segmentation` the classes of `SegmentationClass/` and the objects of `SegmentationObject/`.
    """
    split = str(source.split) if "/" in str(source.split) else f"Main/{source.split}"
    listed = existing_file(folder / "ImageSets" / f"{split}.txt")
    photos = existing_folder(folder / "JPEGImages")
    names = sorted({line.split()[0] for line in listed.read_text().splitlines() if line.strip()})
    files: dict[str, tuple[LabelFile, ...]]
    if split.startswith("Segmentation/"):
        classes = existing_folder(folder / "SegmentationClass")
        objects = existing_folder(folder / "SegmentationObject")
        files = {
            name: (
                LabelFile("semantic", read_semantic, (str(classes / f"{name}.png"),), BY_VALUE),
                LabelFile(
                    "instances", read_objects, (str(objects / f"{name}.png"), str(classes / f"{name}.png")), BY_VALUE
                ),
            )
            for name in names
        }
        categories = CATEGORIES
    else:
        boxes = existing_folder(folder / "Annotations")
        files = {name: (LabelFile("instances", read_boxes, (str(boxes / f"{name}.xml"),), BY_VALUE),) for name in names}
        categories = CATEGORIES[1:]
    items = [
        Item(
            f"{name}.jpg",
            str(photos / f"{name}.jpg"),
            label_files=files[name],
            stated_in=Path(files[name][-1].paths[0]).name,
        )
        for name in names
    ]
    return Listing("voc", f"{folder.name} {split}", items, categories)


def read_objects(
    paths: tuple[str, ...], categories: Mapping[int, Category | None], labels: Labels, size: tuple[int, int]
) -> Labels:
    """An instance an object of the first picture, of the class that the second shows there."""
    del labels
    objects, classes = (class_ids(path, size) for path in paths)
    instances = []
    for number in np.unique(objects).tolist():
        if number in (0, VOID):
            continue
        mask = objects == number
        category = known(int(np.bincount(classes[mask]).argmax()), categories, paths[1])
        if category is None or not category["isthing"]:
            raise BrokenPhoto(f"{Path(paths[0]).name}: object {number} has no class in SegmentationClass")
        instances.append({"id": number, "category_id": category["id"], "segmentation": region(mask)})
    return {"instances": instances}


def read_boxes(
    paths: tuple[str, ...], categories: Mapping[int, Category | None], labels: Labels, size: tuple[int, int]
) -> Labels:
    """The boxes of an XML file, whose first pixel is 1 and whose last belongs to the box."""
    del labels
    name = Path(paths[0]).name
    try:
        root = ElementTree.parse(paths[0]).getroot()
        stated = tuple(int(root.findtext(f"size/{side}", "0")) for side in ("width", "height"))
    except FileNotFoundError:
        raise BrokenPhoto(f"{name}: no such annotation file") from None
    except (ElementTree.ParseError, ValueError, UnicodeDecodeError):
        raise BrokenPhoto(f"{name}: not XML of VOC's form") from None
    if stated != size:
        raise BrokenPhoto(f"{name}: {stated[0]} x {stated[1]} px, the photo has {size[0]} x {size[1]}")
    ids = {category["name"]: category["id"] for category in categories.values() if category is not None}
    return {
        "instances": [
            _instance(entry, number, ids, f"{name}: object {number}")
            for number, entry in enumerate(root.findall("object"), 1)
        ]
    }


def _instance(entry: ElementTree.Element, number: int, ids: dict[str, int], where: str) -> Labels:
    shown = entry.findtext("name", "").strip()
    if shown not in ids:
        raise BrokenPhoto(f"{where}: class {shown!r} is none of VOC's")
    try:
        left, top, right, bottom = (
            float(entry.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")
        )
        flags = {key: int(entry.findtext(key, "0")) for key in ("difficult", "truncated")}
    except ValueError:
        raise BrokenPhoto(f"{where}: its box is not four numbers") from None
    box = [left - 1, top - 1, right - left + 1, bottom - top + 1]
    return {"id": number, "category_id": ids[shown], "bbox": box, **flags}
