"""Matching by kind: cheapest pairs, no pair across kinds, and too few of either side."""

import itertools

import torch

from oapseg.match.bipartite import dice_cost, match_by_kind


def test_pairs_are_the_cheapest_of_all_permutations() -> None:
    torch.manual_seed(0)
    cost = torch.rand(4, 4)
    kind = torch.zeros(4, dtype=torch.long)
    match = match_by_kind(cost, kind, kind)
    best = min(sum(float(cost[q, s]) for q, s in enumerate(order)) for order in itertools.permutations(range(4)))
    assert abs(float(cost[match.query, match.target].sum()) - best) < 1e-6


def test_no_pair_crosses_kinds() -> None:
    query_kind, target_kind = torch.tensor([0, 0, 1]), torch.tensor([1, 0, 1, 1])
    match = match_by_kind(torch.rand(3, 4), query_kind, target_kind)
    assert torch.equal(query_kind[match.query], target_kind[match.target])
    assert len(match.query) == 2


def test_no_target_gives_no_pair() -> None:
    match = match_by_kind(torch.zeros(3, 0), torch.tensor([0, 0, 1]), torch.zeros(0, dtype=torch.long))
    assert len(match.query) == 0


def test_dice_cost_is_zero_for_the_same_mask_and_high_for_disjoint_ones() -> None:
    masks = torch.zeros(2, 100)
    masks[0, :50] = masks[1, 50:] = 1
    cost = dice_cost((masks * 2 - 1) * 30, masks)
    assert torch.allclose(cost.diag(), torch.zeros(2), atol=1e-6)
    assert (cost[0, 1], cost[1, 0]) > (torch.tensor(0.95), torch.tensor(0.95))
