"""The generator MultiCut: what it finds, how it ranks, and photos that hold nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from planted_objects import planted
from smooth_field import smooth_patches

from oapseg.encode.patches import Patches
from oapseg.masks import iou
from oapseg.params.pool import MultiCutParams
from oapseg.pool.graph import grid_edges
from oapseg.pool.multicut import MultiCut, apart, contrast, join_weights

BOXES = [(3, 3, 9, 8), (12, 5, 17, 15), (4, 13, 8, 19)]
WIDE = MultiCut(alpha=0.5, epsilon=0.01, reach=[2, 4], keep=1.0, phi=3)


@pytest.mark.parametrize("reach", [[], [2, 4]])
@pytest.mark.parametrize("seed", range(3))
def test_planted_regions_are_found_and_cover_the_photo(reach: list[int], seed: int) -> None:
    photo, objects = planted(20, 24, BOXES, noise=0.05, seed=seed)
    masks = replace(WIDE, reach=reach)(photo)
    assert (masks.masks.sum(0) == 1).all()
    assert iou(objects, masks.masks).amax(1).tolist() == [1.0] * len(objects)
    assert len(masks) == len(objects) + 1


def test_pairs_apart_bridge_a_gap_that_neighbours_alone_do_not() -> None:
    photo, (left, right) = planted(6, 13, [(0, 0, 6, 6), (0, 7, 6, 13)], noise=0.02)
    features = photo.features.clone()
    features[right.flatten()] = features[left.flatten()][0]
    bridged = Patches(features, photo.grid)
    whole = left | right
    assert iou(whole[None], replace(WIDE, reach=[2, 4])(bridged).masks).max() == 1
    assert iou(whole[None], replace(WIDE, reach=[])(bridged).masks).max() < 0.6


def test_pairs_apart_lie_in_rows_and_columns() -> None:
    assert {tuple(pair) for pair in apart(3, 4, 2).tolist()} == {
        *((0, 2), (1, 3), (4, 6), (5, 7), (8, 10), (9, 11)),
        *((0, 8), (1, 9), (2, 10), (3, 11)),
    }
    assert apart(1, 3, 5).shape == (0, 2)


def test_weights_are_log_odds_that_change_sign_at_alpha_and_end_at_epsilon() -> None:
    weights = join_weights(torch.tensor([-1.0, 0.0, 0.5, 0.7, 0.8, 1.0]), alpha=0.7, epsilon=0.01)
    odds = np.array([0.01, 0.01, 0.5, 0.7, 0.8, 0.99])
    np.testing.assert_allclose(weights.numpy(), np.log(odds / (1 - odds)) - np.log(0.7 / 0.3), atol=1e-6)


def test_contrast_equals_its_definition_in_a_loop() -> None:
    photo = smooth_patches(6, 7, 8, noise=0.4, seed=0)
    region = torch.unique(torch.randint(0, 9, (42,), generator=torch.Generator().manual_seed(1)), return_inverse=True)[
        1
    ]
    edges = grid_edges(6, 7)
    affinity = (photo.features[edges[:, 0]] * photo.features[edges[:, 1]]).sum(1)
    found = contrast(region, edges, affinity)
    for index, value in enumerate(found.tolist()):
        inside, across = [], []
        for (i, j), cosine in zip(edges.tolist(), affinity.tolist(), strict=True):
            ends = (int(region[i]) == index, int(region[j]) == index)
            if all(ends):
                inside.append(cosine)
            elif any(ends):
                across.append(cosine)
        expected = (np.mean(inside) if inside else -1) - (np.mean(across) if across else 1)
        assert value == pytest.approx(expected, abs=1e-6)


def test_the_filter_keeps_the_clearest_share() -> None:
    photo = smooth_patches(16, 16, 16, noise=0.4, seed=2)
    every = WIDE(photo)
    assert len(every) > 3
    best = replace(WIDE, keep=0.5)(photo)
    assert torch.equal(best.masks, every.masks[: -(-len(every) // 2)])
    edges = grid_edges(16, 16)
    affinity = (photo.features[edges[:, 0]] * photo.features[edges[:, 1]]).sum(1)
    clearness = [float(contrast((~mask).flatten().long(), edges, affinity)[0]) for mask in every.masks]
    assert clearness == sorted(clearness, reverse=True)


def test_a_constant_photo_is_one_mask_and_noise_has_none_that_is_large() -> None:
    constant = F.normalize(torch.ones(30, 8), dim=1)
    assert WIDE(Patches(constant, (5, 6))).masks.all(1).all(1).tolist() == [True]
    noise = F.normalize(torch.randn(400, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    assert len(WIDE(Patches(noise, (20, 20)))) == 0


def test_an_alpha_that_no_affinity_can_pass_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"alpha 0.8 must lie between epsilon and 1 - epsilon, epsilon is 0.2"):
        MultiCutParams(alpha=0.8, epsilon=0.2, reach=[], keep=1.0, phi=1)


@pytest.mark.parametrize("grid", [(1, 1), (1, 30), (30, 1)])
def test_thin_grids_give_masks_of_their_shape(grid: tuple[int, int]) -> None:
    photo = smooth_patches(*grid, 8, noise=0.1, seed=0)
    masks = replace(WIDE, phi=1)(photo)
    assert masks.masks.shape[1:] == grid
    assert (masks.masks.sum(0) == 1).all()
