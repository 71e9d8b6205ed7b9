"""COCO's layout: photos of a split, with instances, panoptic segments, both or neither."""

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from oapseg import storage
from oapseg.shards.listing import Item, Listing, existing_folder, holds, photo_names


def list_coco(folder: Path, split: str) -> Listing:
    """The photos of `images/<split>/` or `<split>/`, with the labels in `annotations/` that name them.

    Instances come from `instances_<split>.json`, and for photos that it does not list from `instances_<split>_*.json`
    in order of name: additions by others never double an official label. Panoptic segments come from
    `panoptic_<split>.json` and the PNG folder of that name, in `annotations/` or beside it. A photo that a file lists
    without annotations has an empty list of them; a photo that no file lists has no such labels at all.
    """
    photos = next((path for path in (folder / "images" / split, folder / split) if path.is_dir()), None)
    if photos is None:
        where = folder / "images" if (folder / "images").is_dir() else folder
        raise ValueError(f"{where / split}: no such split; {holds(where)}")
    labels: dict[str, dict[str, Any]] = {}
    categories: dict[int, dict[str, Any]] = {}
    pngs: dict[str, str] = {}
    annotations = folder / "annotations"
    exact = annotations / f"instances_{split}.json"
    for path in [exact, *sorted(annotations.glob(f"instances_{split}_*.json"))]:
        if path.exists():
            with _naming(path):
                _add_instances(path, labels, categories)
    panoptic = annotations / f"panoptic_{split}.json"
    if panoptic.exists():
        beside = [path / panoptic.stem for path in (annotations, folder)]
        png_folder = next((path for path in beside if path.is_dir()), beside[0])
        with _naming(panoptic):
            pngs = _add_panoptic(panoptic, existing_folder(png_folder), labels, categories)
    names = photo_names(photos)
    items = [Item(name, str(photos / name), None, labels.get(name, {}), pngs.get(name)) for name in names]
    absent = len(labels.keys() - set(names))
    description = f"COCO split {split}" + (f", {absent} labelled photos absent" if absent else "")
    return Listing("coco", description, items, tuple(categories[key] for key in sorted(categories)))


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """What a file lacks of COCO's layout becomes a line that names the file."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{path}: not a COCO annotation file, {error} is missing in a part of it") from None
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a COCO annotation file ({error})") from None


def _add_instances(path: Path, labels: dict[str, dict[str, Any]], categories: dict[int, dict[str, Any]]) -> None:
    raw = _annotations(path)
    of_image = defaultdict(list)
    for annotation in raw["annotations"]:
        of_image[annotation["image_id"]].append(annotation)
    for name, facts, image_id in _images(raw):
        known = labels.setdefault(name, facts)
        known.setdefault("instances", of_image[image_id])
    for category in raw["categories"]:
        categories.setdefault(category["id"], {"id": category["id"], "name": category["name"], "isthing": 1})


def _add_panoptic(
    path: Path, png_folder: Path, labels: dict[str, dict[str, Any]], categories: dict[int, dict[str, Any]]
) -> dict[str, str]:
    """Adds the segments, still without their regions; the PNG of each photo that has one."""
    raw = _annotations(path)
    for category in raw["categories"]:
        categories[category["id"]] = {key: category[key] for key in ("id", "name", "isthing")}
    of_image = {annotation["image_id"]: annotation for annotation in raw["annotations"]}
    pngs = {}
    for name, facts, image_id in _images(raw):
        annotation = of_image.get(image_id)
        if annotation is None:
            continue
        labels.setdefault(name, facts)["panoptic"] = [
            {
                "id": segment["id"],
                "category_id": segment["category_id"],
                "iscrowd": segment.get("iscrowd", 0),
                "isthing": categories[segment["category_id"]]["isthing"],
            }
            for segment in annotation["segments_info"]
        ]
        pngs[name] = str(png_folder / annotation["file_name"])
    return pngs


def _annotations(path: Path) -> dict[str, Any]:
    raw = storage.read_json(path)
    missing = [key for key in ("images", "annotations", "categories") if key not in raw]
    if missing:
        raise ValueError(f"{path}: not a COCO annotation file, has no {', '.join(missing)}")
    return dict(raw)


def _images(raw: dict[str, Any]) -> list[tuple[str, dict[str, Any], int]]:
    """File name, facts and id of every photo that an annotation file lists."""
    licences = {licence["id"]: licence["name"] for licence in raw.get("licenses", [])}
    listed = []
    for image in raw["images"]:
        facts = {"image_id": image["id"], "width": image["width"], "height": image["height"]}
        if image.get("license") in licences:
            facts["licence"] = licences[image["license"]]
        listed.append((image["file_name"], facts, image["id"]))
    return listed
