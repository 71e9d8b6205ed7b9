"""A launched training, against a server that answers as Kubernetes does: what is made, followed, deleted, handed on."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from components import container
from components.__main__ import main
from oapseg.checkpoint import RESUME

JOB = {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "metadata": {}, "spec": {"trainer": {}}}
NAME = "pretrain-run-1"


class Cluster:
    """The one TrainJob of a namespace. `work` runs when it is made, as its pods would, and gives its last condition."""

    def __init__(self) -> None:
        self.jobs: dict[str, Any] = {}
        self.made: list[dict[str, Any]] = []
        self.tokens: set[str] = set()
        self.work: Any = lambda _job: {"type": "Complete", "status": "True", "message": "done"}

    def create(self, job: dict[str, Any]) -> int:
        name = job["metadata"]["name"]
        if name in self.jobs:
            return 409
        self.made.append(job)
        self.jobs[name] = job | {"status": {"conditions": [condition] if (condition := self.work(job)) else []}}
        return 201


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    found = Cluster()

    class Server(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self._answer(found.create(json.loads(self.rfile.read(int(self.headers["Content-Length"])))))

        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            self._answer(200 if name in found.jobs else 404, found.jobs.get(name))

        def do_DELETE(self) -> None:
            self._answer(404 if found.jobs.pop(self.path.rpartition("/")[2], None) is None else 200)

        def _answer(self, code: int, content: Any = None) -> None:
            assert self.path.startswith("/apis/trainer.kubeflow.org/v1alpha1/namespaces/oapseg/trainjobs")
            found.tokens.add(self.headers["Authorization"])
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps(content or {"message": "as asked"}).encode())

        def log_message(self, *_: Any) -> None:
            pass

    account = tmp_path / "account"
    account.mkdir()
    (account / "namespace").write_text("oapseg\n")
    (account / "token").write_text("secret\n")
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setattr("components.launch.SERVER", url)
        monkeypatch.setattr("components.launch.ACCOUNT", account)
        yield found
        server.shutdown()


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """The launcher's command; its input is the text of a pointer."""
    (tmp_path / "shards").write_text("pointer to shards")
    given = {
        "inputs": {
            "parameterValues": {"s3_prefix": f"{tmp_path}/s3", "seed": 1.0},
            "artifacts": {"shards": {"artifacts": [{"name": "shards", "uri": f"{tmp_path}/shards"}]}},
        },
        "outputs": {
            "artifacts": {
                "model": {
                    "artifacts": [
                        {"name": "model", "type": {"schemaTitle": "system.Model"}, "uri": f"{tmp_path}/model"}
                    ]
                }
            },
            "outputFile": f"{tmp_path}/executor_output.json",
        },
    }
    launcher = ["launch", "--job", json.dumps(JOB), "--image", "oapseg:gpu", "--run", "run-1", "--every-s", "0.01"]
    return [*launcher, "--", "pretrain", "--out", "work/pretrain", "--executor-input", json.dumps(given)]


def as_its_pods_do(job: dict[str, Any]) -> dict[str, str]:
    """What the first process leaves: pointer and executor output, at the URLs that it is given."""
    given = json.loads(job["spec"]["trainer"]["args"][-1])
    model = given["outputs"]["artifacts"]["model"]["artifacts"][0]
    shards = given["inputs"]["artifacts"]["shards"]["artifacts"][0]
    Path(model["uri"]).write_text(f"model of {Path(shards['uri']).read_text()}")
    said = {"model": {"artifacts": [{"name": "model", "uri": model["uri"], "metadata": {"files": 3}}]}}
    Path(given["outputs"]["outputFile"]).write_text(json.dumps({"artifacts": said}))
    return {"type": "Complete", "status": "True", "message": "done"}


def test_its_job_gets_name_image_and_a_command_that_needs_no_launcher(cluster, words):
    cluster.work = as_its_pods_do
    assert main(words) == 0
    (job,) = cluster.made
    trainer = job["spec"]["trainer"]
    assert (job["metadata"]["name"], trainer["image"]) == (NAME, "oapseg:gpu")
    assert trainer["args"][:6] == ["pretrain", "--out", "work/pretrain", "--detached", "--run", "run-1"]
    assert trainer["args"][-2] == container.FLAG


def test_what_its_pods_wrote_is_handed_on(cluster, words, tmp_path):
    cluster.work = as_its_pods_do
    assert main(words) == 0
    assert (tmp_path / "model").read_text() == "model of pointer to shards"
    (artifact,) = json.loads((tmp_path / "executor_output.json").read_text())["artifacts"]["model"]["artifacts"]
    assert artifact == {"name": "model", "uri": f"{tmp_path}/model", "metadata": {"files": 3}}


def test_a_finished_job_is_deleted(cluster, words):
    cluster.work = as_its_pods_do
    assert main(words) == 0
    assert not cluster.jobs


def test_a_failed_job_is_one_line_with_its_message_and_deleted(cluster, words, capsys):
    cluster.work = lambda _job: {"type": "Failed", "status": "True", "message": "node-1 exited with 2"}
    assert main(words) == 2
    assert "TrainJob pretrain-run-1: Failed: node-1 exited with 2" in capsys.readouterr().err
    assert not cluster.jobs


def test_a_step_that_is_run_again_follows_the_job_that_is_there(cluster, words):
    cluster.work = as_its_pods_do
    before = JOB | {"metadata": {"name": NAME}}
    cluster.jobs[NAME] = before
    threading.Timer(0.1, lambda: cluster.jobs.pop(NAME)).start()
    assert main(words) == 2
    assert cluster.made == []


def test_sigterm_deletes_the_job_and_says_run_again(cluster, words):
    def stop(_job: dict[str, Any]) -> None:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()

    cluster.work = stop
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == RESUME
    assert not cluster.jobs


def test_the_token_is_sent_and_never_said(cluster, words, capsys):
    cluster.work = lambda _job: {"type": "Failed", "status": "True", "message": "no"}
    main(words)
    output = capsys.readouterr()
    assert cluster.tokens == {"Bearer secret"}
    assert "secret" not in output.out + output.err
