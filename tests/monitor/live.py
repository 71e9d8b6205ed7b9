"""A real Prometheus and Pushgateway on free ports, and what is wrong with dashboards and rules when asked of them."""

import contextlib
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "k8s" / "monitoring"
BOARDS = sorted((MONITORING / "grafana" / "dashboards").glob("*.json"))
VARIABLES = {"$run": ".+", "$rank": ".+", "${pictures}": "", "$__range": "1h"}
LEGEND = re.compile(r"\{\{(\w+)\}\}")
SELECTOR = re.compile(r"\boapseg_\w+(?:\{[^}]*\})?")

Board = dict[str, Any]


@dataclass(frozen=True)
class Prometheus:
    url: str

    def ask(self, expr: str) -> list[dict[str, Any]]:
        """The series of an instant query. Errors: `ValueError` where it is none."""
        query = urllib.parse.urlencode({"query": expr})
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query?{query}", timeout=10) as answer:
                found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
                return found
        except urllib.error.HTTPError as error:
            raise ValueError(f"{expr}: {json.load(error)['error']}") from None


def missing() -> bool:
    return shutil.which("prometheus") is None or shutil.which("prometheus-pushgateway") is None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def prometheus(folder: Path, targets: dict[str, list[int]]) -> Iterator[Prometheus]:
    """Scrapes local ports every second, by name of the job; `pushgateway` keeps the labels that were pushed."""
    jobs = [
        {
            "job_name": name,
            "honor_labels": name == "pushgateway",
            "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}],
        }
        for name, ports in targets.items()
    ]
    pace = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    rules = [str(MONITORING / "rules.yaml")]
    (folder / "prometheus.yml").write_text(
        yaml.safe_dump({"global": pace, "rule_files": rules, "scrape_configs": jobs})
    )
    port = free_port()
    options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with running(["prometheus", *options, f"--web.listen-address=127.0.0.1:{port}"]):
        yield Prometheus(f"http://127.0.0.1:{port}")


@contextlib.contextmanager
def pushgateway() -> Iterator[int]:
    port = free_port()
    options = [f"--web.listen-address=127.0.0.1:{port}", "--persistence.file="]  # Debian's keeps a file otherwise
    with running(["prometheus-pushgateway", *options]):
        yield port


@contextlib.contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(prometheus: Prometheus, expr: str, patience_s: float = 300.0) -> None:
    """Until a query has an answer."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError):
            if prometheus.ask(expr):
                return
        time.sleep(0.5)
    raise AssertionError(f"no answer to {expr} in {patience_s:.0f} s")


def problems(board: Board, prometheus: Prometheus, absent: frozenset[str], source: str) -> list[str]:
    """What is wrong with a dashboard: no series (but of metrics that may be absent), legends, sources, texts."""
    found = []
    for panel in shown(board):
        where = f"{board['title']}, {panel['title']}"
        defaults = panel["fieldConfig"]["defaults"]
        if not panel.get("description") or not defaults.get("unit") or not defaults.get("thresholds"):
            found.append(f"{where}: no description, unit or thresholds")
        for target in panel["targets"]:
            if {panel["datasource"]["uid"], target["datasource"]["uid"]} != {source}:
                found.append(f"{where}: another source than {source}")
            found += _of_target(where, target, prometheus, absent)
    return found


def shown(board: Board) -> list[dict[str, Any]]:
    """Its panels that ask something."""
    return [panel for panel in board["panels"] if panel["type"] not in ("row", "text")]


def counted(board: Board, prometheus: Prometheus) -> str:
    """A line on a dashboard: how many expressions, series and legends' labels, and which panels have none."""
    asked = [
        (panel["title"], target, prometheus.ask(filled(target["expr"])))
        for panel in shown(board)
        for target in panel["targets"]
    ]
    series = sum(len(found) for _, _, found in asked)
    labels = sum(len(LEGEND.findall(target["legendFormat"])) * len(found) for _, target, found in asked)
    none = [title for title, _, found in asked if not found]
    said = f"{board['title']}: {len(asked)} expressions, {series} series, {labels} labels of legends"
    return said + (f"; no series: {', '.join(none)}" if none else "")


def filled(expr: str) -> str:
    """An expression whose variables have values."""
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    return expr


def _of_target(where: str, target: Board, prometheus: Prometheus, absent: frozenset[str]) -> list[str]:
    expr = filled(target["expr"])
    try:
        series = prometheus.ask(expr)
    except ValueError as error:
        return [f"{where}: {error}"]
    if not series:
        selectors = SELECTOR.findall(expr)
        silent = [each for each in selectors if not prometheus.ask(each)]
        names = {re.match(r"\w+", each)[0] for each in selectors}  # type: ignore[index]
        return [] if names and names <= absent else [f"{where}: no series for {', '.join(silent) or expr}"]
    return [
        f"{where}: no label {label} on {one['metric']}"
        for label in LEGEND.findall(target["legendFormat"])
        for one in series
        if label not in one["metric"]
    ]


def rule_problems(expr: str, prometheus: Prometheus) -> list[str]:
    """Selectors of a rule that no series answers, or that the rule cannot be read."""
    try:
        prometheus.ask(expr)
        return [f"{expr}: no series for {each}" for each in SELECTOR.findall(expr) if not prometheus.ask(each)]
    except ValueError as error:
        return [str(error)]
