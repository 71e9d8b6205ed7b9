"""Memory of Online Agglomerative Pooling: one matrix of all pairs of patches, and half a one where nodes merge."""

from typing import Literal

import pytest
import torch
from alive import Alive
from smooth_field import smooth_patches

from oapseg.pool import graph as graphs
from oapseg.pool.oap import OAP

SIDE, CHUNK = 28, 14
OF_ALL_PAIRS = 4 * SIDE**4  # bytes of float32
BESIDE = 0.5  # of those: some bands of `CHUNK` rows, the sums over blocks, features, lists of edges


def peak(noise: float, tau: list[float], rounds: Literal[1, "stable"] = 1) -> tuple[float, list[int]]:
    """In matrices of all pairs, and the nodes of each layer."""
    oap = OAP(tau=tau, sigma=0.07, omega_f=0.6, phi=5, vote="mean", rounds=rounds, chunk=CHUNK)
    photo = smooth_patches(SIDE, SIDE, 64, noise=noise, seed=0)
    nodes = [len(layer.instance.area) for layer in oap.layers([photo])]
    with Alive() as alive:
        oap(photo)
    return alive.peak_bytes / OF_ALL_PAIRS, nodes


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Edges compared at a time, which on the CPU are as many as the cache holds whatever the grid."""
    monkeypatch.setattr(graphs, "CHUNK_ELEMENTS", CHUNK * SIDE**2)


def test_the_count_sees_what_is_made_and_what_is_freed() -> None:
    with Alive() as alive:
        first = torch.zeros(1000)
        second = first + 1
        del second
        first.view(10, 100).add_(1)
        third = first + 1
    assert alive.peak_bytes == 8000
    assert len(third) == 1000


def test_patches_that_do_not_merge_at_first_take_one_matrix() -> None:
    found, nodes = peak(0.35, [0.99, 0.3])
    assert nodes[0] == SIDE**2
    assert 1 < found < 1 + BESIDE


def test_rows_of_a_merge_are_written_where_those_before_it_lie() -> None:
    found, nodes = peak(1.2, [0.95, 0.75, 0.7, 0.65, 0.6])
    assert nodes[0] == SIDE**2
    assert nodes[0] > nodes[1] > 0.9 * SIDE**2
    assert 1 < found < 1.5 + BESIDE


def test_semantic_masks_merged_on_until_they_are_stable_take_a_matrix_of_their_own() -> None:
    found, _ = peak(1.0, [0.9, 0.6, 0.55, 0.5, 0.45], "stable")
    assert 2 < found < 2.5 + BESIDE
