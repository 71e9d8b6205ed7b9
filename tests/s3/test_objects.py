"""Objects in a real S3 server behave as files do, and faults of the way to it are lived through."""

import hashlib
import logging
import math
import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ceph
import pytest
from proxy import UNAVAILABLE, Proxy, Reset
from race import race_to_write

from oapseg import storage
from oapseg.storage import connection, s3

PART = 5 * 2**20  # the least that S3 takes
BIG = 12 * 2**20  # three parts


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3, "PART_BYTES", PART)


@pytest.fixture(scope="module")
def big() -> bytes:
    return os.urandom(BIG)


@pytest.fixture
def short_patience(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001  # after the bucket's own
    monkeypatch.setenv("OAPSEG_S3_PATIENCE_S", "1")


@pytest.mark.parametrize("length", [0, 1, 100_000])
def test_what_is_put_is_read(length: int, bucket: str) -> None:
    data = os.urandom(length)
    storage.write_bytes(f"{bucket}/a/b#c?d e.bin", data)
    assert storage.read_bytes(f"{bucket}/a/b#c?d e.bin") == data
    assert storage.size(f"{bucket}/a/b#c?d e.bin") == length
    assert storage.sha256(f"{bucket}/a/b#c?d e.bin") == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("start", "length"), [(0, None), (0, 3), (2, 3), (4, None), (8, 100), (10, 1), (12, 5), (3, 0)]
)
def test_a_range_is_the_slice_of_the_whole(start: int, length: int | None, bucket: str) -> None:
    content = b"0123456789"
    storage.write_bytes(f"{bucket}/file", content)
    end = None if length is None else start + length
    assert storage.read_bytes(f"{bucket}/file", start, length) == content[start:end]


def test_a_big_object_goes_and_comes_in_parts(big: bytes, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(big)
    digest = storage.upload(tmp_path / "big", f"{bucket}/big")
    assert digest == hashlib.sha256(big).hexdigest() == storage.sha256(f"{bucket}/big")
    assert storage.download(f"{bucket}/big", tmp_path / "back", sha256=digest) == digest
    assert (tmp_path / "back").read_bytes() == big
    assert storage.read_bytes(f"{bucket}/big", 10, BIG - 20) == big[10:-10]
    assert s3.head(f"{bucket}/big")["ETag"].endswith('-3"')


def test_many_ranges_come_in_the_order_asked_for(bucket: str) -> None:
    storage.write_bytes(f"{bucket}/file", bytes(range(256)))
    spans = [(f"{bucket}/file", start, 3) for start in range(200, 0, -7)]
    assert list(storage.read_ranges(spans)) == [bytes(range(start, start + 3)) for _, start, _ in spans]


def test_files_are_listed_below_their_folder_alone(bucket: str) -> None:
    for name in ("set/b", "set/a/c", "set2/d", "set/"):
        storage.write_bytes(f"{bucket}/{name}", b"x")
    assert storage.list_files(f"{bucket}/set") == storage.list_files(f"{bucket}/set/") == ["a/c", "b"]
    assert storage.list_files(f"{bucket}/nothing") == []
    assert storage.list_files(bucket) == ["set/a/c", "set/b", "set2/d"]


def test_more_files_than_a_page_holds_are_all_listed(bucket: str) -> None:
    names = [f"{number:03d}" for number in range(120)]  # the server's pages hold 50
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: storage.write_bytes(f"{bucket}/many/{name}", b""), names))
    assert storage.list_files(f"{bucket}/many") == names


def test_a_folder_is_deleted_and_its_neighbour_stays(bucket: str) -> None:
    for name in ("set/a", "set/b/c", "set2"):
        storage.write_bytes(f"{bucket}/{name}", b"x")
    storage.delete(f"{bucket}/set")
    storage.delete(f"{bucket}/not-there")
    assert storage.list_files(bucket) == ["set2"]
    with pytest.raises(ValueError, match="names a whole bucket"):
        storage.delete(f"{bucket}/")


def test_there_is_what_was_written_and_the_folders_on_the_way(bucket: str) -> None:
    storage.write_bytes(f"{bucket}/a/b", b"x")
    assert storage.exists(f"{bucket}/a/b")
    assert storage.exists(f"{bucket}/a")
    assert not storage.exists(f"{bucket}/a/c")
    assert storage.exists(f"{bucket}/a/")


def test_of_eight_writers_of_an_absent_object_one_wins(bucket: str) -> None:
    won = race_to_write(f"{bucket}/one", 8)
    assert won.count(True) == 1
    assert storage.read_bytes(f"{bucket}/one") == b"%d" % won.index(True)


def write_half(url: str) -> None:
    with storage.atomic_file(url) as file:
        file.write(b"half of the new")
        raise ZeroDivisionError


def test_an_exception_while_an_object_is_written_leaves_the_old_one(bucket: str) -> None:
    storage.write_bytes(f"{bucket}/file", b"old")
    with pytest.raises(ZeroDivisionError):
        write_half(f"{bucket}/file")
    assert storage.read_bytes(f"{bucket}/file") == b"old"


def test_a_file_that_changes_while_it_is_sent_leaves_no_object(big: bytes, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(big)
    with pytest.raises(OSError, match="should be 0000"):
        storage._copy(tmp_path / "big", f"{bucket}/big", "0000")
    assert storage.list_files(bucket) == []


def test_a_download_of_other_content_than_expected_is_no_file(bucket: str, tmp_path: Path) -> None:
    storage.write_bytes(f"{bucket}/file", b"damaged")
    with pytest.raises(OSError, match=r"/file: damaged, its sha256 is [0-9a-f]{64} and should be abc"):
        storage.download(f"{bucket}/file", tmp_path / "file", sha256="abc")
    assert list(tmp_path.iterdir()) == []


# What trying again cannot mend is said at once.


def test_a_wrong_secret_is_one_line_that_holds_no_key(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong" + ceph.SECRET_KEY)
    connection.forget()
    began = time.monotonic()
    for refused in (storage.read_bytes, storage.exists, storage.list_files, storage.size):
        with pytest.raises(OSError, match="S3 refuses access") as error:
            refused(f"{bucket}/file")
        assert "\n" not in str(error.value)
        assert ceph.SECRET_KEY not in str(error.value)
        assert ceph.ACCESS_KEY not in str(error.value)
    assert time.monotonic() - began < 10  # far below the patience for servers that are gone


def test_a_missing_bucket_and_a_missing_object_are_told_apart(bucket: str) -> None:
    for refused in (storage.read_bytes, storage.exists, storage.list_files):
        with pytest.raises(OSError, match=r"^s3://no-such-bucket/.*: no such bucket$"):
            refused("s3://no-such-bucket/file")
    with pytest.raises(OSError, match="no such bucket"):
        storage.write_bytes("s3://no-such-bucket/file", b"x")
    with pytest.raises(FileNotFoundError, match=r"/file: no such object$"):
        storage.read_bytes(f"{bucket}/file")
    with pytest.raises(FileNotFoundError, match=r"/file: no such object$"):
        storage.size(f"{bucket}/file")


# What passes is waited for.


def test_a_read_goes_on_where_the_connection_broke(big: bytes, bucket: str, network: Proxy) -> None:
    storage.write_bytes(f"{bucket}/big", big)
    network.break_next(Reset(1_000_000), Reset(4_000_000), Reset(100_000), Reset(0))
    assert storage.read_bytes(f"{bucket}/big") == big
    assert network.met == 4


def test_a_write_that_the_network_cuts_is_whole_in_the_end(big: bytes, bucket: str, network: Proxy) -> None:
    storage.exists(f"{bucket}/big")
    network.break_next(Reset(3_000_000, of_requests=True), Reset(10, of_requests=True), Reset(0))
    storage.write_bytes(f"{bucket}/big", big)
    assert network.met == 3
    assert storage.read_bytes(f"{bucket}/big") == big


def test_a_server_that_is_overloaded_is_tried_again(bucket: str, network: Proxy) -> None:
    network.break_next(*[UNAVAILABLE] * 3)
    storage.write_bytes(f"{bucket}/file", b"content")
    network.break_next(*[UNAVAILABLE] * 3)
    assert storage.read_bytes(f"{bucket}/file") == b"content"
    assert network.met == 6


def test_a_server_that_comes_back_is_waited_for_in_mid_object(big: bytes, bucket: str, network: Proxy) -> None:
    storage.write_bytes(f"{bucket}/big", big)
    network.break_next(Reset(1_000_000))
    reader = ThreadPoolExecutor(1).submit(storage.read_bytes, f"{bucket}/big")
    while not network.met:
        time.sleep(0.01)
    network.down()
    time.sleep(1.5)
    network.up()
    assert reader.result() == big


def test_a_lost_answer_to_the_only_writer_is_no_other_writer(bucket: str, network: Proxy) -> None:
    network.break_next(Reset(30))  # the answer to `100-continue` passes, that to the request does not
    storage.write_bytes(f"{bucket}/one", b"mine", only_if_absent=True)
    assert network.met == 1
    with pytest.raises(FileExistsError, match="is there already"):
        storage.write_bytes(f"{bucket}/one", b"mine", only_if_absent=True)


def test_a_lost_answer_to_the_end_of_an_upload_is_no_failure(
    big: bytes, bucket: str, network: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = s3._complete

    def answer_lost(*arguments: object) -> None:
        network.break_next(Reset(0))
        complete(*arguments)

    monkeypatch.setattr(s3, "_complete", answer_lost)
    storage.write_bytes(f"{bucket}/big", big)
    assert network.met == 1
    assert storage.read_bytes(f"{bucket}/big") == big


@pytest.mark.usefixtures("short_patience")
def test_a_server_that_stays_away_is_one_line_and_no_object(
    big: bytes, bucket: str, network: Proxy, server: ceph.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.break_next(*[Reset(1_000_000, of_requests=True)] * 10_000)
    with pytest.raises(OSError, match=r"big: .* \(tried \d+ times in \d+ s\)$") as error:
        storage.write_bytes(f"{bucket}/big", big)
    assert "\n" not in str(error.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    connection.forget()
    assert storage.list_files(bucket) == []


@pytest.mark.usefixtures("short_patience")
def test_an_outage_is_told_once_and_without_a_key(
    bucket: str, network: Proxy, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "TELL_AFTER_S", 0.2)
    monkeypatch.setattr(connection.Patience, "told_at", -math.inf)
    network.down()
    with caplog.at_level(logging.DEBUG), pytest.raises(OSError, match="Could not connect") as error:
        storage.read_bytes(f"{bucket}/file")
    network.up()
    assert [record.name for record in caplog.records].count("oapseg.storage.connection") == 1
    assert ceph.SECRET_KEY not in caplog.text + str(error.value)


# Processes and threads.


def read_in_child(url: str, answers: "multiprocessing.Queue[bytes]") -> None:
    answers.put(storage.read_bytes(url))


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_process_that_is_born_of_a_reader_reads_by_a_client_of_its_own(method: str, bucket: str) -> None:
    storage.write_bytes(f"{bucket}/file", b"content")
    storage.read_bytes(f"{bucket}/file")
    context = multiprocessing.get_context(method)
    answers: multiprocessing.Queue[bytes] = context.Queue()
    child = context.Process(target=read_in_child, args=(f"{bucket}/file", answers))
    child.start()
    assert answers.get(timeout=60) == storage.read_bytes(f"{bucket}/file") == b"content"
    child.join()


def test_threads_share_a_client_from_the_first_read_on(bucket: str) -> None:
    storage.write_bytes(f"{bucket}/file", b"content")
    connection.forget()
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(storage.read_bytes, [f"{bucket}/file"] * 64)) == {b"content"}
