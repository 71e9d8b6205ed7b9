"""Windows of a photo: they cover it, and what a window shows lands where it is."""

import pytest
import torch

from oapseg.model.windows import CLOSED, cut_off, paste, window_boxes


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("cells", [16, 56, 57])
def test_windows_are_of_one_size_cover_the_canvas_and_overlap(count: int, cells: int) -> None:
    boxes = window_boxes(count, cells)
    covered = torch.zeros(cells, cells, dtype=torch.int)
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= cells
        assert 0 <= top < bottom <= cells
        covered[top:bottom, left:right] += 1
    assert len({(right - left, bottom - top) for left, top, right, bottom in boxes}) == 1
    assert len(boxes) == count**2
    assert covered.min() >= 1
    assert covered.max() > 1


def test_one_window_would_be_the_photo() -> None:
    assert window_boxes(1, 56) == []


def test_a_windows_mask_lands_at_its_place_and_is_closed_elsewhere() -> None:
    logits = torch.full((1, 4, 4), 3.0)
    canvas = paste(logits, (2, 4, 6, 8), 10)
    inside = torch.zeros(10, 10, dtype=torch.bool)
    inside[4:8, 2:6] = True
    assert torch.equal(canvas[0] > 0, inside)
    assert (canvas[0][~inside] == CLOSED).all()


def test_a_mask_is_cut_off_only_at_an_edge_inside_the_photo() -> None:
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[0, 0, 1] = masks[1, 2, 3] = masks[2, 1, 1] = True  # at the top, at the right, in the middle
    assert cut_off(masks, (0, 0, 5, 5), 10).tolist() == [False, True, False]
    assert cut_off(masks, (5, 5, 10, 10), 10).tolist() == [True, False, False]
    assert cut_off(masks, (0, 0, 10, 10), 10).tolist() == [False, False, False]
