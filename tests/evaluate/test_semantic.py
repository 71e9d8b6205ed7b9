"""Semantic scores: equal to scikit-learn's, whole photos of them, whatever the clusters' numbers."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix
from torchvision import transforms

from oapseg.evaluate.counts import VOID
from oapseg.evaluate.intervals import resample_photos
from oapseg.evaluate.semantic import (
    Confusion,
    class_iou,
    class_pixels,
    confusion,
    fit_mapping,
    predicted_clusters,
    resized_crop,
    score_semantic,
    true_classes,
)
from oapseg.masks import mask_to_rle

CLASSES = (0, 1, 4, 6, 9)
SIZE = (18, 26)


def blocks(rng: np.random.Generator, values: tuple[int, ...]) -> np.ndarray:
    """A map of a few rectangles over one value."""
    drawn = np.full(SIZE, rng.choice(values))
    for _ in range(rng.integers(0, 8)):
        y, x = rng.integers(0, SIZE[0]), rng.integers(0, SIZE[1])
        drawn[y : y + rng.integers(1, 14), x : x + rng.integers(1, 14)] = rng.choice(values)
    return drawn


def maps(seed: int, num_photos: int = 4) -> list[tuple[np.ndarray, np.ndarray]]:
    """True and predicted maps, half of the pixels alike, void on both sides; some photos are void throughout."""
    rng = np.random.default_rng(seed)
    photos = []
    for _ in range(num_photos):
        truth = np.full(SIZE, VOID) if rng.random() < 0.1 else blocks(rng, (*CLASSES[: rng.integers(1, 6)], VOID))
        predicted = np.full(SIZE, VOID) if rng.random() < 0.1 else blocks(rng, (*CLASSES[: rng.integers(1, 6)], VOID))
        predicted = np.where(blocks(rng, (0, 1)) > 0, truth, predicted)
        photos.append((truth, predicted))
    return photos


def scores(photos: list[Confusion], mapping: dict[int, int]) -> dict[str, float]:
    counts = class_pixels(photos, mapping, CLASSES)
    return {name: each.value for name, each in score_semantic(counts, no_resamples(photos)).items()}


def no_resamples(photos: list[Any]) -> np.ndarray:
    return np.zeros((0, len(photos)), dtype=np.int64)


ITSELF = {each: each for each in CLASSES}


def test_scores_equal_those_of_scikit_learns_confusion_matrix_on_a_hundred_random_cases() -> None:
    for seed in range(100):
        photos = maps(seed)
        truth, predicted = (np.concatenate([photo[side].ravel() for photo in photos]) for side in (0, 1))
        truth, predicted = truth[truth != VOID], predicted[truth != VOID]
        ours = scores([confusion(*photo) for photo in photos], ITSELF)
        if truth.size == 0:
            assert all(np.isnan(value) for value in ours.values())
            continue
        table = confusion_matrix(truth, predicted, labels=[*CLASSES, VOID]).astype(float)
        hit, true, found = np.diag(table)[:-1], table.sum(1)[:-1], table.sum(0)[:-1]
        union = true + found - hit
        expected = {
            "accuracy": accuracy_score(truth, predicted),
            "mean_accuracy": (hit[true > 0] / true[true > 0]).mean(),
            "mIoU": (hit[union > 0] / union[union > 0]).mean(),
        }
        assert ours == pytest.approx(expected, abs=1e-12), seed


def test_a_perfect_prediction_scores_one() -> None:
    photos = [confusion(truth, truth) for truth, _ in maps(0)]
    assert scores(photos, ITSELF) == {"accuracy": 1.0, "mean_accuracy": 1.0, "mIoU": 1.0}


@pytest.mark.parametrize("rule", ["votes", "hungarian", "hungarian+votes"])
def test_other_numbers_for_the_clusters_change_nothing(rule: str) -> None:
    photos = maps(1, num_photos=20)
    other = np.append(np.random.default_rng(0).permutation(30), VOID)  # the last is void's
    before = [confusion(truth, predicted) for truth, predicted in photos]
    after = [confusion(truth, other[predicted]) for truth, predicted in photos]
    first, second = (scores(each, fit_mapping(each, CLASSES, rule)) for each in (before, after))
    assert first == pytest.approx(second, abs=1e-12)
    assert first["accuracy"] > 0.4


def test_one_assignment_is_made_over_all_photos() -> None:
    truth = np.array([[0] * 6 + [1] * 4])
    first = confusion(truth, np.array([[3] * 6 + [5] * 4]))
    second = confusion(truth[:, :2], np.array([[5, 5]]))
    assert fit_mapping([first, second], CLASSES, "hungarian") == {3: 0, 5: 1}
    assert fit_mapping([second], CLASSES, "hungarian") == {5: 0}


def test_pixels_that_are_not_predicted_or_not_mapped_are_wrong() -> None:
    truth = np.array([[0, 0, 1, 1, VOID, VOID]])
    photo = confusion(truth, np.array([[7, VOID, 8, 9, 7, VOID]]))
    counts = class_pixels([photo], {7: 0, 8: 1}, CLASSES)
    assert counts.truth.sum() == 4
    assert counts.predicted[0, :2].tolist() == [1, 1]
    assert scores([photo], {7: 0, 8: 1})["accuracy"] == 0.5


def test_clusters_on_void_get_no_class() -> None:
    photo = confusion(np.array([[0, VOID]]), np.array([[3, 4]]))
    assert fit_mapping([photo], CLASSES, "votes") == {3: 0}


def test_a_class_that_is_neither_true_nor_predicted_is_left_out_of_the_mean() -> None:
    photo = confusion(np.array([[0, 0, 1, 1]]), np.array([[0, 0, 1, 4]]))
    counts = class_pixels([photo], ITSELF, CLASSES)
    assert score_semantic(counts, no_resamples([photo]))["mIoU"].value == pytest.approx((1 + 0.5 + 0) / 3)
    assert class_iou(counts, no_resamples([photo]))[0].tolist() == pytest.approx(
        [1, 0.5, 0, np.nan, np.nan], nan_ok=True
    )


def test_without_photos_there_is_nothing_to_score() -> None:
    assert fit_mapping([], CLASSES, "votes") == {}
    assert all(np.isnan(value) for value in scores([], {}).values())


def test_the_interval_comes_from_the_counts_of_each_photo() -> None:
    photos = [confusion(*photo) for photo in maps(4, num_photos=9)]
    weights = resample_photos(9, 3, seed=0)
    measured = score_semantic(class_pixels(photos, ITSELF, CLASSES), weights)
    for row, times in enumerate(weights):
        drawn = [photo for photo, count in zip(photos, times, strict=True) for _ in range(count)]
        again = scores(drawn, ITSELF)
        assert {name: each.resampled[row] for name, each in measured.items()} == pytest.approx(again, abs=1e-12)


def segment(columns: slice, category: int, **more: Any) -> dict[str, Any]:
    mask = torch.zeros(4, 10, dtype=torch.bool)
    mask[:, columns] = True
    return {"category_id": category, "segmentation": mask_to_rle(mask), **more}


def test_labels_become_classes_and_what_has_none_becomes_void() -> None:
    labels = {"height": 4, "width": 10, "semantic": [segment(slice(0, 3), 12), segment(slice(3, 6), 15)]}
    assert true_classes(labels)[0].tolist() == [12] * 3 + [15] * 3 + [VOID] * 4
    assert true_classes(labels, {12: 0})[0].tolist() == [0] * 3 + [VOID] * 7
    assert (true_classes(labels) == true_classes(labels)[0]).all()


def test_semantic_labels_come_before_panoptic_ones() -> None:
    labels = {"height": 4, "width": 10, "panoptic": [segment(slice(0, 10), 1)]}
    assert true_classes(labels)[0, 9] == 1
    assert true_classes(labels | {"semantic": [segment(slice(0, 10), 2)]})[0, 9] == 2


def test_a_photo_without_such_labels_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match=r"photo 7\.jpg: neither semantic nor panoptic labels"):
        true_classes({"name": "7.jpg", "height": 4, "width": 10})


def test_regions_are_the_prediction_and_the_best_mask_wins_where_they_overlap() -> None:
    results = [
        segment(slice(0, 6), 3, score=0.2, kind="region"),
        segment(slice(4, 8), 5, score=0.9, kind="region"),
        segment(slice(0, 10), 9, score=1.0, kind="instance"),
    ]
    assert predicted_clusters(results, (4, 10))[0].tolist() == [3] * 4 + [5] * 4 + [VOID] * 2


def test_masks_of_the_same_score_are_taken_in_the_order_given() -> None:
    results = [segment(slice(0, 6), n, score=0.5, kind="semantic") for n in (8, 2)]
    assert predicted_clusters(results, (4, 10), kind="semantic")[0, 0] == 8


@pytest.mark.parametrize("shape", [(200, 311), (311, 200), (80, 80), (53, 91), (48, 600)])
@pytest.mark.parametrize(("short_side", "crop"), [(32, 32), (320, 320), (64, 40)])
def test_a_map_is_resized_and_cut_as_torchvision_does(shape: tuple[int, int], short_side: int, crop: int) -> None:
    labels = np.random.default_rng(0).integers(-1, 100, shape).astype(np.int32)
    steps = [
        transforms.Resize(short_side, interpolation=transforms.InterpolationMode.NEAREST),
        transforms.CenterCrop(crop),
    ]
    expected = np.array(transforms.Compose(steps)(Image.fromarray(labels)))
    assert np.array_equal(resized_crop(labels, short_side, crop), expected)


def test_a_map_without_sizes_stays_as_it_is() -> None:
    labels = np.arange(12).reshape(3, 4)
    assert np.array_equal(resized_crop(labels, None, None), labels)
    assert resized_crop(labels, 6, None).shape == (6, 8)


def test_a_confusion_of_regions_far_up_in_number_keeps_their_numbers() -> None:
    truth, predicted = np.array([[0, 0, 1, 1, VOID]]), np.array([[10**7, 10**7 + 3, VOID, 10**7, 10**7]])
    found = confusion(truth, predicted)
    assert sorted(zip(*(each.tolist() for each in found), strict=True)) == [
        (VOID, 1, 1),
        (10**7, 0, 1),
        (10**7, 1, 1),
        (10**7 + 3, 0, 1),
    ]
