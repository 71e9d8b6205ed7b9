"""Labels of pixels from run lengths, what two labellings share, and sums over photos drawn again."""

import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch

from oapseg.evaluate.counts import VOID, label_map, mean_over_classes, mean_over_photos, pool, shared_pixels
from oapseg.masks import mask_to_rle


def segment(rows: slice, columns: slice) -> dict[str, Any]:
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[rows, columns] = True
    return {"id": 8, "segmentation": mask_to_rle(mask)}


def test_a_pixel_has_the_first_of_several_labels_and_void_without_one() -> None:
    segments = [segment(slice(0, 2), slice(0, 3)), segment(slice(0, 4), slice(2, 5))]
    expected = [[0, 0, 0, 1, 1, VOID]] * 2 + [[VOID, VOID, 1, 1, 1, VOID]] * 2
    assert label_map(segments, (4, 6)).tolist() == expected
    assert label_map(segments, (4, 6), [7, VOID])[0].tolist() == [7, 7, 7, VOID, VOID, VOID]


def test_run_lengths_may_be_plain_numbers() -> None:
    assert label_map([{"segmentation": {"size": [2, 2], "counts": [1, 2, 1]}}], (2, 2)).tolist() == [[-1, 0], [0, -1]]


def test_a_mask_of_another_size_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match=r"mask of id 8: 4 x 6 px in a photo of 6 x 4"):
        label_map([segment(slice(0, 2), slice(0, 3))], (6, 4))


@pytest.mark.parametrize("order", ["C", "F"])
def test_shared_pixels_are_counted_whatever_the_layout_in_memory(order: Any) -> None:
    rng = np.random.default_rng(0)
    rows, columns = rng.integers(VOID, 3, (9, 7)), np.asarray(rng.integers(VOID, 4, (9, 7)), order=order)
    table = shared_pixels(rows, columns, 3, 4)
    assert table.shape == (4, 5)
    for row, column in np.ndindex(*table.shape):
        assert table[row, column] == ((rows == row - 1) & (columns == column - 1)).sum()


def test_sums_are_those_of_the_photos_and_then_of_each_resample() -> None:
    counts = np.array([[1, 10], [2, 20]])
    assert pool(counts, np.array([[2, 0], [0, 3]])).tolist() == [[3, 30], [2, 20], [6, 60]]


def test_sums_of_many_photos_are_the_same_and_weigh_some_at_a_time() -> None:
    rng = np.random.default_rng(0)
    counts, resamples = rng.integers(0, 99, (12_345, 3)), rng.integers(0, 4, (40, 12_345), dtype=np.int32)
    expected = np.concatenate([counts.sum(0)[None], resamples.astype(np.int64) @ counts])
    tracemalloc.start()
    sums = pool(counts, resamples)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(sums, expected)
    assert peak < resamples.size * 8 / 4, "not all draws are numbers in memory at once"


def test_a_mean_over_photos_leaves_out_those_that_are_not_scored() -> None:
    mean = mean_over_photos(np.array([0.5, np.nan, 1.0]), np.array([[0, 3, 0], [1, 1, 1], [2, 0, 1]]))
    assert mean.value == 0.75
    np.testing.assert_allclose(mean.resampled, [np.nan, 0.75, 2 / 3])


def test_a_mean_over_classes_is_over_those_that_are_scored_in_each_resample() -> None:
    mean = mean_over_classes(np.array([[1.0, 0.0], [np.nan, 0.5], [np.nan, np.nan]]))
    assert mean.value == 0.5
    np.testing.assert_allclose(mean.resampled, [0.5, np.nan])
