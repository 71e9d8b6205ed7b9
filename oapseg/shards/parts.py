"""A set of shards in parts: which shards each part writes, how parts become one set, what is cleared away before."""

import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from oapseg import storage
from oapseg.shards.manifest import FILE_NAME, Manifest, load_manifest, manifest_text, read_manifest
from oapseg.shards.pack import Packed

NAMED_IN_ERRORS = 3
SHARD_NAME = re.compile(r"\.?shard-(\d{6})\.tar(\..*)?")  # with those that a killed run left half-written
PART_NAME = re.compile(r"\.?part-\d+-of-\d+\.json(\..*)?|\.manifest\.json\..*")


class Part(NamedTuple):
    """Part `number` of `count`, from 1 on: shards of one set, consecutive, as many as in any other part or one more."""

    number: int
    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody calls on a part

    @property
    def file_name(self) -> str:
        """The manifest of the part, which lies beside the shards until all parts are joined."""
        return f"part-{self.number}-of-{self.count}.json"

    def shards(self, total: int) -> range:
        """The numbers of its shards, of `total` of the set."""
        return range(total * (self.number - 1) // self.count, total * self.number // self.count)


class Tally:
    """Counts broken photos, names them, and stops at too many of the whole set's."""

    def __init__(self, skipped: dict[str, list[str]], total: int, share: float) -> None:
        self.skipped, self.total, self.share = skipped, total, share

    def good(self, packed: Packed) -> bool:
        if packed.broken is None:
            return True
        self.skipped[packed.broken].append(packed.name)
        self.check()
        return False

    def check(self) -> None:
        count = sum(len(names) for names in self.skipped.values())
        if count > int(self.share * self.total):
            raise ValueError(
                f"shards.max_broken allows {self.share:g} of {self.total} photos to be broken, {count} are so far: "
                f"{self.first()}"
            )

    def first(self) -> str:
        named = [f"{name} ({reason})" for reason, names in self.skipped.items() for name in names]
        return ", ".join(named[:NAMED_IN_ERRORS])


def join_parts(out: str | Path, count: int) -> Manifest:
    """Make one set of its parts in `out`; the folder is then the same, byte for byte, as if one process had written it.

    Errors: `ValueError` where a part is missing, or parts were written from unlike listings or parameters.
    """
    parts, facts = [], []
    for part in (Part(number, count) for number in range(1, count + 1)):
        path = storage.join(out, part.file_name)
        try:
            manifest, raw = read_manifest(path)
        except FileNotFoundError:
            raise ValueError(f"{path}: no such part; write it with --part {part.number}/{count}") from None
        parts.append(manifest)
        facts.append(raw["part"])
        if facts[-1] != facts[0]:
            raise ValueError(f"{path}: its photos or parameters are not those of part 1; write all parts anew")
    tally = Tally(defaultdict(list), facts[0]["listed"], facts[0]["max_broken"])
    for each in parts:
        for reason, names in each.skipped.items():
            tally.skipped[reason] += names
    shards = tuple(shard for each in parts for shard in each.shards)
    manifest = replace(parts[0], shards=shards, skipped=dict(tally.skipped))
    finish(manifest, tally)
    _remove_others(manifest)
    return load_manifest(manifest.location)


def finish(manifest: Manifest, tally: Tally) -> None:
    """Write the manifest, with which the set is there, unless too few photos are whole."""
    tally.check()
    if not manifest.shards:
        raise ValueError(f"{manifest.location}: none of {tally.total} photos can be read; the first: {tally.first()}")
    storage.write_text(storage.join(manifest.location, FILE_NAME), manifest_text(manifest))


def clear(out: str | Path, part: Part | None, numbers: range) -> None:
    """Remove what an earlier run, finished or killed, left: its manifest first. A part leaves the other parts alone."""
    storage.delete(storage.join(out, FILE_NAME))
    for name in _names(out):
        shard = SHARD_NAME.fullmatch(name)
        mine = part is None or (int(shard[1]) in numbers if shard else part.file_name in name)
        if mine and (shard or PART_NAME.fullmatch(name)):
            storage.delete(storage.join(out, name))


def _remove_others(manifest: Manifest) -> None:
    """Remove shards that are none of the set's, of an earlier and longer one, and the manifests of its parts."""
    mine = {shard.url for shard in manifest.shards}
    for name in _names(manifest.location):
        if PART_NAME.fullmatch(name) or (SHARD_NAME.fullmatch(name) and name not in mine):
            storage.delete(storage.join(manifest.location, name))


def _names(out: str | Path) -> list[str]:
    """What lies in `out`, half-written files too."""
    if storage.is_url(out):
        return storage.list_files(out)
    return sorted(path.name for path in Path(out).glob("*"))
