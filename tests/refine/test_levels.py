"""A level cuts through the hierarchy of masks: parts at 0, wholes at 1, each place covered by what is there."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from oapseg.refine.levels import at_level, forest, spans

LEVELS = [0.0, 0.2, 0.4, 0.5, 0.7, 1.0]


def merged_regions(seed: int, layers: int) -> tuple[Tensor, Tensor]:
    """Regions of a grid that merge from layer to layer, small ones left out, and the layer that made each."""
    generator = torch.Generator().manual_seed(seed)
    node = torch.randint(0, 12, (8, 9), generator=generator)
    found: dict[tuple[bool, ...], int] = {}
    for layer in range(1, layers + 1):
        for value in node.unique():
            mask = node == value
            if mask.sum() >= 3:
                found.setdefault(tuple(mask.flatten().tolist()), layer)
        into = torch.randint(0, max(2, 12 // (layer + 1)), (12,), generator=generator)
        node = into[node]
    return torch.tensor(list(found)).view(-1, 8, 9), torch.tensor(list(found.values()))


def cut(masks: Tensor, made_at: Tensor, level: float) -> list[int]:
    return at_level(masks, made_at, torch.zeros_like(made_at), torch.ones(len(masks)), level).tolist()


def holders(masks: Tensor) -> Tensor:
    """Whether the first mask is within the second and smaller."""
    inside = (masks[:, None] & ~masks).flatten(2).any(2).logical_not()
    return inside & ~inside.T


regions = st.builds(merged_regions, st.integers(0, 10**6), st.integers(1, 5))
with_layers = pytest.mark.parametrize("known", [True, False], ids=["layers known", "layers unknown"])


@with_layers
@settings(deadline=None, max_examples=40)
@given(found=regions)
def test_masks_of_a_level_lie_side_by_side_and_cover_what_the_parts_cover(
    known: bool, found: tuple[Tensor, Tensor]
) -> None:
    masks, made_at = found[0], found[1] * known
    parts = masks[~holders(masks).any(0)].any(0)
    areas = []
    for level in LEVELS:
        chosen = masks[cut(masks, made_at, level)]
        assert chosen.sum(0).max() <= 1
        assert not (parts & ~chosen.any(0)).any()
        areas.append(float(chosen.flatten(1).sum(1).float().mean()))
    assert areas == sorted(areas)
    assert torch.equal(masks[cut(masks, made_at, 1.0)].any(0), masks.any(0))


@with_layers
@settings(deadline=None, max_examples=40)
@given(found=regions)
def test_level_0_has_all_masks_without_parts_and_level_1_all_that_are_part_of_nothing(
    known: bool, found: tuple[Tensor, Tensor]
) -> None:
    masks, made_at = found[0], found[1] * known
    held = holders(masks)
    assert cut(masks, made_at, 0.0) == (~held.any(0)).nonzero()[:, 0].tolist()
    assert cut(masks, made_at, 1.0) == (~held.any(1)).nonzero()[:, 0].tolist()


def test_a_mask_lives_from_its_layer_until_that_of_the_mask_that_holds_it() -> None:
    rows = torch.tensor([[1, 1, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 1, 1, 0]]).bool()
    masks, made_at = rows[:, None], torch.tensor([1, 2, 5, 3])
    expected = {0.0: [0, 3], 0.24: [0, 3], 0.25: [1, 3], 0.99: [1, 3], 1.0: [2]}
    assert {level: cut(masks, made_at, level) for level in expected} == expected


def test_without_layers_a_mask_lives_by_its_place_between_leaf_and_root() -> None:
    rows = torch.tensor([[1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 1, 0]]).bool()
    expected = {0.0: [0, 3], 0.49: [0, 3], 0.5: [1, 3], 1.0: [2]}
    assert {level: cut(rows[:, None], torch.zeros(4).long(), level) for level in expected} == expected


def test_a_generation_is_one_more_than_that_of_the_highest_part_and_0_outside_of_the_hierarchy() -> None:
    rows = torch.tensor(
        [[1, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 0]]
    )
    scores = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.8])
    none = torch.zeros(5).long()
    found = spans(rows.bool()[:, None], none, none, scores)
    assert found.generation.tolist() == [1, 2, 3, 1, 0]
    assert found.begin.tolist() == [0, 0.5, 1, 0, torch.inf]
    assert found.end.tolist() == [0.5, 1, torch.inf, 1, torch.inf]


def test_of_masks_that_cross_the_better_one_stays_and_of_copies_too() -> None:
    rows = torch.tensor([[1, 1, 1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1]]).bool()
    assert forest(rows[:, None], torch.tensor([0.5, 0.9, 0.4])).kept.tolist() == [1]
    assert forest(rows[:, None], torch.tensor([0.9, 0.5, 0.4])).kept.tolist() == [0, 2]
    assert forest(rows[[0, 0]][:, None], torch.tensor([0.2, 0.3])).kept.tolist() == [1]


def test_kinds_are_hierarchies_of_their_own() -> None:
    masks = torch.tensor([[[1, 0]], [[1, 1]]]).bool()
    both = at_level(masks, torch.zeros(2).long(), torch.tensor([0, 1]), torch.ones(2), 1.0)
    assert both.tolist() == [0, 1]


def test_no_masks_and_empty_masks_have_no_level() -> None:
    none = torch.zeros(0).long()
    assert at_level(torch.zeros(0, 3, 4).bool(), none, none, none.float(), 0.5).tolist() == []
    assert cut(torch.zeros(2, 3, 4).bool(), torch.ones(2).long(), 0.5) == []


@pytest.mark.parametrize(("score", "kept"), [(0.6, [0]), (0.4, [1])])
def test_a_mask_inside_a_far_better_one_is_no_part_of_it(score: float, kept: list[int]) -> None:
    masks = torch.zeros(2, 6, 6, dtype=torch.bool)
    masks[0, 1:3, 1:3] = True
    masks[1, 1:5, 1:5] = True
    none = torch.zeros(2, dtype=torch.long)
    assert at_level(masks, none, none, torch.tensor([score, 1.0]), 0.0).tolist() == kept
