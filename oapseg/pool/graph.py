"""Graph functions of Online Agglomerative Pooling (section 4.2), pure and the same on CPU and GPU.

A graph is what its nodes carry, in tensors whose first axis is the node, and undirected edges as pairs of nodes.
Several photos make one graph without edges between them. Sums of floats run in a fixed order, so that results repeat.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

CHUNK_ELEMENTS = 1 << 18  # floats of a gathered chunk of rows on the CPU: 1 MiB, so that it stays in the cache
CHUNK_ELEMENTS_GPU = 1 << 27  # 512 MiB


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


def spatial_similarity(row_means: Float[Tensor, "S N"], edges: Int[Tensor, "E 2"]) -> Float[Tensor, " E"]:
    """1 less the mean absolute difference of two nodes' affinity to every patch, at most 1 (Eq. 3).

    `row_means` is `M A / |M|`, the mean affinity of a node's patches.
    """
    return torch.cat([1 - first.sub_(second).abs_().mean(1) for first, second in _ends(row_means, edges)])


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


def complete_components(
    features: Float[Tensor, "S C"],
    row_means: Float[Tensor, "S N"],
    num_nodes: Sequence[int],
    tau: float,
    omega_f: float,
) -> Int[Tensor, " S"]:
    """Components of the complete graph of each photo's nodes, joined where Eq. 4 exceeds `tau`.

    `num_nodes` counts the nodes of each photo, in order. Exact, though few pairs are compared: spatial similarity is at
    most 1, so that feature similarity alone rules most pairs out; the others come by falling feature similarity, in
    portions that double, and those that earlier ones have joined are dropped.
    """
    pairs, cosines = _candidates(features, num_nodes, tau, omega_f)
    component = torch.arange(len(features), device=features.device)
    portion = len(features)
    while len(pairs):
        near, pairs = pairs[:portion], pairs[portion:]
        similarity = omega_f * cosines[:portion] + (1 - omega_f) * spatial_similarity(row_means, near)
        cosines = cosines[portion:]
        portion *= 2
        joined = component[near[similarity > tau]]
        if len(joined):
            component = connected_components(len(features), joined)[component]
            apart = component[pairs[:, 0]] != component[pairs[:, 1]]
            pairs, cosines = pairs[apart], cosines[apart]
    return component


def _candidates(
    features: Float[Tensor, "S C"], num_nodes: Sequence[int], tau: float, omega_f: float
) -> tuple[Int[Tensor, "E 2"], Float[Tensor, " E"]]:
    """Pairs within a photo that Eq. 4 may join, by falling feature similarity, and that similarity."""
    pairs, cosines, first = [], [], 0
    for nodes in features.split(list(num_nodes)):
        cosine = nodes @ nodes.T
        close = torch.triu(omega_f * cosine + (1 - omega_f) > tau, diagonal=1).nonzero()
        pairs.append(close + first)
        cosines.append(cosine[close[:, 0], close[:, 1]])
        first += len(nodes)
    falling = torch.cat(cosines).argsort(descending=True, stable=True)
    return torch.cat(pairs)[falling], torch.cat(cosines)[falling]


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
