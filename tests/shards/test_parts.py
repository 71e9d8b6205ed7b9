"""A set written in parts is the set that one process writes, byte for byte, whatever the number of parts."""

import hashlib
from pathlib import Path

import pytest
from photo_files import BROKEN, noisy_jpeg

from oapseg.params import Source
from oapseg.shards.manifest import load_manifest
from oapseg.shards.parts import Part, join_parts
from oapseg.shards.read import Photos
from oapseg.shards.sources import list_source
from oapseg.shards.write import write_set


def write(folder: Path, out: Path, part: Part | None = None, *, samples=3, max_broken=0.5):
    listings = [list_source(Source(kind="photos", path="."), str(folder))]
    return write_set(
        listings, out, samples_per_shard=samples, max_broken=max_broken, max_pixels=10_000, workers=1, part=part
    )


def write_parts(folder: Path, out: Path, count: int, **options) -> None:
    for number in range(count, 0, -1):
        write(folder, out, Part(number, count), **options)


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture
def photos(tmp_path) -> Path:
    """Fourteen photos, of which six are broken: two of the first shard, all of the third."""
    folder = tmp_path / "photos"
    folder.mkdir()
    broken = [data for data, _ in BROKEN.values()]
    for number in range(14):
        bad = number in (0, 2, 6, 7, 8, 11)
        (folder / f"{number:02d}.jpg").write_bytes(broken.pop() if bad else noisy_jpeg(number))
    return folder


@pytest.mark.parametrize("count", [1, 2, 3, 5, 9])
def test_parts_joined_are_the_bytes_of_one_run(count, photos, tmp_path):
    write(photos, tmp_path / "one")
    write_parts(photos, tmp_path / "parts", count)
    joined = join_parts(tmp_path / "parts", count)
    assert content(tmp_path / "parts") == content(tmp_path / "one")
    assert joined.shards == load_manifest(str(tmp_path / "one")).shards


def test_a_broken_photo_leaves_a_gap_and_moves_no_other(photos, tmp_path):
    manifest = write(photos, tmp_path / "out")
    assert [shard.url for shard in manifest.shards] == [f"shard-{number:06d}.tar" for number in (0, 1, 3, 4)]
    assert manifest.shard_sizes == (1, 3, 2, 2)
    found = {sample.key: sample.labels["name"] for sample in Photos(manifest)}
    assert found == {f"{number:09d}": f"{number:02d}.jpg" for number in (1, 3, 4, 5, 9, 10, 12, 13)}


def test_every_shard_belongs_to_one_part():
    for total in (0, 1, 7, 100):
        for count in (1, 3, 8):
            numbers = [number for at in range(count) for number in Part(at + 1, count).shards(total)]
            assert numbers == list(range(total))


def test_until_all_parts_are_joined_there_is_no_manifest(photos, tmp_path):
    out = tmp_path / "out"
    write(photos, out)
    write(photos, out, Part(1, 2))
    with pytest.raises(ValueError, match="no such manifest"):
        load_manifest(str(out))
    with pytest.raises(ValueError, match=r"part-2-of-2.json: no such part; write it with --part 2/2"):
        join_parts(out, 2)


def test_a_part_leaves_alone_what_the_others_write(photos, tmp_path):
    out = tmp_path / "out"
    write(photos, out, Part(1, 2))
    before = content(out)
    (out / ".shard-000001.tar.half.part").write_bytes(b"being written by part 1")
    write(photos, out, Part(2, 2))
    assert before.items() <= content(out).items()
    assert (out / ".shard-000001.tar.half.part").exists()


def test_what_a_longer_set_and_other_parts_left_is_removed(photos, tmp_path):
    write(photos, tmp_path / "one")
    write_parts(photos, tmp_path / "out", 3, samples=1)
    write_parts(photos, tmp_path / "out", 2)
    join_parts(tmp_path / "out", 2)
    assert content(tmp_path / "out") == content(tmp_path / "one")


def test_parts_of_unlike_sources_are_not_joined(photos, tmp_path):
    write(photos, tmp_path / "out", Part(1, 2))
    (photos / "99.jpg").write_bytes(noisy_jpeg(99))
    write(photos, tmp_path / "out", Part(2, 2))
    with pytest.raises(ValueError, match=r"part-2-of-2.json: its photos or parameters are not those of part 1"):
        join_parts(tmp_path / "out", 2)


def test_too_many_broken_photos_in_all_parts_together_are_no_set(photos, tmp_path):
    write_parts(photos, tmp_path / "out", 2, max_broken=0.4)
    with pytest.raises(ValueError, match=r"max_broken allows 0.4 of 14 photos to be broken, 6 are so far"):
        join_parts(tmp_path / "out", 2)
    assert not (tmp_path / "out" / "manifest.json").exists()
