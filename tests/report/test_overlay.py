"""Masks over a photo."""

import torch

from oapseg.report.overlay import CAPTION_PX, PALETTE, captioned, colours, inner_edge, overlay

GREY = torch.full((20, 30, 3), 100, dtype=torch.uint8)


def mask(top: int, left: int, bottom: int, right: int) -> torch.Tensor:
    cells = torch.zeros(20, 30, dtype=torch.bool)
    cells[top:bottom, left:right] = True
    return cells


def test_no_mask_leaves_the_photo_as_it_is() -> None:
    none = torch.zeros(0, 20, 30, dtype=torch.bool)
    assert torch.equal(overlay(GREY, none), GREY)


def test_only_what_a_mask_covers_is_painted() -> None:
    cells = mask(4, 5, 14, 20)
    changed = (overlay(GREY, cells[None]) != GREY).any(2)
    assert torch.equal(changed, cells)


def test_a_small_mask_lies_on_a_large_one_whatever_their_order() -> None:
    large, small = mask(0, 0, 20, 30), mask(5, 5, 10, 10)
    alone = overlay(GREY, torch.stack([small, torch.zeros_like(small)]))
    both = overlay(GREY, torch.stack([small, large]))
    assert torch.equal(both[small], alone[small])


def test_a_mask_keeps_its_colour_when_others_are_empty() -> None:
    first, second = mask(0, 0, 8, 8), mask(10, 10, 18, 18)
    both = overlay(GREY, torch.stack([first, second]))
    one = overlay(GREY, torch.stack([torch.zeros_like(first), second]))
    assert torch.equal(both[second], one[second])


def test_two_hundred_masks_have_colours_in_range_and_neighbours_differ() -> None:
    tones = colours(200)
    assert tones.min() >= 0
    assert tones.max() <= 255
    assert (tones[1:] != tones[:-1]).any(1).all()
    assert len(torch.unique(colours(4 * len(PALETTE)), dim=0)) == 4 * len(PALETTE)


def test_the_edge_of_a_mask_is_inside_it_and_none_lies_along_the_photos_border() -> None:
    cells = mask(0, 0, 10, 10)
    edge = inner_edge(cells, 2)
    assert not (edge & ~cells).any()
    assert not edge[0, 0]
    assert edge[9, 4]
    assert edge[8, 4]
    assert not edge[7, 4]


def test_pictures_stand_side_by_side_above_their_captions() -> None:
    sheet = captioned([("one", GREY), ("two", GREY)])
    assert torch.equal(sheet[:20, :30], GREY)
    assert torch.equal(sheet[:20, -30:], GREY)
    assert sheet.shape[0] > 20 + CAPTION_PX
    assert (sheet[20:] < 200).any()
