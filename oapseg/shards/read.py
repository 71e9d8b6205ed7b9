"""Samples of a manifest by number, and batches of them by a stream's tickets."""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from oapseg import storage
from oapseg.shards.decode import decode
from oapseg.shards.manifest import Manifest
from oapseg.shards.stream import Stream, Ticket

Item = TypeVar("Item")


class Sample(NamedTuple):
    """A photo with the labels its shard carries; none where the source had none."""

    key: str
    image: UInt8[Tensor, "H W 3"]
    labels: dict[str, Any]


class Photos(Dataset[Sample]):
    """The samples of a manifest, by global number: one ranged read each, from a file or from S3.

    Offsets are arrays rather than the manifest's tuples: a million samples travel to a worker in 50 MB.
    """

    def __init__(self, manifest: Manifest) -> None:
        offsets = [offset for shard in manifest.shards for offset in shard.offsets]
        self.urls = [manifest.url(shard) for shard in range(len(manifest.shards))]
        self.shard = np.repeat(np.arange(len(manifest.shards)), [len(shard.offsets) for shard in manifest.shards])
        self.keys = np.array([offset.key for offset in offsets], dtype=np.bytes_)
        self.spans = np.array([offset[1:] for offset in offsets], dtype=np.int64).reshape(-1, 4)

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, index: int) -> Sample:
        jpg_start, jpg_length, json_start, json_length = (int(number) for number in self.spans[index])
        start = min(jpg_start, json_start)
        end = max(jpg_start + jpg_length, json_start + json_length)
        data = storage.read_bytes(self.urls[self.shard[index]], start, end - start)
        photo = data[jpg_start - start : jpg_start - start + jpg_length]
        labels = data[json_start - start : json_start - start + json_length]
        key = self.keys[index].decode()
        try:
            return Sample(key, decode(photo), json.loads(labels))
        except ValueError as error:  # a broken photo among them; every photo was whole when the shard was written
            raise ValueError(f"{self.urls[self.shard[index]]}: sample {key} was damaged since ({error})") from None


class _Drawn(Dataset[Item | Exception], Generic[Item]):
    """What a ticket stands for, transformed where it is read: in the worker.

    An error comes back as such: raised in a worker, torch would make its whole traceback the message.
    """

    def __init__(self, photos: Sequence[Photos], transform: Callable[[Sample, Ticket], Item]) -> None:
        self.photos = photos
        self.transform = transform

    def __getitem__(self, ticket: Ticket) -> Item | Exception:
        try:
            return self.transform(self.photos[ticket.set][ticket.index], ticket)
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
    are spawned (a fork of a process that holds CUDA or threads is not safe).
    """
    batches: DataLoader[Item | Exception] = DataLoader(
        _Drawn(photos, transform),
        batch_sampler=_Batches(stream, batch),
        num_workers=workers,
        collate_fn=_as_list,
        generator=torch.Generator().manual_seed(0),  # the loader draws a number of its own: not from the global state
        multiprocessing_context="spawn" if workers else None,
    )
    for items in batches:
        for item in items:
            if isinstance(item, Exception):
                raise item
        yield items


def _as_list(items: list[Item]) -> list[Item]:
    return items
