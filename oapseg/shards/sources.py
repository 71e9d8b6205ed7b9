"""The layouts that people's photos come in: what lies where, with which labels. Nothing is decoded here."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from oapseg.params import SetParams, Source
from oapseg.shards.coco import list_coco
from oapseg.shards.listing import Item, Listing, existing_folder, holds, photo_names

TAR_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
TAR_LABELS = ("image_id", "licence", "instances", "panoptic", "class")  # what our own shards carry on


def list_set(params: SetParams, root: str | None = None) -> list[Listing]:
    """The sources of a set, below its root or another that stands for it.

    Errors: `ValueError` where a folder is missing or holds no photo, naming what is there.
    """
    return [list_source(source, root or params.root) for source in params.sources]


def list_source(source: Source, root: str) -> Listing:
    """The photos of one source."""
    folder = existing_folder(Path(root) / source.path)
    if source.kind == "coco":
        listing = list_coco(folder, str(source.split))
    elif source.kind == "classes":
        listing = _list_classes(folder)
    elif source.kind == "tar":
        listing = _list_tars(folder)
    else:
        items = [Item(name, str(folder / name)) for name in photo_names(folder)]
        listing = Listing("photos", f"photos of {source.path}", items)
    if not listing.items:
        raise ValueError(f"{folder}: no photo for a source of kind {source.kind}; {holds(folder)}")
    return listing


def _list_classes(folder: Path) -> Listing:
    """One folder a class, as ImageNet has it; a class's id is its place among the sorted names."""
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    items = [
        Item(f"{name}/{photo}", str(folder / name / photo), labels={"class": {"id": number, "name": name}})
        for number, name in enumerate(classes)
        for photo in photo_names(folder / name)
    ]
    return Listing("classes", f"{len(classes)} classes of {folder.name}", items)


def _list_tars(folder: Path) -> Listing:
    """Tar shards of WebDataset naming: a photo, and `.json` of ours or `.cls` beside it."""
    tars = sorted(folder.glob("*.tar"))
    items = [item for tar in tars for item in _tar_items(tar)]
    return Listing("tar", f"{len(tars)} tar shards of {folder.name}", items)


def _tar_items(path: Path) -> Iterator[Item]:
    photos: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                key, suffix = _key_and_suffix(member.name)
                if not member.isfile():
                    continue
                if suffix in TAR_SUFFIXES:
                    photos[key] = member
                elif suffix in (".json", ".cls"):
                    content = (tar.extractfile(member) or io.BytesIO()).read()
                    labels.setdefault(key, {}).update(_tar_labels(content, suffix))
    except (tarfile.TarError, OSError) as error:
        raise ValueError(f"{path}: not a whole tar ({error})") from None
    for key, member in photos.items():
        span = (member.offset_data, member.size)
        yield Item(f"{path.name}/{member.name}", str(path), span, labels.get(key, {}))


def _key_and_suffix(name: str) -> tuple[str, str]:
    """WebDataset's rule: the key ends at the first dot of the file's name."""
    folder, _, file = name.rpartition("/")
    stem, dot, suffix = file.partition(".")
    return f"{folder}/{stem}", (dot + suffix).lower()


def _tar_labels(content: bytes, suffix: str) -> dict[str, Any]:
    """Labels of a foreign shard are taken where they are of our form, and left out where they are not."""
    try:
        if suffix == ".cls":
            return {"class": {"id": int(content), "name": content.decode().strip()}}
        found = json.loads(content)
    except ValueError:
        return {}
    if not isinstance(found, dict) or "source" not in found:
        return {}
    return {key: found[key] for key in TAR_LABELS if key in found}
