"""Eigenvectors of normalised cuts against LAPACK's, up to their sign."""

from typing import get_args

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_objects import planted
from smooth_field import smooth_field

from oapseg.pool import spectral
from oapseg.pool.spectral import Solver, fiedler, smallest_cuts
from oapseg.pool.tokencut import patch_graph

SOLVERS: tuple[Solver, ...] = get_args(Solver)


def oracle(weights: torch.Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
    """scipy's solution of (D - W) y = lambda D y, from the second eigenvector on, of length 1."""
    dense = weights.double().numpy()
    degree = np.diag(dense.sum(1))
    values, vectors = scipy.linalg.eigh(degree - dense, degree, subset_by_index=[1, count])
    return values, vectors / np.linalg.norm(vectors, axis=0)


def error(found: torch.Tensor, expected: np.ndarray) -> float:
    """Largest difference of an entry of two vectors of length 1, up to their sign."""
    unit = (found / found.norm()).numpy()
    return float(min(np.abs(unit - expected).max(), np.abs(unit + expected).max()))


@settings(deadline=None, max_examples=25)
@given(st.integers(10, 18), st.sampled_from([0.05, 0.3, 0.8]), st.sampled_from([0.1, 0.5, 0.8]), st.integers(0, 9999))
def test_the_fiedler_vector_is_scipys(side: int, noise: float, tau: float, seed: int) -> None:
    features = smooth_field(side, side, 16, noise=noise, seed=seed)
    weights = patch_graph(features[None], tau, 1e-5, "binary")
    values, vectors = oracle(weights[0], 3)
    found, vector = fiedler(weights, "lanczos")
    assert abs(float(found[0]) - values[0]) < 1e-5
    if values[1] - values[0] > 1e-6:  # else any mixture of the two is right
        assert error(vector[0], vectors[:, 0]) < 1e-4


def test_a_graph_held_together_by_weak_edges_alone_is_solved_in_float64() -> None:
    photo, _ = planted(20, 20, [(0, 0, 7, 20), (7, 0, 12, 20)], noise=0.0)
    weights = patch_graph(photo.features[None], 0.5, 1e-5, "binary")
    values, vectors = oracle(weights[0], 2)
    assert values[1] < 1e-4  # three parts that eps joins: what float32 rounds away
    cuts = smallest_cuts(weights, 2, "lanczos")
    assert max(error(cuts.vectors[0, :, index], vectors[:, index]) for index in range(2)) < 1e-4


def test_several_eigenvectors_of_a_dense_graph_are_scipys() -> None:
    features = smooth_field(16, 16, 16, noise=0.3, seed=3)
    weights = (features @ features.T).clamp(min=0)
    values, vectors = oracle(weights, 6)
    cuts = smallest_cuts(weights[None], 6, "lanczos")
    np.testing.assert_allclose(cuts.values[0].numpy(), values, atol=1e-5)
    assert max(error(cuts.vectors[0, :, index], vectors[:, index]) for index in range(6)) < 1e-4


def test_vectors_are_orthonormal_under_the_degrees() -> None:
    features = smooth_field(14, 14, 16, noise=0.3, seed=5)
    weights = patch_graph(features[None], 0.4, 1e-5, "binary")
    for solver in SOLVERS:
        vectors = smallest_cuts(weights, 4, solver).vectors[0]
        degree = weights[0].double().sum(1)
        torch.testing.assert_close(vectors.T @ (degree[:, None] * vectors), torch.eye(4).double(), atol=1e-5, rtol=0)


def test_a_batch_is_solved_as_its_photos_one_by_one() -> None:
    photos = torch.stack([smooth_field(14, 14, 16, noise=noise, seed=2) for noise in (0.1, 0.3, 0.8)])
    weights = patch_graph(photos, 0.4, 1e-5, "binary")
    together = fiedler(weights, "lanczos")[1]
    alone = torch.cat([fiedler(each[None], "lanczos")[1] for each in weights])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("parts", [3, 4])
def test_equal_parts_are_cut_alike_by_every_solver_though_their_eigenvalues_are_one(parts: int) -> None:
    photo, _ = planted(12, 12, [(row, 0, row + 12 // parts, 12) for row in range(0, 12, 12 // parts)][1:], noise=0.0)
    weights = patch_graph(photo.features[None], 0.5, 1e-5, "binary")
    (value, *_), vector = fiedler(weights, "lanczos")
    other = fiedler(weights, "eigh")
    assert float(value) == pytest.approx(float(other[0][0]), abs=1e-9)
    torch.testing.assert_close(vector, other[1], atol=1e-6, rtol=0)


def test_a_graph_in_two_pieces_has_a_second_eigenvalue_of_zero() -> None:
    weights = torch.block_diag(torch.ones(60, 60), torch.ones(80, 80))[None]
    for solver in SOLVERS:
        (value,), vector = fiedler(weights, solver)
        assert float(value) == pytest.approx(0, abs=1e-6)
        assert len(torch.unique(vector[0].sign()[:60])) == 1
        assert (vector[0].sign()[60:] == -vector[0].sign()[0]).all()


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("num_nodes", [1, 2, 3, 150])
def test_equal_weights_have_no_cheap_cut(solver: Solver, num_nodes: int) -> None:
    (value,), vector = fiedler(torch.ones(1, num_nodes, num_nodes), solver)
    assert float(value) == pytest.approx(1 if num_nodes > 1 else 0, abs=1e-6)
    assert vector.isfinite().all()


def test_a_node_without_neighbours_does_not_divide_by_zero() -> None:
    weights = torch.ones(1, 120, 120)
    weights[:, 7] = weights[:, :, 7] = 0
    for solver in SOLVERS:
        assert smallest_cuts(weights, 3, solver).vectors.isfinite().all()


def test_what_does_not_converge_is_solved_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectral, "ACCURACY", 0.0)
    monkeypatch.setattr(spectral, "FLOOR", 0.0)
    weights = patch_graph(smooth_field(12, 12, 16, noise=0.3, seed=1)[None], 0.4, 1e-5, "binary")
    _, vectors = oracle(weights[0], 1)
    assert error(fiedler(weights, "lanczos")[1][0], vectors[:, 0]) < 1e-6


@pytest.mark.gpu
def test_cuda_finds_the_same_vectors() -> None:
    photos = torch.stack([smooth_field(28, 28, 64, noise=0.4, seed=seed) for seed in range(4)])
    weights = patch_graph(photos, 0.4, 1e-5, "binary")
    for solver in SOLVERS:
        here, there = smallest_cuts(weights, 4, solver), smallest_cuts(weights.cuda(), 4, solver)
        torch.testing.assert_close(there.vectors.cpu(), here.vectors, atol=1e-4, rtol=0)
