"""Clusters to classes: hand cases, and the assignment against every permutation."""

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oapseg.match.clusters import (
    MAPPINGS,
    UNMAPPED,
    by_hungarian,
    by_hungarian_then_votes,
    by_votes,
    pixel_votes,
)

TABLES = st.integers(1, 4).flatmap(
    lambda columns: st.lists(st.lists(st.integers(0, 9), min_size=columns, max_size=columns), min_size=1, max_size=4)
)


def test_votes_map_many_clusters_to_one_class() -> None:
    votes = torch.tensor([[5, 1], [4, 0], [0, 0], [2, 3]])
    assert by_votes(votes).tolist() == [0, 0, UNMAPPED, 1]


def test_the_first_of_equally_voted_classes_is_taken() -> None:
    assert by_votes(torch.tensor([[0, 3, 3]])).tolist() == [1]


def test_the_assignment_gives_a_class_to_one_cluster_only() -> None:
    votes = torch.tensor([[5, 4], [4, 0], [3, 0]])
    assert by_hungarian(votes).tolist() == [1, 0, UNMAPPED]


def test_the_assignment_leaves_out_pairs_without_a_vote() -> None:
    assert by_hungarian(torch.tensor([[5, 0], [0, 0]])).tolist() == [0, UNMAPPED]


def test_clusters_left_over_take_their_most_voted_class() -> None:
    votes = torch.tensor([[5, 4], [4, 0], [3, 0], [0, 0]])
    assert by_hungarian_then_votes(votes).tolist() == [1, 0, 0, UNMAPPED]


@given(TABLES)
@settings(max_examples=60, deadline=None)
def test_no_one_to_one_mapping_has_more_votes_than_the_assignment(rows: list[list[int]]) -> None:
    votes = torch.tensor(rows)
    mapping = by_hungarian(votes)
    kept = (mapping != UNMAPPED).nonzero().flatten()
    wide = votes if votes.shape[0] <= votes.shape[1] else votes.T
    best = max(
        sum(int(wide[row, column]) for row, column in enumerate(order))
        for order in permutations(range(wide.shape[1]), wide.shape[0])
    )
    assert int(votes[kept, mapping[kept]].sum()) == best
    assert len(set(mapping[kept].tolist())) == len(kept)


@given(TABLES)
@settings(max_examples=60, deadline=None)
def test_the_many_to_one_rule_keeps_at_least_the_votes_of_the_others(rows: list[list[int]]) -> None:
    votes = torch.tensor(rows)

    def kept(rule: str) -> int:
        mapping = MAPPINGS[rule](votes)
        mapped = mapping != UNMAPPED
        return int(votes[mapped, mapping[mapped]].sum())

    assert kept("votes") >= kept("hungarian+votes") >= kept("hungarian")


@pytest.mark.parametrize("rule", MAPPINGS)
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
def test_without_clusters_or_classes_nothing_is_mapped(rule: str, shape: tuple[int, int]) -> None:
    assert MAPPINGS[rule](torch.zeros(shape, dtype=torch.long)).tolist() == [UNMAPPED] * shape[0]


def test_pixels_vote_as_often_as_their_pair_comes() -> None:
    clusters, classes, pixels = torch.tensor([2, 0, 2]), torch.tensor([1, 0, 1]), torch.tensor([5, 3, 4])
    assert pixel_votes(clusters, classes, pixels, shape=(3, 2)).tolist() == [[3, 0], [0, 0], [0, 9]]
