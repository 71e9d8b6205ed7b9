"""A server with more to do than it can: who waits, who is sent away, who leaves, and how it goes."""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from serve.serving import Running, running, until
from use.small import photo_bytes, small_model

from oapseg.cli import main
from oapseg.params import default_params_path
from oapseg.registry.server import DEPRECATED_IN_MLFLOW, registry

PHOTO = photo_bytes(48, 72, 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("serve") / "model")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with running(folder, batch=4, queue=12) as server:
        yield server


@contextmanager
def busy_model(server: Running) -> Iterator[None]:
    """The model looks at something else until the end of this."""
    done, begun = threading.Event(), threading.Event()
    server.service.model_thread.submit(lambda: (begun.set(), done.wait(60)))
    begun.wait(60)
    try:
        yield
    finally:
        done.set()


def test_requests_at_once_go_to_the_model_together(server: Running) -> None:
    before = server.metric("oapseg_serve_batch_photos_count"), server.metric("oapseg_serve_batch_photos_sum")
    with ThreadPoolExecutor(9) as people:
        with busy_model(server):
            asked = [people.submit(server.masks, PHOTO) for _ in range(9)]
            until(lambda: server.service.places.taken == 9)
        assert [each.result().status for each in asked] == [200] * 9
    batches = server.metric("oapseg_serve_batch_photos_count") - before[0]
    assert server.metric("oapseg_serve_batch_photos_sum") - before[1] == 9
    assert batches < 6


def test_one_request_too_many_is_told_when_to_come_again_while_health_and_metrics_answer(server: Running) -> None:
    with ThreadPoolExecutor(12) as people:
        with busy_model(server):
            asked = [people.submit(server.masks, PHOTO) for _ in range(12)]
            until(lambda: server.service.places.taken == 12)
            answer = server.masks(PHOTO)
            assert (answer.status, answer.said["reason"], answer.headers["retry-after"]) == (503, "queue_full", "1")
            assert [server.ask("GET", path).status for path in ("/healthz", "/readyz", "/metrics")] == [200] * 3
        assert [each.result().status for each in asked] == [200] * 12
    assert server.masks(PHOTO).status == 200


def test_a_photo_that_would_wait_too_long_is_sent_away_before_it_waits(folder: Path) -> None:
    with running(folder, ahead_s=5.0) as server, ThreadPoolExecutor(2) as people:
        with busy_model(server):
            server.service.batches.pace_s = 4.0
            asked = [people.submit(server.masks, PHOTO) for _ in range(2)]
            until(lambda: server.metric("oapseg_serve_expected_wait_seconds") == 8)
            answer = server.masks(PHOTO)
            assert (answer.status, answer.said["reason"], answer.headers["retry-after"]) == (503, "queue_full", "5")
            assert "2 photos are before this one, 8 s at the present pace" in answer.said["error"]
        assert [each.result().status for each in asked] == [200] * 2
        assert server.metric("oapseg_serve_rejected_total", reason="queue_full") == 1


def test_who_leaves_early_frees_the_place_at_once(server: Running) -> None:
    before = server.metric("oapseg_serve_requests_total", outcome="gone")
    head = b"POST /v1/masks HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(PHOTO)
    with busy_model(server):
        lines = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(6)]
        for line in lines:
            line.sendall(head + PHOTO)
        until(lambda: server.service.places.taken == 6)
        for line in lines:
            line.close()
        until(lambda: server.service.places.taken == 0)
        until(lambda: not server.service.batches.waiting)
    until(lambda: server.metric("oapseg_serve_requests_total", outcome="gone") == before + 6)
    assert server.masks(PHOTO).status == 200


def test_an_answer_that_takes_too_long_is_given_up(folder: Path) -> None:
    with running(folder, timeout_s=0.2) as server:
        with busy_model(server):
            answer = server.masks(PHOTO)
            assert (answer.status, answer.said["reason"]) == (504, "timeout")
            assert server.service.places.taken == 0
        assert server.metric("oapseg_serve_rejected_total", reason="timeout") == 1


def test_both_protocols_of_kserve_give_the_same_masks(server: Running) -> None:
    own, text = server.masks(PHOTO, "task=panoptic").said, base64.b64encode(PHOTO).decode()
    first = {"instances": [{"image": {"b64": text}}, {"b64": text}], "parameters": {"task": "panoptic"}}
    found = server.ask("POST", "/v1/models/oapseg:predict", json.dumps(first)).said["predictions"]
    assert [clusters_and_areas(each) for each in found] == [clusters_and_areas(own)] * 2
    photos = {"name": "photos", "datatype": "BYTES", "shape": [1], "data": [text]}
    second = {"id": "7", "inputs": [photos], "parameters": {"task": "panoptic"}}
    said = server.ask("POST", "/v2/models/oapseg/infer", json.dumps(second)).said
    (output,) = said["outputs"]
    assert (said["id"], said["model_name"], output["shape"], output["datatype"]) == ("7", "oapseg", [1], "BYTES")
    assert clusters_and_areas(json.loads(output["data"][0])) == clusters_and_areas(own)


def clusters_and_areas(said: Any) -> Any:
    """What stays where photos are seen together: scores come out otherwise in the last digits."""
    return [(each["cluster"], each["isthing"], each["area"] // 10) for each in said["masks"]]


def test_kserve_finds_the_model_ready(server: Running) -> None:
    for path in ("/v1/models/oapseg", "/v2/health/live", "/v2/health/ready", "/v2/models/oapseg/ready", "/v2"):
        assert server.ask("GET", path).status == 200
    assert server.ask("GET", "/v1/models").said == {"models": ["oapseg"]}
    assert server.ask("GET", "/v2/models/oapseg").said["inputs"][0]["datatype"] == "BYTES"


def test_no_label_of_a_metric_takes_what_a_request_says(server: Running) -> None:
    names = set(server.ask("GET", "/metrics").body.decode().split())
    for path in ("/v1/models/made-up-1:predict", "/made-up-2", "/v2/models/made-up-3/infer?made=4"):
        server.ask("POST", path, PHOTO)
    after = server.ask("GET", "/metrics").body.decode()
    assert "made" not in after
    assert {name for name in after.split() if "{" in name} <= {name for name in names if "{" in name}


def test_routes_are_described_with_nothing_from_elsewhere(server: Running) -> None:
    described = server.ask("GET", "/openapi.json").said["paths"]
    page = server.ask("GET", "/docs").body.decode()
    assert [path for path in described if path not in page] == []
    assert "/v1/masks" in described
    for path in ("/", "/docs", "/page/page.css", "/page/page.js"):
        text = server.ask("GET", path).body.decode().replace("http://www.w3.org/2000/svg", "")
        assert re.findall(r"""["'(=] *(?:https?:)?//|@import""", text) == []


def test_a_server_that_is_asked_to_go_answers_everything_first(folder: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(default_params_path().read_text())
    content["serve"] |= {"port": 0, "device": "cpu", "leave_s": 600.0, "min_score": 0.0, "wait_ms": 1000, "batch": 64}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    command = [
        sys.executable,
        "-m",
        "oapseg",
        "serve",
        "--model",
        str(folder),
        "--params",
        str(tmp_path / "params.yaml"),
    ]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline().rstrip().rsplit(":", 1)[1])
            server = Running(None, None, port)  # type: ignore[arg-type]
            with ThreadPoolExecutor(6) as people:
                asked = [people.submit(server.masks, PHOTO) for _ in range(6)]
                until(lambda: b'seconds_count{phase="upload"} 6.0' in server.ask("GET", "/metrics").body)
                process.send_signal(signal.SIGTERM)
                until(lambda: server.ask("GET", "/readyz").status == 503)
                assert server.ask("GET", "/healthz").status == 200
                assert [each.result().status for each in asked] == [200] * 6
            process.send_signal(signal.SIGTERM)  # asked again: it waits no longer for others to notice
            assert process.wait(120) == 0
            assert "every request" in process.stdout.read()
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("flag", "value", "part"),
    [
        ("--port", "70000", "serve.port: input should be less than or equal to 65535, is 70000\n"),
        ("--port", "http", "serve.port: input should be a valid integer"),
        ("--follow", "0", "serve.follow_s: input should be greater than or equal to 1"),
        ("--host", "", "serve.host: "),
    ],
)
def test_flags_out_of_range_are_one_line(
    folder: Path, flag: str, value: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--model", str(folder), flag, value]) == 2
    error = capsys.readouterr().err
    assert part in error
    assert error.startswith("oapseg serve: command line: serve.")
    assert error.count("\n") == 1


@pytest.mark.filterwarnings(f"ignore:{DEPRECATED_IN_MLFLOW}")
def test_without_a_model_it_is_the_registrys_champion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with registry(f"sqlite:///{tmp_path}/mlflow.db", make=True) as client:
        client.create_registered_model("oapseg")
        client.create_model_version("oapseg", str(tmp_path))
    assert main(["serve", "--port", "0"]) == 2
    assert "oapseg: no version champion; the registry has 1" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["timeout_s", "drain_s"])
def test_a_wait_that_is_longer_than_the_time_to_the_answer_is_refused(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(default_params_path().read_text())
    content["serve"][key] = content["serve"]["ahead_s"]
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    assert main(["serve", "--model", "nowhere", "--params", str(tmp_path / "params.yaml")]) == 2
    assert f"serve: ahead_s must be less than {key}, " in capsys.readouterr().err


def test_a_port_that_is_taken_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--model", str(folder), "--port", str(port)]) == 2
    assert f"127.0.0.1:{port} cannot be listened on (Address already in use)" in capsys.readouterr().err
