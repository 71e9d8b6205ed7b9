"""Components against networkx and against all pairs, on the path of the CPU and on that of a GPU."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import networkx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from on_a_gpu import as_on_a_gpu
from smooth_field import smooth_field

from oapseg.pool import graph as graphs
from oapseg.pool.complete import Room, complete_components
from oapseg.pool.components import connected_components, contract_edges, edges_of

Path = Callable[[], AbstractContextManager[None]]
on_paths = pytest.mark.parametrize("path", [nullcontext, as_on_a_gpu], ids=["cpu", "gpu"])
quick = settings(deadline=None, max_examples=60)


def contracted_edges(edges: torch.Tensor, component: torch.Tensor) -> list[list[int]]:
    key, count = contract_edges(edges, component)
    return edges_of(key, int(count), len(component)).tolist()


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


@on_paths
@quick
@given(edge_lists())
def test_components_equal_those_of_networkx(path: Path, graph: tuple[int, torch.Tensor]) -> None:
    with path():
        assert connected_components(*graph, graph[0]).tolist() == networkx_components(*graph)


@on_paths
@quick
@given(edge_lists())
def test_no_node_gets_a_larger_number_than_its_own(path: Path, graph: tuple[int, torch.Tensor]) -> None:
    with path():
        component = connected_components(*graph, graph[0])
    assert (component <= torch.arange(graph[0])).all()


@on_paths
@pytest.mark.parametrize("shape", ["path", "star", "caterpillar"])
def test_components_of_long_thin_graphs_numbered_at_random_are_one(path: Path, shape: str) -> None:
    num_nodes = 3000
    number = torch.randperm(num_nodes, generator=torch.Generator().manual_seed(0))
    after = torch.arange(1, num_nodes)
    before = {"path": after - 1, "star": torch.zeros_like(after), "caterpillar": (after - 1) // 2 * 2}[shape]
    with path():
        component = connected_components(num_nodes, number[torch.stack([before, after], 1)], num_nodes)
    assert not component.any()


@on_paths
@quick
@given(edge_lists(), st.integers(0, 1000))
def test_contracted_edges_are_those_between_adjacent_components(
    path: Path, graph: tuple[int, torch.Tensor], seed: int
) -> None:
    num_nodes, edges = graph
    labels = np.random.default_rng(seed).integers(0, max(1, num_nodes // 3), num_nodes)
    component = torch.from_numpy(np.unique(labels, return_inverse=True)[1])
    expected = {(min(a, b), max(a, b)) for a, b in component[edges].tolist() if a != b}
    with path():
        contracted = contracted_edges(edges, component)
    assert len(contracted) == len(expected)
    assert {tuple(edge) for edge in contracted} == expected


def test_contraction_does_not_join_components_that_only_share_a_neighbour() -> None:
    path = torch.tensor([[0, 1], [1, 2]])
    assert contracted_edges(path, torch.tensor([0, 1, 2])) == [[0, 1], [1, 2]]


@on_paths
@pytest.mark.parametrize("omega_f", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("tau", [0.9, 0.7, 0.4, 0.0])
@pytest.mark.parametrize("chunk", [17, 1000])
def test_complete_components_equal_those_over_all_pairs(path: Path, omega_f: float, tau: float, chunk: int) -> None:
    features = torch.cat([smooth_field(12, 10, 12, noise=noise, seed=1) for noise in (0.3, 1.0)])
    rows = torch.cat([part @ part.T for part in features.split(120)])
    sums = graphs.sum_rows(rows.T.contiguous(), graphs.blocks(12, 10), 64).T.contiguous()
    photo = torch.arange(2).repeat_interleave(120)
    pairs = torch.cat([torch.combinations(torch.arange(120)) + first for first in (0, 120)])
    similarity = omega_f * graphs.feature_similarity(features, pairs)
    similarity += (1 - omega_f) * graphs.spatial_similarity(rows, pairs)
    expected = connected_components(240, pairs[similarity > tau], 120)
    with path():
        found, _ = complete_components(
            features, rows, sums, photo, [120, 120], tau, omega_f, chunk, Room(20_000, 20_000)
        )
    torch.testing.assert_close(found, expected)
