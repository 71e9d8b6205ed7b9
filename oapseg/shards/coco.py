"""COCO's layout: photos of a split, with instances, panoptic segments, both or neither."""

from pathlib import Path
from typing import Any

from oapseg.params import Source
from oapseg.shards.annotation_file import AnnotationFile, naming, read_annotation_file
from oapseg.shards.label_pictures import found_classes, read_panoptic, read_semantic
from oapseg.shards.listing import (
    Category,
    Item,
    LabelFile,
    Labels,
    Listing,
    MissingData,
    existing_folder,
    holds,
    photo_names,
)

VOID = 0  # of a semantic PNG


def list_coco(folder: Path, source: Source) -> Listing:
    """The photos of `images/<split>/` or `<split>/`, with the labels in `annotations/` that name them.

    Instances come from `instances_<split>.json`, and for photos that it does not list from `instances_<split>_*.json`
    in order of name: additions by others never double an official label. Panoptic segments come from
    `panoptic_<split>.json` and the PNG folder of that name, in `annotations/` or beside it. A photo without them has
    semantic labels where `annotations/semantic_<split>/` holds a PNG of its stem, whose pixels are category ids, 0
    where there is none; panoptic segments say the same and more. A photo that a file lists without annotations has an
    empty list of them; a photo that no file lists has no such labels at all.
    """
    split = str(source.split)
    photos = next((path for path in (folder / "images" / split, folder / split) if path.is_dir()), None)
    if photos is None:
        where = folder / "images" if (folder / "images").is_dir() else folder
        raise MissingData(f"{where / split}: no such split; {holds(where)}")
    labels: dict[str, Labels] = {}
    stated_in: dict[str, str] = {}
    categories: dict[int, Category] = {}
    pictures: dict[str, LabelFile] = {}
    annotations = folder / "annotations"
    exact = annotations / f"instances_{split}.json"
    for path in [exact, *sorted(annotations.glob(f"instances_{split}_*.json"))]:
        if path.exists():
            _add_instances(read_annotation_file(path), labels, stated_in, categories)
    panoptic = annotations / f"panoptic_{split}.json"
    if panoptic.exists():
        beside = [path / panoptic.stem for path in (annotations, folder)]
        png_folder = next((path for path in beside if path.is_dir()), beside[0])
        pictures = _add_panoptic(read_annotation_file(panoptic), existing_folder(png_folder), labels, categories)
    names = photo_names(photos)
    pictures |= _semantic(annotations / f"semantic_{split}", set(names) - pictures.keys(), categories)
    items = [
        Item(
            name,
            str(photos / name),
            labels=labels.get(name, {}),
            label_files=(pictures[name],) if name in pictures else (),
            stated_in=stated_in.get(name, panoptic.name),
        )
        for name in names
    ]
    absent = len(labels.keys() - set(names))
    description = f"COCO split {split}" + (f", {absent} labelled photos absent" if absent else "")
    return Listing("coco", description, items, tuple(categories[key] for key in sorted(categories)))


def _add_instances(
    file: AnnotationFile, labels: dict[str, Labels], stated_in: dict[str, str], categories: dict[int, Category]
) -> None:
    with naming(file.path):
        for image in file.images:
            known = labels.setdefault(image["file_name"], file.facts(image))
            known.setdefault("instances", file.annotations.get(image["id"], []))
            stated_in.setdefault(image["file_name"], file.path.name)
    for key, category in file.categories.items():
        categories.setdefault(key, {**category, "isthing": 1})


def _add_panoptic(
    file: AnnotationFile, png_folder: Path, labels: dict[str, Labels], categories: dict[int, Category]
) -> dict[str, LabelFile]:
    """Adds the segments, still without their regions; the PNG of each photo that has one."""
    for key, category in file.categories.items():
        if categories.setdefault(key, category)["name"] != category["name"]:
            names = f"{category['name']}, and {categories[key]['name']} in the file of instances"
            raise ValueError(f"{file.path}: category {key} is {names}")
    categories |= file.categories
    pictures = {}
    with naming(file.path):
        for image in file.images:
            for annotation in file.annotations.get(image["id"], []):
                segments = [_segment(segment, file.categories) for segment in annotation["segments_info"]]
                labels.setdefault(image["file_name"], file.facts(image))["panoptic"] = segments
                pictures[image["file_name"]] = LabelFile(
                    "panoptic", read_panoptic, (str(png_folder / annotation["file_name"]),)
                )
    return pictures


def _segment(segment: dict[str, Any], categories: dict[int, Category]) -> dict[str, Any]:
    return {
        "id": segment["id"],
        "category_id": segment["category_id"],
        "iscrowd": segment.get("iscrowd", 0),
        "isthing": categories[segment["category_id"]]["isthing"],
    }


def _semantic(folder: Path, names: set[str], categories: dict[int, Category]) -> dict[str, LabelFile]:
    """The semantic PNGs of the named photos; adds the categories that no annotation file names."""
    paths = {name: str(folder / f"{Path(name).stem}.png") for name in names}
    there = {name: path for name, path in paths.items() if Path(path).is_file()}
    if there and not any(category["isthing"] == 0 for category in categories.values()):
        for value in found_classes(list(there.values())):
            if value != VOID:
                categories.setdefault(value, {"id": value, "name": f"class {value}", "isthing": 0})
    by_value: dict[int, Category | None] = {VOID: None, **categories}
    return {name: LabelFile("semantic", read_semantic, (path,), by_value) for name, path in there.items()}
