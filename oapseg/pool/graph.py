"""Graph functions of Online Agglomerative Pooling (section 4.2), pure and the same on CPU and GPU.

A graph is what its nodes carry, in tensors whose first axis is the node, and undirected edges as pairs of nodes.
Several photos make one graph without edges between them. Sums of floats run in a fixed order, so that results repeat.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

CHUNK_ELEMENTS = 1 << 18  # floats of a gathered chunk of rows on the CPU: 1 MiB, so that it stays in the cache
CHUNK_ELEMENTS_GPU = 1 << 27  # 512 MiB
BLOCKS = 8  # a side of a photo: of 4, 8 and 14, what its sums cost and what they leave to compare was least
ROUNDING = 1e-5  # far more than a bound may lie too low in float32


def grid_edges(height: int, width: int, device: torch.device | str = "cpu") -> Int[Tensor, "E 2"]:
    """Horizontal and vertical neighbours of a grid whose patches are numbered row by row."""
    patch = torch.arange(height * width, device=device).view(height, width)
    across = torch.stack([patch[:, :-1].flatten(), patch[:, 1:].flatten()], 1)
    down = torch.stack([patch[:-1].flatten(), patch[1:].flatten()], 1)
    return torch.cat([across, down])


def connected_components(num_nodes: int, edges: Int[Tensor, "E 2"]) -> Int[Tensor, " num_nodes"]:
    """The component of each node, numbered from 0 in the order of their smallest nodes.

    Each root with an open edge hooks onto its smallest neighbour, then pointers jump until all trees are flat. Rounds
    grow with the square of the logarithm of the nodes at most (Liu and Tarjan 2019, their algorithm S).
    """
    root = torch.arange(num_nodes, device=edges.device)
    while len(edges):
        low, high = edges.aminmax(dim=1)
        root = root.scatter_reduce(0, high, low, "amin")
        while not torch.equal(root, parent := root[root]):
            root = parent
        edges = root[edges]
        edges = edges[edges[:, 0] != edges[:, 1]]
    return torch.unique(root, return_inverse=True)[1]


def contract_edges(edges: Int[Tensor, "E 2"], component: Int[Tensor, " S"]) -> Int[Tensor, "E2 2"]:
    """Edges between the components that some edge joins, each once, smaller number first.

    Departs from the paper: Eq. 5 as printed also joins components that merely share a neighbour, which would break the
    paper's own claim that an instance mask is connected.
    """
    low, high = component[edges].aminmax(dim=1)
    num_nodes = len(component)
    key = torch.unique((low * num_nodes + high)[low != high])
    return torch.stack([key // num_nodes, key % num_nodes], 1)


def feature_similarity(features: Float[Tensor, "S C"], edges: Int[Tensor, "E 2"]) -> Float[Tensor, " E"]:
    """Cosine of the two ends of each edge, -1 to 1 (Eq. 2)."""
    return torch.cat([first.mul_(second).sum(1) for first, second in _ends(features, edges)])


def spatial_similarity(rows: Float[Tensor, "S N"], edges: Int[Tensor, "E 2"]) -> Float[Tensor, " E"]:
    """1 less the mean absolute difference of two nodes' affinity to every patch, at most 1 (Eq. 3).

    `rows` is `M A / |M|`, the mean affinity of a node's patches.
    """
    return 1 - _distance(rows, edges) / rows.shape[1]


def grid_spatial_similarity(features: Float[Tensor, "N C"], grid: tuple[int, int], chunk: int) -> Float[Tensor, " E"]:
    """`spatial_similarity` of a photo's patches along `grid_edges`.

    The affinity matrix is made in bands of about `chunk` rows, each used while the cache still holds it, and only from
    its diagonal on: it is symmetric, so that a band stands for its own patches' affinities to those below, and for the
    affinities of those below to its own.
    """
    height, width = grid
    across, down = features.new_zeros(height, width - 1), features.new_zeros(height - 1, width)
    band = max(1, chunk // width)
    above = features.new_empty(0)
    for top in range(0, height, band):
        end = min(top + band, height)
        rows = features[top * width : end * width] @ features[top * width :].T
        own = rows.view(end - top, width, -1)
        across[top:end] += (own[:, 1:] - own[:, :-1]).abs_().sum(2)
        down[top : end - 1] += (own[1:] - own[:-1]).abs_().sum(2)
        if top:
            down[top - 1] += (own[0] - above).abs_().sum(1)
        above = own[-1, :, (end - top) * width :].clone()
        below = rows.view(len(rows), height - top, width)[:, end - top - 1 :]
        down[end - 1 :] += (below[:, 1:] - below[:, :-1]).abs_().sum(0)
        across[end:] += (below[:, 1:, 1:] - below[:, 1:, :-1]).abs_().sum(0)
    return 1 - torch.cat([across.flatten(), down.flatten()]) / len(features)


def blocks(height: int, width: int, device: torch.device | str = "cpu") -> Int[Tensor, " N"]:
    """A number for each patch of a grid that it shares with those around: `BLOCKS` x `BLOCKS` of them, or fewer."""
    row, column = (torch.arange(side, device=device) * min(BLOCKS, side) // side for side in (height, width))
    return (row[:, None] * min(BLOCKS, width) + column).flatten()


def affinities(
    features: Float[Tensor, "S C"], others: Float[Tensor, "B N C"], num_nodes: list[int]
) -> Float[Tensor, "S N"]:
    """Inner products of each photo's nodes, of which `num_nodes` counts those of each photo, with its `others`."""
    products = features.new_empty(len(features), others.shape[1])
    for own, of_photo, product in zip(features.split(num_nodes), others, products.split(num_nodes), strict=True):
        torch.mm(own, of_photo.T, out=product)
    return products


def sum_rows(
    rows: Float[Tensor, "S N"], group: Int[Tensor, " S"], num_groups: int, weight: Float[Tensor, " S"] | None = None
) -> Float[Tensor, "num_groups N"]:
    """Weighted sum of the rows of each group; no group is empty."""
    order = group.argsort(stable=True)
    sizes = torch.bincount(group, minlength=num_groups)
    weights = rows.new_ones(len(rows)) if weight is None else weight.to(rows.dtype)
    return F.embedding_bag(order, rows, sizes.cumsum(0) - sizes, mode="sum", per_sample_weights=weights[order])


def vote(logits: Float[Tensor, "S N"], patch_features: Float[Tensor, "N C"]) -> Float[Tensor, "S C"]:
    """Features of nodes, from the patches that their softmax elects (Eq. 6); `logits` are divided by sigma already."""
    return F.normalize(logits.softmax(1).to(patch_features.dtype) @ patch_features, dim=1)


class Pairs(NamedTuple):
    """Pairs of nodes with their cosine."""

    ends: Int[Tensor, "E 2"]
    cosine: Float[Tensor, " E"]

    def take(self, chosen: slice | Tensor) -> "Pairs":
        return Pairs(self.ends[chosen], self.cosine[chosen])


def complete_components(
    features: Float[Tensor, "S C"],
    rows: Float[Tensor, "S N"],
    sums: Float[Tensor, "S K"],
    num_nodes: list[int],
    tau: float,
    omega_f: float,
    chunk: int,
) -> Int[Tensor, " S"]:
    """Components of the complete graph of each photo's nodes, joined where Eq. 4 exceeds `tau`.

    `num_nodes` counts the nodes of each photo, in order; `sums` are the sums of `rows` over blocks of patches. Exact,
    though few pairs are compared. Spatial similarity is at most 1, so that feature similarity alone rules most pairs
    out. Of the others a bound does: the difference of two sums over a block is at most the sum of the differences.
    What is left comes by falling bound, in portions that double, less the pairs that earlier ones have joined. The
    pairs of about `chunk` nodes of a photo with all others are there at a time.
    """
    component = torch.arange(len(features), device=features.device)
    for top in range(0, max(num_nodes), chunk):
        pairs = _candidates(features, component, num_nodes, slice(top, top + chunk), tau, omega_f)
        bound = omega_f * pairs.cosine + (1 - omega_f) * (1 - _distance(sums, pairs.ends) / rows.shape[1])
        order = bound.argsort(descending=True, stable=True)
        pairs = pairs.take(order[: int((bound > tau - ROUNDING).sum())])
        component = _joined(component, pairs, rows, tau, omega_f)
    return component


def _joined(
    component: Int[Tensor, " S"], pairs: Pairs, rows: Float[Tensor, "S N"], tau: float, omega_f: float
) -> Int[Tensor, " S"]:
    """Components that the pairs above `tau` join further."""
    portion = len(component)
    while len(pairs.ends):
        near, pairs = pairs.take(slice(portion)), pairs.take(slice(portion, None))
        portion *= 2
        similarity = omega_f * near.cosine + (1 - omega_f) * spatial_similarity(rows, near.ends)
        joined = component[near.ends[similarity > tau]]
        if len(joined):
            component = connected_components(len(component), joined)[component]
            pairs = pairs.take(component[pairs.ends[:, 0]] != component[pairs.ends[:, 1]])
    return component


def _candidates(
    features: Float[Tensor, "S C"],
    component: Int[Tensor, " S"],
    num_nodes: list[int],
    rows: slice,
    tau: float,
    omega_f: float,
) -> Pairs:
    """Pairs of these nodes of each photo with its later nodes that Eq. 4 may join and nothing has yet."""
    least = (tau - 1 + omega_f) / omega_f - ROUNDING if omega_f else -math.inf
    found, first = [], 0
    for nodes, joined in zip(features.split(num_nodes), component.split(num_nodes), strict=True):
        later = slice(rows.start, None)
        cosine = nodes[rows] @ nodes[later].T
        close = (cosine > least) & (joined[rows, None] != joined[later])
        ends = torch.triu(close, diagonal=1).nonzero()
        found.append(Pairs(ends + first + rows.start, cosine[ends[:, 0], ends[:, 1]]))
        first += len(nodes)
    return Pairs(*map(torch.cat, zip(*found, strict=True)))


def _distance(rows: Float[Tensor, "S C"], edges: Int[Tensor, "E 2"]) -> Float[Tensor, " E"]:
    """Sum of the absolute differences of the rows of each edge's two ends."""
    return torch.cat([first.sub_(second).abs_().sum(1) for first, second in _ends(rows, edges)])


def _ends(
    rows: Float[Tensor, "S C"], edges: Int[Tensor, "E 2"]
) -> Iterator[tuple[Float[Tensor, "E2 C"], Float[Tensor, "E2 C"]]]:
    """The rows of the edges' two ends in chunks (at least one) that stay small, in memory that the next ones reuse.

    Fresh memory for each chunk took ten times as long as the sums: the system hands it out page by page.
    """
    elements = CHUNK_ELEMENTS_GPU if rows.is_cuda else CHUNK_ELEMENTS
    size = min(max(1, elements // rows.shape[1]), max(1, len(edges)))
    buffers = rows.new_empty(2, size, rows.shape[1])
    for chunk in edges.split(size):
        first, second = buffers[:, : len(chunk)]
        yield torch.index_select(rows, 0, chunk[:, 0], out=first), torch.index_select(rows, 0, chunk[:, 1], out=second)
