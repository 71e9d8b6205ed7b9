"""Data sets of one COCO-form annotation file: LVIS, UVO, Objects365, and selections of COCO that others publish."""

from pathlib import Path
from typing import Any

from oapseg.params import Source
from oapseg.shards.annotation_file import naming, read_annotation_file
from oapseg.shards.listing import Item, Labels, Listing, existing_file, existing_folder

FEDERATED = ("neg_category_ids", "not_exhaustive_category_ids")  # LVIS: what is known to be absent, or not all there


def list_coco_json(folder: Path, source: Source) -> Listing:
    """The photos that the file `labels` lists, below the folder `photos`; both lie in the source's folder."""
    return _listed(folder / str(source.labels), existing_folder(folder / str(source.photos)), source.kind)


def list_lvis(folder: Path, source: Source) -> Listing:
    """`lvis_v1_<split>.json`, here or in `annotations/`; its photos lie in the folders of COCO 2017, here or in
    `images/`, since a split of LVIS takes photos of both splits of COCO.
    """
    name = f"lvis_v1_{source.split}.json"
    beside = folder / name
    return _listed(beside if beside.is_file() else folder / "annotations" / name, _with_photos(folder), source.kind)


def _with_photos(folder: Path) -> Path:
    places = (folder / "images", folder)
    return next((place for place in places if (place / "train2017").is_dir() or (place / "val2017").is_dir()), folder)


def _listed(path: Path, photos: Path, kind: str) -> Listing:
    file = read_annotation_file(existing_file(path))
    items, absent = [], 0
    with naming(path):
        for image in file.images:
            name = _name(image)
            if not (photos / name).is_file():
                absent += 1
                continue
            federated: Labels = {key: image[key] for key in FEDERATED if key in image}
            instances = file.annotations.get(image["id"], [])
            labels = {**file.facts(image), **federated, "instances": instances}
            items.append(Item(name, str(photos / name), labels=labels, stated_in=path.name))
    items.sort(key=lambda item: item.name)
    description = path.name + (f", {absent} labelled photos absent" if absent else "")
    return Listing(kind, description, items, tuple(file.categories[key] for key in sorted(file.categories)))


def _name(image: dict[str, Any]) -> str:
    """LVIS names its photos by URL alone, whose last folder is the split of COCO."""
    if "file_name" in image:
        return str(image["file_name"])
    return "/".join(image["coco_url"].split("/")[-2:])
