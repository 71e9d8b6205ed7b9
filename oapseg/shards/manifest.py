"""What a set of shards holds."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from oapseg import storage
from oapseg.shards.offsets import FiledOffsets, Line, Offset, Offsets, parse_line

FILE_NAME = "manifest.json"
SHARDS_LINE = b' "shards": [\n'  # a line a shard follows


@dataclass(frozen=True, slots=True)
class Shard:
    url: str  # relative to the manifest, or s3://
    samples: int
    bytes: int
    sha256: str
    offsets: Sequence[Offset]


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
    """The manifest as JSON, a line a shard: a million samples stay readable by the eye and by line."""
    head = {key: getattr(manifest, key) for key in ("source", "labels", "categories", "skipped", "num_samples")} | more
    lines = [f" {json.dumps(key)}: {json.dumps(value, sort_keys=True)}" for key, value in sorted(head.items())]
    shards = [
        f"  {json.dumps(asdict(replace(shard, offsets=())) | {'offsets': list(shard.offsets)}, sort_keys=True)}"
        for shard in manifest.shards
    ]
    return "{\n" + ",\n".join([*lines, SHARDS_LINE.decode() + ",\n".join(shards) + "\n ]"]) + "\n}\n"


def load_manifest(location: str) -> Manifest:
    """Read the manifest of a set, given its folder or its `manifest.json`, path or URL.

    Errors: `ValueError` where it is missing or is no manifest.
    """
    folder = str(location).removesuffix(FILE_NAME).rstrip("/") or "."
    path = storage.join(folder, FILE_NAME)
    try:
        return read_manifest(path)[0]
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{path}: no such manifest; write one with `python -m components shard`") from None


def read_manifest(path: str) -> tuple[Manifest, dict[str, Any]]:
    """The manifest that a file of any name holds, and all that the file says besides.

    Errors: `FileNotFoundError`; `ValueError` where it is none.
    """
    try:
        raw = _read(path)
        manifest = Manifest(
            location=path.rpartition("/")[0] or ".",
            shards=tuple(raw.pop("shards")),
            source=raw["source"],
            labels=tuple(raw["labels"]),
            categories=tuple(raw["categories"]),
            skipped=raw["skipped"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a manifest of shards ({type(error).__name__}: {error})") from None
    return manifest, raw


def _read(path: str) -> dict[str, Any]:
    """A manifest file, its shards as such: a line in memory at a time, or all of it where it is laid out otherwise."""
    rest: list[bytes] = []
    shards: list[Shard] | None = None
    at = 0
    for line in storage.read_lines(path):
        if shards is not None and line.startswith(b"  {"):
            shard = parse_line(line)
            where = Line(path, at, len(line), shard["sha256"])
            shards.append(_shard(shard, FiledOffsets(where, len(shard["offsets"]))))
        else:
            rest.append(line)
            shards = [] if line == SHARDS_LINE else shards
        at += len(line)
    raw: dict[str, Any] = json.loads(b"".join(rest))
    raw["shards"] = [_shard(shard, Offsets(shard["offsets"])) for shard in raw["shards"]] if shards is None else shards
    return raw


def _shard(fields: dict[str, Any], offsets: Sequence[Offset]) -> Shard:
    return Shard(fields["url"], fields["samples"], fields["bytes"], fields["sha256"], offsets)
