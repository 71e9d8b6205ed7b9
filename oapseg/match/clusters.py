"""Clusters to classes: which class each cluster of the model is taken for, when classes are to be scored.

Three rules, which published numbers mix up under one name, so that each score says which one it used:

- `votes`: each cluster takes its most voted class, many to one (what U2Seg's code does);
- `hungarian`: the one-to-one assignment with the most votes; further clusters have no class;
- `hungarian+votes`: the assignment, then the clusters left over take their most voted class (as CUPS does).
"""

from collections.abc import Callable
from typing import Final

import torch
from jaxtyping import Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor

UNMAPPED = -1


def by_votes(votes: Int[Tensor, "K M"]) -> Int[Tensor, " K"]:
    """The most voted of M classes for each cluster, the first of equals; `UNMAPPED` without a vote."""
    if votes.shape[1] == 0:
        return torch.full((votes.shape[0],), UNMAPPED)
    best = votes.max(1)
    return torch.where(best.values > 0, best.indices, UNMAPPED)


def by_hungarian(votes: Int[Tensor, "K M"]) -> Int[Tensor, " K"]:
    """One cluster a class and one class a cluster, so that the votes are the most; `UNMAPPED` without a vote."""
    clusters, classes = (torch.from_numpy(index) for index in linear_sum_assignment(votes.numpy(), maximize=True))
    mapping = torch.full((votes.shape[0],), UNMAPPED)
    mapping[clusters] = torch.where(votes[clusters, classes] > 0, classes, UNMAPPED)
    return mapping


def by_hungarian_then_votes(votes: Int[Tensor, "K M"]) -> Int[Tensor, " K"]:
    """The assignment first, then the most voted class for the clusters it leaves over."""
    assigned = by_hungarian(votes)
    return torch.where(assigned == UNMAPPED, by_votes(votes), assigned)


MAPPINGS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "votes": by_votes,
    "hungarian": by_hungarian,
    "hungarian+votes": by_hungarian_then_votes,
}


def pixel_votes(
    clusters: Int[Tensor, " N"], classes: Int[Tensor, " N"], pixels: Int[Tensor, " N"], *, shape: tuple[int, int]
) -> Int[Tensor, "K M"]:
    """The votes of pixels, counted by pairs of a cluster and a class, each pair as often as it comes.

    `shape` is (K, M), the numbers of clusters and classes.
    """
    votes = torch.zeros(shape, dtype=torch.long)
    return votes.index_put_((clusters, classes), pixels, accumulate=True)
