"""Memory of Online Agglomerative Pooling: one matrix of all pairs of patches."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from alive import Alive
from on_a_gpu import as_on_a_gpu
from smooth_field import smooth_patches

from oapseg.encode.patches import Patches
from oapseg.pool import graph as graphs
from oapseg.pool.oap import OAP

SIDE, CHUNK = 48, 24
OF_ALL_PAIRS = 4 * SIDE**4  # bytes of float32
BESIDE = (
    0.35  # of those: some bands of `CHUNK` rows, larger ones on a GPU, the sums over blocks, features, lists of edges
)


def peak(photo: Patches, tau: list[float], rounds: Literal[1, "stable"] = 1) -> tuple[float, list[int], list[int]]:
    """In matrices of all pairs, and the nodes of each layer, and its semantic regions."""
    oap = OAP(tau=tau, sigma=0.07, omega_f=0.6, phi=5, vote="mean", rounds=rounds, chunk=CHUNK)
    layers = oap.layers([photo])
    with Alive() as alive:
        oap(photo)
    instance, semantic = ([len(getattr(layer, name).area) for layer in layers] for name in ("instance", "semantic"))
    return alive.peak_bytes / OF_ALL_PAIRS, instance, semantic


def smooth(noise: float) -> Patches:
    return smooth_patches(SIDE, SIDE, 64, noise=noise, seed=0)


def pairs(apart: int) -> Patches:
    """Patches that each are like one other, so many patches further on: of all photos, most new nodes in one merge."""
    random = torch.Generator().manual_seed(0)
    alike = torch.randn(SIDE**2 // (2 * apart), 1, apart, 64, generator=random).expand(-1, 2, -1, -1).reshape(-1, 64)
    return Patches(F.normalize(alike + 0.2 * torch.randn(SIDE**2, 64, generator=random), dim=1), (SIDE, SIDE))


@pytest.fixture(autouse=True, params=["cpu", "as on a GPU"])
def small_chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Edges compared at a time, which on the CPU are as many as the cache holds whatever the grid."""
    monkeypatch.setattr(graphs, "CHUNK_ELEMENTS", CHUNK * SIDE**2)
    with nullcontext() if request.param == "cpu" else as_on_a_gpu():
        yield


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
    found, nodes, _ = peak(smooth(0.35), [0.99, 0.3])
    assert nodes[0] == SIDE**2
    assert 1 < found < 1 + BESIDE


def test_rows_of_a_merge_are_written_where_those_before_it_lie() -> None:
    found, nodes, _ = peak(smooth(1.2), [0.95, 0.75, 0.7, 0.65, 0.6])
    assert nodes[0] == SIDE**2
    assert nodes[0] > nodes[1] > 0.9 * SIDE**2
    assert 1 < found < 1 + BESIDE


def test_a_merge_of_all_nodes_in_pairs_takes_no_second_matrix() -> None:
    found, nodes, _ = peak(pairs(1), [0.99, 0.8])
    assert nodes == [SIDE**2, SIDE**2 // 2]
    assert 1 < found < 1 + BESIDE


def test_a_semantic_merge_of_all_nodes_in_pairs_takes_no_second_matrix() -> None:
    found, nodes, semantic = peak(pairs(SIDE // 2), [0.8])
    assert nodes == [SIDE**2]
    assert semantic == [SIDE**2 // 2]
    assert 1 < found < 1 + BESIDE


def test_semantic_masks_merged_on_until_they_are_stable_take_a_matrix_of_their_own() -> None:
    found, *_ = peak(smooth(1.0), [0.9, 0.6, 0.55, 0.5, 0.45], "stable")
    assert 2 < found < 2 + BESIDE
