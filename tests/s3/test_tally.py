"""What S3 was asked is counted: by operation, with its time, what was tried again and what failed, in workers too."""

import time
from itertools import islice
from pathlib import Path

import pytest
import torch
from PIL import Image
from proxy import UNAVAILABLE, Proxy, Reset

from oapseg import storage
from oapseg.params import Source
from oapseg.shards import write
from oapseg.shards.listing import Item, Listing
from oapseg.shards.manifest import Manifest, load_manifest
from oapseg.shards.read import Photos, Sample, loader
from oapseg.shards.sources import list_source
from oapseg.shards.stream import Stream, Ticket
from oapseg.shards.write import write_set
from oapseg.storage import connection, tally


@pytest.fixture(autouse=True)
def _from_nothing(bucket: str) -> None:  # noqa: ARG001  # after the bucket was made
    tally.taken()


def test_each_operation_is_counted_with_its_time(bucket: str) -> None:
    began = time.monotonic()
    storage.write_bytes(f"{bucket}/a", b"content")
    assert storage.read_bytes(f"{bucket}/a") == b"content"
    assert storage.size(f"{bucket}/a") == 7
    assert storage.list_files(bucket) == ["a"]
    storage.delete(f"{bucket}/a")
    counts = tally.told()
    assert {name for name in counts if name.startswith("requests_")} == {
        f"requests_{each}" for each in tally.OPERATIONS
    }
    assert counts["requests_write"] == counts["requests_head"] == 1
    seconds = [value for name, value in counts.items() if name.startswith("seconds_")]
    assert 0 < sum(seconds) < time.monotonic() - began
    assert not {name for name in counts if name.startswith(("retries_", "errors_"))}


def test_what_fails_on_the_way_is_counted_as_tried_again(bucket: str, network: Proxy) -> None:
    storage.write_bytes(f"{bucket}/a", b"content")
    connection.forget()  # so that each request below has a connection of its own to fail
    tally.taken()
    network.break_next(UNAVAILABLE, Reset(0))
    assert storage.read_bytes(f"{bucket}/a") == b"content"
    counts = tally.told()
    assert (counts["requests_read"], counts["retries_read"]) == (1, 2)
    assert "errors_read" not in counts


def test_what_is_refused_or_given_up_is_an_error_and_what_is_not_there_is_an_answer(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not storage.exists(f"{bucket}/nothing")
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(f"{bucket}/nothing")
    assert not {name for name in tally.told() if name.startswith("errors_")}
    with pytest.raises(OSError, match="no such bucket"):
        storage.read_bytes("s3://no-such-bucket/a")
    assert tally.told()["errors_read"] == 1
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("OAPSEG_S3_PATIENCE_S", "2")
    connection.forget()
    with pytest.raises(OSError, match="Could not connect"):
        storage.write_bytes(f"{bucket}/a", b"")
    counts = tally.told()
    assert counts["errors_write"] == 1
    assert counts["retries_write"] >= 1


def key(sample: Sample, _: Ticket) -> str:
    return sample.key


def sharded(bucket: str, folder: Path) -> Manifest:
    """Eight photos in two shards."""
    for number in range(8):
        pixels = torch.full((24, 24, 3), 30 * number, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(folder / f"{number}.jpg")
    listings = [list_source(Source(kind="photos", path="."), str(folder))]
    write_set(listings, f"{bucket}/set", samples_per_shard=4, max_broken=0.0, max_pixels=10_000, workers=1)
    return load_manifest(f"{bucket}/set")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_the_loaders_processes_ask_is_counted_where_their_batches_are_taken(
    workers: int, bucket: str, tmp_path: Path
) -> None:
    manifest = sharded(bucket, tmp_path)
    tally.taken()
    stream = Stream([manifest.shard_sizes], [1.0], seed=0, rank=0, world=1, shuffle=True, group=1)
    drawn = list(islice(loader([Photos(manifest)], stream, key, batch=4, workers=workers), 3))
    assert [len(batch) for batch in drawn] == [4, 4, 4]
    assert all(isinstance(item, str) for batch in drawn for item in batch)
    tables = workers * len(manifest.shards)  # of offsets, which a worker reads anew
    assert tally.told()["requests_read"] == 12 + tables


@pytest.mark.parametrize("workers", [0, 1])
def test_what_was_asked_for_a_batch_with_a_damaged_photo_is_counted_too(
    workers: int, bucket: str, tmp_path: Path
) -> None:
    manifest = sharded(bucket, tmp_path)
    size = storage.size(manifest.url(0))
    storage.write_bytes(manifest.url(0), b"\0" * size)
    tally.taken()
    stream = Stream([manifest.shard_sizes], [1.0], seed=0, rank=0, world=1, shuffle=False, group=1)
    with pytest.raises(ValueError, match="was damaged since"):
        next(loader([Photos(manifest)], stream, key, batch=4, workers=workers))
    assert tally.told()["requests_read"] >= 4


@pytest.mark.parametrize("workers", [1, 2])
def test_photos_that_the_writers_processes_read_are_counted(
    workers: int, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (24, 24)).save(tmp_path / "black.png")
    items = [Item(f"{number}.png", f"{bucket}/{number}.png") for number in range(3)]
    for item in items:
        storage.write_bytes(item.path, (tmp_path / "black.png").read_bytes())
    tally.taken()
    monkeypatch.setattr(write, "PHOTOS_A_WORKER", 1)
    listings = [Listing("photos", "three in S3", items)]
    write_set(listings, tmp_path / "set", samples_per_shard=4, max_broken=0.0, max_pixels=10_000, workers=workers)
    assert tally.told()["requests_read"] == 3
