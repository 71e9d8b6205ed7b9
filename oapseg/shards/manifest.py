"""What a set of shards holds, and where each sample lies."""

import json
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from oapseg import storage

FILE_NAME = "manifest.json"


class Offset(NamedTuple):
    """Where a sample lies in its tar, in bytes; no tar reader is needed to fetch it."""

    key: str
    jpg_offset: int
    jpg_length: int
    json_offset: int
    json_length: int


@dataclass(frozen=True)
class Shard:
    url: str  # relative to the manifest, or s3://
    samples: int
    bytes: int
    sha256: str
    offsets: tuple[Offset, ...]


@dataclass(frozen=True)
class Manifest:
    """A set of shards.

    `labels` are the kinds that at least one sample has, out of "instances", "panoptic" and "class"; `categories` those
    of its segments; `skipped` the original names of broken photos by reason.
    """

    location: str  # the folder or URL it was read from
    shards: tuple[Shard, ...]
    source: str
    labels: tuple[str, ...]
    categories: tuple[dict[str, Any], ...]  # {id, name, isthing}
    skipped: dict[str, list[str]]

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


def manifest_text(manifest: Manifest) -> str:
    """The manifest as JSON, a line a shard: a million samples stay readable by the eye and quick to parse."""
    head = {key: value for key, value in asdict(manifest).items() if key not in ("location", "shards")}
    head["num_samples"] = manifest.num_samples
    lines = [f" {json.dumps(key)}: {json.dumps(value, sort_keys=True)}" for key, value in sorted(head.items())]
    shards = [f"  {json.dumps(asdict(shard), sort_keys=True)}" for shard in manifest.shards]
    return "{\n" + ",\n".join([*lines, ' "shards": [\n' + ",\n".join(shards) + "\n ]"]) + "\n}\n"


def load_manifest(location: str) -> Manifest:
    """Read the manifest of a set, given its folder or its `manifest.json`, path or URL.

    Errors: `ValueError` where it is missing or is no manifest.
    """
    folder = str(location).removesuffix(FILE_NAME).rstrip("/") or "."
    path = storage.join(folder, FILE_NAME)
    if not storage.exists(path):
        raise ValueError(f"{path}: no such manifest; write one with `python -m components shard`")
    raw = storage.read_json(path)
    try:
        return Manifest(
            location=folder,
            shards=tuple(
                Shard(
                    url=shard["url"],
                    samples=shard["samples"],
                    bytes=shard["bytes"],
                    sha256=shard["sha256"],
                    offsets=tuple(Offset(*offset) for offset in shard["offsets"]),
                )
                for shard in raw["shards"]
            ),
            source=raw["source"],
            labels=tuple(raw["labels"]),
            categories=tuple(raw["categories"]),
            skipped=raw["skipped"],
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a manifest of shards ({type(error).__name__}: {error})") from None
