"""The graph functions against plain definitions."""

import pytest
import torch
from smooth_field import smooth_field

from oapseg.pool import graph as graphs


def test_grid_edges_join_horizontal_and_vertical_neighbours() -> None:
    edges = {tuple(edge) for edge in graphs.grid_edges(2, 3).tolist()}
    assert edges == {(0, 1), (1, 2), (3, 4), (4, 5), (0, 3), (1, 4), (2, 5)}


def test_similarities_equal_their_definitions_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "CHUNK_ELEMENTS", 100)
    features = smooth_field(5, 6, 8, noise=0.5, seed=0)
    affinity = features @ features.T
    edges = graphs.grid_edges(5, 6)
    for edge, feature, spatial in zip(
        edges.tolist(),
        graphs.feature_similarity(features, edges),
        graphs.spatial_similarity(affinity, edges),
        strict=True,
    ):
        i, j = edge
        torch.testing.assert_close(feature, features[i] @ features[j])
        torch.testing.assert_close(spatial, 1 - (affinity[i] - affinity[j]).abs().mean())


def test_carried_row_means_equal_the_means_over_all_patches_of_a_node() -> None:
    affinity = torch.rand(12, 7)
    first = torch.tensor([0, 0, 1, 2, 2, 2, 3, 1, 4, 4, 0, 3])
    second = torch.tensor([0, 1, 0, 1, 1])
    area = torch.bincount(first)
    once = graphs.sum_rows(affinity, first, 5, 1 / area[first])
    total = torch.bincount(second[first])
    twice = graphs.sum_rows(once, second, 2, area / total[second])
    for node in range(2):
        torch.testing.assert_close(twice[node], affinity[second[first] == node].mean(0))


@pytest.mark.parametrize("grid", [(5, 7), (7, 5), (1, 35), (35, 1)])
@pytest.mark.parametrize("chunk", [1, 7, 12, 100])
def test_similarities_along_the_grid_equal_those_from_the_whole_affinity_matrix(
    grid: tuple[int, int], chunk: int
) -> None:
    features = smooth_field(*grid, 8, noise=0.5, seed=0)
    expected = graphs.spatial_similarity(features @ features.T, graphs.grid_edges(*grid))
    torch.testing.assert_close(graphs.grid_spatial_similarity(features, grid, chunk), expected)


@pytest.mark.parametrize(("grid", "count"), [((28, 28), 64), ((20, 3), 24), ((1, 1), 1), ((1, 9), 8)])
def test_blocks_are_numbered_without_a_gap(grid: tuple[int, int], count: int) -> None:
    assert graphs.blocks(*grid).unique().tolist() == list(range(count))


def test_the_vote_of_a_saturated_softmax_is_its_patch() -> None:
    features = smooth_field(3, 3, 5, noise=1.0, seed=0)
    logits = torch.zeros(1, 9)
    logits[0, 4] = 1000
    torch.testing.assert_close(graphs.vote(logits, features), features[4:5])
