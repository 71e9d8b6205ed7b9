"""Our pooling against Algorithm 1 as printed, in float64."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from reference_oap import Nodes, reference_layers, reference_masks
from smooth_field import smooth_patches

from oapseg.encode.load import load_encoder
from oapseg.encode.patches import Patches
from oapseg.params import default_params_path, load_params
from oapseg.pool.oap import OAP, Regions

PAPER = OAP(tau=[0.8, 0.7, 0.6, 0.5, 0.4], sigma=0.07, omega_f=0.6, phi=5, vote="sum", rounds=1, chunk=64)
SETTINGS: list[dict[str, Any]] = [
    {"vote": "sum", "rounds": 1},
    {"vote": "mean", "rounds": 1},
    {"vote": "sum", "rounds": "stable"},
    {"vote": "mean", "rounds": "stable"},
]


def random_patches(seed: int, largest: int) -> Patches:
    random = np.random.default_rng(seed)
    height, width = (int(side) for side in random.integers(1, largest + 1, 2))
    channels, noise = int(random.choice([4, 16, 64, 192])), float(random.choice([0.05, 0.2, 0.5, 1.0]))
    return smooth_patches(height, width, channels, noise=noise, seed=seed)


def compare(oap: OAP, patches: Patches) -> int:
    """Number of settled poolings, all found equal; one that hangs on a similarity near a threshold may differ."""
    fields = {name: value for name, value in asdict(oap).items() if name not in ("phi", "chunk")}
    expected = reference_layers(patches.features.numpy(), patches.grid, **fields)
    settled = 0
    for ours, theirs in zip(oap.layers([patches]), expected, strict=True):
        for regions, nodes in ((ours.instance, theirs.instance), (ours.semantic, theirs.semantic)):
            if nodes.settled:
                assert_same_regions(regions, nodes)
                settled += 1
    if expected[-1].instance.settled and all(layer.semantic.settled for layer in expected):
        masks = oap(patches)
        keys = [(kind, mask.numpy().tobytes()) for kind, mask in zip(masks.kind.tolist(), masks.masks, strict=True)]
        assert len(set(keys)) == len(keys)
        assert dict(zip(keys, masks.level.tolist(), strict=True)) == reference_masks(expected, oap.phi)
    return settled


def assert_same_regions(regions: Regions, nodes: Nodes) -> None:
    np.testing.assert_array_equal(regions.node[0].numpy(), nodes.M.argmax(0))
    np.testing.assert_array_equal(regions.area.numpy(), nodes.M.sum(1))
    np.testing.assert_allclose(regions.features.numpy(), nodes.V, atol=1e-5, rtol=0)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_masks_and_features_equal_the_literal_algorithm(setting: dict[str, Any]) -> None:
    oap = replace(PAPER, **setting)
    settled = [compare(oap, random_patches(seed, largest=14)) for seed in range(10)]
    assert sum(settled) > 0.8 * 10 * len(settled)


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_masks_and_features_equal_the_literal_algorithm_on_many_graphs(setting: dict[str, Any]) -> None:
    oap = replace(PAPER, **setting)
    settled = [compare(oap, random_patches(seed, largest=28)) for seed in range(1000, 1050)]
    assert sum(settled) > 0.8 * 10 * len(settled)


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS[:2], ids=str)
def test_masks_and_features_equal_the_literal_algorithm_on_photos(setting: dict[str, Any], real_data: Path) -> None:
    oap, encoder = replace(PAPER, **setting), load_encoder(load_params(default_params_path()).encode)
    paths = sorted((real_data / "coco").rglob("*.jpg"))[:20]
    photos = [torch.from_numpy(np.array(Image.open(path).convert("RGB"))) for path in paths]
    settled = [compare(oap, encoder.patches([photo], 224)[0]) for photo in photos]
    assert sum(settled) > 0.8 * 10 * len(settled)
