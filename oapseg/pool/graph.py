"""Graph functions of Online Agglomerative Pooling (section 4.2), pure and the same on CPU and GPU.

A graph is what its nodes carry, in tensors whose first axis is the node, and undirected edges as pairs of nodes.
Several photos make one graph without edges between them. Sums of floats run in a fixed order, so that results repeat.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

CHUNK_ELEMENTS = 1 << 19  # floats of a chunk of compared rows on the CPU: 2 MiB, so that it stays in the cache
CHUNK_ELEMENTS_GPU = 1 << 25  # 128 MiB
BLOCKS = 8  # a side of a photo: of 4, 8 and 14, what its sums cost and what they leave to compare was least


def grid_edges(height: int, width: int, device: torch.device | str = "cpu") -> Int[Tensor, "E 2"]:
    """Horizontal and vertical neighbours of a grid whose patches are numbered row by row."""
    patch = torch.arange(height * width, device=device).view(height, width)
    across = torch.stack([patch[:, :-1].flatten(), patch[:, 1:].flatten()], 1)
    down = torch.stack([patch[:-1].flatten(), patch[1:].flatten()], 1)
    return torch.cat([across, down])


def feature_similarity(features: Float[Tensor, "S C"], edges: Int[Tensor, "E 2"]) -> Float[Tensor, " E"]:
    """Cosine of the two ends of each edge, -1 to 1 (Eq. 2)."""
    cosine = features.new_empty(len(edges))
    for part, found in _chunks(features, edges, cosine):
        ends = features[part]
        torch.sum(ends[:, 0].mul_(ends[:, 1]), 1, out=found)
        del ends
    return cosine


def spatial_similarity(rows: Float[Tensor, "S N"], edges: Int[Tensor, "E 2"]) -> Float[Tensor, " E"]:
    """1 less the mean absolute difference of two nodes' affinity to every patch, at most 1 (Eq. 3).

    `rows` is `M A / |M|`, the mean affinity of a node's patches.
    """
    return 1 - distance(rows, edges) / rows.shape[1]


def grid_spatial_similarity(
    features: Float[Tensor, "*B N C"], grid: tuple[int, int], chunk: int
) -> Float[Tensor, "*B E"]:
    """`spatial_similarity` of a photo's patches along `grid_edges`; of several photos as of each.

    The affinity matrix is made in bands of about `chunk` rows, each used while the cache still holds it, and only from
    its diagonal on: it is symmetric, so that a band stands for its own patches' affinities to those below, and for the
    affinities of those below to its own.
    """
    height, width = grid
    photos, num_patches = features.shape[:-2], features.shape[-2]
    across, down = features.new_zeros(*photos, height, width - 1), features.new_zeros(*photos, height - 1, width)
    band = min(height, max(1, chunk // width))
    products, differences = features.new_empty(2, photos.numel() * band * width * num_patches)

    def change(one: Float[Tensor, "..."], other: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return torch.sub(one, other, out=differences[: one.numel()].view(one.shape)).abs_()

    above = features.new_empty(0)
    for top in range(0, height, band):
        end = min(top + band, height)
        shape = (*photos, (end - top) * width, (height - top) * width)
        rows = products[: math.prod(shape)].view(shape)
        torch.matmul(features[..., top * width : end * width, :], features[..., top * width :, :].mT, out=rows)
        own = rows.unflatten(-2, (end - top, width))
        across[..., top:end, :] += change(own[..., 1:, :], own[..., :-1, :]).sum(-1)
        down[..., top : end - 1, :] += change(own[..., 1:, :, :], own[..., :-1, :, :]).sum(-1)
        if top:
            down[..., top - 1, :] += change(own[..., 0, :, :], above).sum(-1)
        above = own[..., -1, :, (end - top) * width :].clone()
        below = rows.unflatten(-1, (height - top, width))[..., end - top - 1 :, :]
        down[..., end - 1 :, :] += change(below[..., 1:, :], below[..., :-1, :]).sum(-3)
        across[..., end:, :] += change(below[..., 1:, 1:], below[..., 1:, :-1]).sum(-3)
    return 1 - torch.cat([across.flatten(-2), down.flatten(-2)], -1) / num_patches


def blocks(height: int, width: int, device: torch.device | str = "cpu") -> Int[Tensor, " N"]:
    """A number for each patch of a grid that it shares with those around: `BLOCKS` x `BLOCKS` of them, or fewer."""
    row, column = (torch.arange(side, device=device) * min(BLOCKS, side) // side for side in (height, width))
    return (row[:, None] * min(BLOCKS, width) + column).flatten()


def num_blocks(height: int, width: int) -> int:
    """How many numbers `blocks` gives."""
    return min(BLOCKS, height) * min(BLOCKS, width)


def affinities(
    features: Float[Tensor, "S C"], others: Float[Tensor, "B N C"], num_nodes: list[int]
) -> Float[Tensor, "S N"]:
    """Inner products of each photo's nodes, of which `num_nodes` counts those of each photo, with its `others`."""
    products = features.new_empty(len(features), others.shape[1])
    for own, of_photo, product in zip(features.split(num_nodes), others, products.split(num_nodes), strict=True):
        torch.mm(own, of_photo.T, out=product)
    return products


def sum_rows(
    rows: Float[Tensor, "S N"],
    group: Int[Tensor, " T"],
    num_groups: int,
    weight: Float[Tensor, " T"] | None = None,
    some: Int[Tensor, " T"] | None = None,
) -> Float[Tensor, "num_groups N"]:
    """Weighted sum of the rows of each group, or of `some` rows, whose groups these are; no group is empty."""
    order = group.argsort(stable=True)
    sizes = group.new_zeros(num_groups).scatter_add_(0, group, torch.ones_like(group))
    weights = rows.new_ones(len(group)) if weight is None else weight.to(rows.dtype)
    index = order if some is None else some[order]
    return F.embedding_bag(index, rows, sizes.cumsum(0) - sizes, mode="sum", per_sample_weights=weights[order])


def vote(logits: Float[Tensor, "*B S N"], patch_features: Float[Tensor, "*B N C"]) -> Float[Tensor, "*B S C"]:
    """Features of nodes, from the patches that their softmax elects (Eq. 6); `logits` are divided by sigma already."""
    return F.normalize(logits.softmax(-1).to(patch_features.dtype) @ patch_features, dim=-1)


def distance(rows: Float[Tensor, "S C"], edges: Int[Tensor, "E 2"]) -> Float[Tensor, " E"]:
    """Sum of the absolute differences of the rows of each edge's two ends."""
    sums = rows.new_empty(len(edges))
    signs = rows.new_ones(min(_at_a_time(rows), len(edges)), 2)
    signs[:, 1] = -1
    for part, found in _chunks(rows, edges, sums):
        differences = F.embedding_bag(part, rows, mode="sum", per_sample_weights=signs[: len(part)])
        torch.sum(differences.abs_(), 1, out=found)
        del differences
    return sums


def _chunks(rows: Float[Tensor, "S C"], *of_edges: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """What belongs to edges, so many edges at a time that their rows stay small.

    Nothing that outlives its chunk is made in one: it would lie behind the chunk's memory, and where that is freed the
    next chunk may find too little room, and take more.
    """
    return zip(*(each.split(_at_a_time(rows)) for each in of_edges), strict=True)


def _at_a_time(rows: Float[Tensor, "S C"]) -> int:
    """Edges whose rows stay small."""
    return max(1, (CHUNK_ELEMENTS_GPU if rows.is_cuda else CHUNK_ELEMENTS) // rows.shape[1])
