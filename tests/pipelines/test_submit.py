"""Submitting, to a server that keeps what it is sent: what Kubeflow's own client makes of our arguments."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from pipelines.__main__ import main
from pipelines.submit import cron_with_seconds

ANSWERS = {
    "/apis/v2beta1/experiments": {"experiment_id": "e1", "display_name": "mine"},
    "/apis/v2beta1/runs": {"run_id": "r1", "display_name": "first"},
    "/apis/v2beta1/recurringruns": {"recurring_run_id": "c1", "display_name": "first"},
}


class Recorder(BaseHTTPRequestHandler):
    """Answers as the API server does where no experiment is known yet."""

    posted: dict[str, Any]

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        path = self.path.split("?")[0]
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.posted[path] = (body, self.headers.get("Authorization"))
        self._answer(ANSWERS[path])

    def _answer(self, content: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Its URL, and what it was posted by path."""
    monkeypatch.setenv("HOME", str(tmp_path))  # where the client looks for a context of its own
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))
    posted: dict[str, Any] = {}
    with HTTPServer(("127.0.0.1", 0), type("Keeping", (Recorder,), {"posted": posted})) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", posted
        server.shutdown()


def test_a_run_gets_name_experiment_account_and_what_differs(server, monkeypatch, capsys):
    url, posted = server
    monkeypatch.setenv("KFP_TOKEN", "secret")
    words = ["--experiment", "mine", "--run-name", "first", "-S", "pretrain.steps=7", "-P", "s3_prefix=s3://b/p"]
    assert main(["submit", "--host", url, *words]) == 0
    run, token = posted["/apis/v2beta1/runs"]
    assert (run["display_name"], run["experiment_id"], run["service_account"]) == ("first", "e1", "oapseg-runner")
    given = run["runtime_config"]["parameters"]
    assert given.keys() == {"pretrain", "s3_prefix", "experiment"}
    assert (given["pretrain"]["steps"], given["s3_prefix"], given["experiment"]) == (7, "s3://b/p", "mine")
    assert token == "Bearer secret"
    output = capsys.readouterr()
    assert f"{url}/#/runs/details/r1" in output.out
    assert "secret" not in output.out + output.err


def test_the_package_is_compiled_with_the_overrides(server):
    url, posted = server
    assert main(["submit", "--host", url, "-S", "shards.sets.val.root=s3://photos/val"]) == 0
    run, _ = posted["/apis/v2beta1/runs"]
    executors = run["pipeline_spec"]["pipeline_spec"]["deploymentSpec"]["executors"]
    assert "s3://photos/val" in executors["exec-shard-val"]["container"]["args"]


def test_another_pipeline_is_sent_under_its_own_name(server):
    url, posted = server
    models = [f"-Pwork_{name}=s3://b/run/work/{name}" for name in ("encoder", "pretrain", "finetune")]
    assert main(["submit", "--pipeline", "field", "--host", url, *models]) == 0
    run, _ = posted["/apis/v2beta1/runs"]
    assert run["display_name"] == "oapseg-field"
    assert run["pipeline_spec"]["pipeline_spec"]["pipelineInfo"]["name"] == "oapseg-field"
    given = run["runtime_config"]["parameters"]
    assert (given["experiment"], given["work_finetune"]) == ("oapseg-field", "s3://b/run/work/finetune")


def test_one_file_for_several_packages_is_refused(capsys, tmp_path):
    assert main(["compile", "--out", str(tmp_path / "one.yaml")]) == 2
    assert "--out: needs --pipeline" in capsys.readouterr().err


def test_a_recurring_run_has_a_cron_with_seconds(server):
    url, posted = server
    assert main(["submit", "--host", url, "--cron", "30 4 * * 1"]) == 0
    recurring, _ = posted["/apis/v2beta1/recurringruns"]
    assert recurring["trigger"]["cron_schedule"]["cron"] == "0 30 4 * * 1"


def test_a_cron_of_other_length_is_refused():
    with pytest.raises(ValueError, match="five fields"):
        cron_with_seconds("@daily")


def test_where_no_server_answers_it_is_one_line(capsys):
    assert main(["submit", "--host", "http://127.0.0.1:9"]) == 2
    error = capsys.readouterr().err
    assert error == (
        "python -m pipelines submit: http://127.0.0.1:9: no Kubeflow Pipelines server answers (MaxRetryError)\n"
    )


def test_an_unknown_parameter_names_the_known_ones(capsys):
    assert main(["submit", "--host", "http://127.0.0.1:9", "-P", "prefix=s3://b"]) == 2
    assert "NAME is one of promote_journal, s3_prefix, data_rev, image_cpu, image_gpu" in capsys.readouterr().err
