"""Parts of one set that lie in one place or in several, as a cache of tasks has it."""

from pathlib import Path

import pytest
from train.tiny import tiny_shards

from components.parts import gather, joined
from oapseg.params import SetParams, Source
from oapseg.shards.parts import Part, join_parts
from oapseg.shards.sources import list_set
from oapseg.shards.write import write_set

OUT = "work/shards"


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """Photos, and their set as one worker writes it."""
    tiny_shards(tmp_path / "one", count=10)
    return tmp_path / "one"


def write_part(photos: Path, number: int, place: Path) -> str:
    listed = list_set(SetParams(root=str(photos), sources=[Source(kind="photos", path=".")]), None)
    numbers = {"samples_per_shard": 4, "max_broken": 0.0, "max_pixels": 10**6, "workers": 1}
    write_set(listed, str(place / OUT), **numbers, part=Part(number, 2))
    return f"{number}/2={place}"


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_parts_of_one_place_are_joined_there(whole, tmp_path):
    parts = [write_part(whole / "photos", number, tmp_path / "old") for number in (1, 2)]
    assert gather(parts, str(tmp_path / "own"), OUT) == str(tmp_path / "old")
    assert not (tmp_path / "own").exists()


def test_parts_of_several_runs_are_joined_in_our_own_to_the_set_of_one_worker(whole, tmp_path):
    parts = [write_part(whole / "photos", 2, tmp_path / "own"), write_part(whole / "photos", 1, tmp_path / "old")]
    place = gather(parts, str(tmp_path / "own"), OUT)
    assert place == str(tmp_path / "own")
    assert not joined(place, OUT, 2)
    join_parts(f"{place}/{OUT}", 2)
    assert joined(place, OUT, 2)
    assert files(tmp_path / "own" / OUT) == files(whole / "shards")


def test_a_missing_part_is_named(tmp_path):
    with pytest.raises(ValueError, match="parts 1/2, 3/3 are not all parts of one set"):
        gather(["1/2=a", "3/3=b"], str(tmp_path), OUT)
