"""Lists whose length only the device knows, without the host waiting for it.

A GPU works behind the host: to ask it for a value makes the host wait, and then the GPU for the host. So the host asks
at the boundary of two layers alone, once (`read`). A list that a layer needs before that has room on a GPU, and what it
holds beyond its length is harmless; on the CPU every list has its length.
"""

from collections.abc import Iterator
from itertools import accumulate, pairwise

import torch
from jaxtyping import Bool, Int
from torch import Tensor

KERNELS = False  # components by Triton on a GPU: the same, in fewer operations; not measured on one yet
CHUNKS = 4  # that a GPU makes at a time: to start an operation there takes longer than a small one


def waits(tensor: Tensor) -> bool:
    """Whether the host has to wait for the value of such a tensor."""
    return tensor.device.type != "cpu"


def read(sizes: list[Int[Tensor, " L"]]) -> list[list[int]]:
    """Values that the host needs, in one transfer."""
    values: list[list[int]] = torch.stack(sizes).tolist()
    return values


def where(mask: Bool[Tensor, "*shape"], room: int) -> Int[Tensor, "T D"]:
    """Positions at which `mask` holds; on a GPU, the first `room` of them, and position 0 for what is missing."""
    return mask.nonzero_static(size=room, fill_value=0) if waits(mask) else mask.nonzero()


def keep(edges: Int[Tensor, "E 2"], mask: Bool[Tensor, " E"]) -> Int[Tensor, "T 2"]:
    """The edges at which `mask` holds; on a GPU the others stay, from a node to itself."""
    return torch.where(mask[:, None], edges, edges[:, :1]) if waits(edges) else edges[mask]


def chunk(rows: int, tensor: Tensor) -> int:
    """Rows made at a time on the tensor's device, of so many on the CPU."""
    return rows * CHUNKS if waits(tensor) else rows


def portion(chunk: int, photos: int, tensor: Tensor) -> int:
    """Rows made at a time of several photos together, of `chunk` a photo: a GPU makes those of all side by side."""
    return chunk * photos if waits(tensor) else chunk


def portions(counts: list[int], chunk: int, tensor: Tensor) -> list[list[int]]:
    """How many items of each photo to make at a time, `portion` in all; on the CPU whole chunks of `by_photo`."""
    made: list[list[int]] = []
    if waits(tensor):
        ends, size = list(accumulate(counts)), portion(chunk, len(counts), tensor)
        for first in range(0, ends[-1], size):
            bounds = [min(max(end, first), first + size) for end in [0, *ends]]
            made.append([after - before for before, after in pairwise(bounds)])
        return made
    for photo, count in enumerate(counts):
        for first in range(0, count, chunk):
            size = min(chunk, count - first)
            if not made or sum(made[-1]) + size > chunk:
                made.append([0] * len(counts))
            made[-1][photo] = size
    return made


def by_photo(
    photo: Int[Tensor, " T"], counts: list[int], chunk: int
) -> Iterator[tuple[int | slice, Int[Tensor, "*B S"]]]:
    """Positions in a list whose items come photo by photo, `chunk` items of a photo at a time, and the photos meant.

    On the CPU one photo comes after the other. On a GPU all that have items come side by side: a photo that has no more
    of them has the length of the list for a position.
    """
    position = torch.arange(len(photo), device=photo.device)
    if waits(photo):
        some = [number for number, count in enumerate(counts) if count]
        photos = slice(some[0], some[-1] + 1)
        first = torch.searchsorted(photo, torch.arange(photos.start, photos.stop + 1, device=photo.device))
        beside = first[:-1, None] + torch.arange(max(counts), device=photo.device)
        beside = torch.where(beside < first[1:, None], beside, len(photo))
        at_a_time = portion(chunk, len(counts), photo) // (photos.stop - photos.start)
        yield from ((photos, part) for part in beside.split(at_a_time, 1))
    else:
        for number, own in enumerate(position.split(counts)):
            yield from ((number, part) for part in own.split(chunk) if len(part))
