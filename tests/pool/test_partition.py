"""The multicut solver against every partition of small graphs."""

import itertools
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oapseg.pool.partition import (
    FEW,
    adjacency,
    best_partition,
    contract_greedily,
    cut_cost,
    move_nodes,
    multicut,
)

SMALL = 8  # nodes; 4,140 partitions


@cache
def partitions(num_nodes: int) -> np.ndarray:
    """Every way to part the nodes, one a row: a label is at most one above those before it."""
    rows = [[0]]
    for _ in range(num_nodes - 1):
        rows = [[*row, label] for row in rows for label in range(max(row) + 2)]
    return np.array(rows)


def least_cost(num_nodes: int, edges: np.ndarray, weights: np.ndarray) -> float:
    labels = partitions(num_nodes)
    return float(((labels[:, edges[:, 0]] != labels[:, edges[:, 1]]) * weights).sum(1).min())


def random_graph(seed: int, largest: int = SMALL) -> tuple[int, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    num_nodes = int(random.integers(2, largest + 1))
    pairs = np.array(list(itertools.combinations(range(num_nodes), 2)))
    edges = pairs[random.random(len(pairs)) < random.uniform(0.3, 1)].reshape(-1, 2)
    return num_nodes, edges, random.normal(random.uniform(-0.5, 0.5), 1, len(edges))


def test_the_enumeration_knows_all_partitions() -> None:
    assert [len(partitions(nodes)) for nodes in range(1, SMALL + 1)] == [1, 2, 5, 15, 52, 203, 877, 4140]


def test_the_cut_of_a_small_graph_costs_as_little_as_any_of_its_partitions() -> None:
    for seed in range(200):
        num_nodes, edges, weights = random_graph(seed)
        cost = cut_cost(edges, weights, multicut(num_nodes, edges, weights))
        assert cost == pytest.approx(least_cost(num_nodes, edges, weights), abs=1e-9)


def test_the_search_mends_a_bad_start_on_the_largest_graphs_that_it_takes() -> None:
    """Cliques that attract inside and repel each other, one edge of each flipped, and every node alone at first."""
    clique = np.arange(FEW) % 3
    edges = np.array(list(itertools.combinations(range(FEW), 2)))
    weights = np.where(clique[edges[:, 0]] == clique[edges[:, 1]], 1.0, -1.0)
    weights[[0, 2]] *= -1
    found = best_partition(adjacency(FEW, edges, weights), list(range(FEW)))
    assert found == clique.tolist()


def test_of_partitions_that_cost_the_same_the_start_stays() -> None:
    neighbours = adjacency(3, np.array([[0, 1], [1, 2]]), np.array([0.0, 0.0]))
    assert best_partition(neighbours, [0, 1, 2]) == [0, 1, 2]
    assert best_partition(neighbours, [0, 0, 1]) == [0, 0, 1]


def test_moves_reach_the_optimum_on_nearly_all_small_graphs_and_more_often_than_contraction_alone() -> None:
    reached, greedily = 0, 0
    for seed in range(200):
        num_nodes, edges, weights = random_graph(seed)
        neighbours, best = adjacency(num_nodes, edges, weights), least_cost(num_nodes, edges, weights)
        greedy = contract_greedily(neighbours)
        cost = cut_cost(edges, weights, move_nodes(neighbours, greedy))
        assert best - 1e-9 <= cost <= cut_cost(edges, weights, greedy) + 1e-9
        reached += cost < best + 1e-9
        greedily += cut_cost(edges, weights, greedy) < best + 1e-9
    assert reached >= 190
    assert reached > greedily


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000))
def test_moves_never_raise_the_cost_of_any_start_and_end_where_a_second_run_finds_nothing(seed: int) -> None:
    num_nodes, edges, weights = random_graph(seed, largest=25)
    neighbours = adjacency(num_nodes, edges, weights)
    start = np.random.default_rng(seed).integers(0, 5, num_nodes)
    moved = move_nodes(neighbours, start)
    assert cut_cost(edges, weights, moved) <= cut_cost(edges, weights, start) + 1e-9
    assert cut_cost(edges, weights, move_nodes(neighbours, moved)) == pytest.approx(cut_cost(edges, weights, moved))


def test_moves_mend_each_kind_of_fault() -> None:
    """Two tight triples, held by one weak repulsion: torn, melted and swapped starts all come to the two."""
    triples = [(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5), (2, 3)]
    edges, weights = np.array(triples), np.array([2.0] * 6 + [-1.0])
    neighbours = adjacency(6, edges, weights)
    for start in ([0, 1, 2, 3, 4, 5], [0] * 6, [0, 0, 1, 1, 1, 1], [0, 1, 0, 0, 1, 1]):
        assert move_nodes(neighbours, np.array(start)).tolist() == [0, 0, 0, 1, 1, 1]


def test_two_long_chains_that_attract_weakly_become_one_though_no_short_sequence_of_moves_helps() -> None:
    edges = np.stack([np.arange(199), np.arange(1, 200)], 1)
    weights = np.where(np.arange(199) == 99, 1.0, 5.0)
    assert not move_nodes(adjacency(200, edges, weights), np.arange(200) // 100).any()


def test_parallel_edges_add_up_and_loops_do_not_count() -> None:
    edges = np.array([[0, 1], [1, 0], [1, 1], [1, 2]])
    assert multicut(3, edges, np.array([1.0, -1.5, -9.0, 0.5])).tolist() == [0, 1, 1]


def test_clusters_are_connected_even_where_a_cut_costs_nothing() -> None:
    edges = np.array([[0, 1], [2, 3]])
    assert multicut(5, edges, np.array([1.0, 1.0])).tolist() == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_weights_of_any_size_end(scale: float) -> None:
    num_nodes, edges, weights = random_graph(7, largest=25)
    assert multicut(num_nodes, edges, weights * scale).tolist() == multicut(num_nodes, edges, weights).tolist()
