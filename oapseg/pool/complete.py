"""Components of the complete graph over each photo's nodes under a threshold (Alg. 1, l. 14), few pairs compared."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from oapseg.pool import graph as graphs
from oapseg.pool import on_device
from oapseg.pool.components import connected_components

ROUNDING = 1e-5  # far more than a bound may lie too low in float32
CLOSE_PAIRS, KEPT_PAIRS = 128, 24  # a node, that a GPU has room for at first: photos needed up to 94 and 14
LEAST_PAIRS = 1024  # that it always has room for


class Room(NamedTuple):
    """Pairs of nodes of all photos that a GPU has room for, of `chunk` nodes a photo at a time; the CPU needs none."""

    close: int  # whose features are close enough
    kept: int  # that the bound leaves of them


def first_room(num_nodes: list[int], chunk: int) -> Room:
    """Room for a graph of which nothing is known."""
    at_a_time = sum(min(chunk, count) for count in num_nodes)
    return Room(CLOSE_PAIRS * at_a_time, KEPT_PAIRS * at_a_time)


def next_room(needed: Room) -> Room:
    """Room for a graph of which this is known: a graph that has been merged seldom needs more than before."""
    return Room(max(needed.close, LEAST_PAIRS), max(needed.kept, LEAST_PAIRS))


class Pairs(NamedTuple):
    """Pairs of nodes with their cosine; -inf where there is none."""

    ends: Int[Tensor, "E 2"]
    cosine: Float[Tensor, " E"]

    def take(self, chosen: Tensor | slice) -> "Pairs":
        return Pairs(self.ends[chosen], self.cosine[chosen])


def complete_components(
    features: Float[Tensor, "S C"],
    rows: Float[Tensor, "S N"],
    sums: Float[Tensor, "S K"],
    photo: Int[Tensor, " S"],
    num_nodes: list[int],
    tau: float,
    omega_f: float,
    chunk: int,
    room: Room,
) -> tuple[Int[Tensor, " S"], Int[Tensor, "2"]]:
    """Components of the complete graph of each photo's nodes, joined where Eq. 4 exceeds `tau`, and the room needed.

    `photo` is that of each node, in order, and `num_nodes` counts the nodes of each photo; `sums` are the sums of
    `rows` over blocks of patches. Exact, though few pairs are compared. Spatial similarity is at most 1, so that
    feature similarity alone rules most pairs out. Of the others a bound does: the difference of two sums over a block
    is at most the sum of the differences. What is left comes by falling bound; on the CPU in portions that double, less
    the pairs that earlier ones have joined. The pairs of about `chunk` nodes of a photo with all others are there at a
    time. Where the room needed is more than there was, pairs are missing.
    """
    least = (tau - 1 + omega_f) / omega_f - ROUNDING if omega_f else -math.inf
    component = torch.arange(len(features), device=features.device)
    needed = component.new_zeros(2)
    largest = max(num_nodes)
    photos = len(num_nodes) if on_device.waits(features) else 1
    space = features.new_empty(photos * min(chunk, largest) * largest)
    for top in range(0, largest, chunk):
        beside = on_device.by_photo(photo, num_nodes, largest)
        at_a_time = slice(top, top + chunk)
        found = [_candidates(features, component, own, at_a_time, least, room.close, space) for _, own in beside]
        pairs = Pairs(*map(torch.cat, zip(*(pairs for pairs, _ in found), strict=True)))
        bound = omega_f * pairs.cosine + (1 - omega_f) * (1 - graphs.distance(sums, pairs.ends) / rows.shape[1])
        bound = bound.masked_fill_(pairs.cosine == -math.inf, -math.inf)
        possible = (bound > tau - ROUNDING).sum()
        order = bound.argsort(descending=True, stable=True)
        pairs = pairs.take(order[: room.kept if on_device.waits(order) else int(possible)])
        component = _joined(component, pairs, rows, tau, omega_f, largest)
        needed = torch.maximum(needed, torch.stack([torch.stack([close for _, close in found]).sum(), possible]))
    return component, needed


def _candidates(
    features: Float[Tensor, "S C"],
    component: Int[Tensor, " S"],
    position: Int[Tensor, "*B T"],
    rows: slice,
    least: float,
    room: int,
    space: Float[Tensor, " P"],
) -> tuple[Pairs, Int[Tensor, ""]]:
    """Pairs of some nodes of a photo with its later nodes whose cosine exceeds `least`, not joined yet; how many.

    `space` is what the cosines are written to.
    """
    node = position.clamp(max=len(component) - 1)
    label = torch.where(position < len(component), component[node], -1)
    own, later = label[..., rows, None], label[..., None, rows.start :]
    shape = torch.broadcast_shapes(own.shape, later.shape)
    cosine = space[: math.prod(shape)].view(shape)
    torch.matmul(features[node[..., rows]], features[node[..., rows.start :]].mT, out=cosine)
    cosine.masked_fill_((own == later).logical_or_(later < 0), -math.inf)
    close = (cosine > least).triu_(1)
    place = on_device.where(close, min(room, close.numel())).unbind(1)
    *photo, first, second = place
    ends = torch.stack([node[(*photo, first + rows.start)], node[(*photo, second + rows.start)]], 1)
    return Pairs(ends, cosine[place]), close.sum()


def _joined(
    component: Int[Tensor, " S"], pairs: Pairs, rows: Float[Tensor, "S N"], tau: float, omega_f: float, largest: int
) -> Int[Tensor, " S"]:
    """Components that the pairs above `tau` join further."""
    portion = len(pairs.ends) if on_device.waits(rows) else len(component)
    while len(pairs.ends):
        near, pairs = pairs.take(slice(portion)), pairs.take(slice(portion, None))
        portion *= 2
        similarity = omega_f * near.cosine + (1 - omega_f) * graphs.spatial_similarity(rows, near.ends)
        joined = component[on_device.keep(near.ends, similarity > tau)]
        if len(joined):
            component = connected_components(len(component), joined, largest)[component]
            if len(pairs.ends):
                pairs = pairs.take(component[pairs.ends[:, 0]] != component[pairs.ends[:, 1]])
    return component
