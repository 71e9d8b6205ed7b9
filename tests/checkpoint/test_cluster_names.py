"""Names of clusters: read from people's JSON with care, saved to the model's folder, which stays whole."""

import json
from pathlib import Path

import pytest

from oapseg import storage
from oapseg.checkpoint.cluster_names import name_clusters, parse_names, read_names
from oapseg.checkpoint.export import write_files
from oapseg.checkpoint.state import damage


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A sealed folder with three clusters; names need nothing of the weights."""
    clusters = json.dumps({str(number): None for number in range(3)}).encode()
    write_files(tmp_path / "model", {"model.safetensors": b"weights", "clusters.json": clusters})
    return tmp_path / "model"


def test_names_are_saved_beside_those_there_and_null_takes_one_away(model: Path) -> None:
    assert name_clusters(model, {0: "dog", 2: "tree"}) == {0: "dog", 2: "tree"}
    assert name_clusters(model, {1: "cat", 2: None}) == {0: "dog", 1: "cat"}
    assert read_names(model) == {0: "dog", 1: "cat"}
    assert json.loads((model / "clusters.json").read_text()) == {"0": "dog", "1": "cat", "2": None}


def test_the_folder_stays_whole(model: Path) -> None:
    weights = (model / "model.safetensors").stat().st_mtime_ns
    name_clusters(model, {0: "dog"})
    assert damage(model) is None
    assert (model / "model.safetensors").stat().st_mtime_ns == weights


def test_a_kill_between_the_names_and_their_hash_is_mended_by_naming_again(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(storage, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            name_clusters(model, {0: "dog"})
    assert "clusters.json was changed" in str(damage(model))
    assert name_clusters(model, {1: "cat"}) == {0: "dog", 1: "cat"}
    assert damage(model) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "names.json: not JSON"),
        ("[" * 100_000, "names.json: "),
        ('["dog"]', 'names.json: must be an object such as {"12": "dog"}, is list'),
        ('{"1": "dog", "1": "cat"}', "names.json: cluster 1 is named twice"),
        ('{"one": "dog"}', "names.json: 'one' is no cluster"),
        ('{"-1": "dog"}', "names.json: '-1' is no cluster"),
        ('{"01": "dog"}', "names.json: '01' is no cluster"),
        ('{"²": "dog"}', "is no cluster"),
        ('{"1": 7}', "names.json: the name of cluster 1 must be text of 1 to 60 letters, or null"),
        ('{"1": "  "}', "the name of cluster 1 must be text"),
        (json.dumps({"1": "x" * 61}), "the name of cluster 1 must be text"),
        ('{"1": "a\\nb"}', "the name of cluster 1 holds a control character or line break"),
    ],
)
def test_what_is_no_name_or_no_cluster_is_one_line(content: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*$") as caught:
        parse_names(content.encode(), "names.json")
    assert said in str(caught.value)


def test_a_cluster_that_the_model_has_not_is_refused_and_nothing_changes(model: Path) -> None:
    before = (model / "clusters.json").read_bytes()
    with pytest.raises(ValueError, match=r"no cluster 3, 9 in .*; it has 0 to 2"):
        name_clusters(model, {0: "dog", 9: "x", 3: "y"})
    assert (model / "clusters.json").read_bytes() == before


def test_another_file_that_was_changed_is_named(model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"others")
    with pytest.raises(ValueError, match=r"model.safetensors was changed"):
        name_clusters(model, {0: "dog"})


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no model folder"):
        name_clusters(tmp_path, {0: "dog"})
