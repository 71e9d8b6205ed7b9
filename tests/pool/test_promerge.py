"""ProMerge against Algorithm 1 of its paper, loop by loop, and on photos whose objects are known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from planted_objects import found_iou, planted
from scipy import ndimage
from smooth_field import smooth_patches

from oapseg.encode.patches import Patches
from oapseg.params import default_params_path, load_params
from oapseg.pool import prompts
from oapseg.pool.promerge import ProMerge

PAPER = ProMerge(
    stride=4,
    tau_b=0.2,
    split=True,
    phi=1,
    tau_ioa_bg=0.8,
    tau_f_bg=0.1,
    merge="paper",
    tau_ioa_merge=0.1,
    tau_f_merge=0.1,
    tau_ioa_alone=0.5,
    crf=None,
)
RULES = ("paper", "released")
BOXES = [(3, 3, 9, 8), (12, 5, 17, 15), (4, 13, 8, 19)]

Mask = np.ndarray


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(np.linalg.norm(vector), 1e-30)


def reference(rule: ProMerge, patches: Patches) -> list[Mask]:
    """Algorithm 1 as printed, with the released merge rule where it is asked for; the largest mask first."""
    features, (height, width) = patches.features.numpy().astype(np.float64), patches.grid
    background, foreground = [], []
    for i in range(0, height, rule.stride):
        for j in range(0, width, rule.stride):
            mask = (features @ features[i * width + j] > rule.tau_b).reshape(height, width)
            if sum(side.mean() >= 0.5 for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1])) > 1:
                background.append(mask)
            elif rule.split:
                labels, count = ndimage.label(mask)
                foreground += [labels == label for label in range(1, count + 1)]
            else:
                foreground.append(mask)
    voted = np.mean(background, 0) > 0.5 if background else np.zeros((height, width), bool)
    behind = unit(features[voted.ravel()].sum(0))
    seen, kept = np.zeros((height, width), bool), []
    for mask in sorted((mask for mask in foreground if mask.sum() >= rule.phi), key=lambda mask: mask.sum()):
        new = mask & ~seen
        if new.any() and (new & voted).sum() / new.sum() < rule.tau_ioa_bg:
            if voted.any() and unit(features[mask.ravel()].sum(0)) @ behind >= rule.tau_f_bg:
                continue
            seen |= new
            kept.append(mask)
    clusters: list[Mask] = []
    for mask in reversed(kept):
        joined = [cluster for cluster in clusters if joins(rule, mask, cluster, features)]
        clusters = [cluster for cluster in clusters if not any(cluster is other for other in joined)]
        clusters.append(np.logical_or.reduce([mask, *joined]))
    return sorted(clusters, key=lambda mask: -mask.sum())


def joins(rule: ProMerge, mask: Mask, cluster: Mask, features: np.ndarray) -> bool:
    similarity = unit(features[mask.ravel()].sum(0)) @ unit(features[cluster.ravel()].sum(0))
    share = (mask & cluster).sum() / mask.sum()
    if rule.merge == "paper":
        return bool(similarity > rule.tau_f_merge or share > rule.tau_ioa_merge)
    near = share > rule.tau_ioa_merge and similarity >= rule.tau_f_merge
    return bool(share > rule.tau_ioa_alone or near)


def as_set(masks: Any) -> set[bytes]:
    return {np.ascontiguousarray(mask).tobytes() for mask in masks}


@pytest.mark.parametrize("merge", RULES)
@pytest.mark.parametrize(
    "change", [{}, {"split": False, "tau_f_bg": 0.9}, {"stride": 1, "tau_b": 0.5, "phi": 4}], ids=str
)
def test_masks_are_those_of_the_printed_algorithm(merge: Any, change: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"merge": merge, "stride": 2, "tau_b": 0.6, "tau_f_bg": 0.7, "tau_f_merge": 0.8, **change}
    rule = replace(PAPER, **fields)
    found = 0
    for seed in range(8):
        photo = smooth_patches(13, 15, 16, noise=0.3, seed=seed)
        ours, theirs = rule(photo), reference(rule, photo)
        assert as_set(ours.masks.numpy()) == as_set(theirs)
        assert [int(mask.sum()) for mask in ours.masks] == [int(mask.sum()) for mask in theirs]
        found += len(ours)
    assert found >= 8


@pytest.mark.parametrize("merge", RULES)
@pytest.mark.parametrize("seed", range(3))
def test_planted_objects_are_found_and_the_background_is_not(merge: Any, seed: int) -> None:
    photo, truth = planted(20, 24, BOXES, noise=0.05, seed=seed)
    masks = replace(PAPER, merge=merge, tau_b=0.5, phi=3, tau_f_bg=0.5, tau_f_merge=0.5)(photo)
    assert found_iou(masks, truth) == [1.0] * len(BOXES)
    assert len(masks) == len(BOXES)


def test_the_two_rules_differ_where_masks_alike_lie_apart() -> None:
    photo, truth = planted(20, 24, BOXES, noise=0.02)
    features = photo.features.clone()
    features[truth[2].flatten()] = features[truth[0].flatten()][0]
    alike = Patches(features, photo.grid)
    paper, released = (
        replace(PAPER, merge=merge, tau_b=0.5, phi=3, tau_f_bg=0.5)(alike) for merge in ("paper", "released")
    )
    assert as_set((truth[0] | truth[2])[None].numpy()) < as_set(paper.masks.numpy())
    assert as_set(truth.numpy()) == as_set(released.masks.numpy())


def test_a_mask_is_background_from_two_half_covered_sides_on() -> None:
    masks = torch.zeros(4, 6, 8, dtype=torch.bool)
    masks[0, 0, :4] = masks[0, :3, 0] = True
    masks[1, 0, :4] = masks[1, :2, 0] = True
    masks[2, 0] = True
    masks[3, 1:-1, 1:-1] = True
    assert prompts.is_background(masks, 2).tolist() == [True, False, False, False]


def test_the_vote_is_by_more_than_half_of_the_masks() -> None:
    masks = torch.tensor([[[1, 1, 0]], [[1, 0, 0]], [[1, 1, 1]], [[1, 0, 0]]], dtype=torch.bool)
    assert prompts.vote(masks).tolist() == [[True, False, False]]
    assert not prompts.vote(masks[:0]).any()


def test_the_cascade_looks_at_new_patches_alone() -> None:
    background = torch.tensor([[False] * 4 + [True] * 4])
    small, large, covered = torch.zeros(3, 1, 8, dtype=torch.bool)
    small[0, 2:4] = True
    covered[0, 2:4] = True
    large[0, 2:8] = True  # 4 of 6 patches are background, but all of its new ones
    kept = prompts.cascade(torch.stack([large, small, covered]), background, 0.8, torch.zeros(3, dtype=torch.bool))
    assert kept.tolist() == [1]
    alone = prompts.cascade(large[None], background, 0.8, torch.zeros(1, dtype=torch.bool))
    assert alone.tolist() == [0]


def test_a_photo_without_background_keeps_its_masks_and_one_that_is_all_background_has_none() -> None:
    tiles = [(row, column, row + 4, column + 4) for row in (0, 4, 8) for column in (0, 4, 8)]
    photo, truth = planted(12, 12, tiles, noise=0.02)
    assert as_set(replace(PAPER, tau_b=0.5, stride=2)(photo).masks.numpy()) == as_set(truth.numpy())
    constant = Patches(F.normalize(torch.ones(30, 8), dim=1), (5, 6))
    assert len(PAPER(constant)) == 0


@pytest.mark.parametrize("grid", [(1, 1), (1, 30), (30, 1), (3, 50)])
@pytest.mark.parametrize("noise", [0.1, 3.0])
def test_thin_grids_and_noise_give_masks_of_their_shape(grid: tuple[int, int], noise: float) -> None:
    masks = PAPER(smooth_patches(*grid, 8, noise=noise, seed=0))
    assert masks.masks.shape[1:] == grid
    assert masks.masks.any(2).any(1).all()


def test_with_a_crf_masks_follow_the_photo_and_come_at_its_size() -> None:
    crf = dict(load_params(default_params_path()).refine.crf)
    photo, _ = planted(10, 12, [(2, 3, 7, 8)], noise=0.02)
    image = torch.full((40, 48, 3), 30, dtype=torch.uint8)
    image[10:29, 13:33] = 220  # the object is a little larger than its patches say
    rule = replace(PAPER, tau_b=0.5, phi=3, tau_f_bg=0.5, stride=2, crf={**crf, "bilateral_sigma_px": 10.0})
    masks = rule(Patches(photo.features, photo.grid, image))
    assert masks.masks.shape == (1, 40, 48)
    assert torch.equal(masks.masks[0], image[:, :, 0] == 220)
    with pytest.raises(ValueError, match=r"pool.promerge.crf: the CRF looks at the photo"):
        rule(photo)
