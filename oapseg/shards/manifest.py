"""What a set of shards holds, and where each sample lies."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, overload

import numpy as np

from oapseg import storage

FILE_NAME = "manifest.json"
UNCHECKED = -1  # the crc32 of a sample whose manifest has none
NUMBERS = np.dtype(
    [("jpg_offset", "<i8"), ("jpg_length", "<u4"), ("json_offset", "<i8"), ("json_length", "<u4"), ("crc32", "<i8")]
)


class Offset(NamedTuple):
    """Where a sample lies in its tar, in bytes; no tar reader is needed to fetch it.

    `crc32` is that of the photo followed by the labels: a sample read by range is checked without the rest of its
    shard.
    """

    key: str
    jpg_offset: int
    jpg_length: int
    json_offset: int
    json_length: int
    crc32: int = UNCHECKED


class Offsets(Sequence[Offset]):
    """The offsets of a shard in two arrays: 41 bytes a sample, a tenth of what tuples take."""

    def __init__(self, rows: Iterable[Sequence[Any]]) -> None:
        columns = tuple(zip(*rows, strict=True)) or ((),) * len(Offset._fields)
        keys, *numbers = columns
        self.keys = np.array(keys, dtype=np.bytes_)
        self.numbers = np.full(len(keys), UNCHECKED, NUMBERS)
        for name, column in zip(NUMBERS.names or (), numbers, strict=False):
            self.numbers[name] = column

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, index: int) -> Offset: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Offset]: ...
    def __getitem__(self, index: int | slice) -> Offset | Sequence[Offset]:
        if isinstance(index, slice):
            return list(self)[index]
        return Offset(self.keys[index].decode(), *self.numbers[index].tolist())

    def __iter__(self) -> Iterator[Offset]:
        for key, numbers in zip(self.keys.tolist(), self.numbers.tolist(), strict=True):
            yield Offset(key.decode(), *numbers)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Offsets) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class Shard:
    url: str  # relative to the manifest, or s3://
    samples: int
    bytes: int
    sha256: str
    offsets: Offsets


@dataclass(frozen=True)
class Manifest:
    """A set of shards.

    `labels` are the kinds that at least one sample has, out of "instances", "panoptic",
    "semantic", "video" and "class"; `categories` those
    of its segments; `skipped` the original names of broken photos by reason.
    """

    location: str  # the folder or URL it was read from
    shards: tuple[Shard, ...]
    source: str
    labels: tuple[str, ...]
    categories: tuple[dict[str, Any], ...]  # {id, name, isthing}
    skipped: dict[str, list[str]]

    @property
    def sha256(self) -> str:
        """One hash over all shards: the same photos and labels wherever they lie."""
        hashes = "".join(f"{shard.sha256}\n" for shard in self.shards)
        return hashlib.sha256(hashes.encode()).hexdigest()

    @property
    def num_samples(self) -> int:
        return sum(shard.samples for shard in self.shards)

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        """Samples of each shard, as `Stream` takes them."""
        return tuple(shard.samples for shard in self.shards)

    def url(self, shard: int) -> str:
        """Path or URL of a shard."""
        return storage.join(self.location, self.shards[shard].url)


def manifest_text(manifest: Manifest, **more: Any) -> str:
    """The manifest as JSON, a line a shard: a million samples stay readable by the eye and quick to parse."""
    head = {key: getattr(manifest, key) for key in ("source", "labels", "categories", "skipped", "num_samples")} | more
    lines = [f" {json.dumps(key)}: {json.dumps(value, sort_keys=True)}" for key, value in sorted(head.items())]
    shards = [
        f"  {json.dumps(vars(shard) | {'offsets': list(shard.offsets)}, sort_keys=True)}" for shard in manifest.shards
    ]
    return "{\n" + ",\n".join([*lines, ' "shards": [\n' + ",\n".join(shards) + "\n ]"]) + "\n}\n"


def load_manifest(location: str) -> Manifest:
    """Read the manifest of a set, given its folder or its `manifest.json`, path or URL.

    Errors: `ValueError` where it is missing or is no manifest.
    """
    folder = str(location).removesuffix(FILE_NAME).rstrip("/") or "."
    path = storage.join(folder, FILE_NAME)
    try:
        text = storage.read_bytes(path)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{path}: no such manifest; write one with `python -m components shard`") from None
    return parse_manifest(text, path)[0]


def parse_manifest(text: bytes, path: str) -> tuple[Manifest, dict[str, Any]]:
    """A manifest from the text of the file `path`, and all that the file says.

    Errors: `ValueError` where it is none.
    """
    try:
        raw = json.loads(text, object_hook=_packed)
        shards = tuple(Shard(**{key: shard[key] for key in Shard.__dataclass_fields__}) for shard in raw["shards"])
        manifest = Manifest(
            location=path.rpartition("/")[0] or ".",
            shards=shards,
            source=raw["source"],
            labels=tuple(raw["labels"]),
            categories=tuple(raw["categories"]),
            skipped=raw["skipped"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a manifest of shards ({type(error).__name__}: {error})") from None
    return manifest, raw


def _packed(found: dict[str, Any]) -> dict[str, Any]:
    """A shard's offsets as arrays while the rest is still being parsed: a manifest never lies in memory as lists."""
    if "offsets" in found:
        found["offsets"] = Offsets(found["offsets"])
    return found
