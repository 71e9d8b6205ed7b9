"""TokenCut against LAPACK's cut, and on photos whose object is known."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import torch
from planted_objects import found_iou, planted
from scipy import ndimage
from smooth_field import smooth_patches

from oapseg.encode.patches import Patches
from oapseg.pool.tokencut import TokenCut, foreground, patch_graph

PAPER = TokenCut(tau=0.2, eps=1e-5, edges="binary", solver="lanczos")


def oracle(photo: Patches, tau: float, eps: float) -> np.ndarray:
    """The method in float64 by scipy: generalised problem, split at the mean, component of the strongest patch."""
    cosine = (photo.features @ photo.features.T).numpy()
    weight = np.where(cosine > tau, 1.0, eps)
    degree = np.diag(weight.sum(1))
    vector = scipy.linalg.eigh(degree - weight, degree, subset_by_index=[1, 1])[1][:, 0]
    seed = np.abs(vector).argmax()
    side = vector > vector.mean()
    side = side if side[seed] else ~side
    parts, _ = ndimage.label(side.reshape(photo.grid))
    mask: np.ndarray = parts == parts.flat[seed]
    return mask


@pytest.mark.parametrize("seed", range(12))
def test_masks_are_those_of_scipys_eigenvectors(seed: int) -> None:
    photo = smooth_patches(14, 11, 32, noise=0.3, seed=seed)
    for solver in ("lanczos", "eigh"):
        masks = replace(PAPER, solver=solver)(photo)
        np.testing.assert_array_equal(masks.masks[0].numpy(), oracle(photo, 0.2, 1e-5))


def test_a_planted_object_is_found() -> None:
    photo, truth = planted(16, 20, [(4, 5, 11, 13)], noise=0.1)
    for edges in ("binary", "cosine"):
        masks = replace(PAPER, edges=edges)(photo)
        assert found_iou(masks, truth) == [1.0]
    assert (masks.level.tolist(), masks.kind.tolist(), masks.scores.tolist()) == ([0], [0], [1.0])


def test_of_two_like_objects_one_connected_part_is_the_mask() -> None:
    photo, _ = planted(16, 20, [(2, 2, 8, 8)], noise=0.05)
    twin = photo.features.unflatten(0, photo.grid).clone()
    twin[10:14, 12:18] = twin[2:6, 2:8]
    masks = PAPER(Patches(twin.flatten(0, 1), photo.grid)).masks
    assert ndimage.label(masks[0].numpy())[1] == 1
    assert int(masks[0].sum()) in (24, 36)


def test_weights_are_one_above_tau_and_eps_elsewhere() -> None:
    features = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    binary = patch_graph(features[None], 0.6, 1e-5, "binary")[0]
    torch.testing.assert_close(binary, torch.tensor([[1, 1e-5, 1e-5], [1e-5, 1, 1], [1e-5, 1, 1]]))
    cosine = patch_graph(features[None], 0.5, 1e-5, "cosine")[0]
    torch.testing.assert_close(cosine, torch.tensor([[1, 0.6, 1e-5], [0.6, 1, 0.8], [1e-5, 0.8, 1]]))


def test_a_side_with_three_corners_is_background() -> None:
    vector = torch.full((6, 6), 0.5)
    vector[0, 0] = 1.0  # the strongest patch lies on the large side, in the corners
    vector[2:4, 2:4] = -0.9
    grid, flat = (6, 6), vector.flatten()
    assert foreground(0.1, flat, grid).sum() == 32
    assert foreground(0.1, flat, grid, corners=3).sum() == 4
    vector[0, 0], vector[2:4, 2:4] = 0.5, -1.0
    assert foreground(0.1, vector.flatten(), grid, corners=3).sum() == 4


def test_a_side_with_two_corners_is_background_by_the_papers_count_alone() -> None:
    vector = torch.full((4, 4), -0.5)
    vector[0] = 1.0
    assert foreground(0.1, vector.flatten(), (4, 4), corners=3).sum() == 4
    assert foreground(0.1, vector.flatten(), (4, 4), corners=2).sum() == 12


@pytest.mark.gpu
def test_cuda_and_cpu_give_the_same_masks() -> None:
    batch = [smooth_patches(28, 28, 64, noise=0.3, seed=seed) for seed in range(20)]
    there = PAPER.batch([Patches(photo.features.cuda(), photo.grid) for photo in batch])
    for here, masks in zip(PAPER.batch(batch), there, strict=True):
        assert torch.equal(masks.masks.cpu(), here.masks)
