"""Parts of a set that tasks of their own wrote, some perhaps in an earlier run, whose cache has them: in one place."""

from components.artifact import each
from oapseg import storage
from oapseg.shards.manifest import FILE_NAME, read_manifest
from oapseg.shards.parts import Part


def gather(parts: list[str], own: str, out: str) -> str:
    """The place in which all parts of an out lie, given `I/N=PLACE` of each.

    Where that is one place, it is that. Parts of several runs are copied to our own.

    Errors: `ValueError` where parts are missing.
    """
    places = dict(part.split("=", 1) for part in parts)
    if sorted(places) != sorted(f"{number}/{len(places)}" for number in range(1, len(places) + 1)):
        raise ValueError(f"{out}: parts {', '.join(sorted(places))} are not all parts of one set")
    if len(set(places.values())) == 1:
        return next(iter(places.values()))
    for text, place in places.items():
        if place != own:
            _copy(Part(*map(int, text.split("/"))), storage.join(place, out), storage.join(own, out))
    return own


def joined(place: str, out: str, count: int) -> bool:
    """Whether an earlier run has made one set of the parts already."""
    there = storage.join(place, out)
    return storage.exists(storage.join(there, FILE_NAME)) and not storage.exists(
        storage.join(there, Part(1, count).file_name)
    )


def _copy(part: Part, source: str, target: str) -> None:
    """A part's shards, and then its manifest."""
    path = storage.join(source, part.file_name)
    manifest, _ = read_manifest(path)

    def copy(name: str) -> None:
        storage.upload(storage.join(source, name), storage.join(target, name))

    each(copy, [shard.url for shard in manifest.shards])
    copy(part.file_name)
