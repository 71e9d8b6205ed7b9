"""COCO-form annotation files, checked: a file that contradicts itself stops a step at once, in one line."""

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oapseg import storage
from oapseg.shards.listing import Category, Labels

KEPT = ("frequency",)  # what a data set says of a category beyond COCO, and scores use (LVIS: r, c or f)


@dataclass(frozen=True)
class AnnotationFile:
    """Images as the file has them, its annotations by image id, its categories by id."""

    path: Path
    images: list[dict[str, Any]]
    annotations: dict[int, list[dict[str, Any]]]
    categories: dict[int, Category]
    licences: dict[int, str]

    def facts(self, image: dict[str, Any]) -> Labels:
        """What a sample says of its photo, from what the file says of it."""
        facts = {"image_id": image["id"], "width": image["width"], "height": image["height"]}
        if image.get("license") in self.licences:
            facts["licence"] = self.licences[image["license"]]
        return facts


def read_annotation_file(path: Path, images: str = "images") -> AnnotationFile:
    """Read a file whose annotations belong to its `images`, or to its "videos".

    Errors: `ValueError` names the file, the entry by its id and the reason, where a part is missing, an id is no whole
    number or given twice, or names an image or a category that the file does not have.
    """
    with naming(path):
        raw = storage.read_json(path)
        missing = [key for key in (images, "annotations", "categories") if key not in raw]
        if missing:
            raise ValueError(f"{path}: not a COCO annotation file, has no {', '.join(missing)}")
        categories = {
            category["id"]: {"id": category["id"], "name": category["name"], "isthing": category.get("isthing", 1)}
            | {key: category[key] for key in KEPT if key in category}
            for category in _with_ids(path, raw["categories"], "category")
        }
        listed = list(_with_ids(path, raw[images], images.removesuffix("s")))
        _check_names(path, listed)
        known = {image["id"] for image in listed}
        key = f"{images.removesuffix('s')}_id"
        return AnnotationFile(
            path=path,
            images=listed,
            annotations=_grouped(path, raw["annotations"], key, known, categories),
            categories=categories,
            licences={licence["id"]: licence["name"] for licence in raw.get("licenses", [])},
        )


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """What a file lacks of COCO's layout becomes a line that names the file."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{path}: not a COCO annotation file, {error} is missing in a part of it") from None
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a COCO annotation file ({error})") from None


def _with_ids(path: Path, entries: Iterable[dict[str, Any]], what: str) -> Iterator[dict[str, Any]]:
    seen = set()
    for entry in entries:
        _check_id(path, f"{what} {entry['id']!r}", "id", entry["id"])
        if entry["id"] in seen:
            raise ValueError(f"{path}: {what} {entry['id']} is listed twice")
        seen.add(entry["id"])
        yield entry


def _check_id(path: Path, where: str, key: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{path}: {where}: {key} must be a whole number, is {value!r}")


def _check_names(path: Path, images: list[dict[str, Any]]) -> None:
    seen: dict[str, int] = {}
    for image in images:
        name = image.get("file_name")
        if name is not None and seen.setdefault(name, image["id"]) != image["id"]:
            raise ValueError(f"{path}: {name} is listed twice, as images {seen[name]} and {image['id']}")


def _grouped(
    path: Path, annotations: list[dict[str, Any]], key: str, known: set[int], categories: dict[int, Category]
) -> dict[int, list[dict[str, Any]]]:
    """The annotations by the id of their image; those of a panoptic file have segments instead of an id."""
    of_image = defaultdict(list)
    numbered = [annotation for annotation in annotations if "segments_info" not in annotation]
    for annotation in _with_ids(path, numbered, "annotation"):
        where = f"annotation {annotation['id']}"
        _check_id(path, where, key, annotation[key])
        _check_category(path, where, annotation["category_id"], categories)
    for annotation in annotations:
        image_id = annotation[key]
        where = f"annotation {annotation['id']}" if "id" in annotation else "a panoptic annotation"
        _check_id(path, where, key, image_id)
        if image_id not in known:
            raise ValueError(f"{path}: {where}: {key} {image_id} is none of the file's")
        if "segments_info" in annotation:
            if image_id in of_image:
                raise ValueError(f"{path}: image {image_id} has two panoptic annotations")
            for segment in _with_ids(path, annotation["segments_info"], f"image {image_id}: segment"):
                _check_category(path, f"image {image_id}: segment {segment['id']}", segment["category_id"], categories)
        of_image[image_id].append(annotation)
    return of_image


def _check_category(path: Path, where: str, category_id: Any, categories: dict[int, Category]) -> None:
    _check_id(path, where, "category_id", category_id)
    if category_id not in categories:
        raise ValueError(f"{path}: {where}: category {category_id} is none of the file's")
