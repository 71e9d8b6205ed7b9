"""The graph functions against plain definitions and networkx."""

import networkx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from smooth_field import smooth_field

from oapseg.pool import graph as graphs


def networkx_components(num_nodes: int, edges: torch.Tensor) -> list[int]:
    graph = networkx.empty_graph(num_nodes)
    graph.add_edges_from(edges.tolist())
    components = sorted(networkx.connected_components(graph), key=min)
    number = {node: index for index, component in enumerate(components) for node in component}
    return [number[node] for node in range(num_nodes)]


@st.composite
def edge_lists(draw: st.DrawFn) -> tuple[int, torch.Tensor]:
    num_nodes = draw(st.integers(1, 40))
    node = st.integers(0, num_nodes - 1)
    edges = draw(st.lists(st.tuples(node, node), max_size=60))
    return num_nodes, torch.tensor(edges, dtype=torch.long).view(-1, 2)


def test_grid_edges_join_horizontal_and_vertical_neighbours() -> None:
    edges = {tuple(edge) for edge in graphs.grid_edges(2, 3).tolist()}
    assert edges == {(0, 1), (1, 2), (3, 4), (4, 5), (0, 3), (1, 4), (2, 5)}


@settings(deadline=None)
@given(edge_lists())
def test_components_equal_those_of_networkx(graph: tuple[int, torch.Tensor]) -> None:
    assert graphs.connected_components(*graph).tolist() == networkx_components(*graph)


@pytest.mark.parametrize("shape", ["path", "star", "caterpillar"])
def test_components_of_long_thin_graphs_numbered_at_random_are_one(shape: str) -> None:
    num_nodes = 3000
    number = torch.randperm(num_nodes, generator=torch.Generator().manual_seed(0))
    after = torch.arange(1, num_nodes)
    before = {"path": after - 1, "star": torch.zeros_like(after), "caterpillar": (after - 1) // 2 * 2}[shape]
    component = graphs.connected_components(num_nodes, number[torch.stack([before, after], 1)])
    assert not component.any()


@settings(deadline=None)
@given(edge_lists(), st.integers(0, 1000))
def test_contracted_edges_are_those_between_adjacent_components(graph: tuple[int, torch.Tensor], seed: int) -> None:
    num_nodes, edges = graph
    labels = np.random.default_rng(seed).integers(0, max(1, num_nodes // 3), num_nodes)
    component = torch.from_numpy(np.unique(labels, return_inverse=True)[1])
    expected = {(min(a, b), max(a, b)) for a, b in component[edges].tolist() if a != b}
    contracted = graphs.contract_edges(edges, component).tolist()
    assert len(contracted) == len(expected)
    assert {tuple(edge) for edge in contracted} == expected


def test_contraction_does_not_join_components_that_only_share_a_neighbour() -> None:
    path = torch.tensor([[0, 1], [1, 2]])
    assert graphs.contract_edges(path, torch.tensor([0, 1, 2])).tolist() == [[0, 1], [1, 2]]


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


@pytest.mark.parametrize("omega_f", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("tau", [0.9, 0.7, 0.4, 0.0])
@pytest.mark.parametrize("chunk", [17, 1000])
def test_complete_components_equal_those_over_all_pairs(omega_f: float, tau: float, chunk: int) -> None:
    features = torch.cat([smooth_field(12, 10, 12, noise=noise, seed=1) for noise in (0.3, 1.0)])
    rows = torch.cat([part @ part.T for part in features.split(120)])
    sums = graphs.sum_rows(rows.T.contiguous(), graphs.blocks(12, 10), 64).T.contiguous()
    pairs = torch.cat([torch.combinations(torch.arange(120)) + first for first in (0, 120)])
    similarity = omega_f * graphs.feature_similarity(features, pairs)
    similarity += (1 - omega_f) * graphs.spatial_similarity(rows, pairs)
    expected = graphs.connected_components(240, pairs[similarity > tau])
    found = graphs.complete_components(features, rows, sums, [120, 120], tau, omega_f, chunk)
    torch.testing.assert_close(found, expected)


def test_the_vote_of_a_saturated_softmax_is_its_patch() -> None:
    features = smooth_field(3, 3, 5, noise=1.0, seed=0)
    logits = torch.zeros(1, 9)
    logits[0, 4] = 1000
    torch.testing.assert_close(graphs.vote(logits, features), features[4:5])
