"""Photos from wherever they lie: files, folders, `s3://` prefixes, or a set of shards."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import UInt8
from torch import Tensor

from oapseg import storage
from oapseg.shards.decode import decode
from oapseg.shards.listing import (
    PHOTO_SUFFIXES,
    check_utf8,
    existing_folder,
    final_number,
    holds,
    photo_names,
    written_name,
)
from oapseg.shards.manifest import FILE_NAME, Manifest, load_manifest
from oapseg.shards.read import Photos
from oapseg.shards.upright import BrokenPhoto


class Shot(NamedTuple):
    """A photo that was read."""

    name: str
    stem: str  # of the files that are made of it, unlike any other's
    image_id: int
    image: UInt8[Tensor, "H W 3"]


@dataclass(frozen=True)
class Files:
    """Photos that are files or objects each; `stamp` is one hash over which photos they are."""

    names: Sequence[str]
    locations: Sequence[str]
    image_ids: Sequence[int]
    stamp: str
    max_pixels: int

    def __len__(self) -> int:
        return len(self.names)

    def name(self, number: int) -> str:
        return written_name(self.names[number])

    def read(self, number: int) -> Shot:
        """Errors: `BrokenPhoto`, its message the reason; `OSError` where the way to the photos is broken."""
        name, location = self.names[number], self.locations[number]
        check_utf8(name)
        try:
            data = storage.read_bytes(location)
        except OSError as error:
            if storage.is_url(location) and not isinstance(error, FileNotFoundError):
                raise  # S3 is gone or refuses: no photo is to blame
            raise BrokenPhoto(error.strerror or "no such object") from None
        return Shot(name, _stem(name), self.image_ids[number], decode(data, self.max_pixels))


class Shards:
    """Photos of a set of shards, which say their names and image ids; as `Files`."""

    def __init__(self, manifest: Manifest) -> None:
        self.photos = Photos(manifest)
        self.stamp = manifest.sha256

    def __len__(self) -> int:
        return len(self.photos)

    def name(self, number: int) -> str:
        url, start, _ = self.photos.span(number)
        return f"{url} at byte {start}"

    def read(self, number: int) -> Shot:
        data = storage.read_bytes(*self.photos.span(number))
        try:
            sample = self.photos.sample(number, data)
        except ValueError as error:
            raise BrokenPhoto(str(error)) from None
        labels: dict[str, Any] = sample.labels
        return Shot(labels["name"], f"{labels['image_id']:012d}", labels["image_id"], sample.image)


Source = Files | Shards


def find_photos(places: Sequence[str], out: str, max_pixels: int) -> Source:
    """The photos of files, folders and URLs, or of one set of shards; without those that lie in `out`.

    A photo is called as in its folder. Its image id is the number that its name ends in where every name ends in one
    of its own, as COCO's do; else its place, from 1.

    Errors: `ValueError` where a place holds no photo, or two photos would be called the same.
    """
    manifests = [place for place in places if _is_manifest(place)]
    if manifests and len(places) > 1:
        raise ValueError(f"{manifests[0]}: a set of shards; give it alone")
    if manifests:
        return Shards(load_manifest(manifests[0]))
    found: dict[str, str] = {}
    for name, location in (each for place in places for each in _photos_of(place, out)):
        if name in found:
            raise ValueError(
                f"two photos are called {name}: {found[name]} and {location}; give their folders one a run"
            )
        found[name] = location
    if len(stems := {_stem(name): name for name in found}) < len(found):
        name = next(name for name in found if stems[_stem(name)] != name)
        raise ValueError(f"{name} and {stems[_stem(name)]} would give files of one name; rename one of them")
    names = sorted(found)
    numbers = [final_number(name) for name in names]
    ids = [number for number in numbers if number is not None]
    if len(set(ids)) < len(names):
        ids = list(range(1, len(names) + 1))
    return Files(names, [found[name] for name in names], ids, _stamp(names, found), max_pixels)


def _is_manifest(place: str) -> bool:
    return place.endswith(FILE_NAME) or storage.exists(storage.join(place, FILE_NAME))


def _photos_of(place: str, out: str) -> list[tuple[str, str]]:
    """Name and location of each photo of a file, folder or URL."""
    if storage.is_url(place):
        return _objects_of(place, out)
    if Path(place).is_file():
        return [(Path(place).name, place)]
    folder = existing_folder(Path(place))
    paths = [(name, folder / name) for name in photo_names(folder)]
    if not storage.is_url(out):
        if folder.resolve().is_relative_to(Path(out).resolve()):
            raise ValueError(f"--out: {out} holds the photos of {place}; name another folder")
        paths = [each for each in paths if not each[1].resolve().is_relative_to(Path(out).resolve())]
    if not paths:
        raise ValueError(f"{place}: no photo in it; {holds(folder)}")
    return [(name, str(path)) for name, path in paths]


def _objects_of(place: str, out: str) -> list[tuple[str, str]]:
    if _is_photo(place) and storage.exists(place):
        return [(place.rpartition("/")[2], place)]
    if f"{place.rstrip('/')}/".startswith(f"{out.rstrip('/')}/"):
        raise ValueError(f"--out: {out} holds the photos of {place}; name another prefix")
    listed = [(name, storage.join(place, name)) for name in storage.list_files(place) if _is_photo(name)]
    listed = [each for each in listed if not each[1].startswith(f"{out.rstrip('/')}/")]
    if not listed:
        raise ValueError(f"{place}: no photo below it; known are {', '.join(sorted(PHOTO_SUFFIXES))}")
    return listed


def _is_photo(name: str) -> bool:
    return Path(name).suffix.lower() in PHOTO_SUFFIXES and not Path(name).name.startswith(".")


def _stem(name: str) -> str:
    """Of the files made of a photo: a.jpg and a.png stay apart."""
    return name.removesuffix(".jpg")


def _stamp(names: Sequence[str], locations: dict[str, str]) -> str:
    """Names, and of files size and time too, so that a photo that is changed under its name is seen anew."""
    digest = hashlib.sha256()
    for name in names:
        said = ""
        if not storage.is_url(locations[name]) and Path(locations[name]).exists():  # else a link to nothing
            status = Path(locations[name]).stat()
            said = f"{status.st_size} {status.st_mtime_ns}"
        digest.update(f"{name}\n{said}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
