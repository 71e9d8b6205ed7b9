"""In place of a training on one machine: make a `TrainJob` that runs the same command on several, and follow it.

Its pods see no files of this step's launcher, so pointers go by URL, below `S3_PREFIX/RUN/.launch/STEP`. A step that is
run again follows the job that it finds. SIGTERM deletes the job, whose pods then save and stop (exit code 75).
"""

import argparse
import contextlib
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from components.container import place_of, terminated
from components.executor import Execution, read_execution
from oapseg import storage

HOST, PORT = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
SERVER = f"https://{HOST}:{PORT}" if HOST else None  # as Kubernetes tells every pod
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PATH = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/{namespace}/trainjobs"
EVERY_S = 10.0
PATIENCE_S = 300.0  # of an API server that does not answer
TIMEOUT_S = 30
NAME_CHARACTERS = 50  # leaves room for what the job's own objects append


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--job", required=True, help="the TrainJob as JSON, without name, image and arguments")
    parser.add_argument("--image", required=True, help="container image of its pods")
    parser.add_argument("--run", default=os.environ.get("OAPSEG_RUN"), help="id of the pipeline run (OAPSEG_RUN)")
    parser.add_argument("--every-s", type=float, default=EVERY_S, help="seconds between looks at the job")
    parser.add_argument("words", nargs="+", help="after --, the step's command, with --executor-input last")


def main(args: argparse.Namespace) -> None:
    *words, option, text = args.words
    if option != "--executor-input":
        raise ValueError("launch: the step's command must end with --executor-input and what it is given")
    execution = read_execution(text)
    place = storage.join(place_of(execution, args.run), ".launch", words[0])
    inputs = [option, json.dumps(detached(json.loads(text), execution, place))]
    job = named(
        json.loads(args.job), words[0], args.run, args.image, [*words, "--detached", "--run", args.run, *inputs]
    )
    jobs = Jobs()
    with terminated():
        try:
            jobs.create(job)
            follow(jobs, job["metadata"]["name"], args.every_s)
        finally:
            jobs.delete(job["metadata"]["name"])
    collect(execution, place)


def named(job: dict[str, Any], step: str, run: str, image: str, words: list[str]) -> dict[str, Any]:
    """The job of one step of one run: the same name for every try."""
    job["metadata"]["name"] = f"{step}-{run}".lower().replace("_", "-")[:NAME_CHARACTERS].rstrip("-.")
    job["spec"]["trainer"] |= {"image": image, "args": words}
    return job


def detached(raw: dict[str, Any], execution: Execution, place: str) -> dict[str, Any]:
    """The executor input with every artifact at a URL, inputs copied there."""
    for name, slot in execution.inputs.items():
        storage.write_bytes(storage.join(place, name), slot.read())
    for group in (raw["inputs"].get("artifacts", {}), raw["outputs"].get("artifacts", {})):
        for name, entry in group.items():
            entry["artifacts"][0]["uri"] = storage.join(place, name)
    raw["outputs"]["outputFile"] = storage.join(place, "executor_output.json")
    return raw


def collect(execution: Execution, place: str) -> None:
    """Give this step's launcher what the first of the job's processes wrote."""
    said = storage.read_json(storage.join(place, "executor_output.json"))
    for name, slot in execution.outputs.items():
        slot.write(storage.read_bytes(storage.join(place, name)))
        said["artifacts"][name]["artifacts"][0]["uri"] = slot.uri
    storage.write_json(execution.output_file, said)


def follow(jobs: "Jobs", name: str, every_s: float) -> None:
    """Wait for the end. Errors: `ValueError` where the job failed, with its own message, or was deleted."""
    last = ""
    while True:
        job = jobs.get(name)
        if job is None:
            raise ValueError(f"TrainJob {name}: deleted by somebody else")
        states = [each for each in job.get("status", {}).get("conditions", []) if each["status"] == "True"]
        shown = ", ".join(f"{each['type']}: {each.get('message', '')}" for each in states)
        if shown != last:
            print(f"TrainJob {name}: {shown}", file=sys.stderr)
            last = shown
        kinds = {each["type"] for each in states}
        if "Failed" in kinds:
            raise ValueError(f"TrainJob {name}: {shown}")
        if "Complete" in kinds:
            return
        time.sleep(every_s)


class Jobs:
    """The TrainJobs of this pod's namespace, through the pod's service account."""

    def __init__(self) -> None:
        if SERVER is None:
            raise ValueError("launch: runs in a pod alone; KUBERNETES_SERVICE_HOST is not set")
        self.url = SERVER + PATH.format(namespace=(ACCOUNT / "namespace").read_text().strip())
        authority = ACCOUNT / "ca.crt"
        self.context = ssl.create_default_context(cafile=str(authority)) if authority.is_file() else None

    def create(self, job: dict[str, Any]) -> None:
        """Make it, unless an earlier try of this step has."""
        with contextlib.suppress(FileExistsError):
            self._ask("POST", self.url, job)

    def get(self, name: str) -> dict[str, Any] | None:
        """The job, waiting out a server that does not answer for a while."""
        give_up = time.monotonic() + PATIENCE_S
        while True:
            try:
                return self._ask("GET", f"{self.url}/{name}")
            except FileNotFoundError:
                return None
            except OSError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(1)

    def delete(self, name: str) -> None:
        """Remove it with its pods, and wait until it is gone, so that its last words are in S3."""
        with contextlib.suppress(FileNotFoundError):
            self._ask("DELETE", f"{self.url}/{name}", {"propagationPolicy": "Foreground"})
        while self.get(name) is not None:
            time.sleep(1)

    def _ask(self, method: str, url: str, content: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request. Errors: `OSError` that says what the server said, never the token."""
        token = (ACCOUNT / "token").read_text().strip()  # Kubernetes changes it every hour
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(url, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=self.context) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            kinds = {404: FileNotFoundError, 409: FileExistsError}
            raise kinds.get(error.code, OSError)(f"{url}: {' '.join(_said(error))}") from None
        except urllib.error.URLError as error:
            raise OSError(f"{url}: no answer ({error.reason})") from None


def _said(error: urllib.error.HTTPError) -> Iterator[str]:
    yield str(error.code)
    with contextlib.suppress(ValueError, OSError):
        yield str(json.load(error).get("message", ""))
