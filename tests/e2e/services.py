"""What a run on a cluster finds beside it: a server of the registry and an engine of containers."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3

from tests.s3.ceph import free_port

START_S = 600  # a machine that is busy
# Podman beside no systemd: the engine needs neither its cgroups nor its network.
CONTAINERS_CONF = """[containers]
netns = "host"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


@contextmanager
def mlflow_server(folder: Path, environment: dict[str, str], bucket: str) -> Iterator[str]:
    """MLflow's server over a SQLite file, artifacts in a new bucket; its address."""
    boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_REGION"],
    ).create_bucket(Bucket=bucket)
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}", "--workers=1"]
    stores = [f"--backend-store-uri=sqlite:///{folder}/registry.db", f"--artifacts-destination=s3://{bucket}/mlflow"]
    with _running([*command, *stores], folder / "mlflow.log", os.environ | environment) as process:
        _wait(f"{address}/health", process, folder / "mlflow.log")
        yield address


@contextmanager
def podman_socket(folder: Path) -> Iterator[str]:
    """Podman's service on a socket; the address for `DOCKER_HOST`."""
    (folder / "containers.conf").write_text(CONTAINERS_CONF)
    environment = os.environ | {"CONTAINERS_CONF": str(folder / "containers.conf")}
    socket = folder / "podman.sock"
    command = ["podman", "system", "service", "--time=0", f"unix://{socket}"]
    with _running(command, folder / "podman.log", environment) as process:
        deadline = time.monotonic() + START_S
        while not socket.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"podman does not start: {(folder / 'podman.log').read_text()[-500:]}")
            time.sleep(0.1)
        yield f"unix://{socket}"


@contextmanager
def _running(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with open(log, "wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError) as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{url} does not answer ({error}): {log.read_text()[-500:]}") from None
            time.sleep(0.5)
