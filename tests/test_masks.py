"""Boolean masks against their definitions, cell by cell."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask
from torch import Tensor

from oapseg.masks import Masks, area, boxes_xyxy, empty_masks, iou, mask_to_rle, overlap_decay, resize, rle_to_mask

grids = arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))).map(torch.from_numpy)
stacks = st.tuples(st.integers(0, 4), st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.bool_, shape)
)


def some_masks(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 7, 5, generator=torch.Generator().manual_seed(seed)) > 0.5


@given(grids)
@settings(deadline=None)
def test_a_mask_comes_back_from_its_run_lengths(mask: Tensor) -> None:
    assert torch.equal(rle_to_mask(mask_to_rle(mask)), mask)


@given(grids)
@settings(deadline=None)
def test_run_lengths_are_those_of_pycocotools_as_text(mask: Tensor) -> None:
    encoded = coco_mask.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
    assert mask_to_rle(mask) == {"size": list(mask.shape), "counts": encoded["counts"].decode()}
    assert torch.equal(rle_to_mask(encoded), mask)


def test_a_plain_list_of_counts_goes_down_the_columns_and_starts_outside() -> None:
    mask = rle_to_mask({"size": [2, 3], "counts": [1, 2, 3]})
    assert mask.int().tolist() == [[0, 1, 0], [1, 0, 0]]


def test_iou_equals_counting_cells_of_every_pair() -> None:
    a, b = some_masks(4, 1), some_masks(3, 2)
    a[0], b[0] = False, False
    counted = torch.tensor([[(x & y).sum() / (x | y).sum().clamp(min=1) for y in b] for x in a])
    assert torch.allclose(iou(a, b), counted)


@given(stacks)
@settings(deadline=None)
def test_boxes_are_the_tightest_and_zero_where_a_mask_is_empty(stack: np.ndarray) -> None:
    for mask, box in zip(stack, boxes_xyxy(torch.from_numpy(stack)).tolist(), strict=True):
        rows, columns = np.nonzero(mask)
        tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if mask.any() else [0, 0, 0, 0]
        assert box == tight


def test_area_counts_cells() -> None:
    masks = some_masks(3)
    assert area(masks).tolist() == [int(mask.sum()) for mask in masks]


def test_resizing_to_the_same_size_changes_nothing() -> None:
    assert torch.equal(resize(some_masks(3), 7, 5), some_masks(3))


def test_full_and_empty_masks_stay_so_at_any_size() -> None:
    masks = torch.stack([torch.ones(4, 6), torch.zeros(4, 6)]).bool()
    for height, width in [(1, 1), (9, 13), (40, 3)]:
        large = resize(masks, height, width)
        assert large.shape == (2, height, width)
        assert large[0].all()
        assert not large[1].any()


def test_resizing_commutes_with_a_flip() -> None:
    masks = some_masks(4)  # four times larger: all weights are exact, so that no tie at one half is broken by rounding
    assert torch.equal(resize(masks.flip(2), 28, 20), resize(masks, 28, 20).flip(2))


def test_a_coarse_half_is_the_half_of_the_photo() -> None:
    half = torch.zeros(1, 2, 4, dtype=torch.bool)
    half[:, :, :2] = True
    large = resize(half, 16, 32)
    assert large[..., :16].all()
    assert not large[..., 16:].any()


@pytest.mark.parametrize("index", [torch.tensor([2, 0]), torch.tensor([True, False, True])])
def test_a_choice_takes_every_field_along(index: Tensor) -> None:
    number = torch.arange(3)
    masks = Masks(some_masks(3), number + 1, number % 2, torch.eye(3), number / 2)
    chosen = masks.select(index)
    for field, whole in zip(chosen, masks, strict=True):
        assert torch.equal(field, whole[index])
    assert len(chosen) == 2


def test_no_mask_at_all_has_the_shapes_of_its_grid() -> None:
    none = empty_masks(4, 6, 8)
    assert len(none) == 0
    assert (none.masks.shape, none.features.shape) == ((0, 4, 6), (0, 8))
    assert resize(none.masks, 8, 8).shape == (0, 8, 8)
    assert boxes_xyxy(none.masks).shape == (0, 4)
    assert iou(none.masks, none.masks).shape == (0, 0)


def test_a_copy_of_a_better_mask_decays_to_nothing_and_a_mask_apart_stays() -> None:
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[:2, :2] = True
    masks[2, 3] = True
    assert overlap_decay(masks, torch.tensor([0.5, 0.9, 0.1])).tolist() == [0.0, 1.0, 1.0]


def test_decay_of_a_pair_is_what_its_overlap_leaves() -> None:
    masks = torch.zeros(2, 1, 4, dtype=torch.bool)
    masks[0, 0, :3] = masks[1, 0, 1:] = True
    assert torch.allclose(overlap_decay(masks, torch.tensor([0.9, 0.8])), torch.tensor([1.0, 0.5]))
