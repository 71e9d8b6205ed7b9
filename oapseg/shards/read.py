"""Samples of a manifest by number, and batches of them by a stream's tickets."""

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from oapseg import storage
from oapseg.shards import processes
from oapseg.shards.decode import decode
from oapseg.shards.manifest import Manifest
from oapseg.shards.offsets import UNCHECKED, Offset
from oapseg.shards.stream import Stream, Ticket
from oapseg.storage import tally

Item = TypeVar("Item")


class Sample(NamedTuple):
    """A photo with the labels its shard carries; none where the source had none."""

    key: str
    image: UInt8[Tensor, "H W 3"]
    labels: dict[str, Any]


class Photos(Dataset[Sample]):
    """The samples of a manifest, by global number: one ranged read each, from a file or from S3.

    Every sample is checked against the manifest's crc32: what is not as it was written is never learned from.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.urls = [manifest.url(shard) for shard in range(len(manifest.shards))]
        self.offsets = [shard.offsets for shard in manifest.shards]
        self.ends = np.cumsum([len(offsets) for offsets in self.offsets], dtype=np.int64)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def __getitem__(self, index: int) -> Sample:
        return self.sample(index, storage.read_bytes(*self.span(index)))

    def __iter__(self) -> Iterator[Sample]:
        return self.each(range(len(self)))

    def each(self, indices: Sequence[int]) -> Iterator[Sample]:
        """The samples of these numbers, in this order; read ahead where they come from S3."""
        for index, data in zip(indices, storage.read_ranges(map(self.span, indices)), strict=True):
            yield self.sample(index, data)

    def span(self, index: int) -> tuple[str, int, int]:
        """Location, start and length in bytes of what holds a sample."""
        url, offset = self._find(index)
        start = min(offset.jpg_offset, offset.json_offset)
        end = max(offset.jpg_offset + offset.jpg_length, offset.json_offset + offset.json_length)
        return url, start, end - start

    def sample(self, index: int, data: bytes) -> Sample:
        """The sample whose `span` was read. Errors: `ValueError` where it is damaged, naming shard and sample."""
        url, offset = self._find(index)
        start = min(offset.jpg_offset, offset.json_offset)
        photo = data[offset.jpg_offset - start :][: offset.jpg_length]
        labels = data[offset.json_offset - start :][: offset.json_length]
        try:
            if offset.crc32 not in (UNCHECKED, zlib.crc32(labels, zlib.crc32(photo))):
                raise ValueError("its crc32 differs")
            return Sample(offset.key, decode(photo), json.loads(labels))
        except ValueError as error:  # a broken photo among them; every photo was whole when the shard was written
            raise ValueError(f"{url}: sample {offset.key} was damaged since ({error})") from None

    def _find(self, index: int) -> tuple[str, Offset]:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        shard = int(np.searchsorted(self.ends, index, side="right"))
        offsets = self.offsets[shard]
        return self.urls[shard], offsets[index - int(self.ends[shard])]


class _Asked(NamedTuple):
    """What a worker has asked of S3 since its last batch: it comes with the batch to the process that is watched."""

    counts: tally.Counts


def _asked() -> list[_Asked]:
    """It goes before the batch: who takes that stops at the first error. Nothing where no worker stands between."""
    return [] if get_worker_info() is None else [_Asked(tally.taken())]


class _Drawn(Dataset[Item | Exception | _Asked], Generic[Item]):
    """What a ticket stands for, transformed where it is read: in the worker; from S3, a batch is read side by side.

    An error comes back as such: raised in a worker, torch would make its whole traceback the message.
    """

    def __init__(self, photos: Sequence[Photos], transform: Callable[[Sample, Ticket], Item]) -> None:
        self.photos = photos
        self.transform = transform

    def __getitems__(self, tickets: list[Ticket]) -> list[Item | Exception | _Asked]:
        try:
            read = list(storage.read_ranges(self.photos[ticket.set].span(ticket.index) for ticket in tickets))
        except (ValueError, OSError) as error:  # a manifest that has changed among them
            return [*_asked(), error]
        items = [self._transformed(ticket, data) for ticket, data in zip(tickets, read, strict=True)]
        return [*_asked(), *items]

    def _transformed(self, ticket: Ticket, data: bytes) -> Item | Exception:
        try:
            return self.transform(self.photos[ticket.set].sample(ticket.index, data), ticket)
        except (ValueError, OSError) as error:
            return error


class _Batches:
    """A stream's tickets in lists of `size`, for ever."""

    def __init__(self, stream: Stream, size: int) -> None:
        self.stream = stream
        self.size = size

    def __iter__(self) -> Iterator[list[Ticket]]:
        while True:
            yield list(islice(self.stream, self.size))


def loader(
    photos: Sequence[Photos],
    stream: Stream,
    transform: Callable[[Sample, Ticket], Item],
    *,
    batch: int,
    workers: int,
) -> Iterator[list[Item]]:
    """Endless batches (lists) of `transform(sample, ticket)`, in the stream's order whatever the number of workers.

    The stream runs ahead of what is consumed: after n batches of every rank, resume from `{"draw": n * batch * world}`
    past the draw begun with. A transform that rolls dice seeds them from its ticket, and can be pickled, since workers
    are no forks of this process (see `processes`).
    """
    if workers:
        processes.start()
    batches: DataLoader[Item | Exception | _Asked] = DataLoader(
        _Drawn(photos, transform),
        batch_sampler=_Batches(stream, batch),
        num_workers=workers,
        collate_fn=_as_list,
        generator=torch.Generator().manual_seed(0),  # the loader draws a number of its own: not from the global state
        multiprocessing_context=processes.METHOD if workers else None,
        worker_init_fn=processes.in_this_environment() if workers else None,
    )
    for items in batches:
        for item in items:
            if isinstance(item, Exception):
                raise item
            if isinstance(item, _Asked):
                tally.add(item.counts)
        yield [item for item in items if not isinstance(item, _Asked)]


def _as_list(items: list[Item]) -> list[Item]:
    return items
