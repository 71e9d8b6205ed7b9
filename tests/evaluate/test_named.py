"""Names of clusters in predictions that are there already."""

import json
from pathlib import Path
from typing import Any

import pytest

from oapseg import storage
from oapseg.evaluate import named
from oapseg.evaluate.named import name_results
from oapseg.evaluate.predictions import Predictions, write_results


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Predictions of two shards."""
    for part in ("part-000000.json", "part-000001.json"):
        write_results(tmp_path / part, [{"image_id": 1, "category_id": cluster, "score": 0.5} for cluster in (0, 7)])
    storage.write_json(tmp_path / "index.json", {"parts": ["part-000000.json", "part-000001.json"]})
    return tmp_path


def names(folder: Path) -> list[Any]:
    made = Predictions(str(folder))
    return [result.get("cluster_name") for part in (0, 1) for result in made.part(part)[1]]


def test_results_carry_the_names_that_their_clusters_have_now(folder: Path) -> None:
    name_results(str(folder), {7: "dog"})
    assert names(folder) == [None, "dog", None, "dog"]
    name_results(str(folder), {0: "cat"})
    assert names(folder) == ["cat", None, "cat", None]
    name_results(str(folder), {})
    assert "cluster_name" not in (folder / "part-000000.json").read_text()


def test_equal_names_leave_every_part_as_it_is(folder: Path) -> None:
    name_results(str(folder), {7: "dog"})
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    name_results(str(folder), {7: "dog"})
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_what_a_kill_left_half_named_is_named_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(location: str, results: Any) -> None:
        if "000001" in location:
            raise KeyboardInterrupt
        write_results(location, results)

    with monkeypatch.context() as patched:
        patched.setattr(named, "write_results", killed)
        with pytest.raises(KeyboardInterrupt):
            name_results(str(folder), {7: "dog"})
    assert names(folder) == [None, "dog", None, None]
    name_results(str(folder), {7: "dog"})
    assert names(folder) == [None, "dog", None, "dog"]
    assert json.loads((folder / "names.json").read_text()) == {"7": "dog"}
