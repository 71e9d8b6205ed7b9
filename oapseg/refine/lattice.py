"""Gaussian filtering in many dimensions on the permutohedral lattice (Adams, Baek and Davis 2010).

A point spreads its value over the d + 1 corners of the simplex that holds it (splat), corners exchange values with
their neighbours along each of d + 1 axes (blur), and a point reads the same corners back (slice). Time and memory grow
with the points, not with their square. All three are weighted sums of rows, which `embedding_bag` is fastest at.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

STRIP_POINTS = 1 << 19  # placed at once: what is on the way takes some 0.5 KB a point
LARGEST_KEY = 2**62


class _Strip(NamedTuple):
    """Some of the points, and their corners."""

    corners: Int[Tensor, "n D"]  # places in the lattice
    weights: Float[Tensor, "n D"]
    order: Int[Tensor, " n*D"]  # of the flat corners, so that equal ones lie together
    starts: Int[Tensor, " m"]  # of each distinct corner in that order
    distinct: Int[Tensor, " m"]  # its place in the lattice


class Lattice:
    """Filter for N points at `features`, in units of the Gaussian's standard deviation: exp(-|f_i - f_j|^2 / 2).

    Exact up to a constant factor and the lattice's own error, which `benchmarks/crf.py` measures: weighted means of a
    mask over photos are off by 0.01 on average.
    """

    def __init__(self, features: Float[Tensor, "N d"]) -> None:
        """Errors: `ValueError` where features spread over more lattice cells than 62 bits can number."""
        self.axes = features.shape[1] + 1
        low, high = features.amin(0), features.amax(0)
        strides = _strides(low, high)
        parts = [_place(points - low, strides) for points in features.split(STRIP_POINTS)]
        keys = torch.cat([distinct for *_, distinct in parts]).unique()
        self.count = len(keys)
        self.strips = []
        for corners, weights, order, starts, distinct in parts:
            places = torch.searchsorted(keys, distinct).int()
            self.strips.append(_Strip(places[corners], weights, order, starts, places))
        self.neighbours = [self._neighbours(keys, step) for step in _steps(strides)]
        self.blur = torch.tensor([1.0, 0.5, 0.5], device=keys.device).expand(self.count + 1, 3).contiguous()

    def __call__(self, values: Float[Tensor, "N L"]) -> Float[Tensor, "N L"]:
        """The sum over all points j of K_ij values_j, times a constant."""
        nodes = values.new_zeros(self.count + 1, values.shape[1])  # the last stands for those that are not there
        strips = zip(values.split(STRIP_POINTS), self.strips, strict=True)
        for part, strip in strips:
            weights = strip.weights.flatten()[strip.order]
            point = strip.order // self.axes
            nodes[strip.distinct] += F.embedding_bag(point, part, strip.starts, mode="sum", per_sample_weights=weights)
        for neighbours in self.neighbours:
            nodes = F.embedding_bag(neighbours, nodes, mode="sum", per_sample_weights=self.blur)
        return torch.cat(
            [F.embedding_bag(each.corners, nodes, mode="sum", per_sample_weights=each.weights) for each in self.strips]
        )

    def _neighbours(self, keys: Int[Tensor, " m"], step: int) -> Int[Tensor, "m+1 3"]:
        """Each corner, the next one and the one before along an axis; `count` where that one is not there."""
        after = torch.searchsorted(keys, keys + step).clamp(max=self.count - 1)
        there = keys[after] == keys + step
        itself = torch.arange(self.count + 1, device=keys.device)
        table = itself.new_full((self.count + 1, 3), self.count)
        table[:, 0] = itself
        table[:-1, 1] = torch.where(there, after, self.count)
        table[after[there], 2] = itself[:-1][there]
        return table.int()


def _elevation(dims: int) -> Float[Tensor, "d D"]:
    """Features to the plane of D = d + 1 coordinates with sum 0, scaled so that the whole filter has variance 1."""
    index = torch.arange(1, dims + 1, dtype=torch.float64)
    scale = (dims + 1) * (2 / 3) ** 0.5 / (index * (index + 1)).sqrt()
    onto = torch.ones(dims + 1, dims, dtype=torch.float64).triu()
    onto[1:] -= torch.diag(index)
    return (onto * scale).T.float()


def _strides(low: Float[Tensor, " d"], high: Float[Tensor, " d"]) -> list[int]:
    """Weights that make one number of the first d coordinates of a corner, different for every one within reach."""
    dims = len(low)
    reach = (high - low).cpu() @ _elevation(dims).abs()
    spans = [2 * (int(extent) + 3 * (dims + 1)) + 1 for extent in reach.tolist()[:dims]]
    strides = [1]
    for span in spans[:0:-1]:
        strides.insert(0, strides[0] * span)
    if strides[0] * spans[0] >= LARGEST_KEY:
        raise ValueError(
            "refine.crf: a photo of this size has too many cells at these standard deviations (bilateral_sigma_px, "
            "bilateral_sigma_colour); larger ones are allowed"
        )
    return strides


def _steps(strides: list[int]) -> list[int]:
    """What the number of a corner grows by along each of the d + 1 axes."""
    return [(len(strides) + 1) * stride - sum(strides) for stride in (*strides, 0)]


def _place(
    points: Float[Tensor, "n d"], strides: list[int]
) -> tuple[Int[Tensor, "n D"], Float[Tensor, "n D"], Int[Tensor, " n*D"], Int[Tensor, " m"], Int[Tensor, " m"]]:
    """The corners of each point as positions among the distinct ones, their weights, and the rest of a `_Strip`.

    The distinct corners come as keys, in order.
    """
    size = points.shape[1] + 1
    lifted = (points @ _elevation(size - 1).to(points)).T
    origin = (lifted / size).round()
    excess = origin.sum(0).long()
    origin *= size
    rank = _ranks(lifted - origin) + excess
    wrap = (rank < 0).long() - (rank >= size).long()
    rank += size * wrap
    origin += size * wrap
    falling = torch.empty_like(lifted).scatter_(0, rank, (lifted - origin) / size)
    weights = falling.flip(0)
    weights[1:] -= falling[1:].flip(0)
    weights[0] += 1 - falling[0]
    stride = torch.tensor([*strides, 0], device=points.device)[:, None]
    base = (origin.long() * stride).sum(0)
    of_rank = torch.empty_like(rank).scatter_(0, rank, stride.expand_as(rank))
    below = torch.cat([torch.zeros_like(base)[None], of_rank.flip(0).cumsum(0)[:-1]])
    corner = torch.arange(size, device=points.device)[:, None]
    keys, order = (base + corner * sum(strides) - size * below).T.flatten().sort()
    distinct, inverse, counts = keys.unique_consecutive(return_inverse=True, return_counts=True)
    corners = torch.empty_like(inverse, dtype=torch.int32)
    corners[order] = inverse.int()
    starts = (counts.cumsum(0) - counts).int()
    return corners.view(-1, size), weights.T.contiguous(), order.int(), starts, distinct


def _ranks(values: Float[Tensor, "D n"]) -> Int[Tensor, "D n"]:
    """How many values of a column are larger, or equal and before."""
    rank = torch.zeros_like(values, dtype=torch.long)
    for first in range(len(values)):
        for second in range(first + 1, len(values)):
            before = values[first] >= values[second]
            rank[second] += before
            rank[first] += ~before
    return rank
