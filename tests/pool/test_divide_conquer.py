"""Divide-and-conquer: merging against a naive loop, and what becomes a part."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_objects import found_iou, planted
from smooth_field import smooth_field, smooth_patches

from oapseg.encode.patches import Patches
from oapseg.masks import Masks, iou
from oapseg.params import default_params_path, load_params
from oapseg.pool.describe import described
from oapseg.pool.divide_conquer import DivideConquer, drop_alike, merge_neighbours

THRESHOLDS = [0.9, 0.7, 0.5, 0.3]
BASE = DivideConquer(
    confidence=0.1,
    maskcut=dict(load_params(default_params_path()).pool.maskcut),
    crop_px=256,
    thresholds=THRESHOLDS,
    min_patches=4,
    inside=0.9,
    max_iou=0.9,
    nms_window=0,
)


def naive(features: np.ndarray, grid: tuple[int, int], thresholds: list[float]) -> list[np.ndarray]:
    """Look at all pairs of regions before every merge."""
    height, width = grid
    regions = {index: [index] for index in range(height * width)}

    def touch(a: list[int], b: list[int]) -> bool:
        return any(abs(i // width - j // width) + abs(i % width - j % width) == 1 for i in a for j in b)

    def cosine(a: list[int], b: list[int]) -> float:
        first, second = features[a].sum(0), features[b].sum(0)
        return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))

    neighbours = {(a, b): cosine(regions[a], regions[b]) for a in regions for b in regions if a < b and touch([a], [b])}
    labels, free = [], height * width
    for threshold in thresholds:
        while neighbours and max(neighbours.values()) >= threshold:
            (a, b), _ = max(neighbours.items(), key=lambda pair: (pair[1], -pair[0][0], -pair[0][1]))
            regions[free] = regions.pop(a) + regions.pop(b)
            around = {i + j - c for i, j in neighbours for c in (a, b) if c in (i, j)} - {a, b}
            neighbours = {pair: value for pair, value in neighbours.items() if not {a, b} & set(pair)}
            neighbours |= {(other, free): cosine(regions[other], regions[free]) for other in around}
            free += 1
        label = np.empty(height * width, dtype=int)
        for number, members in enumerate(sorted(regions.values(), key=min)):
            label[members] = number
        labels.append(label)
    return labels


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 7), st.integers(1, 7), st.sampled_from([0.1, 0.4, 0.9]), st.integers(0, 9999))
def test_merging_is_that_of_a_naive_loop(height: int, width: int, noise: float, seed: int) -> None:
    features = smooth_field(height, width, 12, noise=noise, seed=seed, cell=2).double().numpy()
    found = merge_neighbours(features, (height, width), THRESHOLDS)
    for regions, expected in zip(found, naive(features, (height, width), THRESHOLDS), strict=True):
        np.testing.assert_array_equal(regions, expected)


def test_each_threshold_joins_regions_of_the_one_before() -> None:
    features = smooth_field(12, 12, 12, noise=0.4, seed=4).numpy()
    finer = np.arange(144)
    for regions in merge_neighbours(features, (12, 12), THRESHOLDS):
        assert len(np.unique(np.stack([finer, regions]), axis=1).T) == finer.max() + 1
        finer = regions


def one_object(photo: Patches, box: tuple[int, int, int, int], score: float = 1.0) -> Masks:
    mask = torch.zeros(1, *photo.grid, dtype=torch.bool)
    top, left, bottom, right = box
    mask[0, top:bottom, left:right] = True
    return Masks(*described(mask, photo)[:4], torch.tensor([score]))


def test_the_planted_parts_of_an_object_are_found_and_it_is_whole_at_level_one() -> None:
    photo, truth = planted(20, 20, [(4, 4, 9, 16), (9, 4, 16, 16)], noise=0.05)
    masks = replace(BASE, divider=lambda patches: one_object(patches, (4, 4, 16, 16)))(photo)
    assert found_iou(masks, truth) == [1.0, 1.0]
    whole = masks.masks[masks.level == 1]
    assert len(whole) == 1
    assert torch.equal(whole[0], truth.any(0))
    assert (masks.level[1:] > 1).all()


def test_an_object_below_the_confidence_is_not_conquered() -> None:
    photo, _ = planted(20, 20, [(4, 4, 9, 16), (9, 4, 16, 16)], noise=0.05)
    assert len(replace(BASE, divider=lambda patches: one_object(patches, (4, 4, 16, 16), 0.05))(photo)) == 0


def test_parts_lie_inside_their_object_and_are_large_enough_and_unlike() -> None:
    for seed in range(6):
        photo = smooth_patches(18, 18, 16, noise=0.4, seed=seed)
        masks = BASE(photo)
        whole, parts = masks.masks[masks.level == 1], masks.masks[masks.level > 1]
        size = parts.flatten(1).sum(1)
        within = (parts[:, None] & whole[None]).flatten(2).sum(2).amax(1) if len(parts) else size
        assert (size >= 4).all()
        assert (within > 0.9 * size).all()


def test_alike_masks_go_and_a_window_looks_at_the_nearest_alone() -> None:
    masks = torch.zeros(4, 1, 20, dtype=torch.bool)
    for index, length in enumerate((20, 19, 10, 19)):
        masks[index, 0, :length] = True
    assert drop_alike(masks, 0.9, 0).tolist() == [0, 2]
    assert drop_alike(masks, 0.9, 3).tolist() == [0, 2, 3]


def test_an_object_is_encoded_anew_where_the_photo_and_an_encoder_are_given() -> None:
    photo, _ = planted(20, 20, [(4, 4, 9, 16)], noise=0.05)
    image = torch.zeros(160, 160, 3, dtype=torch.uint8)
    seen = []

    def encode(images: list[torch.Tensor], image_px: int) -> list[Patches]:
        seen.append((tuple(images[0].shape), image_px))
        return [planted(32, 32, [(0, 0, 16, 32)], noise=0.02)[0]]

    divided = replace(BASE, divider=lambda patches: one_object(patches, (4, 4, 16, 16)), encode=encode)
    masks = divided(photo._replace(image=image))
    height, width, channels = seen[0][0]
    assert (height, width, channels, seen[0][1]) == (96, 96, 3, 256)
    upper = torch.zeros(1, 160, 160, dtype=torch.bool)
    upper[0, 32:80, 32:128] = True
    assert float(iou(upper, masks.masks).max()) > 0.97
    assert masks.features.shape == (len(masks), 32)


def test_without_a_photo_an_encoder_is_not_asked() -> None:
    photo, truth = planted(20, 20, [(4, 4, 9, 16), (9, 4, 16, 16)], noise=0.05)

    def refuse(images: list[torch.Tensor], image_px: int) -> list[Patches]:
        raise AssertionError(f"{len(images)} photos at {image_px} px")

    masks = replace(BASE, divider=lambda patches: one_object(patches, (4, 4, 16, 16)), encode=refuse)(photo)
    assert masks.masks.shape[1:] == photo.grid
    assert found_iou(masks, truth) == [1.0, 1.0]


def test_a_broken_photo_is_named_before_a_model_sees_it() -> None:
    good, _ = planted(6, 6, [(1, 1, 4, 4)])
    bad = good._replace(features=good.features.clone().fill_(torch.nan))
    with pytest.raises(ValueError, match="image 1 of the batch"):
        replace(BASE, divider=lambda patches: one_object(patches, (1, 1, 4, 4))).batch([good, bad])
