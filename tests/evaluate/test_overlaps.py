"""One look at each photo: what is kept, and what is refused."""

import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from oapseg.evaluate.overlaps import Photo, by_photo, find_overlaps
from oapseg.masks import mask_to_rle


def square(x: int, width: int = 100, *, score: float = 0.5) -> dict[str, Any]:
    mask = torch.zeros(20, width, dtype=torch.bool)
    mask[:10, x : x + 10] = True
    rle = {"segmentation": mask_to_rle(mask), "bbox": [x, 0, 10, 10], "area": 100.0}
    return rle | {"image_id": 1, "category_id": 1, "iscrowd": 0, "score": score, "kind": "instance"}


def test_photos_are_counted_by_rising_id_whatever_their_order() -> None:
    photos = [Photo({"id": n}, [square(10 * n)], [square(10 * n, score=n / 10)] * n) for n in (3, 1, 2)]
    overlaps = find_overlaps(photos)
    assert overlaps.image_ids.tolist() == [1, 2, 3]
    assert overlaps.photo.tolist() == [0, 1, 1, 2, 2, 2]
    assert overlaps.score.tolist() == [0.1, 0.2, 0.2, 0.3, 0.3, 0.3]
    assert overlaps.label_photo.tolist() == [0, 1, 2]
    assert overlaps.pairs["mask"].annotation.tolist() == [0, 1, 1, 2, 2, 2]


def test_pairs_are_of_one_photo_and_overlap_by_half_at_least() -> None:
    photos = [Photo({"id": 1}, [square(0), square(50)], [square(2), square(49)]), Photo({"id": 2}, [], [square(0)])]
    photos += [Photo({"id": 3}, [square(20)], [square(80), square(25), square(20)])]
    pairs = find_overlaps(photos).pairs["mask"]
    assert list(zip(pairs.prediction.tolist(), pairs.annotation.tolist(), strict=True)) == [(0, 0), (1, 1), (5, 2)]
    np.testing.assert_allclose(pairs.iou, [80 / 120, 90 / 110, 1])


def test_the_best_overlap_of_an_annotation_is_known_below_a_half_too() -> None:
    pairs = find_overlaps([Photo({"id": 1}, [square(0), square(50)], [square(6), square(8)])]).pairs
    for measure in ("mask", "box"):
        np.testing.assert_allclose(pairs[measure].best, [40 / 160, 0])


def test_nothing_at_all_is_no_overlap() -> None:
    overlaps = find_overlaps([])
    assert [len(overlaps.image_ids), len(overlaps.score), len(overlaps.label_area)] == [0, 0, 0]
    assert overlaps.pairs.keys() == {"mask", "box"}


def test_results_of_other_photos_are_left_out() -> None:
    truth = {"images": [{"id": 1}], "annotations": [square(0)]}
    photos = list(by_photo(truth, [square(0), square(0) | {"image_id": 2}]))
    assert [(len(each.annotations), len(each.predictions)) for each in photos] == [(1, 1)]


def test_only_one_photo_is_in_memory_at_a_time() -> None:
    class Watched(list[dict[str, Any]]):
        pass

    seen: list[weakref.ref[Watched]] = []

    def stream() -> Iterator[Photo]:
        for number in range(4):
            masks = Watched([square(0)])
            seen.append(weakref.ref(masks))
            yield Photo({"id": number}, [square(0)], masks)
            del masks
            assert sum(each() is not None for each in seen) <= 1

    assert len(find_overlaps(stream()).score) == 4


def test_an_image_that_comes_twice_is_one_line() -> None:
    with pytest.raises(ValueError, match="image 7 comes more than once"):
        find_overlaps([Photo({"id": 7}, [], []), Photo({"id": 7}, [], [])])


def test_masks_of_another_size_than_the_labels_are_one_line() -> None:
    with pytest.raises(ValueError, match="image 7: masks of different heights and widths: 20 x 90, 20 x 100"):
        find_overlaps([Photo({"id": 7}, [square(0)], [square(0, 90)])])


def test_a_score_that_is_no_number_is_one_line() -> None:
    with pytest.raises(ValueError, match="image 7: scores must be finite numbers"):
        find_overlaps([Photo({"id": 7}, [], [square(0, score=np.nan)])])
