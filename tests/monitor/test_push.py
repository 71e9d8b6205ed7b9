"""A step says how it went to a gateway, takes its group away again, and is none the worse where nobody listens."""

import json
import os
import shlex
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import live
import pytest
import yaml
from PIL import Image

from components.__main__ import NAME_LENGTH, main, stage_name
from oapseg.monitor.push import GATEWAY, JOB, KEEP_S, RUN, end_run, stage, tell
from pipelines.stages import pipeline_files, read_pipeline

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
    assert gateway[2][0] == "DELETE /metrics/job/oapseg_stage/run/run-1/stage/shard%40nothing"


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


STEP = """
import sys, time
from components.__main__ import stage_name
from oapseg.monitor.push import stage
with stage(stage_name(sys.argv[1:]), []): time.sleep(600)
"""


def _told(what: str, name: str, value: int) -> str:
    return f'oapseg_stage_{what}{{instance="",job="oapseg_stage",run="run-1",stage="{name}"}} {value}'


def test_a_step_beside_one_that_failed_neither_replaces_nor_deletes_what_that_said(real: str, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (64, 48)).save(tmp_path / "photos" / "black.jpg")
    params = yaml.safe_load((live.ROOT / "params.yaml").read_text())
    source = {"kind": "photos", "path": "."}
    roots = {"broken": str(tmp_path / "nowhere"), "well": str(tmp_path / "photos")}
    params["shards"]["sets"] = {name: {"root": root, "sources": [source]} for name, root in roots.items()}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))

    def shard(name: str, keep_s: str) -> Any:
        words = ["shard", name, f"--out={tmp_path}/{name}", f"--params={tmp_path}/params.yaml"]
        told = {GATEWAY: real, RUN: "run-1", KEEP_S: keep_s}
        return live.running([sys.executable, "-m", "components", *words], env=os.environ | told, cwd=live.ROOT)

    with shard("broken", "600"):
        _until(lambda: _told("failed", "shard@broken", 1) in str(_page(real)))
        with shard("well", "3") as well:
            _until(lambda: _told("failed", "shard@well", 0) in str(_page(real)))
            assert _told("failed", "shard@broken", 1) in str(_page(real))
            assert well.wait(60) == 0
        _until(lambda: "shard@well" not in str(_page(real)))
        assert _told("failed", "shard@broken", 1) in str(_page(real))
        assert end_run(real, "run-1") == []  # it failed, nobody killed it
        _until(lambda: "shard@broken" not in str(_page(real)))


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("shard val --root data --out work/shards/val", "shard@val"),
        ("shard --part 2/3 --out work/shards/val", "shard@val-part-2"),
        ("shard val --out=elsewhere --part=12/12", "shard@val-part-12"),
        ("pretrain --out work/pretrain", "pretrain"),
        ("pretrain --out work/second", "pretrain@second"),
        ("report --out work/report", "report"),
        ("report --out work/field/ecssd/report", "report@ecssd"),
        ("pool ../maskcut", "pool@..-maskcut"),
        ("promote", "promote"),
    ],
)
def test_a_step_is_called_by_what_tells_it_from_the_others_of_its_run(words: str, name: str) -> None:
    assert stage_name(words.split()) == name


def test_the_name_of_a_step_has_a_bound_and_its_part_is_never_cut_off() -> None:
    name = stage_name(["pool", "x" * 1000, "--part", "3/4"])
    assert len(name) == NAME_LENGTH
    assert name.endswith("-part-3")


def test_every_stage_of_the_pipelines_has_a_name_of_its_own() -> None:
    stages = [stage for name in pipeline_files() for stage in read_pipeline(name=name).stages]
    names = [stage_name(shlex.split(stage.cmd)[3:]) for stage in stages]
    assert {"shard@val", "benchmark@ecssd", "report@ecssd", "pool@oap", "pretrain"} <= set(names)
    assert sorted(set(names)) == sorted(names)


def test_what_a_killed_step_left_is_told_as_a_failure_by_the_end_of_its_run_and_then_gone(
    real: str, tmp_path: Any
) -> None:
    running, failed = _told("running", "pool@oap-part-2", 1), _told("failed", "pool@oap-part-2", 1)
    words, told = [sys.executable, "-c", STEP, "pool", "oap", "--part=2/2"], {GATEWAY: real, RUN: "run-1"}
    with live.running(words, env=os.environ | told, cwd=live.ROOT) as step:
        _until(lambda: running in str(_page(real)))
        step.send_signal(signal.SIGKILL)
        step.wait()
    beside = {"oapseg_stage_running": 0.0, "oapseg_stage_failed": 0.0}  # its deletion got lost
    tell(real, JOB, {"run": "run-1", "stage": "pool@oap-part-1"}, beside)
    tell(real, JOB, {"run": "run-2", "stage": "pool"}, {"oapseg_stage_running": 1.0})
    assert running in str(_page(real))
    values = {"s3_prefix": str(tmp_path), "experiment": "mine", "status": {"state": "FAILED"}}
    given = {"inputs": {"parameterValues": values}, "outputs": {"outputFile": f"{tmp_path}/executor_output.json"}}
    words = [sys.executable, "-m", "components", "notify", "--run=run-1", "--executor-input", json.dumps(given)]
    with live.running(words, env=os.environ | {GATEWAY: real, KEEP_S: "3"}, cwd=live.ROOT) as notify:
        _until(lambda: failed in str(_page(real)))
        assert running not in str(_page(real))
        assert _told("failed", "pool@oap-part-1", 0) in str(_page(real))
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
