"""Cropped bipartite matching: queries to the masks that a view sees, by Dice, each kind by itself."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor


class Match(NamedTuple):
    """Matched pairs of one view."""

    query: Int[Tensor, " M"]
    target: Int[Tensor, " M"]


def dice_cost(mask_logits: Float[Tensor, "Q P"], targets: Float[Tensor, "S P"]) -> Float[Tensor, "Q S"]:
    """1 - Dice of every query with every mask over P cells or points; in [0, 1]."""
    probability = mask_logits.sigmoid()
    shared = probability @ targets.T
    total = probability.sum(1)[:, None] + targets.sum(1)[None, :]
    return 1 - (2 * shared + 1) / (total + 1)


@torch.no_grad()
def match_by_kind(cost: Float[Tensor, "Q S"], query_kind: Int[Tensor, " Q"], target_kind: Int[Tensor, " S"]) -> Match:
    """The cheapest one-to-one pairs, instance queries with instance masks and semantic ones with semantic masks.

    Where there are more masks than queries of a kind, the masks that fit worst stay without a query.
    """
    costs = cost.float().cpu()
    queries, targets = [], []
    for kind in (0, 1):
        rows = (query_kind == kind).nonzero().flatten().cpu()
        columns = (target_kind == kind).nonzero().flatten().cpu()
        chosen, assigned = linear_sum_assignment(costs[rows][:, columns].numpy())
        queries.append(rows[chosen])
        targets.append(columns[assigned])
    return Match(torch.cat(queries).to(cost.device), torch.cat(targets).to(cost.device))
