"""`make monitor`: a Prometheus with the rules and a Pushgateway beside it, both gone when it is stopped."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import live
import pytest

from k8s.monitoring.alerts import groups

PORTS = (9090, 9091)  # of Prometheus and of the Pushgateway, as prometheus.yml and the runbook have them


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def rules() -> set[str]:
    """Names of the alerts that are loaded; none while Prometheus is not ready."""
    place = f"http://127.0.0.1:{PORTS[0]}/api/v1/rules"
    with contextlib.suppress(OSError), urllib.request.urlopen(place, timeout=10) as answer:
        return {rule["name"] for group in json.load(answer)["data"]["groups"] for rule in group["rules"]}
    return set()


def test_it_loads_the_rules_says_how_a_run_is_found_and_leaves_nothing_running(tmp_path: Path) -> None:
    if live.missing():
        pytest.skip("no Prometheus: Debian has it as prometheus and prometheus-pushgateway")
    if any(map(listens, PORTS)):
        pytest.skip(f"someone listens at port {' or '.join(map(str, PORTS))} already")
    for stop in (signal.SIGINT, signal.SIGTERM):  # one after the other: the ports are the same
        said = watched(tmp_path, stop)
        until(lambda: not any(map(listens, PORTS)))
        assert "in another shell: OAPSEG_METRICS_PORT=9108 PUSHGATEWAY_URL=http://localhost:9091 dvc repro" in said


def watched(folder: Path, stop: signal.Signals) -> str:
    """What it says until it is stopped: by Ctrl-C, which all of its processes hear, or by a word to it alone."""
    environment = os.environ | {"MONITOR_DATA": str(folder / stop.name)}
    with (folder / "said").open("w+") as said:
        process = subprocess.Popen(
            ["make", "--silent", "monitor"], cwd=live.ROOT, env=environment, stdout=said, stderr=said, process_group=0
        )
        try:
            until(lambda: listens(PORTS[1]) and rules() != set())
            assert rules() == {rule["alert"] for rule in groups()["groups"][0]["rules"]}
        finally:
            (os.killpg if stop == signal.SIGINT else os.kill)(process.pid, stop)
            process.wait(60)
        return (folder / "said").read_text()


def test_without_a_prometheus_it_says_where_one_is_to_be_had(tmp_path: Path) -> None:
    for name in ("sh", "dirname"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    run = subprocess.run(
        ["sh", live.MONITORING / "local.sh"], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert run.returncode == 2
    assert "Debian has it as prometheus and prometheus-pushgateway" in run.stderr


def until(holds: Callable[[], bool], patience_s: float = 120.0) -> None:
    end = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)
