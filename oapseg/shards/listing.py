"""What every layout comes down to: photos by name, with their labels, in a fixed order."""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from oapseg import storage
from oapseg.shards.upright import BrokenPhoto

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".jp2"})
NAMED_IN_ERRORS = 8

Labels = dict[str, Any]
Category = dict[str, Any]  # {id, name, isthing}


class MissingData(ValueError):  # noqa: N818 - the data are missing, the program is not in error
    """A folder or file of a layout that is not there."""


class LabelFile(NamedTuple):
    """Files beside a photo that hold labels of it, and what reads them, in the writer's processes.

    `kind` is the key of the labels. `read(paths, categories, labels, size)` gives what to add to `labels`, those that
    the item has already; `size` is the photo's width and height. It raises `BrokenPhoto` where the files do not fit
    the photo.
    """

    kind: str
    read: "Callable[[tuple[str, ...], Mapping[int, Category | None], Labels, tuple[int, int]], Labels]"
    paths: tuple[str, ...]
    categories: Mapping[int, Category | None] = {}  # by pixel value; None is void


@dataclass(frozen=True)
class Item:
    """A photo of a source, not yet read.

    `labels` is what the sample's JSON will say; its segments may still be polygons, and `label_files` may add to it.
    """

    name: str  # relative to the source
    path: str  # the file, or the tar it lies in
    span: tuple[int, int] | None = None  # offset and length within a tar, bytes
    labels: Labels = field(default_factory=dict)
    label_files: tuple[LabelFile, ...] = ()
    stated_in: str = ""  # name of the file that `labels` come from

    @property
    def label_kinds(self) -> set[str]:
        """The keys of all labels that its sample will have."""
        return set(self.labels) | {file.kind for file in self.label_files}

    def read(self) -> bytes:
        return storage.read_bytes(self.path, *(self.span or ()))


@dataclass(frozen=True)
class Listing:
    """All photos of a source, in a fixed order."""

    kind: str
    description: str
    items: list[Item]
    categories: tuple[Category, ...] = ()  # of the segments


def existing_folder(*folders: Path) -> Path:
    """The first folder that is there, or `MissingData` that says how far the last path exists and what is there."""
    found = next((folder for folder in folders if folder.is_dir()), None)
    return found if found is not None else _missing(folders[-1], "folder")


def existing_file(path: Path) -> Path:
    """The file, or `MissingData` that says how far its path exists and what is there."""
    return path if path.is_file() else _missing(path, "file")


def _missing(path: Path, what: str) -> Path:
    nearest = next(parent for parent in path.absolute().parents if parent.is_dir())
    raise MissingData(f"{path}: no such {what}; {holds(nearest)}")


def holds(folder: Path) -> str:
    """What a folder holds, short enough for a line of error."""
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    more = f" and {len(names) - NAMED_IN_ERRORS} more" if len(names) > NAMED_IN_ERRORS else ""
    return f"{folder} holds {', '.join(names[:NAMED_IN_ERRORS]) or 'nothing'}{more}"


def photo_names(folder: Path) -> list[str]:
    """Relative names of all photos below a folder, sorted; links are followed, hidden files are none."""
    names, seen = [], set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        here = os.path.realpath(parent)
        if here in seen:
            folders.clear()  # a link that leads back
            continue
        seen.add(here)
        relative = Path(parent).relative_to(folder)
        names += [
            (relative / file).as_posix()
            for file in files
            if Path(file).suffix.lower() in PHOTO_SUFFIXES and not file.startswith(".")
        ]
    return sorted(names)


def written_name(name: str) -> str:
    """A file's name as text that can be written: bytes that are not UTF-8 as `\\xff`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def check_utf8(name: str) -> None:
    """Errors: `BrokenPhoto` where a name is not UTF-8, as results in JSON and HTML have to be."""
    if written_name(name) != name:
        raise BrokenPhoto("its name is not UTF-8; rename it")


def keep_listed(listing: Listing, path: Path) -> Listing:
    """The photos that a text file lists, one a line: a name with or without folder and suffix, or the bare id that
    a name ends in, with or without leading zeros.

    Errors: `MissingData` where the file or a listed photo is not there: a score on fewer photos is another score.
    """
    lines = existing_file(path).read_text().split()
    wanted = {Path(line).stem for line in lines}
    numbers = {int(stem) for stem in wanted if stem.isdigit()}
    kept = [item for item in listing.items if Path(item.name).stem in wanted or final_number(item.name) in numbers]
    stems, found = {Path(item.name).stem for item in kept}, {final_number(item.name) for item in kept}
    absent = sorted(stem for stem in wanted if stem not in stems and not (stem.isdigit() and int(stem) in found))
    if absent:
        raise MissingData(f"{path}: {len(absent)} of {len(wanted)} photos listed are not there, the first: {absent[0]}")
    return replace(listing, items=kept, description=f"{listing.description}, the {len(kept)} of {path.name}")


def final_number(name: str) -> int | None:
    """The number that the stem of a file's name ends in, which many data sets use as its id."""
    digits = re.search(r"\d+$", Path(name).stem)
    return int(digits[0]) if digits else None


def numbered(name: str) -> Labels:
    """The image id that a photo's name ends in, as labels; none where it ends in none."""
    number = final_number(name)
    return {} if number is None else {"image_id": number}
