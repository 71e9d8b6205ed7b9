"""Connected components of a graph, and its edges between them (section 4.2).

A graph is what its nodes carry, in tensors whose first axis is the node, and undirected edges as pairs of nodes; edges
from a node to itself mean nothing. Several photos make one graph without edges between them.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from oapseg.pool import on_device


def connected_components(num_nodes: int, edges: Int[Tensor, "E 2"], largest: int) -> Int[Tensor, " num_nodes"]:
    """The component of each node, numbered from 0 in the order of their smallest nodes.

    No component has more than `largest` nodes. In each round every root hooks onto the smallest root next to it, if
    there is one; of two that hook onto each other the smaller stays a root, and longer circles cannot be, since the
    root after next is never larger. So a component of many trees has at most half as many after a round, and a tree at
    most as many roots in a row, which pointers jump over by doubling. The smallest node of a component stays a root.
    """
    node = torch.arange(num_nodes, device=edges.device)
    if on_device.KERNELS and edges.is_cuda:
        from oapseg.pool.triton_components import smallest_nodes

        return _numbered(smallest_nodes(num_nodes, edges))
    root = node
    early = not on_device.waits(edges)
    for doublings in range((largest - 1).bit_length(), 0, -1):
        ends = root[edges]
        apart = ends[:, 0] != ends[:, 1]
        if early and not apart.any():
            break
        other = torch.where(apart[:, None], ends.flip(1), num_nodes)
        beside = torch.full_like(node, num_nodes).scatter_reduce(0, ends.flatten(), other.flatten(), "amin")
        parent = torch.where(beside < num_nodes, beside, node)
        parent = torch.where((parent[parent] == node) & (node < parent), node, parent)
        for _ in range(doublings):
            flatter = parent[parent]
            if early and torch.equal(flatter, parent):
                break
            parent = flatter
        root = parent[root]
    return _numbered(root)


def _numbered(root: Int[Tensor, " S"]) -> Int[Tensor, " S"]:
    """Components by their smallest nodes, numbered in the order of these."""
    return ((root == torch.arange(len(root), device=root.device)).cumsum(0) - 1)[root]


def contract_edges(
    edges: Int[Tensor, "E 2"], component: Int[Tensor, " S"]
) -> tuple[Int[Tensor, " E"], Int[Tensor, ""]]:
    """Edges between the components that some edge joins: each as one number, with copies, and how many there are.

    Departs from the paper: Eq. 5 as printed also joins components that merely share a neighbour, which would break the
    paper's own claim that an instance mask is connected.
    """
    low, high = component[edges].aminmax(dim=1)
    key = torch.where(low < high, low * len(component) + high, -1).sort()[0]
    return key, _first_of_each(key).sum()


def edges_of(key: Int[Tensor, " E"], count: int, num_nodes: int) -> Int[Tensor, "count 2"]:
    """The `count` edges of `contract_edges`, over as many nodes as it was told of, each once, smaller number first."""
    key = key[on_device.where(_first_of_each(key), count)[:, 0]]
    return torch.stack([key // num_nodes, key % num_nodes], 1)


def _first_of_each(key: Int[Tensor, " E"]) -> Bool[Tensor, " E"]:
    """The first of equal numbers in rising order, but for -1."""
    return key.diff(prepend=key.new_full((1,), -1)) > 0


def count(component: Int[Tensor, " S"], total: int) -> Int[Tensor, " total"]:
    """Nodes of each component."""
    return component.new_zeros(total).scatter_add_(0, component, torch.ones_like(component))
