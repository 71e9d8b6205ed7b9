"""The folder or prefix that predictions go to: made part by part, gone on with after a kill, whole in the end.

`index.json` comes first, says what decided every byte of the others, and says at the end that all is there. In between
a part of the photos is done once its record lies in `parts/`; its pictures come before. The last steps make one file
of the records and take them away.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, Final

from oapseg import storage
from oapseg.storage import s3
from oapseg.storage.files import UNFINISHED

INDEX: Final = "index.json"
PARTS: Final = "parts"
MADE_BY: Final = "oapseg predict"
OWN_FILES: Final = ("masks.json", "images.json", "panoptic.json", "semantic.json", "failed.json", "index.html")
OWN_FOLDERS: Final = ("overlays", "panoptic", "semantic", PARTS)


class OutFolder:
    """Where predictions are made; `said` stands for all that decides them, and goes into `index.json`.

    `overwrite` takes away predictions that something else decided, and those that are whole: photos in a bucket may
    have changed unseen, and pictures be lost. What is half made of the same is gone on with in any case.

    Errors: `ValueError` where it holds predictions that something else decided, without `overwrite`; or files that are
    none of ours, which nothing takes away.
    """

    def __init__(self, out: str, said: dict[str, Any], *, overwrite: bool = False) -> None:
        self.out = out
        there = self._there()
        self.finished = there is not None and there.get("finished") is True
        unlike = there is not None and there.get("decided") != said["decided"]
        if there is not None and (unlike or (self.finished and overwrite)):
            if not overwrite and not there.get("clearing"):
                raise ValueError(
                    f"{out}: {_difference(there, said)}; name another --out, or start anew with --overwrite"
                )
            self._clear()
            there, self.finished = None, False
        self.said: dict[str, Any] = said if there is None else there
        if there is None:
            storage.write_json(self.path(INDEX), said | {"made_by": MADE_BY, "finished": False})
        self.tidy()

    def path(self, name: str) -> str:
        return storage.join(self.out, name)

    def done(self) -> set[int]:
        """The parts that are whole."""
        names = storage.list_files(self.path(PARTS))
        return {int(name.removesuffix(".json")) for name in names if name.endswith(".json")}

    def write_part(self, number: int, record: dict[str, Any]) -> None:
        """The record of a part, once all of its pictures are there."""
        storage.write_json(self.path(_part(number)), record)

    def records(self, count: int) -> Iterator[dict[str, Any]]:
        """The records of all parts in order, read again for each use: they need not fit the memory."""
        for number in range(count):
            yield storage.read_json(self.path(_part(number)))

    def finish(self, facts: dict[str, Any]) -> None:
        """Say that all is there; the records, which other files now hold, go."""
        self.said = self.said | facts | {"made_by": MADE_BY, "finished": True}
        storage.write_json(self.path(INDEX), self.said)
        self.finished = True
        self.tidy()

    def tidy(self) -> None:
        """Away with what a kill left: files half-written, and the records of predictions that are whole."""
        if self.finished:
            storage.delete(self.path(PARTS))
        if not storage.is_url(self.out):
            below = (Path(self.path(name)).rglob(f".*{UNFINISHED}") for name in OWN_FOLDERS)
            for left in chain(Path(self.out).glob(f".*{UNFINISHED}"), *below):
                left.unlink(missing_ok=True)

    def _there(self) -> dict[str, Any] | None:
        """What `index.json` says, or nothing in a folder that has none of our names."""
        if storage.exists(self.path(INDEX)):
            there = storage.read_json(self.path(INDEX))
            if not isinstance(there, dict) or there.get("made_by") != MADE_BY:
                raise ValueError(f"{self.path(INDEX)}: is not of `{MADE_BY}`; name another --out")
            return there
        for name in (*OWN_FILES, *OWN_FOLDERS):
            if storage.exists(self.path(name)):
                raise ValueError(f"{self.out}: holds {name}, which would be written over; name another --out")
        return None

    def remove(self) -> None:
        """Take away what is ours, and nothing else."""
        self._clear()
        storage.delete(self.path(INDEX))

    def _clear(self) -> None:
        """All but the index; killed on the way, the next run goes on with it."""
        storage.write_json(self.path(INDEX), {"made_by": MADE_BY, "clearing": True})
        for name in (*OWN_FILES, *OWN_FOLDERS):
            storage.delete(self.path(name))


def listed(texts: Iterable[str]) -> Iterator[str]:
    """Texts of JSON as a list of JSON, one a line."""
    yield "["
    for place, text in enumerate(texts):
        yield f"{',' * (place > 0)}\n{text}"
    yield "\n]"


def write_texts(location: str, texts: Iterable[str]) -> None:
    """One file of many short texts, whole or not at all, a few mebibytes of it in memory at a time."""
    if storage.is_url(location):
        s3.put_parts(location, _pieces(texts))
        return
    with storage.atomic_file(location) as file:
        for piece in _pieces(texts):
            file.write(piece)


def _pieces(texts: Iterable[str]) -> Iterator[bytes]:
    held = bytearray()
    for text in texts:
        held += text.encode()
        if len(held) >= s3.PART_BYTES:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def _difference(there: dict[str, Any], said: dict[str, Any]) -> str:
    """What decided the predictions that are there and now would not, in words."""
    before, now = _flat(there.get("decided", {})), _flat(said["decided"])
    unlike = [
        f"{key} {before.get(key)!s:.40} and not {now.get(key)!s:.40}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    return f"holds predictions of {', '.join(unlike)}"


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Keys of keys, joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        deeper = _flat(value) if isinstance(value, dict) else {}
        flat |= {f"{key}.{name}": each for name, each in deeper.items()} if isinstance(value, dict) else {key: value}
    return flat


def _part(number: int) -> str:
    return f"{PARTS}/{number:07d}.json"
