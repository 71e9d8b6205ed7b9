"""Measures without labels: each is 1 where masks are as good as it can tell, and known where that can be computed."""

import math

import pytest
import torch
from torch import Tensor

from oapseg.masks import Masks
from oapseg.monitor.label_free import (
    agreement,
    coverage,
    crop_stability,
    edge_alignment,
    flip_stability,
    level_agreement,
    on_grid,
    outline,
    photo_edges,
)

GRID = (8, 12)


def box(top: int, left: int, bottom: int, right: int, grid: tuple[int, int] = GRID) -> Tensor:
    mask = torch.zeros(1, *grid, dtype=torch.bool)
    mask[:, top:bottom, left:right] = True
    return mask


def photo(mask: Tensor, cell_px: int = 8) -> Tensor:
    """A photo that is bright where the mask is."""
    bright = mask[0].repeat_interleave(cell_px, 0).repeat_interleave(cell_px, 1)
    return (bright * 200).to(torch.uint8)[..., None].expand(-1, -1, 3).contiguous()


def masks(of: Tensor, level: list[int], kind: list[int] | None = None) -> Masks:
    kinds = torch.tensor(kind or [0] * len(of))
    return Masks(of, torch.tensor(level), kinds, torch.zeros(len(of), 2), torch.ones(len(of)))


def test_coverage_counts_a_cell_once_however_many_masks_it_lies_in() -> None:
    both = torch.cat([box(0, 0, 4, 12), box(0, 0, 2, 12)])
    assert coverage(both) == 0.5
    assert coverage(both[:0]) == 0.0


def test_a_mask_on_the_photos_only_edge_has_the_highest_rank_and_one_beside_it_less() -> None:
    thing = box(2, 3, 6, 9)
    edges = photo_edges(photo(thing), GRID)
    on, beside = edge_alignment(thing, edges), edge_alignment(box(1, 1, 4, 6), edges)
    pairs = 8 * 11 + 7 * 12
    assert on == pytest.approx((pairs - 1 - 19 / 2) / (pairs - 1), abs=1e-5)  # 20 of them, alike
    assert beside < on


def test_masks_that_leave_a_thing_out_follow_fewer_of_the_edges() -> None:
    both = torch.cat([box(1, 1, 4, 5), box(3, 7, 7, 11)])
    edges = photo_edges(photo(both.any(0, keepdim=True)), GRID)
    assert outline(both, edges) == 1.0
    assert outline(both[:1], edges) == pytest.approx(14 / 30)
    assert outline(both[:0], edges) == 0.0


def test_edges_of_a_photo_without_contrast_rank_alike_at_one_half() -> None:
    edges = photo_edges(torch.full((64, 96, 3), 7, dtype=torch.uint8), GRID)
    assert edge_alignment(box(1, 1, 4, 6), edges) == pytest.approx(0.5)


def test_random_masks_on_noise_align_by_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (128, 192, 3), dtype=torch.uint8, generator=generator)
    some = torch.rand(50, *GRID, generator=generator) > 0.5
    assert edge_alignment(some, photo_edges(noise, GRID)) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("shape", [(1, 500), (500, 1), (1, 1), (3000, 40)])
def test_photos_of_odd_sizes_have_edges(shape: tuple[int, int]) -> None:
    edges = photo_edges(torch.zeros(*shape, 3, dtype=torch.uint8), GRID)
    assert [each.shape for each in edges] == [(8, 11), (7, 12)]
    assert all(each.isfinite().all() for each in edges)


def test_grids_of_one_row_or_column_have_edges_along_it_alone() -> None:
    edges = photo_edges(torch.zeros(20, 30, 3, dtype=torch.uint8), (1, 5))
    assert [each.shape for each in edges] == [(1, 4), (0, 5)]
    assert math.isnan(edge_alignment(torch.ones(1, 1, 5, dtype=torch.bool), edges))


def test_a_set_agrees_with_itself_and_not_with_nothing() -> None:
    some = torch.cat([box(0, 0, 4, 4), box(4, 4, 8, 12)])
    assert agreement(some, some.flip(0)) == 1.0
    assert agreement(some, some[:0]) == agreement(some[:0], some) == 0.0
    assert math.isnan(agreement(some[:0], some[:0]))
    assert agreement(some, some[:1]) == pytest.approx((0.5 + 1.0) / 2)


def test_masks_that_turn_with_the_photo_are_stable_under_a_flip() -> None:
    some = torch.cat([box(0, 0, 4, 4), box(4, 4, 8, 12)])
    assert flip_stability(some, some.flip(2)) == 1.0
    assert flip_stability(some, some) < 1.0


def test_masks_that_a_crop_shows_just_so_are_stable_and_slivers_do_not_count() -> None:
    whole = torch.cat([box(0, 0, 4, 6), box(4, 6, 8, 12), box(4, 0, 8, 1)])
    crop = torch.zeros(2, 4, 6, dtype=torch.bool)  # the upper left quarter of the lower half, twice as large
    crop[0, :, :1] = True
    assert crop_stability(whole, crop[:0], (0.0, 0.0, 0.5, 0.5), 4) == 0.0
    quarter = torch.ones(1, 8, 12, dtype=torch.bool)
    assert crop_stability(whole, quarter, (0.0, 0.0, 0.5, 0.5), 4) == 1.0


def test_levels_agree_where_regions_live_on_and_kinds_are_told_apart() -> None:
    one, two = box(0, 0, 4, 6), box(4, 6, 8, 12)
    assert level_agreement(masks(torch.cat([one, two, one, two]), [1, 1, 2, 2])) == 1.0
    assert level_agreement(masks(torch.cat([one, two]), [1, 3])) == 0.0
    assert math.isnan(level_agreement(masks(torch.cat([one, one]), [1, 2], [0, 1])))
    assert math.isnan(level_agreement(masks(one[:0], [])))


def test_masks_at_the_photos_size_come_to_the_grid() -> None:
    large = box(2, 3, 6, 9).repeat_interleave(8, 1).repeat_interleave(8, 2)
    assert torch.equal(on_grid(masks(large, [1]), GRID).masks, box(2, 3, 6, 9))
