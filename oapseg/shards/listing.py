"""What every layout comes down to: photos by name, with their labels, in a fixed order."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oapseg import storage

PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".jp2"})
NAMED_IN_ERRORS = 8


@dataclass(frozen=True)
class Item:
    """A photo of a source, not yet read.

    `labels` is what the sample's JSON will say; its segments may still be polygons, and those of `panoptic` lie in
    `panoptic_png`.
    """

    name: str  # relative to the source
    path: str  # the file, or the tar it lies in
    span: tuple[int, int] | None = None  # offset and length within a tar, bytes
    labels: dict[str, Any] = field(default_factory=dict)
    panoptic_png: str | None = None

    def read(self) -> bytes:
        return storage.read_bytes(self.path, *(self.span or ()))


@dataclass(frozen=True)
class Listing:
    """All photos of a source, in a fixed order."""

    kind: str
    description: str
    items: list[Item]
    categories: tuple[dict[str, Any], ...] = ()  # of the segments: {id, name, isthing}


def existing_folder(folder: Path) -> Path:
    """The folder, or a `ValueError` that says how far the path exists and what is there."""
    if folder.is_dir():
        return folder
    nearest = next(parent for parent in folder.absolute().parents if parent.is_dir())
    raise ValueError(f"{folder}: no such folder; {holds(nearest)}")


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
