"""Looks at one thing come together mask by mask."""

import pytest
import torch
from torch import Tensor

from oapseg.masks import INSTANCE, SEMANTIC
from oapseg.model.seen import Seen, averaged


def look(*places: tuple[int, int], score: float, cluster: int = 0, kind: int = INSTANCE, cells: int = 12) -> Seen:
    """Masks from column to column of a canvas."""
    logits = torch.full((len(places), cells, cells), -4.0)
    for mask, (left, right) in zip(logits, places, strict=True):
        mask[:, left:right] = 4.0
    same = torch.ones(len(places), dtype=torch.long)
    return Seen(logits, torch.full((len(places),), score), cluster * same, kind * same)


def spans(seen: Seen) -> list[tuple[int, int]]:
    columns = [(mask[0] > 0).nonzero()[:, 0] for mask in seen.logits]
    return [(int(each[0]), int(each[-1]) + 1) for each in columns]


def test_one_look_alone_stays_as_it_is() -> None:
    alone = look((0, 4), score=0.5)
    assert averaged([alone], 0.5) is alone


def test_the_same_mask_in_two_looks_is_one_with_the_mean_of_both() -> None:
    found = averaged([look((0, 6), (8, 12), score=0.8), look((8, 12), (0, 5), score=0.6)], 0.5)
    assert spans(found) == [(0, 5), (8, 12)]
    assert found.logits[0, 0, 5] == 0.0
    assert torch.allclose(found.scores, torch.tensor([0.7, 0.7]))


def test_a_mask_that_one_look_alone_sees_stays_with_its_share_of_the_score() -> None:
    found = averaged([look((0, 4), score=0.8), look((6, 12), score=0.6)], 0.5)
    assert spans(found) == [(0, 4), (6, 12)]
    assert torch.allclose(found.scores, torch.tensor([0.4, 0.3]))


def test_the_cluster_is_that_of_the_surer_look() -> None:
    looks = [look((0, 4), score=0.5, cluster=1), look((0, 4), score=0.9, cluster=2), look((0, 4), score=0.7, cluster=3)]
    found = averaged(looks, 0.5)
    assert (found.clusters.tolist(), len(found.scores)) == ([2], 1)
    assert torch.allclose(found.scores, torch.tensor([0.7]))


def test_masks_of_two_kinds_are_never_one() -> None:
    looks = [look((0, 4), score=0.5), look((0, 4), score=0.5, kind=SEMANTIC)]
    assert averaged(looks, 0.5).kind.tolist() == [INSTANCE, SEMANTIC]


@pytest.mark.parametrize("cells", [6, 24])
def test_a_look_at_another_scale_lands_on_the_first_canvas(cells: int) -> None:
    scale = cells // 6
    found = averaged([look((0, 6), score=0.5), look((0, 3 * scale), score=0.5, cells=cells)], 0.5)
    assert found.logits.shape == (1, 12, 12)
    assert spans(found) == [(0, 6)]


def test_looks_are_left_as_they_were() -> None:
    looks = [look((0, 6), score=0.5), look((0, 5), score=0.7)]
    before: list[list[Tensor]] = [[field.clone() for field in each] for each in looks]
    averaged(looks, 0.5)
    assert all(torch.equal(a, b) for old, new in zip(before, looks, strict=True) for a, b in zip(old, new, strict=True))
