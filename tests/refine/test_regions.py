"""Parts, holes, copies and small masks, against what one sees in a drawing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from oapseg.masks import INSTANCE, SEMANTIC, Masks, empty_masks
from oapseg.refine.regions import Choice, components, drop_duplicates, drop_small, fill_holes


def drawn(*pictures: str) -> torch.Tensor:
    """Masks from pictures whose rows are apart by a space, `#` inside."""
    return torch.tensor([[[cell == "#" for cell in row] for row in picture.split()] for picture in pictures])


def some_masks(seed: int, density: float) -> torch.Tensor:
    return torch.rand(4, 9, 13, generator=torch.Generator().manual_seed(seed)) < density


random_masks = st.builds(some_masks, st.integers(0, 10**6), st.floats(0, 1))


def test_parts_touch_by_a_side_not_by_a_corner_and_say_from_which_mask_they_are() -> None:
    parts, source = components(drawn("#.# ##. ..#", "... ... ...", "... .#. ..."))
    assert source.tolist() == [0, 0, 0, 2]
    assert torch.equal(parts, drawn("#.. ##. ...", "..# ... ...", "... ... ..#", "... .#. ..."))


@settings(deadline=None, max_examples=30)
@given(random_masks)
def test_the_parts_of_a_mask_are_disjoint_whole_and_its_own(masks: torch.Tensor) -> None:
    parts, source = components(masks)
    sums = torch.zeros(masks.shape, dtype=torch.long).index_add_(0, source, parts.long())
    assert torch.equal(sums, masks.long())
    assert all(ndimage.label(part)[1] == 1 for part in parts.numpy())


@settings(deadline=None, max_examples=30)
@given(random_masks)
def test_filling_agrees_with_scipy_mask_by_mask(masks: torch.Tensor) -> None:
    expected = [torch.from_numpy(ndimage.binary_fill_holes(mask)) for mask in masks.numpy()]
    assert torch.equal(fill_holes(masks), torch.stack(expected))


def test_a_ring_is_filled_and_a_bay_is_not() -> None:
    ring, bay = "#### #..# #..# ####", "#### #..# #..# #..#"
    assert torch.equal(fill_holes(drawn(ring, bay)), drawn("#### #### #### ####", bay))


def test_the_first_of_several_copies_is_kept() -> None:
    masks = drawn("##.. ##..", "##.. #...", "..## ..##", "##.. ##..")
    assert drop_duplicates(masks, 0.7).tolist() == [0, 2]
    assert drop_duplicates(masks, 0.8).tolist() == [0, 1, 2]


def test_a_mask_that_only_resembles_a_dropped_one_is_kept() -> None:
    masks = drawn("####......", ".####.....", "..####....")
    assert drop_duplicates(masks, 0.5).tolist() == [0, 2]


def test_masks_of_at_least_the_area_are_kept() -> None:
    assert drop_small(drawn("#..", "##.", "###"), 2).tolist() == [1, 2]


def test_small_instances_and_copies_of_better_ones_go_and_semantic_masks_stay() -> None:
    drawing = drawn("##.. ##..", "##.. ##..", "...# ....", "...# ....", "..## ..##", "##.. ##..")
    kind = torch.tensor([INSTANCE, INSTANCE, INSTANCE, SEMANTIC, INSTANCE, SEMANTIC])
    scores = torch.tensor([0.5, 0.9, 1.0, 1.0, 0.2, 1.0])
    masks = Masks(drawing, torch.arange(6), kind, torch.zeros(6, 2), scores)
    assert Choice(0.25, 0.9)(masks).level.tolist() == [1, 3, 4, 5]
    assert Choice(0.0, 0.9)(masks).level.tolist() == [1, 2, 3, 4, 5]
    assert Choice(0.25, 1.0)(masks).level.tolist() == [0, 1, 3, 4, 5]
    assert Choice(0.0, 1.0)(masks).level.tolist() == [0, 1, 2, 3, 4, 5]
    whole = Masks(torch.ones(1, 10, 10, dtype=torch.bool), *(field[:1] for field in masks[1:]))
    whole.masks.flatten()[7:] = False
    assert len(Choice(0.07, 1.0)(whole)) == 1
    assert len(Choice(0.25, 0.9)(empty_masks(2, 4, 3))) == 0
    assert len(Choice(0.25, 0.9, fill_holes=True)(empty_masks(2, 4, 3))) == 0


@pytest.mark.parametrize("shape", [(0, 4, 5), (2, 1, 7), (1, 1, 1)])
def test_no_masks_and_thin_grids_are_defined(shape: tuple[int, int, int]) -> None:
    masks = torch.ones(shape, dtype=torch.bool)
    parts, source = components(masks)
    assert torch.equal(parts, masks)
    assert source.tolist() == list(range(shape[0]))
    assert torch.equal(fill_holes(masks), masks)
    assert drop_small(masks, 1).tolist() == list(range(shape[0]))
