"""What is measured of masks, matches and head, and what is remembered from step to step."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from oapseg.masks import Masks
from oapseg.monitor.pictures import COVER, PHOTOS
from oapseg.monitor.quality import Observer, centre_measures, fingerprint, mask_measures, pair_measures

GRID = (4, 4)


def masks(*cells: list[int], level: int = 1, kind: int = 0) -> Masks:
    of = torch.zeros(len(cells), 16, dtype=torch.bool)
    for row, inside in enumerate(cells):
        of[row, inside] = True
    count = len(cells)
    return Masks(
        of.view(-1, *GRID),
        torch.full((count,), level),
        torch.full((count,), kind),
        torch.zeros(count, 2),
        torch.ones(count),
    )


def photos(count: int, side: int = 32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)


def observer(every: int = 1, photos: int = 8) -> Observer:
    return Observer(every=every, photos=photos, levels=3)


def look(watching: Observer, wholes: Tensor, found: list[Masks]) -> dict[str, float]:
    watching.remember(list(wholes), found)
    logits = torch.eye(4)
    return watching.measure(wholes, found, logits.softmax(-1), logits, torch.zeros(4))


def test_what_of_the_head_is_no_number_is_not_told() -> None:
    logits = torch.eye(4)
    measures = observer().measure_head(torch.full((4, 4), math.nan), logits, torch.zeros(4))
    assert set(measures) == {"centre_norm", "centre_lag", "dead_clusters"}
    assert "centre_norm" not in observer().measure_head(logits, logits, torch.full((4,), math.inf))


def test_masks_are_counted_by_level_and_kind_with_zeros_where_there_are_none() -> None:
    measures = mask_measures(photos(2), [masks([0], [1], level=2), masks([3], level=3, kind=1)], 3)
    counts = {name: value for name, value in measures.items() if name.startswith("masks_")}
    assert counts == {
        "masks_instance_1": 0.0,
        "masks_instance_2": 1.0,
        "masks_instance_3": 0.0,
        "masks_semantic_1": 0.0,
        "masks_semantic_2": 0.0,
        "masks_semantic_3": 0.5,
    }


def test_areas_are_shares_of_the_photo() -> None:
    measures = mask_measures(photos(1), [masks([0], list(range(8)), list(range(16)))], 1)
    assert measures["area_p50"] == 0.5
    assert measures["area_p10"] == pytest.approx(1 / 16 + 0.2 * (0.5 - 1 / 16))
    assert measures["coverage"] == 1.0


def test_photos_without_a_mask_are_measured_as_far_as_that_goes() -> None:
    measures = look(observer(), photos(2), [masks(), masks()])
    assert measures["coverage"] == 0.0
    assert "area_p50" not in measures
    assert "edge_alignment" not in measures
    assert all(math.isfinite(value) for value in measures.values())


def test_queries_that_draw_their_masks_agree_fully_and_half_of_them_half() -> None:
    wanted = masks([0, 1, 2, 3]).masks.float()
    drawn = torch.where(wanted > 0, 5.0, -5.0)
    assert pair_measures(drawn, wanted) == {"teacher_student_iou": 1.0, "teacher_student_dice": 1.0}
    half = torch.where(masks([0, 1]).masks, 5.0, -5.0)
    assert pair_measures(half, wanted) == {"teacher_student_iou": 0.5, "teacher_student_dice": pytest.approx(2 / 3)}
    assert pair_measures(drawn[:0], wanted[:0]) == {}


def test_a_centre_on_the_mean_does_not_lag_and_one_at_zero_does_wholly() -> None:
    logits = torch.tensor([[1.0, 3.0], [3.0, 1.0]])
    assert centre_measures(logits, torch.tensor([2.0, 2.0]))["centre_lag"] == 0.0
    assert centre_measures(logits, torch.zeros(2))["centre_lag"] == 1.0


def test_the_head_is_known_by_how_masks_spread_over_clusters() -> None:
    even, one = torch.full((4, 4), 0.25), torch.eye(4)[[0, 0, 0, 0]]
    wholes, found = photos(1), [masks([0])]
    spread = observer().measure(wholes, found, even, even, torch.zeros(4))
    taken = observer().measure(wholes, found, one, one, torch.zeros(4))
    assert (spread["cluster_use"], spread["teacher_sharpness"], spread["dead_clusters"]) == pytest.approx(
        (1, 0, 0), abs=1e-6
    )
    assert (taken["cluster_use"], taken["teacher_sharpness"], taken["dead_clusters"]) == pytest.approx(
        (0, 1, 0.75), abs=1e-6
    )
    assert taken["largest_cluster"] == 1.0


def test_a_photo_met_again_is_compared_with_its_masks_of_before() -> None:
    watching, wholes = observer(), photos(2)
    assert "stability" not in look(watching, wholes, [masks([0, 1]), masks([2, 3])])
    again = look(watching, wholes.flip(0), [masks([2, 3]), masks([0, 1, 2, 3])])
    assert again["stability"] == pytest.approx((1.0 + 0.5) / 2)


def test_memory_is_bounded_and_keeps_the_same_photos_in_any_order() -> None:
    wholes = photos(20)
    kept = []
    for order in (range(20), reversed(range(20))):
        watching = observer(photos=5)
        for index in order:
            watching.remember([wholes[index]], [masks([index % 16])])
        kept.append(set(watching.memory))
    assert kept[0] == kept[1] == set(sorted(fingerprint(whole) for whole in wholes)[:5])


def test_what_is_remembered_comes_back() -> None:
    watching, wholes = observer(), photos(3)
    look(watching, wholes, [masks([0, 1]), masks(), masks([5], [6])])
    watching.remember([wholes[0]], [masks([0])])
    other = observer()
    other.restore(watching.state())
    found = [masks([0]), masks([1]), masks([5])]
    assert look(other, wholes, found) == look(watching, wholes, found)


def test_measuring_never_is_free_of_memory() -> None:
    watching = observer(every=0)
    watching.remember(list(photos(1)), [masks([0])])
    assert not watching.memory
    assert not any(watching.due(step) for step in range(5))


def _pixels(content: bytes | None) -> Tensor:
    assert content is not None
    with Image.open(io.BytesIO(content)) as picture:
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def test_a_picture_shows_photos_and_below_them_what_their_masks_cover() -> None:
    watching, wholes = observer(), photos(2)
    assert watching.picture() is None
    look(watching, wholes, [masks([0, 1]), masks([5], kind=1)])
    pixels = _pixels(watching.picture())
    assert pixels.shape == (3, 64, 64)
    assert pixels[:, :32].equal(torch.cat([*wholes], 2))
    below, photo = pixels[:, 32:, :32].float(), wholes[0].float()
    changed = (below != photo).any(0)
    assert not changed[8:].any()
    assert not changed[:, 16:].any()
    mixed = (below - (1 - COVER) * photo)[:, :8, :16].flatten(1)
    assert (mixed.amax(1) - mixed.amin(1)).max() < 1.01  # one colour over all of the mask, rounded
    assert pixels[:, 32:, 32:].equal(wholes[1])  # a semantic mask is not drawn


def test_a_small_mask_lies_on_a_large_one_and_few_photos_are_shown() -> None:
    watching, wholes = observer(), photos(PHOTOS + 2)
    found = [masks([0], list(range(16)), level=2)] + [masks(list(range(16)))] * (PHOTOS + 1)
    look(watching, wholes, found)
    pixels = _pixels(watching.picture())
    assert pixels.shape == (3, 64, 32 * PHOTOS)
    tone = (pixels[:, 32:, :32].float() - (1 - COVER) * wholes[0].float()).round()
    assert (tone[:, 4, 4] - tone[:, 20, 20]).abs().max() > 50


def test_a_batch_without_any_mask_is_a_picture_of_its_photos() -> None:
    watching, wholes = observer(), photos(1)
    watching._seen = (wholes.unbind(), [masks()])
    pixels = _pixels(watching.picture())
    assert pixels[:, 32:].equal(wholes[0])
