"""Shards go straight to S3 and come from there, by a network that breaks; what cannot be had is one line."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import ceph
import pytest
import torch
import yaml
from PIL import Image
from proxy import UNAVAILABLE, Proxy, Reset

import components.__main__
from oapseg import storage
from oapseg.params import Source, default_params_path
from oapseg.shards.manifest import Manifest, load_manifest
from oapseg.shards.parts import Part, join_parts
from oapseg.shards.read import Photos, Sample, loader
from oapseg.shards.sources import list_source
from oapseg.shards.stream import Stream, Ticket
from oapseg.shards.write import write_set
from oapseg.storage import connection

NUM_PHOTOS = 23


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise, 30 kB a photo, and one broken file."""
    folder = tmp_path_factory.mktemp("photos")
    for number in range(NUM_PHOTOS):
        pixels = torch.randint(
            0, 256, (100, 120, 3), generator=torch.Generator().manual_seed(number), dtype=torch.uint8
        )
        Image.fromarray(pixels.numpy()).save(folder / f"{number:02d}.jpg", quality=95)
    (folder / "11.jpg").write_bytes(b"broken")
    return folder


@pytest.fixture(scope="module")
def here(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set on the local disk."""
    out = tmp_path_factory.mktemp("shards") / "val"
    write(photos, out)
    return out


def write(photos: Path, out: Path | str, part: Part | None = None) -> Manifest:
    listings = [list_source(Source(kind="photos", path="."), str(photos))]
    return write_set(listings, out, samples_per_shard=4, max_broken=0.1, max_pixels=100_000, workers=1, part=part)


def content(folder: Path | str) -> dict[str, bytes]:
    return {name: storage.read_bytes(storage.join(folder, name)) for name in storage.list_files(folder)}


def samples(manifest: Manifest) -> list[tuple[str, bytes, object]]:
    return [(sample.key, sample.image.numpy().tobytes(), sample.labels) for sample in Photos(manifest)]


def key(sample: Sample, _: Ticket) -> str:
    return sample.key


def batches(manifest: Manifest, workers: int = 0) -> Iterator[list[str]]:
    stream = Stream([manifest.shard_sizes], [1.0], seed=0, rank=0, world=1, shuffle=True, group=2)
    return iter(loader([Photos(manifest)], stream, key, batch=4, workers=workers))


def test_shards_in_s3_are_the_bytes_of_those_on_disk_and_their_samples_too(
    photos: Path, here: Path, bucket: str
) -> None:
    storage.write_bytes(f"{bucket}/set/shard-000099.tar", b"of a longer set")
    write(photos, f"{bucket}/set")
    assert content(f"{bucket}/set") == content(here)
    assert samples(load_manifest(f"{bucket}/set")) == samples(load_manifest(str(here)))


def test_parts_written_side_by_side_are_joined_to_the_same_bytes(photos: Path, here: Path, bucket: str) -> None:
    writers = [threading.Thread(target=write, args=(photos, f"{bucket}/set", Part(number, 3))) for number in (1, 2, 3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    join_parts(f"{bucket}/set", 3)
    assert content(f"{bucket}/set") == content(here)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_the_loader_streams_from_s3_in_the_order_of_the_disk(here: Path, workers: int, bucket: str) -> None:
    for name in storage.list_files(here):
        storage.upload(here / name, f"{bucket}/set/{name}")
    expected = list(islice(batches(load_manifest(str(here))), 8))
    assert list(islice(batches(load_manifest(f"{bucket}/set"), workers), 8)) == expected


def test_sharding_lives_through_resets_refusals_and_a_server_that_goes(
    photos: Path, here: Path, network: Proxy, bucket: str
) -> None:
    network.break_next(
        Reset(50_000, of_requests=True), UNAVAILABLE, Reset(0), UNAVAILABLE, Reset(70_000, of_requests=True)
    )
    writer = threading.Thread(target=write, args=(photos, f"{bucket}/set"))
    writer.start()
    while network.met < 5:
        time.sleep(0.01)
    network.down()
    time.sleep(1)
    network.up()
    writer.join()
    assert content(f"{bucket}/set") == content(here)


def test_a_loader_lives_through_resets_refusals_and_a_server_that_goes(here: Path, network: Proxy, bucket: str) -> None:
    for name in storage.list_files(here):
        storage.upload(here / name, f"{bucket}/set/{name}")
    expected = list(islice(batches(load_manifest(str(here))), 12))
    streamed = batches(load_manifest(f"{bucket}/set"))
    found = [next(streamed)]
    network.break_next(Reset(20_000), UNAVAILABLE, Reset(0), UNAVAILABLE)
    found += islice(streamed, 5)
    assert network.met == 4
    network.down()
    threading.Timer(1, network.up).start()
    found += islice(streamed, 6)
    assert found == expected


def test_shards_whose_server_stays_away_are_no_set(
    photos: Path, network: Proxy, server: ceph.Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OAPSEG_S3_PATIENCE_S", "0.5")
    write(photos, f"{bucket}/set")
    network.break_next(*[Reset(30_000, of_requests=True)] * 3, *[UNAVAILABLE] * 1000)
    with pytest.raises(OSError, match=r"shard-\d+.tar: .*503.* \(tried \d+ times in \d+ s\)$"):
        write(photos, f"{bucket}/set")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    connection.forget()
    assert "manifest.json" not in storage.list_files(f"{bucket}/set")
    with pytest.raises(ValueError, match=r"set/manifest.json: no such manifest"):
        load_manifest(f"{bucket}/set")


def test_an_object_that_was_damaged_or_cut_is_named(here: Path, bucket: str) -> None:
    for name in storage.list_files(here):
        storage.upload(here / name, f"{bucket}/set/{name}")
    data = bytearray((here / "shard-000001.tar").read_bytes())
    data[1000] ^= 1
    storage.write_bytes(f"{bucket}/set/shard-000001.tar", bytes(data))
    storage.write_bytes(f"{bucket}/set/shard-000002.tar", bytes(data[:1000]))
    found = Photos(load_manifest(f"{bucket}/set"))
    for index, message in (
        (4, r"shard-000001.tar: sample 000000004 was"),
        (9, r"shard-000002.tar: sample 000000009 was"),
    ):
        with pytest.raises(ValueError, match=rf"^{bucket}/set/{message} damaged since \(its crc32 differs\)$"):
            found[index]
    assert found[0].key == "000000000"


def test_a_shard_that_is_gone_is_one_line_from_the_loader(here: Path, bucket: str) -> None:
    storage.upload(here / "manifest.json", f"{bucket}/set/manifest.json")
    with pytest.raises(FileNotFoundError, match=r"/set/shard-\d+.tar: no such object$"):
        next(batches(load_manifest(f"{bucket}/set")))


@pytest.mark.parametrize(
    ("environment", "location", "message"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong" + ceph.SECRET_KEY}, "{bucket}/set", "S3 refuses access"),
        ({"AWS_ACCESS_KEY_ID": "NOBODY"}, "{bucket}/set", "S3 refuses access"),
        ({}, "s3://no-such-bucket/set", "no such bucket"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "OAPSEG_S3_PATIENCE_S": "1"}, "{bucket}/set", "Could not connect"),
    ],
)
def test_what_the_steps_say_of_a_server_that_refuses_is_one_line_without_a_key(
    environment: dict[str, str],
    location: str,
    message: str,
    photos: Path,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = yaml.safe_load(default_params_path().read_text())
    params["shards"]["sets"]["val"] = {"root": str(photos), "sources": [{"kind": "photos", "path": "."}]}
    params["shards"]["max_broken"] = 0.5
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    out = location.format(bucket=bucket)
    ran = subprocess.run(
        [sys.executable, "-m", "components", "shard", "val", "--out", out, "--params", str(tmp_path / "params.yaml")],
        capture_output=True,
        text=True,
        cwd=Path(components.__main__.__file__).parents[1],
    )
    assert ran.returncode == 2
    assert message in ran.stderr.splitlines()[-1]
    assert "Traceback" not in ran.stderr
    for secret in (ceph.SECRET_KEY, ceph.ACCESS_KEY, "NOBODY"):
        assert secret not in ran.stdout + ran.stderr


def test_a_pushed_version_is_streamed_from_the_remotes_own_objects(
    here: Path, bucket: str, server: ceph.Server, tmp_path: Path
) -> None:
    repo = tmp_path / "repo"
    for name in storage.list_files(here):
        storage.upload(here / name, str(repo / "shards" / "val" / name))

    def run(*command: str) -> None:
        quiet = {**os.environ, "DVC_NO_ANALYTICS": "1"}
        subprocess.run(command, cwd=repo, check=True, capture_output=True, env=quiet)

    def dvc(*arguments: str) -> None:
        run(sys.executable, "-m", "dvc", *arguments)

    run("git", "init", "-q")
    dvc("init", "-q")
    dvc("remote", "add", "--default", "kept", f"{bucket}/dvc")
    dvc("remote", "modify", "kept", "endpointurl", server.endpoint)
    dvc("add", "shards/val")
    run("git", "add", "-A")
    run("git", "-c", "user.name=tester", "-c", "user.email=tester@localhost", "commit", "-qm", "shards")
    run("git", "tag", "v1")
    dvc("push")
    storage.delete(repo / "shards" / "val")
    storage.delete(repo / ".dvc" / "cache")
    oapseg = "import sys; from oapseg.cli import main; sys.exit(main())"
    asked = ("--repo", str(repo), "--rev", "v1", "--path", "shards/val", "--out", str(tmp_path / "v1"))
    run(sys.executable, "-c", oapseg, "data", "resolve", *asked)
    manifest = load_manifest(str(tmp_path / "v1"))
    assert all(shard.url.startswith(f"{bucket}/dvc/files/md5/") for shard in manifest.shards)
    assert samples(manifest) == samples(load_manifest(str(here)))
    dvc("pull")
    assert content(repo / "shards" / "val") == content(here)
