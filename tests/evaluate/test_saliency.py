"""Foreground, localisation and instances without classes: equal to scikit-learn's, and hand cases."""

from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from sklearn.metrics import adjusted_rand_score, fbeta_score, jaccard_score

from oapseg.evaluate.counts import shared_pixels
from oapseg.evaluate.saliency import (
    PhotoSaliency,
    adjusted_rand,
    assigned_iou,
    box_overlap,
    photo_saliency,
    score_saliency,
    size_ratio,
)
from oapseg.masks import mask_to_rle

H, W = 20, 30
RULES = {"min_score": 0.5, "min_area": 0.07, "min_ratio": 0.3}
Box = tuple[int, int, int, int]


def rectangle(x: int, y: int, w: int, h: int) -> np.ndarray:
    mask = np.zeros((H, W), dtype=bool)
    mask[y : y + h, x : x + w] = True
    return mask


def encoded(mask: np.ndarray) -> dict[str, Any]:
    rle = mask_to_rle(torch.from_numpy(mask))
    return {"segmentation": rle, "bbox": [float(side) for side in coco_mask.toBbox(rle)]}


def thing(box: Box, *, crowd: bool = False) -> dict[str, Any]:
    return encoded(rectangle(*box)) | {"id": 1, "category_id": 1, "iscrowd": int(crowd)}


def result(box: Box, score: float = 0.9, kind: str = "instance") -> dict[str, Any]:
    return encoded(rectangle(*box)) | {"category_id": 0, "score": score, "kind": kind}


def look(things: list[dict[str, Any]], results: list[dict[str, Any]]) -> PhotoSaliency:
    return photo_saliency(things, results, (H, W), **RULES)


def scores(*photos: PhotoSaliency) -> dict[str, float]:
    measured = score_saliency(photos, np.zeros((0, len(photos)), dtype=np.int64))
    return {name: each.value for name, each in measured.items()}


def random_box(rng: np.random.Generator) -> Box:
    x, y = rng.integers(0, W - 4), rng.integers(0, H - 4)
    w, h = rng.integers(2, 16, 2)
    return int(x), int(y), int(min(w, W - x)), int(min(h, H - y))


def random_photo(rng: np.random.Generator) -> tuple[list[Box], list[tuple[Box, float]]]:
    things = [random_box(rng) for _ in range(rng.integers(1, 5))]
    found = [(random_box(rng), float(rng.random())) for _ in range(rng.integers(0, 5))]
    near = [(box, float(rng.random())) for box in things if rng.random() < 0.7]
    return things, [*near, *found, *near[:1]]


def painted(boxes: list[Box]) -> np.ndarray:
    """Numbers from 1 of the first box at each pixel, 0 where there is none."""
    numbers = np.zeros((H, W), dtype=int)
    for number, box in reversed(list(enumerate(boxes, 1))):
        numbers[rectangle(*box)] = number
    return numbers


def test_the_adjusted_rand_index_equals_scikit_learns_on_a_hundred_random_cases() -> None:
    for seed in range(100):
        rng = np.random.default_rng(seed)
        num_labels, num_pixels = rng.integers(1, 7, 2), rng.integers(1, 400)
        first, second = (rng.integers(0, high, num_pixels) for high in num_labels)
        second = np.where(rng.random(num_pixels) < rng.random(), first, second)
        table = shared_pixels(first[None] - 1, second[None] - 1, 7, 7)
        assert adjusted_rand(table) == pytest.approx(adjusted_rand_score(first, second), abs=1e-12), seed


def test_the_index_of_maps_of_many_pixels_is_exact() -> None:
    table = np.array([[4_000_000_000, 7], [11, 3_000_000_000]])
    assert 0.99999 < adjusted_rand(table) < 1


def test_scores_of_a_photo_equal_scikit_learns_on_a_hundred_random_cases() -> None:
    for seed in range(100):
        things, found = random_photo(np.random.default_rng(seed))
        photo = look([thing(box) for box in things], [result(*each) for each in found])
        confident = [box for box, score in sorted(found, key=lambda each: -each[1]) if score >= 0.5]
        truth, shown = painted(things).ravel(), painted(confident).ravel()
        known = {"y_true": truth > 0, "y_pred": shown > 0, "zero_division": 0}
        inside = truth > 0
        assert photo.f1 == pytest.approx(fbeta_score(beta=1, **known), abs=1e-12)
        assert photo.f_beta == pytest.approx(fbeta_score(beta=0.3**0.5, **known), abs=1e-12)
        assert photo.iou == pytest.approx(jaccard_score(**known), abs=1e-12)
        assert photo.accuracy == pytest.approx(((truth > 0) == (shown > 0)).mean(), abs=1e-12)
        assert photo.ari == pytest.approx(adjusted_rand_score(truth, shown), abs=1e-12)
        assert photo.fg_ari == pytest.approx(adjusted_rand_score(truth[inside], shown[inside]), abs=1e-12)


def test_the_curve_equals_scikit_learns_score_at_each_threshold() -> None:
    things, found = random_photo(np.random.default_rng(2))
    photo = look([thing(box) for box in things], [result(*each) for each in found])
    best = np.max([score * rectangle(*box) for box, score in found], axis=0)
    for index in range(0, 255, 16):
        expected = fbeta_score(painted(things).ravel() > 0, best.ravel() > index / 255, beta=0.3**0.5, zero_division=0)
        assert photo.f_beta_curve[index] == pytest.approx(expected, abs=1e-12)


TWO: list[Box] = [(0, 0, 10, 10), (14, 4, 12, 12)]


def test_a_perfect_prediction_scores_one() -> None:
    boxes: list[Box] = [*TWO, (9, 0, 8, 10)]
    visible = [painted(boxes) == number for number in (1, 2, 3)]
    things = [encoded(mask) | {"iscrowd": 0} for mask in visible]
    results = [encoded(mask) | {"score": 0.9, "kind": "instance"} for mask in visible]
    scored = {name: value for name, value in scores(look(things, results)).items() if not np.isnan(value)}
    assert scored == pytest.approx(dict.fromkeys(scored, 1.0))
    assert {
        "F1",
        "F_beta",
        "max_F_beta",
        "IoU",
        "accuracy",
        "CorLoc",
        "ARI",
        "FG_ARI",
        "instance_mIoU",
    } <= scored.keys()


def test_the_order_of_masks_changes_nothing() -> None:
    things, found = random_photo(np.random.default_rng(11))
    results = [result(box, score) for box, score in found if score >= 0.1]
    forth, back = (look([thing(box) for box in things], order) for order in (results, results[::-1]))
    np.testing.assert_allclose(forth[1:], back[1:], atol=1e-12)


def test_dropping_a_mask_lowers_the_scores_of_its_photo() -> None:
    things = [thing(box) for box in TWO]
    whole, part = scores(look(things, [result(box) for box in TWO])), scores(look(things, [result(TWO[0])]))
    for name in ("F1", "F_beta", "max_F_beta", "IoU", "accuracy", "ARI", "instance_mIoU"):
        assert part[name] < whole[name]


def test_only_masks_of_the_score_are_foreground() -> None:
    photo = look([thing(TWO[0])], [result(TWO[0], 0.6), result(TWO[1], 0.4)])
    assert photo.iou == 1.0
    assert photo.f_beta_curve[0] < photo.f_beta_curve[128] == 1.0


def test_the_maximum_is_over_one_threshold_for_all_photos() -> None:
    low = look([thing(TWO[0])], [result(TWO[0], 0.3)])
    high = look([thing(TWO[0])], [result(TWO[0], 0.8), result(TWO[1], 0.5)])
    apart = [scores(photo)["max_F_beta"] for photo in (low, high)]
    assert apart == [1.0, 1.0]
    assert scores(low, high)["max_F_beta"] < 1.0


def test_semantic_masks_are_no_instances() -> None:
    assert look([thing(TWO[0])], [result(TWO[0], kind="semantic")]).iou == 0


def test_pixels_of_a_crowd_are_left_out() -> None:
    things = [thing(TWO[0]), thing(TWO[1], crowd=True)]
    photo = look(things, [result(box) for box in TWO])
    assert (photo.f1, photo.iou, photo.accuracy, photo.ari) == (1.0, 1.0, 1.0, 1.0)


def test_a_photo_without_true_foreground_has_no_f_score_but_an_accuracy() -> None:
    photo = look([], [result(TWO[0])])
    assert np.isnan([photo.f1, photo.f_beta, photo.iou, photo.corloc, photo.fg_ari, *photo.f_beta_curve]).all()
    assert photo.accuracy == pytest.approx(1 - 100 / (H * W))
    assert scores(photo, look([thing(TWO[0])], [result(TWO[0])]))["F1"] == 1.0


def test_a_photo_without_predictions_scores_zero() -> None:
    photo = look([thing(box) for box in TWO], [])
    assert (photo.f1, photo.iou, photo.corloc, photo.ari, photo.instance_iou) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize(("width", "found"), [(5, 1.0), (4, 0.0)])
def test_a_photo_is_localised_from_half_the_iou_with_any_thing(width: int, found: float) -> None:
    things = [thing(TWO[1]), thing((0, 0, 10, 10))]
    assert look(things, [result((0, 0, width, 10), 0.9), result(TWO[1], 0.8)]).corloc == found


def test_boxes_alone_are_scored_by_localisation_alone() -> None:
    boxes = [{key: value for key, value in thing(box).items() if key != "segmentation"} for box in TWO]
    photo = scores(look(boxes, [result(TWO[0])]))
    assert photo.pop("CorLoc") == 1.0
    assert all(np.isnan(value) for value in photo.values())


def test_instances_are_assigned_so_that_the_sum_is_largest() -> None:
    shared = np.array([[50, 0, 0], [0, 10, 9], [0, 10, 0]])  # mask 1 fits both things, mask 2 the first alone
    assert assigned_iou(shared) == pytest.approx((10 / 20 + 9 / 19) / 2)


def test_a_thing_without_a_mask_counts_as_zero() -> None:
    assert look([thing(box) for box in TWO], [result(TWO[0])]).instance_iou == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("boxes", "scored"),
    [
        ([(0, 0, 10, 10)], False),
        ([(0, 0, 10, 10), (15, 0, 6, 7)], True),  # 42 px are 7 % of the photo
        ([(0, 0, 10, 10), (15, 0, 41, 1)], False),
        ([(0, 0, 14, 10), (15, 0, 6, 7)], True),  # 42 px are 0.3 of 140
        ([(0, 0, 11, 13), (15, 0, 6, 7)], False),
    ],
)
def test_instances_are_scored_where_there_are_two_large_enough_and_alike(boxes: list[Box], scored: bool) -> None:
    assert np.isnan(look([thing(box) for box in boxes], []).instance_iou) != scored


@pytest.mark.parametrize(
    ("boxes", "share"),
    [
        ([[0, 0, 10, 10], [20, 0, 5, 5]], 0.0),
        ([[0, 0, 10, 10], [10, 0, 10, 10]], 0.0),
        ([[0, 0, 10, 10], [5, 0, 10, 10]], 50 / 150),
        ([[0, 0, 10, 10], [0, 0, 10, 10], [5, 0, 10, 10]], 100 / 150),
    ],
)
def test_occlusion_is_the_share_of_the_boxes_that_lies_in_two_or_more(boxes: list[list[float]], share: float) -> None:
    assert box_overlap(np.array(boxes, dtype=float)) == pytest.approx(share)


def test_occlusion_equals_painted_boxes_on_random_cases() -> None:
    for seed in range(50):
        rng = np.random.default_rng(seed)
        boxes = [random_box(rng) for _ in range(rng.integers(1, 7))]
        depth = np.sum([rectangle(*box) for box in boxes], axis=0)
        assert box_overlap(np.array(boxes, dtype=float)) == pytest.approx((depth > 1).sum() / (depth > 0).sum())


@pytest.mark.parametrize(("areas", "ratio"), [([50], 1.0), ([50, 50], 2.0), ([100, 30, 60], 1.9), ([0, 40], 1.0)])
def test_the_size_ratio_is_the_sum_of_sizes_by_the_largest(areas: list[int], ratio: float) -> None:
    assert size_ratio(np.array(areas)) == pytest.approx(ratio)


def test_splits_hold_the_photos_between_their_bounds() -> None:
    apart = look([thing(box) for box in TWO], [result(box) for box in TWO])
    crossing = look([thing((0, 0, 14, 14)), thing((6, 0, 14, 14))], [])
    photos = scores(apart, crossing)
    assert photos["instance_mIoU"] == 0.5
    assert photos["instance_mIoU_overlap_0.34"] == 0.0
    assert photos["instance_mIoU_ratio_1.64"] == 1.0  # 144 px and 100 px: 1 + 100 / 144
    assert photos["instance_mIoU_ratio_1.26_1.64"] == 0.0  # 196 px and the 84 px that are not behind them
    assert np.isnan(photos["instance_mIoU_overlap_0.01_0.14"])


def test_photos_are_weighted_by_how_often_they_are_drawn() -> None:
    photos = [look([thing(TWO[0])], [result(TWO[n])]) for n in (0, 1)]
    resampled = score_saliency(photos, np.array([[2, 0], [0, 2]]))
    assert resampled["F1"].value == 0.5
    assert resampled["F1"].resampled.tolist() == [1.0, 0.0]
