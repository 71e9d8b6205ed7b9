"""Arrays that grow into files: what was put in comes out, in order, and no file is left."""

import resource
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from oapseg.evaluate import columns
from oapseg.evaluate.columns import Column, Sorted, release

ROW = np.dtype([("kind", "i4"), ("value", "f8"), ("came", "i4")])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go, and from the fifth value on."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(columns, "HELD", 4)
    return tmp_path


def random_rows(count: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    rows = np.empty(count, dtype=ROW)
    rows["kind"], rows["value"], rows["came"] = rng.integers(0, 3, count), rng.integers(0, 4, count), np.arange(count)
    return rows


@pytest.mark.parametrize("count", [0, 3, 4, 5, 50])
@pytest.mark.usefixtures("folder")
def test_a_column_is_all_that_was_appended_whether_in_memory_or_in_a_file(count: int) -> None:
    rows = np.random.default_rng(0).integers(0, 9, (count, 2))
    column = Column(np.int32, 2)
    for some in np.array_split(rows, 7):
        column.append(some)
    array = column.array()
    assert array.dtype == np.int32
    np.testing.assert_array_equal(array, rows)
    release(array, array[1:], None)
    np.testing.assert_array_equal(array, rows)


@pytest.mark.parametrize("count", [0, 1, 4, 5, 9, 100])
@pytest.mark.parametrize("at_once", [1, 3, 30])
@pytest.mark.usefixtures("folder")
def test_rows_come_out_in_the_order_of_their_keys_and_equal_ones_as_they_came(count: int, at_once: int) -> None:
    rows = random_rows(count)
    ordered = Sorted(ROW, "kind", "value")
    for first, last in pairwise([*range(0, count, at_once), count]):
        ordered.append(rows[first:last])
    np.testing.assert_array_equal(ordered.array(), np.sort(rows, order=["kind", "value", "came"]))


@pytest.mark.usefixtures("folder")
def test_rows_that_are_all_alike_stay_as_they_came() -> None:
    rows = random_rows(40)
    rows["kind"], rows["value"] = 1, 0.5
    ordered = Sorted(ROW, "kind", "value")
    for row in np.array_split(rows, 40):
        ordered.append(row)
    np.testing.assert_array_equal(ordered.array()["came"], np.arange(40))


def test_a_file_is_in_the_folder_for_temporary_ones_and_is_never_seen_there(folder: Path) -> None:
    column = Column(np.float64)
    column.append(np.arange(100.0))
    assert not list(folder.iterdir())
    array = column.array()
    assert not list(folder.iterdir())
    assert array.sum() == 4950


def test_a_folder_that_is_full_is_named(folder: Path) -> None:
    column = Column(np.float64)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match=f"set TMPDIR to a larger folder: '{folder}'"):
            column.append(np.zeros(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
