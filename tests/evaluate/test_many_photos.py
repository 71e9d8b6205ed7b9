"""Instance scores of more photos than are held in memory: the same numbers, to the last bit, from files."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from test_instances import CATEGORIES, by_pycocotools, case, values
from test_lvis import random_case

from oapseg.evaluate import class_aware, coco, columns, intervals, overlaps
from oapseg.evaluate.class_aware import fit_mapping, score_class_aware
from oapseg.evaluate.instances import outcomes, precision_recall, score_class_agnostic
from oapseg.evaluate.intervals import resample_photos
from oapseg.evaluate.overlaps import Overlaps, by_photo, find_overlaps

SAME = {category: category for category in CATEGORIES}
Small = Callable[[], None]


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> Small:
    """From when it is called, some masks, photos and draws fill the memory."""

    def set_in() -> None:
        monkeypatch.setattr(columns, "HELD", 5)
        monkeypatch.setattr(overlaps, "PHOTOS_AT_ONCE", 3)
        monkeypatch.setattr(coco, "CELLS_AT_ONCE", 40)
        monkeypatch.setattr(intervals, "DRAWN_AT_ONCE", 30)

    return set_in


def all_scores(truth: dict[str, Any], predictions: list[dict[str, Any]]) -> dict[str, list[float]]:
    """By name, the score and what it is on each resample."""
    found = find_overlaps(by_photo(truth, predictions))
    draws = resample_photos(len(truth["images"]), 7, seed=3)
    mapping = fit_mapping(found, CATEGORIES, rule="votes", min_score=0.3, min_iou=0.6)
    scores = {f"all {name}": each for name, each in score_class_agnostic(found, draws, 6).items()}
    scores |= score_class_aware(found, CATEGORIES, mapping, draws, 100)
    return {name: [each.value, *each.resampled] for name, each in scores.items()}


@pytest.mark.parametrize("seed", range(8))
def test_every_score_and_every_resample_is_the_same(seed: int, small_memory: Small) -> None:
    truth, predictions = case(seed, num_photos=3 + 2 * seed, tied=(seed % 3) / 2)
    in_memory = all_scores(truth, predictions)
    small_memory()
    in_files = all_scores(truth, predictions)
    assert in_files.keys() == in_memory.keys()
    for name, expected in in_memory.items():
        np.testing.assert_array_equal(in_files[name], expected, err_msg=name)


@pytest.mark.parametrize("measure", ["mask", "box"])
@pytest.mark.parametrize("seed", range(10))
def test_scores_equal_pycocotools(seed: int, measure: str, small_memory: Small) -> None:
    truth, predictions = case(seed, num_photos=9, tied=(seed % 3) / 2)
    small_memory()
    found = find_overlaps(by_photo(truth, predictions))
    ours = score_class_aware(found, CATEGORIES, SAME, resample_photos(9, 0, 0), 12)
    assert values(ours, measure) == pytest.approx(by_pycocotools(truth, predictions, measure, 12), abs=1e-12)


def test_scores_by_the_rules_of_lvis_are_the_same(small_memory: Small) -> None:
    cases = [random_case(seed) for seed in range(12)]

    def scored() -> Iterator[dict[str, Any]]:
        for truth, found in cases:
            classes = {each["id"]: each["frequency"] for each in truth["categories"]}
            same, draws = dict(zip(classes, classes, strict=True)), resample_photos(3, 4, seed=0)
            together = find_overlaps(by_photo(truth, found))
            yield score_class_aware(together, classes, same, draws, 3, frequencies=classes)

    in_memory = list(scored())
    small_memory()
    for expected, scores in zip(in_memory, scored(), strict=True):
        np.testing.assert_equal(scores, expected)


def test_curves_outcomes_and_confusion_are_the_same(small_memory: Small) -> None:
    truth, predictions = case(6, num_photos=20, tied=0.3)

    def drawn() -> list[Any]:
        found = find_overlaps(by_photo(truth, predictions))
        return [
            precision_recall(found, "mask", resample_photos(20, 3, 0), 8),
            *outcomes(found, "mask", 8, min_score=0.2),
            class_aware.confusion(found, "box", CATEGORIES, SAME, min_score=0.2),
        ]

    in_memory = drawn()
    small_memory()
    np.testing.assert_equal(drawn(), in_memory)


def test_labels_without_masks_in_a_late_photo_leave_the_scores_of_boxes_alone(small_memory: Small) -> None:
    truth, predictions = case(2, num_photos=20)
    last = max(truth["annotations"], key=lambda each: each["image_id"])
    del last["segmentation"]
    in_memory = all_scores(truth, predictions)
    small_memory()
    np.testing.assert_equal(all_scores(truth, predictions), in_memory)
    assert find_overlaps(by_photo(truth, predictions)).pairs.keys() == {"box"}


def test_an_image_that_comes_twice_far_apart_is_one_line(small_memory: Small) -> None:
    small_memory()
    truth, predictions = case(2, num_photos=20)
    photos = list(by_photo(truth, predictions))
    with pytest.raises(ValueError, match=f"image {photos[0].image['id']} comes more than once"):
        find_overlaps([*photos, photos[0]])


def test_photos_are_counted_by_rising_id_over_all_parts(small_memory: Small) -> None:
    small_memory()
    truth, predictions = case(4, num_photos=20)
    found = find_overlaps(by_photo(truth, predictions))
    counted = dict.fromkeys(found.image_ids.tolist(), 0)
    assert list(counted) == sorted(each["id"] for each in truth["images"])
    for each in predictions:
        counted[each["image_id"]] += 1
    np.testing.assert_array_equal(np.bincount(found.photo, minlength=20), list(counted.values()))
    assert sum(len(part.score) for part in parts(found)) == len(predictions)


def parts(found: Overlaps) -> list[Overlaps]:
    some = list(found.parts())
    assert len(some) >= 7
    return some


def test_resamples_are_the_same_however_many_are_drawn_at_once(small_memory: Small) -> None:
    expected = np.random.default_rng(5).multinomial(13, np.full(13, 1 / 13), size=9)
    np.testing.assert_array_equal(resample_photos(13, 9, 5), expected)
    small_memory()
    np.testing.assert_array_equal(resample_photos(13, 9, 5), expected)
