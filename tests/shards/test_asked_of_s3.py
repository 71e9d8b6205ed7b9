"""What processes of the loader and of the writer asked of S3 is counted here where it failed, too: no S3 answers."""

from pathlib import Path

import pytest

from oapseg.shards import write
from oapseg.shards.listing import Item, Listing
from oapseg.shards.manifest import Manifest, Shard
from oapseg.shards.offsets import Offset, Offsets
from oapseg.shards.read import Photos, Sample, loader
from oapseg.shards.stream import Stream, Ticket
from oapseg.storage import connection, tally

NOWHERE = {
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_REGION": "us-east-1",
    "OAPSEG_S3_PATIENCE_S": "0.5",
}


@pytest.fixture(autouse=True)
def _nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)
    connection.forget()
    tally.taken()


def key(sample: Sample, _: Ticket) -> str:
    return sample.key


@pytest.mark.parametrize("workers", [0, 1])
def test_a_read_that_is_given_up_is_counted_where_its_error_is_raised(workers: int) -> None:
    offsets = Offsets([Offset("000000000", 512, 10, 1536, 10)])
    shard = Shard("shard-000000.tar", 1, 2048, "0" * 64, offsets)
    photos = Photos(Manifest("s3://nobody/set", (shard,), "none", (), (), {}))
    stream = Stream([[1]], [1.0], seed=0, rank=0, world=1, shuffle=False, group=1)
    with pytest.raises(OSError, match="s3://nobody/set"):
        next(loader([photos], stream, key, batch=1, workers=workers))
    assert tally.told()["errors_read"] == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_photos_that_the_writers_processes_cannot_read_are_counted(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "PHOTOS_A_WORKER", 1)
    items = [Item(f"{number}.jpg", f"s3://nobody/{number}.jpg") for number in range(2)]
    listing = Listing("photos", "two that are not there", items)
    with pytest.raises(ValueError, match=r"cannot be read"):
        write.write_set(
            [listing], tmp_path / "out", samples_per_shard=2, max_broken=0.5, max_pixels=10_000, workers=workers
        )
    assert tally.told()["errors_read"] == 2
