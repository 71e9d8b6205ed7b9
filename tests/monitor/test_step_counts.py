"""What a step tells of its shards: photos, broken ones and bytes, of the files that there are."""

from pathlib import Path

import pytest
from PIL import Image

from oapseg.monitor.push import counts
from oapseg.params import SetParams, Source
from oapseg.shards.sources import list_set
from oapseg.shards.write import write_set


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five photos, one of them broken."""
    folder = tmp_path_factory.mktemp("counted")
    (folder / "photos").mkdir()
    for number in range(4):
        Image.new("RGB", (64, 48), (50 * number, 20, 90)).save(folder / "photos" / f"{number}.jpg")
    (folder / "photos" / "broken.jpg").write_bytes(b"\xff\xd8 and no more")
    listed = list_set(SetParams(root=str(folder / "photos"), sources=[Source(kind="photos", path=".")]), None)
    write_set(listed, str(folder / "shards"), samples_per_shard=2, max_broken=0.5, max_pixels=10**6, workers=1)
    return folder / "shards"


@pytest.mark.parametrize("option", ["--out", "--shards"])
def test_photos_broken_ones_and_bytes_are_those_of_the_files(shards: Path, option: str) -> None:
    told = counts(["step", option, str(shards), "--seed", "0"])
    sizes = [path.stat().st_size for path in shards.glob("*.tar")]
    assert len(sizes) == 2
    assert told == {
        "oapseg_stage_samples": 4.0,
        "oapseg_stage_skipped_samples": 1.0,
        "oapseg_stage_data_bytes": float(sum(sizes)),
    }


def test_what_was_written_goes_before_what_was_read(shards: Path, tmp_path: Path) -> None:
    assert counts(["step", "--shards", "nowhere", "--out", str(shards)])["oapseg_stage_samples"] == 4.0
    assert counts(["step", "--shards", str(shards), "--out", str(tmp_path)])["oapseg_stage_samples"] == 4.0


@pytest.mark.parametrize("words", [[], ["--shards"], ["--shards", "nowhere"], ["--out", "nowhere"]])
def test_a_step_without_shards_tells_no_counts(words: list[str]) -> None:
    assert counts(["step", *words]) == {}
