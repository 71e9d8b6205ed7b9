"""MaskCut against the same rules in plain numpy, and each rule by itself."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import torch
from planted_objects import found_iou, planted
from scipy import ndimage
from smooth_field import smooth_patches

from oapseg.encode.patches import Patches
from oapseg.pool.maskcut import MaskCut

BASE = MaskCut(
    tau=0.2,
    eps=1e-5,
    num_masks=3,
    corners=3,
    max_iou=0.5,
    min_area=0.01,
    compared="every",
    solver="lanczos",
    crf=None,
)
CRF = {
    "steps": 10,
    "gaussian_weight": 7.0,
    "gaussian_sigma_px": 3.0,
    "bilateral_weight": 10.0,
    "bilateral_sigma_px": 50.0,
    "bilateral_sigma_colour": 5.0,
    "certainty": 0.731,
}


def oracle(photo: Patches, rule: MaskCut) -> list[np.ndarray]:
    """The released code's steps, features of found masks set to zero, in float64 by scipy."""
    features, grid = photo.features.double().numpy().copy(), photo.grid
    found: list[np.ndarray] = []
    for _ in range(rule.num_masks):
        weight = np.where(features @ features.T > rule.tau, 1.0, rule.eps)
        degree = np.diag(weight.sum(1))
        vector = scipy.linalg.eigh(degree - weight, degree, subset_by_index=[1, 1])[1][:, 0]
        vector = vector * np.sign(vector[np.abs(vector).argmax()])
        side = vector > vector.mean()
        if side.reshape(grid)[[0, 0, -1, -1], [0, -1, 0, -1]].sum() >= rule.corners:
            side, vector = ~side, -vector
        parts, _ = ndimage.label(side.reshape(grid))
        mask = parts == parts.flat[vector.argmax()]
        rivals = found if rule.compared == "every" else found[-1:]
        copy = any((mask & rival).sum() > rule.max_iou * (mask | rival).sum() for rival in rivals)
        if found and (copy or mask.mean() <= rule.min_area):
            if rule.compared == "every":
                break
            mask = np.zeros_like(mask)
        found.append(mask)
        features[mask.ravel()] = 0
    taken = np.zeros(grid, dtype=bool)
    result = []
    for mask in found:
        result.append(mask & ~taken)
        taken |= mask
    return [mask for mask in result if mask.any()]


@pytest.mark.parametrize("compared", ["every", "previous"])
@pytest.mark.parametrize("solver", ["lanczos", "eigh"])
@pytest.mark.parametrize("seed", range(8))
def test_masks_are_those_of_the_steps_in_numpy(seed: int, solver: str, compared: str) -> None:
    photo = smooth_patches(14, 11, 32, noise=0.3, seed=seed)
    rule = replace(BASE, solver=solver, compared=compared)
    expected = oracle(photo, rule)
    masks = rule(photo).masks
    assert len(masks) == len(expected)
    for mask, other in zip(masks.numpy(), expected, strict=True):
        np.testing.assert_array_equal(mask, other)


def test_three_planted_objects_are_found_one_after_the_other() -> None:
    photo, truth = planted(18, 18, [(2, 2, 7, 8), (2, 11, 8, 16), (11, 5, 16, 13)], noise=0.1)
    masks = BASE(photo)
    assert min(found_iou(masks, truth)) > 0.9


def test_a_mask_more_is_asked_for_a_cut_more_is_made() -> None:
    photo, _ = planted(18, 18, [(2, 2, 7, 8), (2, 11, 8, 16), (11, 5, 16, 13)], noise=0.1)
    counts = [len(replace(BASE, num_masks=number)(photo)) for number in (1, 2, 3)]
    assert counts == [1, 2, 3]


def test_masks_are_disjoint() -> None:
    for seed in range(10):
        photo = smooth_patches(15, 15, 16, noise=0.4, seed=seed)
        for compared in ("every", "previous"):
            assert int(replace(BASE, compared=compared)(photo).masks.sum(0).max()) <= 1


def test_a_small_mask_is_dropped_unless_it_is_the_first() -> None:
    photo, truth = planted(20, 20, [(2, 2, 9, 9), (14, 14, 16, 16)], noise=0.05)
    assert found_iou(replace(BASE, min_area=0.005)(photo), truth)[1] > 0.9
    assert found_iou(replace(BASE, min_area=0.3)(photo), truth)[1] < 0.1
    assert len(replace(BASE, min_area=1.0)(photo)) == 1


def test_every_mask_is_a_copy_at_an_iou_below_zero() -> None:
    photo, _ = planted(18, 18, [(2, 2, 7, 8), (11, 5, 16, 13)], noise=0.1)
    assert len(replace(BASE, max_iou=-1.0)(photo)) == 1


def test_a_batch_gives_the_masks_of_its_photos() -> None:
    photos = [smooth_patches(12, 13, 16, noise=0.3, seed=seed) for seed in range(4)]
    photos.append(smooth_patches(7, 9, 16, noise=0.3, seed=9))
    for masks, photo in zip(BASE.batch(photos), photos, strict=True):
        assert torch.equal(masks.masks, BASE(photo).masks)


def test_the_crf_follows_the_edges_of_the_photo_and_fills_holes() -> None:
    image = torch.full((120, 160, 3), 40, dtype=torch.uint8)
    image[28:85, 37:107] = 220
    photo, _ = planted(12, 16, [(3, 4, 8, 10)], noise=0.05)
    (mask,) = replace(BASE, num_masks=1, crf=CRF)(photo._replace(image=image)).masks
    assert mask.shape == (120, 160)
    true = image[..., 0] > 100
    assert float((mask & true).sum() / (mask | true).sum()) > 0.97


def test_a_mask_that_the_crf_changes_much_is_dropped() -> None:
    image = torch.full((96, 96, 3), 40, dtype=torch.uint8)
    image[44:46, 44:46] = 220
    photo, _ = planted(48, 48, [(22, 22, 24, 24)], noise=0.05)
    assert len(replace(BASE, num_masks=1)(photo)) == 1
    refined = replace(BASE, num_masks=1, crf={**CRF, "gaussian_weight": 90.0})(photo._replace(image=image * 0))
    assert len(refined) == 0


def test_a_crf_without_the_photo_is_refused() -> None:
    with pytest.raises(ValueError, match=r"pool\.maskcut\.crf"):
        replace(BASE, crf=CRF)(smooth_patches(8, 8, 16, noise=0.3, seed=0))


@pytest.mark.gpu
def test_cuda_and_cpu_give_the_same_masks() -> None:
    batch = [smooth_patches(28, 28, 64, noise=0.3, seed=seed) for seed in range(20)]
    there = BASE.batch([Patches(photo.features.cuda(), photo.grid) for photo in batch])
    for here, masks in zip(BASE.batch(batch), there, strict=True):
        assert torch.equal(masks.masks.cpu(), here.masks)
