"""Arrays that grow with a data set: in memory while they are short, in a temporary file beyond.

The file lies in the folder for temporary files (`TMPDIR`) and has no name: it goes with the array, after an error or a
kill too. Whoever reads such an array walks it in slices and lets go (`release`) of what was read, so that the memory of
a walk is that of a slice.
"""

import math
import mmap
import os
import tempfile
import weakref
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from jaxtyping import Shaped

HELD: int = 2**17  # values of an array that stay in memory, and rows that are walked at once
Key = tuple[Any, ...]


class Column:
    """An array that is made by appending to it; `shape` is that of a row."""

    def __init__(self, dtype: Any, *shape: int) -> None:
        self._dtype, self._shape = np.dtype(dtype), shape
        self._held = [np.zeros((0, *shape), dtype=self._dtype)]
        self._file: IO[bytes] | None = None
        self._rows = self._values = 0

    def append(self, rows: Shaped[np.ndarray, "N ..."]) -> None:
        """Errors: `OSError` where the folder for temporary files is full."""
        self._rows += len(rows)
        self._values += rows.size
        self._held.append(rows.astype(self._dtype, copy=False))
        if self._file is None and self._values > HELD:
            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed as the column goes
            weakref.finalize(self, self._file.close)
        if self._file is not None:
            self._write(self._file)

    def array(self) -> Shaped[np.ndarray, "N ..."]:
        """All rows; read-only where they are in a file."""
        if self._file is None:
            return np.concatenate(self._held)
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(mapped, dtype=self._dtype).reshape(self._rows, *self._shape)

    def some(self, first: int, last: int) -> Shaped[np.ndarray, "N ..."]:
        """Rows from one to before another, read from the file: to look into many places of it takes no more memory.

        Of what is mapped, the kernel brings up to 2 MB along for each place.
        """
        last = min(last, self._rows)
        if self._file is None:
            return np.concatenate(self._held)[first:last]
        row = self._dtype.itemsize * math.prod(self._shape)
        content = bytearray(max(0, last - first) * row)
        left = memoryview(content)
        while left:
            left = left[os.preadv(self._file.fileno(), [left], last * row - len(left)) :]
        return np.frombuffer(content, dtype=self._dtype).reshape(-1, *self._shape)

    def _write(self, file: IO[bytes]) -> None:
        try:
            for rows in self._held:
                left = memoryview(rows.tobytes())
                while left:
                    left = left[file.write(left) :]
        except OSError as error:
            folder = tempfile.gettempdir()
            raise OSError(
                error.errno, f"{os.strerror(error.errno or 0)}; set TMPDIR to a larger folder", folder
            ) from None
        self._held = []


def release(*arrays: Shaped[np.ndarray, "..."] | None) -> None:
    """Let go of the memory that reading arrays in files took; they can be read again."""
    for array in arrays:
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        mapped = base.obj if isinstance(base, memoryview) else None
        if isinstance(mapped, mmap.mmap):
            mapped.madvise(mmap.MADV_DONTNEED)


class Sorted:
    """Rows of a structured type, brought into the order of `keys`, the first the most significant.

    Equal rows stay in the order they came in. Runs of rows are sorted in memory, then merged from the file.
    """

    def __init__(self, dtype: Any, *keys: str) -> None:
        self._keys, self._dtype = keys, dtype
        self._waiting: list[np.ndarray] = []
        self._runs = Column(dtype)
        self._ends = [0]

    def append(self, rows: Shaped[np.ndarray, " N"]) -> None:
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) >= HELD:
            self._end_run()

    def array(self) -> Shaped[np.ndarray, " N"]:
        """All rows in order."""
        if len(self._ends) > 1 and self._waiting:
            self._end_run()
        if len(self._ends) == 1:
            return self._sorted(self._waiting)
        if len(self._ends) == 2:
            return self._runs.array()
        merged = Column(self._dtype)
        for rows in self._merged():
            merged.append(rows)
        return merged.array()

    def _end_run(self) -> None:
        rows = self._sorted(self._waiting)
        self._runs.append(rows)
        self._ends.append(self._ends[-1] + len(rows))
        self._waiting = []

    def _merged(self) -> Iterator[Shaped[np.ndarray, " _"]]:
        """Blocks of all runs up to where the first of the blocks ends; what lies beyond waits."""
        begun, stops = self._ends[:-1], self._ends[1:]
        size = max(1, HELD // len(begun))
        while begun != stops:
            blocks = [self._runs.some(first, min(first + size, stop)) for first, stop in zip(begun, stops, strict=True)]
            ends = [
                (tuple(block[key][-1].item() for key in self._keys), number)
                for number, (block, first, stop) in enumerate(zip(blocks, begun, stops, strict=True))
                if first + len(block) < stop
            ]
            if ends:
                # Of rows like the last one, those of later runs wait: more of its own run may follow.
                last, at = min(ends)
                blocks = [
                    block[: self._count(block, last, with_equal=number <= at)] for number, block in enumerate(blocks)
                ]
            yield self._sorted(blocks)
            begun = [first + len(block) for first, block in zip(begun, blocks, strict=True)]

    def _count(self, rows: Shaped[np.ndarray, " N"], last: Key, *, with_equal: bool) -> int:
        """How many of the rows, which are in order, come before `last`."""
        before, equal = np.zeros(len(rows), dtype=bool), np.ones(len(rows), dtype=bool)
        for key, value in zip(self._keys, last, strict=True):
            before |= equal & (rows[key] < value)
            equal &= rows[key] == value
        return int((before | equal if with_equal else before).sum())

    def _sorted(self, blocks: list[Shaped[np.ndarray, " _"]]) -> Shaped[np.ndarray, " N"]:
        rows = np.concatenate([np.zeros(0, dtype=self._dtype), *blocks])
        keys = [rows[key] for key in reversed(self._keys)]
        order: np.ndarray = np.lexsort(keys[1:]) if len(keys) > 1 else np.arange(len(rows))
        # Blocks that are sorted are sorted fast, unless by the last key first; that is for rows alike in all others.
        ordered = [key[order] for key in keys]
        alike = np.logical_and.reduce([key[1:] == key[:-1] for key in ordered[1:]]) if len(keys) > 1 else True
        if (alike & (ordered[0][1:] < ordered[0][:-1])).any():
            order = np.lexsort(keys)
        return rows[order]
