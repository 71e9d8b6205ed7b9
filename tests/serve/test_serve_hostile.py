"""Whatever is sent, the answer is one clear line with its status, and the next photo is served."""

import io
import json
import socket
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serve.serving import Answer, Running, running, until
from use.small import photo_bytes, small_model

WHOLE = photo_bytes(200, 300, 0)
NOISE = photo_bytes(90, 90, 0, "PNG")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("serve") / "model")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with running(folder, upload_mb=1, queue_mb=2, megapixels=1.0) as server:
        yield server


def bomb(side: int) -> bytes:
    """A PNG of few bytes that would be `side` x `side` pixels."""
    lines = zlib.compress(b"\0" * (side // 8 + 1) * min(side, 4096), 9)
    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", lines), (b"IEND", b"")]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def wide_grey() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((4, 4), np.float32)).save(file, "TIFF")
    return file.getvalue()


HOSTILE = {
    "nothing": (b"", 422, "empty"),
    "text": (b"#!/bin/sh\nexit 1\n", 415, "wrong_type"),
    "a program": (b"\x7fELF" + bytes(1000), 415, "wrong_type"),
    "a page of vectors": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', 415, "wrong_type"),
    "a bomb": (bomb(30_000), 413, "too_many_pixels"),
    "a larger bomb": (bomb(2_000_000), 413, "too_many_pixels"),
    "slightly too many pixels": (photo_bytes(1000, 1001, 0), 413, "too_many_pixels"),
    "a truncated photo": (WHOLE[: len(WHOLE) // 2], 422, "truncated"),
    "a header alone": (photo_bytes(48, 72, 0, "BMP")[:60], 422, "truncated"),
    "a photo whose middle is lost": (NOISE[:200] + bytes(500) + NOISE[700:], 422, "damaged"),
    "grey of unknown range": (wide_grey(), 422, "damaged"),
    "too many bytes": (bytes(1_000_001), 413, "too_large"),
}


def refused(answer: Answer, status: int, reason: str) -> None:
    assert (answer.status, answer.said["reason"]) == (status, reason)
    assert "\n" not in answer.said["error"]
    assert 10 < len(answer.said["error"]) < 200
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_no_photo_is_refused_by_its_reason_and_counted(server: Running, what: str) -> None:
    data, status, reason = HOSTILE[what]
    before = server.metric("oapseg_serve_rejected_total", reason=reason)
    refused(server.masks(data), status, reason)
    assert server.metric("oapseg_serve_rejected_total", reason=reason) == before + 1
    assert server.masks(WHOLE).status == 200


def test_an_upload_that_does_not_say_its_size_is_cut_off_where_it_is_too_large(server: Running) -> None:
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(200):
            sent += 1_000_000
            yield bytes(1_000_000)

    refused(server.ask("POST", "/v1/masks", pieces()), 413, "too_large")
    assert sent == 200_000_000
    assert server.service.places.bytes == 0


def test_an_upload_that_comes_too_slowly_is_cut_off(folder: Path) -> None:
    with (
        running(folder, upload_s=0.3) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=30) as line,
    ):
        line.sendall(b"POST /v1/masks HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        assert line.recv(1000).startswith(b"HTTP/1.1 408 ")
        until(lambda: server.service.places.taken == 0)


def test_a_sender_that_breaks_off_leaves_no_trace(server: Running) -> None:
    before = server.metric("oapseg_serve_requests_total", outcome="gone")
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as line:
        line.sendall(b"POST /v1/masks HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
    until(lambda: server.metric("oapseg_serve_requests_total", outcome="gone") == before + 1)
    assert (server.service.places.taken, server.service.places.bytes) == (0, 0)


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("level=2", "level: input should be less than or equal to 1, is '2'"),
        ("level=nan", "level: "),
        ("min_score=-1", "min_score: "),
        ("max_masks=0", "max_masks: "),
        ("side_px=1", "side_px: "),
        ("task=depth", "task: "),
        ("threshold=1", "threshold: unknown; allowed are task, level, min_score, max_masks, side_px"),
    ],
)
def test_a_query_out_of_range_names_the_key_and_what_is_allowed(server: Running, query: str, part: str) -> None:
    answer = server.masks(WHOLE, query)
    refused(answer, 422, "bad_query")
    assert part in answer.said["error"]


def test_a_png_of_masks_that_overlap_is_refused(server: Running) -> None:
    refused(server.masks(WHOLE, "task=instance", {"Accept": "image/png"}), 406, "not_acceptable")


def test_a_form_is_no_photo_and_the_line_says_what_to_send(server: Running) -> None:
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n' + WHOLE + b"\r\n--x--\r\n"
    answer = server.masks(form, headers={"Content-Type": "multipart/form-data; boundary=x"})
    refused(answer, 415, "wrong_type")
    assert "body" in answer.said["error"]


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        ("/v1/models/oapseg:predict", b"{", 422, "bad_json"),
        ("/v1/models/oapseg:predict", b'{"instances": []}', 422, "bad_json"),
        ("/v1/models/oapseg:predict", b'{"instances": [5]}', 422, "bad_json"),
        ("/v1/models/oapseg:predict", b'{"instances": ["!!"]}', 422, "bad_json"),
        ("/v1/models/oapseg:predict", b'{"instances": ["aGVsbG8="]}', 415, "wrong_type"),
        ("/v1/models/oapseg:predict", json.dumps({"instances": ["aGVsbG8="] * 500}).encode(), 413, "too_many_photos"),
        ("/v1/models/others:predict", b"{}", 404, "unknown_model"),
        ("/v2/models/oapseg/infer", b'{"inputs": []}', 422, "bad_json"),
    ],
)
def test_the_protocols_of_kserve_refuse_likewise(
    server: Running, path: str, body: bytes, status: int, reason: str
) -> None:
    refused(server.ask("POST", path, body), status, reason)
    assert (server.service.places.taken, server.service.places.bytes) == (0, 0)


def test_a_route_that_is_not_there_is_one_line_too(server: Running) -> None:
    assert server.ask("GET", "/v1/nothing").said == {"error": "Not Found", "reason": "no_such_route"}
    assert server.ask("GET", "/v1/masks").status == 405
    assert server.ask("GET", "/page/serve_app.py").status == 404
    assert server.ask("GET", "/page/..%2fserve_app.py").status == 404
