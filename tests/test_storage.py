"""Files appear whole or not at all, and parts of them are read by range."""

import hashlib
import json
import stat
from pathlib import Path

import pytest
from race import race_to_write

from oapseg import storage
from oapseg.storage import connection

NOWHERE = "http://127.0.0.1:9"  # the port that discards: nothing listens
KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}


def write_half(path: Path) -> None:
    with storage.atomic_file(path) as file:
        file.write(b"half of the new")
        raise RuntimeError("power cut")


def test_an_exception_on_the_way_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    storage.write_text(path, "old")
    with pytest.raises(RuntimeError, match="power cut"):
        write_half(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_sees_the_old_content_until_the_new_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    storage.write_text(path, "old")
    with storage.atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_folders_on_the_way_are_made_and_files_are_readable_by_others(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    storage.write_bytes(path, b"content")
    (tmp_path / "plain").write_bytes(b"content")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


@pytest.mark.parametrize(("start", "length"), [(0, None), (0, 3), (2, 3), (4, None), (8, 100), (10, 1), (3, 0)])
def test_a_range_is_the_slice_of_the_whole(start: int, length: int | None, tmp_path: Path) -> None:
    content = b"0123456789"
    storage.write_bytes(tmp_path / "file", content)
    end = None if length is None else start + length
    assert storage.read_bytes(tmp_path / "file", start, length) == content[start:end]


def test_many_ranges_come_in_the_order_asked_for(tmp_path: Path) -> None:
    storage.write_bytes(tmp_path / "file", b"0123456789")
    assert list(storage.read_ranges([])) == []
    assert list(storage.read_ranges((str(tmp_path / "file"), at, 2) for at in (6, 0, 3))) == [b"67", b"01", b"34"]


def test_of_eight_writers_of_an_absent_file_one_wins(tmp_path: Path) -> None:
    won = race_to_write(str(tmp_path / "one"), 8)
    assert won.count(True) == 1
    assert storage.read_bytes(tmp_path / "one") == b"%d" % won.index(True)
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
    with pytest.raises(FileExistsError, match=r"/one: is there already$"):
        storage.write_bytes(tmp_path / "one", b"", only_if_absent=True)


def test_whole_files_are_listed_by_name_below_a_folder(tmp_path: Path) -> None:
    for name in ("set/b", "set/a/c", "set/.hidden", "set2/d"):
        storage.write_bytes(tmp_path / name, b"x")
    with storage.atomic_file(tmp_path / "set" / "half") as file:
        file.write(b"half")
        assert storage.list_files(tmp_path / "set") == [".hidden", "a/c", "b"]
    assert storage.list_files(tmp_path / "nothing") == []


def test_a_file_is_copied_whole_and_its_hash_told(tmp_path: Path) -> None:
    storage.write_bytes(tmp_path / "file", b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    assert storage.upload(tmp_path / "file", f"{tmp_path}/there/file") == digest
    assert storage.download(tmp_path / "there" / "file", tmp_path / "back", sha256=digest) == digest
    assert (tmp_path / "back").read_bytes() == b"content"
    assert storage.size(tmp_path / "back") == 7


def test_a_copy_of_other_content_than_expected_is_no_file(tmp_path: Path) -> None:
    storage.write_bytes(tmp_path / "file", b"damaged")
    with pytest.raises(OSError, match=r"/file: damaged, its sha256 is [0-9a-f]{64} and should be abc"):
        storage.download(tmp_path / "file", tmp_path / "copy", sha256="abc")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_or_file_is_deleted_and_its_neighbour_stays(tmp_path: Path) -> None:
    for name in ("set/a", "set/b/c", "file", "set2"):
        storage.write_bytes(tmp_path / name, b"x")
    for name in ("set", "file", "not-there"):
        storage.delete(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["set2"]


@pytest.mark.parametrize(
    ("parts", "joined"),
    [
        (("data", "a", "b.tar"), "data/a/b.tar"),
        (("data/", "b.tar"), "data/b.tar"),
        (("s3://bucket/set", "b.tar"), "s3://bucket/set/b.tar"),
        (("data", "/elsewhere/b.tar"), "/elsewhere/b.tar"),
        (("data", "s3://bucket/b.tar"), "s3://bucket/b.tar"),
        (("data",), "data"),
    ],
)
def test_a_location_below_another(parts: tuple[str, ...], joined: str) -> None:
    assert storage.join(*parts) == joined


def test_settings_left_blank_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_CA_BUNDLE", "AWS_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    connection.forget()
    try:
        client = connection.client()
        assert client._endpoint.http_session._verify is True  # certificates are checked
        assert client.meta.endpoint_url == "https://s3.eu-north-1.amazonaws.com"
    finally:
        connection.forget()


def test_only_s3_locations_are_urls() -> None:
    assert storage.is_url("s3://bucket/key")
    assert not storage.is_url(Path("data/s3:/bucket"))


def test_the_hash_is_sha256_of_the_content(tmp_path: Path) -> None:
    storage.write_bytes(tmp_path / "file", b"content" * 100_000)
    assert storage.sha256(tmp_path / "file") == hashlib.sha256(b"content" * 100_000).hexdigest()


def test_equal_values_are_equal_json_bytes(tmp_path: Path) -> None:
    storage.write_json(tmp_path / "a", {"x": 1, "y": [1.5, None]})
    storage.write_json(tmp_path / "b", {"y": [1.5, None], "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert storage.read_json(tmp_path / "a") == json.loads((tmp_path / "a").read_text())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_json_has_no_number_for_is_refused_and_nothing_is_written(value: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        storage.write_json(tmp_path / "file", {"loss": value})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b'{"half": ', b"\xff\xfe", b""])
def test_a_file_that_is_no_json_is_named(content: bytes, tmp_path: Path) -> None:
    storage.write_bytes(tmp_path / "file", content)
    with pytest.raises(ValueError, match=r"/file: not JSON \("):
        storage.read_json(tmp_path / "file")


@pytest.mark.parametrize("url", ["s3://", "s3:///key"])
def test_an_s3_url_without_a_bucket_says_how_to_write_one(url: str) -> None:
    with pytest.raises(ValueError, match=r"no bucket; write s3://bucket/key"):
        storage.read_bytes(url)


def test_a_patience_that_is_no_time_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OAPSEG_S3_PATIENCE_S", "long")
    with pytest.raises(ValueError, match="OAPSEG_S3_PATIENCE_S: must be seconds, is 'long'"):
        storage.read_bytes("s3://bucket/key")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "^s3://bucket/key: Unable to locate credentials$"),
        (KEYS, r"^s3://bucket/key: Could not connect to the endpoint .* \(tried 1 times in \d+ s\)$"),
        (KEYS | {"AWS_ENDPOINT_URL": "nowhere"}, "^s3://bucket/key: Invalid endpoint: nowhere$"),
    ],
)
def test_an_s3_server_that_cannot_be_had_is_one_line(
    environment: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.forget()
    nowhere = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null", "AWS_ENDPOINT_URL": NOWHERE}
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**nowhere, "AWS_SHARED_CREDENTIALS_FILE": "/dev/null", **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OAPSEG_S3_PATIENCE_S", "0")
    try:
        with pytest.raises(OSError, match=message):
            storage.read_bytes("s3://bucket/key")
    finally:
        connection.forget()


@pytest.mark.parametrize("content", [b"", b"one", b"one\n", b"one\n\ntwo", b"\n\n"])
def test_lines_of_a_file_and_of_an_object_in_parts_are_the_same(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    parts = [content[at : at + 2] for at in range(0, len(content), 2)]
    assert list(storage._lines(parts)) == list(storage.read_lines(tmp_path / "file")) == content.splitlines(True)
