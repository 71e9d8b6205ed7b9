"""A step says how it went to a gateway, takes its group away again, and is none the worse where nobody listens."""

import json
import os
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import live
import pytest

from components.__main__ import main
from oapseg.monitor.push import GATEWAY, JOB, KEEP_S, RUN, end_run, stage, tell

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


@pytest.fixture(scope="module")
def real() -> Iterator[str]:
    """The URL of a Pushgateway."""
    if live.missing():
        pytest.skip("no Pushgateway: Debian has it as prometheus-pushgateway")
    with live.pushgateway() as port:
        url = f"http://127.0.0.1:{port}"
        _until(lambda: _page(url, patient=True) is not None)
        yield url


def _page(url: str, *, patient: bool = False) -> str | None:
    """What Prometheus would be told of steps, a line a value."""
    try:
        with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        if patient:
            return None
        raise
    return "\n".join(line for line in lines if line.startswith("oapseg_"))


def _until(holds: Any, patience_s: float = 60.0) -> None:
    end = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


STEP = "from oapseg.monitor.push import stage\nimport time\nwith stage('pool', []): time.sleep(600)"


def test_what_a_killed_step_left_is_told_as_a_failure_by_the_end_of_its_run_and_then_gone(
    real: str, tmp_path: Any
) -> None:
    running = 'oapseg_stage_running{instance="",job="oapseg_stage",run="run-1",stage="pool"} 1'
    failed = 'oapseg_stage_failed{instance="",job="oapseg_stage",run="run-1",stage="pool"} 1'
    with live.running([sys.executable, "-c", STEP], env=os.environ | {GATEWAY: real, RUN: "run-1"}) as step:
        _until(lambda: running in str(_page(real)))
        step.send_signal(signal.SIGKILL)
        step.wait()
    tell(real, JOB, {"run": "run-2", "stage": "pool"}, {"oapseg_stage_running": 1.0})
    assert running in str(_page(real))
    values = {"s3_prefix": str(tmp_path), "experiment": "mine", "status": {"state": "FAILED"}}
    given = {"inputs": {"parameterValues": values}, "outputs": {"outputFile": f"{tmp_path}/executor_output.json"}}
    words = [sys.executable, "-m", "components", "notify", "--run=run-1", "--executor-input", json.dumps(given)]
    with live.running(words, env=os.environ | {GATEWAY: real, KEEP_S: "3"}, cwd=live.ROOT) as notify:
        _until(lambda: failed in str(_page(real)))
        assert running not in str(_page(real))
        assert notify.wait(60) == 0
    _until(lambda: 'run="run-1"' not in str(_page(real)))  # the gateway answers before it has done it
    left = str(_page(real))
    assert 'oapseg_stage_running{instance="",job="oapseg_stage",run="run-2",stage="pool"} 1' in left
    assert 'oapseg_run_succeeded{experiment="mine",instance="",job="oapseg"} 0' in left


def test_a_run_whose_steps_all_ended_has_nothing_to_clear_away(real: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(GATEWAY, real)
    monkeypatch.setenv(RUN, "run/3")  # a folder's name may have a slash
    monkeypatch.setenv(KEEP_S, "0")
    with stage("shard", []) as ended:
        ended(0)
    assert end_run(real, "run/3") == []
    tell(real, JOB, {"run": "run/3", "stage": "shard"}, {"oapseg_stage_running": 0.0})  # its deletion got lost
    assert end_run(real, "run/3") == []
    _until(lambda: 'run="run/3"' not in str(_page(real)))


@pytest.mark.usefixtures("gateway")
def test_what_answers_and_is_no_pushgateway_is_an_error() -> None:
    with pytest.raises(OSError, match="501"):
        end_run(os.environ[GATEWAY], "run-1")
