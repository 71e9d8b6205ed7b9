import gc
import hashlib
import json
import pickle
import tarfile
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from photo_files import BROKEN, COLOUR, GREY, noisy_jpeg, picture

from oapseg.params import Source
from oapseg.shards import offsets, write
from oapseg.shards.manifest import load_manifest, manifest_text
from oapseg.shards.offsets import Offsets
from oapseg.shards.read import Photos, loader
from oapseg.shards.sources import list_source
from oapseg.shards.stream import Stream


def listing(folder: Path, kind: str = "photos", path: str = "."):
    return list_source(Source(kind=kind, path=path), str(folder))


def write_shards(listings, out: Path, *, samples=4, max_broken=0.0, workers=1):
    return write.write_set(
        listings, out, samples_per_shard=samples, max_broken=max_broken, max_pixels=10_000, workers=workers
    )


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.fixture
def photos(tmp_path) -> Path:
    """Ten photos of all kinds, in folders."""
    jpegs = {f"a/{number}.jpg": noisy_jpeg(number) for number in range(8)}
    return fill(tmp_path / "photos", {**jpegs, "b/grey.png": GREY["16-bit grey png"](), "c.GIF": COLOUR["gif"]()})


def test_one_worker_and_three_write_the_same_bytes(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "PHOTOS_A_WORKER", 1)
    monkeypatch.setattr(write, "CHUNK", 2)
    for name, workers in (("one", 1), ("three", 3)):
        write_shards([listing(photos)], tmp_path / name, workers=workers)
    assert content(tmp_path / "one") == content(tmp_path / "three")


def test_a_second_run_writes_the_same_bytes_and_removes_what_another_left(photos, tmp_path):
    out = tmp_path / "out"
    write_shards([listing(photos)], out)
    first = content(out)
    for name in (".shard-000007.tar.abcd.part", ".manifest.json.abcd.part", "part-1-of-2.json"):
        (out / name).write_bytes(b"of a killed run")
    write_shards([listing(photos)], out, samples=1)
    write_shards([listing(photos)], out)
    assert content(out) == first


def test_jpeg_bytes_are_kept_and_all_else_becomes_jpeg(photos, tmp_path):
    manifest = write_shards([listing(photos)], tmp_path / "out")
    files = {}
    for shard in range(len(manifest.shards)):
        with tarfile.open(manifest.url(shard)) as tar:
            files.update({member.name: tar.extractfile(member).read() for member in tar})
    by_name = {json.loads(data)["name"]: files[f"{name[:-5]}.jpg"] for name, data in files.items() if "json" in name}
    assert all(by_name[f"a/{number}.jpg"] == noisy_jpeg(number) for number in range(8))
    assert by_name["c.GIF"][:3] == by_name["b/grey.png"][:3] == b"\xff\xd8\xff"


def test_the_manifest_agrees_with_the_shards(photos, tmp_path):
    written = write_shards([listing(photos)], tmp_path / "out")
    manifest = load_manifest(str(tmp_path / "out"))
    assert manifest == written == load_manifest(str(tmp_path / "out" / "manifest.json"))
    assert manifest.num_samples == 10
    assert manifest.shard_sizes == (4, 4, 2)
    for number, shard in enumerate(manifest.shards):
        data = Path(manifest.url(number)).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (shard.bytes, shard.sha256)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset leaves its files to the gc
def test_webdataset_reads_our_shards(photos, tmp_path):
    manifest = write_shards([listing(photos)], tmp_path / "out")
    urls = [manifest.url(shard) for shard in range(len(manifest.shards))]
    theirs = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    ours = Photos(manifest)
    assert [sample["__key__"] for sample in theirs] == [sample.key for sample in ours]
    assert all(
        np.array_equal(a["jpg"], b.image.numpy()) and a["json"] == b.labels for a, b in zip(theirs, ours, strict=True)
    )
    gc.collect()


def test_photos_are_found_by_number_in_any_order(photos, tmp_path):
    dataset = Photos(write_shards([listing(photos)], tmp_path / "out"))
    assert [dataset[index].key for index in (9, 0, 5)] == ["000000009", "000000000", "000000005"]


def test_every_odd_file_comes_through_shards_upright(tmp_path):
    folder = fill(tmp_path / "odd", {f"{name.replace(' ', '_')}.jpg": make() for name, make in COLOUR.items()})
    for sample in Photos(write_shards([listing(folder)], tmp_path / "out")):
        assert np.abs(sample.image.numpy().astype(int) - np.asarray(picture()).astype(int)).mean() < 3
        assert (sample.labels["width"], sample.labels["height"]) == picture().size


def test_broken_photos_are_named_by_reason_and_skipped(tmp_path):
    broken = {f"{name}.jpg": data for name, (data, _) in BROKEN.items()}
    folder = fill(tmp_path / "photos", {**broken, "good.jpg": noisy_jpeg()})
    manifest = write_shards([listing(folder)], tmp_path / "out", max_broken=0.9)
    assert [sample.labels["name"] for sample in Photos(manifest)] == ["good.jpg"]
    assert {name: reason for reason, names in manifest.skipped.items() for name in names} == {
        f"{name}.jpg": reason for name, (_, reason) in BROKEN.items()
    }


def test_more_broken_photos_than_allowed_stop_the_step_and_are_named(tmp_path):
    good = {f"good{number}.jpg": noisy_jpeg(number) for number in range(8)}
    folder = fill(tmp_path / "photos", {"bad1.jpg": b"", "bad2.png": b"text", **good})
    write_shards([listing(folder)], tmp_path / "allowed", max_broken=0.2)
    with pytest.raises(ValueError, match=r"max_broken allows 0.1 of 10 .* bad1.jpg \(empty file\), bad2.png \(not a"):
        write_shards([listing(folder)], tmp_path / "out", max_broken=0.1)
    assert not list((tmp_path / "out").glob("*"))


def test_a_failure_on_the_way_leaves_no_manifest_and_nothing_half_named(photos, tmp_path, monkeypatch):
    write_shards([listing(photos)], tmp_path / "out")
    whole = write.pack
    monkeypatch.setattr(write, "pack", lambda item, *rest: 1 / 0 if item.name == "a/6.jpg" else whole(item, *rest))
    with pytest.raises(ZeroDivisionError):
        write_shards([listing(photos)], tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["shard-000000.tar"]


def test_shards_are_not_written_over_their_own_source(photos, tmp_path):
    write_shards([listing(photos)], tmp_path / "out")
    with pytest.raises(ValueError, match="holds photos of the source"):
        write_shards([listing(tmp_path, "tar", "out")], tmp_path / "out")


def test_several_sources_make_one_set_with_ids_of_their_own(photos, tmp_path):
    manifest = write_shards([listing(photos), listing(photos, path="a")], tmp_path / "out")
    ids = Counter(sample.labels["image_id"] for sample in Photos(manifest))
    assert len(ids) == manifest.num_samples == 18


def test_a_manifest_that_is_missing_or_none_is_said_in_a_line(tmp_path):
    with pytest.raises(ValueError, match="no such manifest"):
        load_manifest(str(tmp_path))
    (tmp_path / "manifest.json").write_text('{"shards": 3}')
    with pytest.raises(ValueError, match="not a manifest"):
        load_manifest(str(tmp_path))


def key_and_draw(sample, ticket):
    return sample.key, ticket.draw


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_the_loader_follows_the_stream_whatever_the_number_of_workers(photos, tmp_path, workers):
    manifest = write_shards([listing(photos)], tmp_path / "out")

    def stream() -> Stream:
        return Stream([manifest.shard_sizes], [1.0], seed=0, rank=0, world=1, shuffle=True, group=2)

    batches = loader([Photos(manifest)], stream(), key_and_draw, batch=3, workers=workers)
    found = [pair for batch in islice(batches, 7) for pair in batch]
    assert found == [(f"{ticket.index:09d}", ticket.draw) for ticket in islice(stream(), 21)]


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_shard_damaged_after_it_was_written_is_one_line_from_any_process(photos, tmp_path, workers):
    manifest = write_shards([listing(photos)], tmp_path / "out")
    (tmp_path / "out" / manifest.shards[0].url).write_bytes(b"")
    stream = Stream([manifest.shard_sizes], [1.0], seed=0, rank=0, world=1, shuffle=False, group=1)
    with pytest.raises(
        ValueError, match=r"shard-000000.tar: sample 000000000 was damaged since \(its crc32 differs\)$"
    ):
        next(loader([Photos(manifest)], stream, key_and_draw, batch=2, workers=workers))


def test_a_byte_that_changed_in_a_photo_is_noticed(photos, tmp_path):
    manifest = write_shards([listing(photos)], tmp_path / "out")
    path = Path(manifest.url(1))
    data = bytearray(path.read_bytes())
    data[manifest.shards[1].offsets[2].jpg_offset + 300] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        ValueError, match=r"shard-000001.tar: sample 000000006 was damaged since \(its crc32 differs\)$"
    ):
        Photos(manifest)[6]


def test_a_manifest_without_checksums_is_read_as_before(photos, tmp_path):
    written = write_shards([listing(photos)], tmp_path / "out")
    path = tmp_path / "out" / "manifest.json"
    raw = json.loads(path.read_text())
    for shard in raw["shards"]:
        shard["offsets"] = [row[:5] for row in shard["offsets"]]
    path.write_text(json.dumps(raw))
    manifest = load_manifest(str(path))
    assert [offset[:5] for shard in manifest.shards for offset in shard.offsets] == [
        offset[:5] for shard in written.shards for offset in shard.offsets
    ]
    assert [sample.key for sample in Photos(manifest)] == [f"{number:09d}" for number in range(10)]


def test_what_a_reader_holds_and_hands_to_a_worker_does_not_grow_with_the_photos(photos, tmp_path):
    def pickled(count: int) -> int:
        manifest = write_shards([listing(photos)], tmp_path / "out")
        many = Offsets([(f"{number:09d}", number, 1, number, 1, 0) for number in range(count)])
        long = replace(manifest, shards=(replace(manifest.shards[0], samples=count, offsets=many),))
        (tmp_path / "out" / "manifest.json").write_text(manifest_text(long))
        return len(pickle.dumps(Photos(load_manifest(str(tmp_path / "out")))))

    assert pickled(10_000) < pickled(10) + 16


def test_a_manifest_that_was_rewritten_while_it_is_in_use_is_one_line(photos, tmp_path):
    write_shards([listing(photos)], tmp_path / "out")
    manifest = load_manifest(str(tmp_path / "out"))
    path = tmp_path / "out" / "manifest.json"
    path.write_text(path.read_text().replace(manifest.shards[1].sha256, "0" * 64))
    offsets._offsets.cache_clear()  # the tests' check of annotations has looked into every sequence
    with pytest.raises(ValueError, match=r"manifest.json: changed since it was read; start again with what it is now$"):
        Photos(manifest)[5]


def test_the_loader_leaves_the_global_dice_alone(photos, tmp_path):
    manifest = write_shards([listing(photos)], tmp_path / "out")
    stream = Stream([manifest.shard_sizes], [1.0], seed=0, rank=0, world=1, shuffle=False, group=1)
    before = torch.get_rng_state()
    next(iter(loader([Photos(manifest)], stream, key_and_draw, batch=2, workers=0)))
    assert torch.equal(before, torch.get_rng_state())
