"""Deep spectral instances on photos whose objects are known, and its steps one by one."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from planted_objects import found_iou, planted
from scipy import ndimage
from smooth_field import smooth_patches

from oapseg.encode.patches import Patches
from oapseg.pool.deep_spectral import DeepSpectral, median_filter, num_clusters, unframed
from oapseg.pool.similarity import Metric, graph_weights
from oapseg.pool.spectral import smallest_cuts

BASE = DeepSpectral(
    ncr=1.0,
    bins=30,
    dcr=0,
    affinity="boc",
    background="zero",
    eigenvectors=4,
    instances="eigengap",
    max_instances=6,
    median=3,
    clean="paper",
    solver="lanczos",
)


def two_objects() -> tuple[Patches, torch.Tensor]:
    """Two objects more alike than either is like the background."""
    photo, truth = planted(20, 24, [(5, 3, 15, 10), (5, 14, 15, 21)], noise=0.05)
    features = photo.features.clone()
    features[truth.any(0).flatten()] += 0.7 * features[truth[0].flatten()].mean(0)
    return Patches(torch.nn.functional.normalize(features, dim=1), photo.grid), truth


def three_objects() -> tuple[Patches, torch.Tensor]:
    """As two, with one more below."""
    photo, truth = planted(28, 24, [(4, 3, 13, 10), (4, 14, 13, 21), (16, 6, 24, 18)], noise=0.05)
    features = photo.features.clone()
    features[truth.any(0).flatten()] += 0.7 * features[truth[0].flatten()].mean(0)
    return Patches(torch.nn.functional.normalize(features, dim=1), photo.grid), truth


@pytest.mark.parametrize("background", ["zero", "drop"])
@pytest.mark.parametrize("instances", ["eigengap", 2])
def test_two_planted_objects_are_the_instances(instances: object, background: str) -> None:
    photo, truth = two_objects()
    masks = replace(BASE, instances=instances, background=background)(photo)
    assert len(masks) == 2
    assert min(found_iou(masks, truth)) > 0.85


@pytest.mark.parametrize("affinity", [metric for metric in get_args(Metric) if metric != "mahalanobis"])
def test_every_affinity_tells_the_objects_apart(affinity: Metric) -> None:
    photo, truth = two_objects()
    masks = replace(BASE, affinity=affinity, instances=2, background="drop")(photo)
    assert min(found_iou(masks, truth)) > 0.8


def test_the_released_cleaning_finds_them_too() -> None:
    photo, truth = two_objects()
    assert min(found_iou(replace(BASE, clean="released", instances=2)(photo), truth)) > 0.8


def test_noisy_channels_do_not_hide_the_objects() -> None:
    photo, truth = two_objects()
    noise = 0.35 * torch.randn(len(photo.features), 96, generator=torch.Generator().manual_seed(5))
    noisy = Patches(torch.nn.functional.normalize(torch.cat([photo.features, noise], 1), dim=1), photo.grid)
    masks = replace(BASE, ncr=0.25, instances=2)(noisy)
    assert min(found_iou(masks, truth)) > min([*found_iou(replace(BASE, instances=2)(noisy), truth), 0.8])


def test_masks_are_disjoint_and_as_many_as_asked_for() -> None:
    for seed in range(5):
        photo = smooth_patches(16, 16, 32, noise=0.3, seed=seed)
        masks = replace(BASE, instances=3)(photo).masks
        assert len(masks) == 3
        assert int(masks.sum(0).max()) == 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_with_labels_a_photo_has_as_many_instances_as_its_labels_have_things(count: int) -> None:
    photo, truth = three_objects()
    masks = replace(BASE, instances="labels")(photo._replace(num_things=count)).masks
    assert len(masks) == count
    assert int(masks.sum(0).max()) == 1
    assert float((masks.any(0) & truth.any(0)).sum() / truth.any(0).sum()) > 0.9


def test_by_labels_each_photo_of_a_batch_has_its_own_number_and_a_photo_without_things_no_mask() -> None:
    photo, truth = three_objects()
    batch = [photo._replace(num_things=count) for count in (3, 0, 2)]
    found = replace(BASE, instances="labels").batch(batch)
    assert [len(masks) for masks in found] == [3, 0, 2]
    assert min(found_iou(found[0], truth)) > 0.8
    assert found[1].masks.shape[1:] == photo.grid


def test_a_photo_without_labels_is_one_line_where_labels_are_asked_for() -> None:
    photo, _ = two_objects()
    with pytest.raises(ValueError, match=r"^image 1 of the batch: pool\.deep_spectral\.instances is labels"):
        replace(BASE, instances="labels").batch([photo._replace(num_things=2), photo])


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_eigengap_counts_planted_clusters(count: int) -> None:
    random = torch.Generator().manual_seed(count)
    centres = torch.linalg.qr(torch.randn(16, count, generator=random))[0].T
    points = centres.repeat_interleave(30, 0) + 0.05 * torch.randn(30 * count, 16, generator=random)
    values = smallest_cuts(graph_weights(points, "cosine")[None], 8, "eigh").values[0]
    assert num_clusters(values) == count


def test_one_cluster_is_counted_where_nothing_differs() -> None:
    assert num_clusters(torch.ones(5, dtype=torch.float64)) == 1
    assert num_clusters(torch.zeros(0, dtype=torch.float64)) == 1


@pytest.mark.parametrize("side", [3, 5])
def test_the_median_is_scipys(side: int) -> None:
    planes = torch.randn(2, 9, 7, generator=torch.Generator().manual_seed(0))
    for found, plane in zip(median_filter(planes, side), planes.numpy(), strict=True):
        np.testing.assert_array_equal(found.numpy(), ndimage.median_filter(plane, side, mode="nearest"))


def test_a_foreground_that_fills_two_borders_is_swapped() -> None:
    frame = torch.ones(20, 20, dtype=torch.bool)
    frame[6:14, 6:14] = False
    assert torch.equal(unframed(frame), ~frame)
    one_side = torch.zeros(20, 20, dtype=torch.bool)
    one_side[:6] = True
    assert torch.equal(unframed(one_side), one_side)
