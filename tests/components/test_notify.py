"""The last step of a run: what a webhook and a gateway of metrics are told, and what happens where they are not."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from components.__main__ import main


@pytest.fixture
def listener() -> Iterator[tuple[str, dict[str, str]]]:
    """A server's URL, and what it was sent by method and path."""
    heard: dict[str, str] = {}

    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard[f"{self.command} {self.path}"] = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self.send_response(404 if "refuse" in self.path else 200)
            self.end_headers()

        do_PUT = do_POST  # noqa: N815  # the name that the server looks for

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", heard
        server.shutdown()


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    for name in ("WEBHOOK_URL", "PUSHGATEWAY_URL"):
        monkeypatch.delenv(name, raising=False)
    metrics = tmp_path / "s3/run-1/work/evaluate/headlines.json"
    metrics.parent.mkdir(parents=True)
    metrics.write_text(json.dumps({"model.mask_AP50": 8.5}))
    status = {"state": "FAILED", "error": {"code": 9, "message": "pretrain failed"}}
    values = {"s3_prefix": f"{tmp_path}/s3", "experiment": "mine", "data_rev": "v2", "status": status}
    given = {"inputs": {"parameterValues": values}, "outputs": {"outputFile": f"{tmp_path}/executor_output.json"}}
    options = ["--metrics=work/evaluate/headlines.json", "--metrics=work/other/headlines.json", "--run=run-1"]
    return ["notify", *options, "--executor-input", json.dumps(given)]


def test_a_webhook_is_told_how_it_ended_and_the_numbers(words, listener, monkeypatch):
    url, heard = listener
    monkeypatch.setenv("WEBHOOK_URL", f"{url}/hook")
    assert main(words) == 0
    said = json.loads(heard["POST /hook"])
    assert said["text"] == "mine run run-1: FAILED. pretrain failed. model.mask_AP50 8.5"
    assert (said["state"], said["data_rev"], said["metrics"]) == ("FAILED", "v2", {"model.mask_AP50": 8.5})


def test_metrics_are_pushed_as_the_experiments_group(words, listener, monkeypatch):
    url, heard = listener
    monkeypatch.setenv("PUSHGATEWAY_URL", url)
    assert main(words) == 0
    lines = heard["PUT /metrics/job/oapseg/experiment/mine"].splitlines()
    assert 'oapseg_final_metric{metric="model.mask_AP50"} 8.5' in lines
    assert "oapseg_run_succeeded 0.0" in lines


def test_metrics_of_a_named_file_have_its_name_before_theirs(words, listener, monkeypatch):
    url, heard = listener
    monkeypatch.setenv("WEBHOOK_URL", f"{url}/hook")
    assert main([word.replace("=work/evaluate", "=ecssd=work/evaluate") for word in words]) == 0
    assert json.loads(heard["POST /hook"])["metrics"] == {"ecssd.model.mask_AP50": 8.5}


def test_without_either_it_says_the_end_in_its_log(words, capsys):
    assert main(words) == 0
    assert capsys.readouterr().out == "run run-1: FAILED, 1 metrics\n"


@pytest.mark.parametrize("path", ["/refuse/secret-token", ":9/secret-token"])
def test_nobody_who_listens_is_no_error_and_the_url_stays_a_secret(words, listener, monkeypatch, capsys, path):
    url, _ = listener
    monkeypatch.setenv("WEBHOOK_URL", url + path if path.startswith("/") else f"http://127.0.0.1{path}")
    assert main(words) == 0
    output = capsys.readouterr()
    assert "notify: the webhook was not told" in output.err
    assert "secret-token" not in output.out + output.err
