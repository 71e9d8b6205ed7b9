"""A step says how it went to a gateway, takes its group away again, and is none the worse where nobody listens."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from components.__main__ import main
from oapseg.monitor.push import stage

Heard = list[tuple[str, str]]


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    """Requests in their order: method and path, and the body."""
    heard: Heard = []

    class Server(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            heard.append((f"{self.command} {self.path}", body))
            self.send_response(202)
            self.end_headers()

        do_DELETE = do_PUT  # noqa: N815  # the name that the server looks for

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PUSHGATEWAY_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("OAPSEG_PUSH_KEEP_S", "0")
        monkeypatch.setenv("OAPSEG_RUN", "run-1")
        yield heard
        server.shutdown()


def test_a_step_says_that_it_runs_how_it_ended_and_then_nothing_is_left(gateway: Heard) -> None:
    with stage("shard", []) as ended:
        ended(0)
    assert [request for request, _ in gateway] == [
        "PUT /metrics/job/oapseg_stage/run/run-1/stage/shard",
        "PUT /metrics/job/oapseg_stage/run/run-1/stage/shard",
        "DELETE /metrics/job/oapseg_stage/run/run-1/stage/shard",
    ]
    assert "oapseg_stage_running 1.0" in gateway[0][1]
    assert "oapseg_stage_failed 0.0" in gateway[1][1]
    assert "oapseg_stage_seconds " in gateway[1][1]


def test_a_step_that_fails_says_so(gateway: Heard) -> None:
    assert main(["shard", "nothing", "--root", "nowhere", "--out", "nowhere"]) == 2
    assert "oapseg_stage_failed 1.0" in gateway[1][1]
    assert gateway[2][0].startswith("DELETE ")


@pytest.mark.parametrize(("code", "failed"), [(75, 0.0), (2, 1.0)])
def test_a_step_that_stops_on_request_has_not_failed(gateway: Heard, code: int, failed: float) -> None:
    with pytest.raises(SystemExit), stage("pretrain", []):
        raise SystemExit(code)
    assert f"oapseg_stage_failed {failed}" in gateway[1][1]


def test_the_other_ranks_of_a_training_say_nothing(gateway: Heard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with stage("pretrain", []) as ended:
        ended(0)
    assert gateway == []


def test_a_gateway_that_does_not_answer_is_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PUSHGATEWAY_URL", "http://127.0.0.1:9")
    with stage("shard", []) as ended:
        ended(0)
    assert "PUSHGATEWAY_URL: the Pushgateway was not told" in capsys.readouterr().err
