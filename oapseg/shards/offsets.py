"""Where the samples of a shard lie in its tar.

A manifest file has a line a shard. Where the shard's samples lie is read from that line when it is asked for, so that
what a process holds does not grow with the number of photos.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, overload

import numpy as np

from oapseg import storage

LINES_HELD = 64  # shards whose offsets a process keeps; a shuffled stream draws from one or two groups of 16 at a time
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
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class Line(NamedTuple):
    """Where a manifest file has a shard, in bytes; and the shard's hash, by which it is known again."""

    path: str
    start: int
    length: int
    sha256: str


class FiledOffsets(Sequence[Offset]):
    """The offsets of a shard, read from its line of the manifest file when they are asked for.

    Errors: `ValueError` where the file has changed since it was read first.
    """

    __slots__ = ("_count", "_line")

    def __init__(self, line: Line, count: int) -> None:
        self._line, self._count = line, count

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Offset: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Offset]: ...
    def __getitem__(self, index: int | slice) -> Offset | Sequence[Offset]:
        return _offsets(self._line)[index]

    def __iter__(self) -> Iterator[Offset]:
        return iter(_offsets(self._line))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


@lru_cache(maxsize=LINES_HELD)
def _offsets(line: Line) -> Offsets:
    try:
        shard = parse_line(storage.read_bytes(line.path, line.start, line.length))
        if shard["sha256"] == line.sha256:
            return Offsets(shard["offsets"])
    except (KeyError, TypeError, ValueError):
        pass
    raise ValueError(f"{line.path}: changed since it was read; start again with what it is now")


def parse_line(line: bytes) -> dict[str, Any]:
    """A shard as its line of a manifest file has it."""
    shard: dict[str, Any] = json.loads(line.rstrip(b",\n"))
    return shard
