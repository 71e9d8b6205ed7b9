"""Pooling as a GPU runs it: the same masks, and no wait for the device but where a layer ends.

No GPU is needed. The path that a GPU takes runs on the CPU with real values, every operation recorded; and it runs on
tensors of a CUDA device that have shapes but no values, where whatever needs a value or mixes devices is an error.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from on_a_gpu import Waits, as_on_a_gpu, watched
from smooth_field import smooth_patches
from torch._subclasses.fake_tensor import FakeTensorMode

from oapseg.encode.patches import Patches
from oapseg.masks import Masks
from oapseg.pool import complete, on_device
from oapseg.pool.oap import OAP

PAPER = OAP(tau=[0.8, 0.7, 0.6, 0.5, 0.4], sigma=0.07, omega_f=0.6, phi=5, vote="mean", rounds=1, chunk=64)
SETTINGS: list[dict[str, Any]] = [
    {},
    {"vote": "sum"},
    {"rounds": "stable"},
    {"omega_f": 0.0},
    {"omega_f": 1.0},
    {"chunk": 7, "phi": 1},
    {"tau": [0.5], "chunk": 1000},
]


def photos(count: int = 4, side: int = 14) -> list[Patches]:
    return [
        smooth_patches(side, side - 3, 16, noise=noise, seed=7 * seed) for seed, noise in enumerate(4 * [0.1, 0.5])
    ][:count]


def assert_same(found: list[Masks], expected: list[Masks]) -> None:
    """Features apart, every bit; those are of products of another shape."""
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.features, theirs.features, atol=1e-6, rtol=0)
        for field in ("masks", "level", "kind", "scores"):
            assert torch.equal(getattr(ours, field), getattr(theirs, field))


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_a_gpus_path_gives_the_same_masks(setting: dict[str, Any]) -> None:
    oap = replace(PAPER, **setting)
    expected = oap.batch(photos())
    with as_on_a_gpu():
        assert_same(oap.batch(photos()), expected)


@pytest.mark.parametrize(("close", "kept"), [(0, 0), (1, 8), (8, 1)])
def test_too_little_room_for_pairs_costs_another_look_but_no_mask(
    monkeypatch: pytest.MonkeyPatch, close: int, kept: int
) -> None:
    expected = PAPER.batch(photos())
    monkeypatch.setattr(complete, "CLOSE_PAIRS", close)
    monkeypatch.setattr(complete, "KEPT_PAIRS", kept)
    monkeypatch.setattr(complete, "LEAST_PAIRS", 0)
    with watched() as (_, answers):
        assert_same(PAPER.batch(photos()), expected)
    assert len(answers) > 3 + len(PAPER.tau)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_no_operation_inside_a_layer_waits_for_the_device(setting: dict[str, Any]) -> None:
    with watched() as (waits, _):
        replace(PAPER, **setting).batch(photos())
    assert waits.found == []


def test_the_host_reads_once_a_layer_and_once_before_between_and_after() -> None:
    with watched() as (_, answers):
        PAPER.batch(photos())
    assert len(answers) == 3 + len(PAPER.tau)
    assert max(sum(map(len, answer)) for answer in answers) < 100


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.masked_fill_(x > 0, 1)[x.bool()],
        lambda x: x.bincount(),
        lambda x: x.unique(),
        lambda x: torch.equal(x, x),
        lambda x: torch.repeat_interleave(x),
        lambda x: x.index_put_([x > 0], x[:1] * 0),
    ],
)
def test_a_wait_planted_in_a_layer_is_seen(
    monkeypatch: pytest.MonkeyPatch, wait: Callable[[torch.Tensor], object]
) -> None:
    plain = complete.graphs.spatial_similarity

    def planted(rows: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        wait(torch.ones(3, dtype=torch.long))
        return plain(rows, edges)

    monkeypatch.setattr(complete.graphs, "spatial_similarity", planted)
    with watched() as (waits, _):
        PAPER.batch(photos())
    assert waits.found


def on_cuda_without_values(oap: OAP, batch: list[Patches]) -> list[Masks]:
    """Shapes of the masks, and errors, as on a CUDA device; what the host reads is what it reads on the CPU."""
    with watched() as (_, answers):
        oap.batch(batch)
    replies = iter(answers)
    with pytest.MonkeyPatch.context() as patch, FakeTensorMode():
        patch.setattr(on_device, "read", lambda _: next(replies))
        fakes = [Patches(torch.empty(photo.features.shape, device="cuda"), photo.grid) for photo in batch]
        with Waits() as waits:
            masks = oap.batch(fakes)
    assert waits.found == []
    return masks


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_tensors_of_a_cuda_device_never_meet_the_cpu(setting: dict[str, Any]) -> None:
    oap = replace(PAPER, **setting)
    masks = on_cuda_without_values(oap, photos())
    assert [each.masks.shape for each in masks] == [each.masks.shape for each in oap.batch(photos())]
    assert {field.device.type for each in masks for field in each} == {"cuda"}


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x + torch.arange(len(x)),
        lambda x: x[torch.zeros(1, dtype=torch.long)].to("cpu"),
        lambda x: torch.tensor([1.0], device="cpu").to(x.device),
        lambda x: torch.tensor([1.0], device=x.device),
    ],
)
def test_what_meets_the_cpu_is_seen(monkeypatch: pytest.MonkeyPatch, wrong: Callable[[torch.Tensor], object]) -> None:
    plain = complete.graphs.spatial_similarity

    def planted(rows: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        wrong(rows[0]) if rows.is_cuda else None
        return plain(rows, edges)

    monkeypatch.setattr(complete.graphs, "spatial_similarity", planted)
    with pytest.raises(Exception):  # noqa: B017, PT011  # each of another kind
        on_cuda_without_values(PAPER, photos())
