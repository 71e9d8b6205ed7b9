"""A training's metrics served to Prometheus: each rank its own port, with run, task and rank as labels.

Where metrics are asked for is no property of a run, so the environment says it: `OAPSEG_METRICS_PORT` (0 or unset:
off), to which each rank on a machine adds its number there. What hinders serving is one line; the training goes on.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from oapseg.monitor.metrics import METRICS, TRAINING, Metric, Row, samples

PORT, RUN = "OAPSEG_METRICS_PORT", "OAPSEG_RUN"
AGE, OVERDUE, ALARM = (
    METRICS[name]
    for name in ("oapseg_train_checkpoint_age_seconds", "oapseg_train_checkpoint_overdue_ratio", "oapseg_train_alarm")
)


def metrics_port() -> int:
    """The port of this rank; 0 where none is asked for. Errors: `ValueError` where it is no port."""
    text = os.environ.get(PORT, "").strip() or "0"
    if not text.isdigit() or int(text) > 65535:
        raise ValueError(f"{PORT}: must be a port, 1 to 65535, or 0 for none; is {text!r}")
    return int(text) + int(os.environ.get("LOCAL_RANK", 0)) if int(text) else 0


class Exporter:
    """Holds the newest values; `with` serves them while the training runs."""

    def __init__(self, run: str, task: str, rank: int, port: int | None = None) -> None:
        self.labels = dict(zip(TRAINING, (os.environ.get(RUN) or run, task, str(rank)), strict=True))
        self.port = metrics_port() if port is None else port
        self._gauges: dict[str, Any] = {}
        self._counters: dict[tuple[str, ...], tuple[Metric, Mapping[str, str], float]] = {}
        self._registry: Any = None
        self._server: tuple[Any, threading.Thread] | None = None

    def __enter__(self) -> "Exporter":
        if self.port == 0:
            return self
        try:
            from prometheus_client import CollectorRegistry, start_http_server
        except ImportError:
            print(f"{PORT}: no metrics: prometheus-client is not installed (oapseg[train] has it)", file=sys.stderr)
            return self
        self._registry = CollectorRegistry()
        self._registry.register(self)
        try:
            self._server = start_http_server(self.port, registry=self._registry)
        except OSError as error:
            print(f"{PORT}: no metrics: port {self.port} cannot be had ({error.strerror})", file=sys.stderr)
            self._registry = None
        return self

    def __exit__(self, *_error: object) -> None:
        if self._server is not None:
            server, thread = self._server
            server.shutdown()
            server.server_close()
            thread.join()

    def show(self, row: Row) -> None:
        """Take over the values of a line of the history."""
        if self._registry is None:
            return
        for metric, labels, value in samples(row):
            if metric.kind == "counter":
                self._counters[metric.name, *labels.values()] = (metric, labels, value)
            else:
                self._gauge(metric.name, labels).set(value)

    def collect(self) -> Iterator[Any]:
        """The counters, for the registry: they are counted elsewhere, and told here."""
        from prometheus_client.core import CounterMetricFamily

        families: dict[str, Any] = {}
        for metric, labels, value in list(self._counters.values()):
            names = [*TRAINING, *labels]
            family = families.setdefault(metric.name, CounterMetricFamily(metric.name, metric.meaning, labels=names))
            family.add_metric([*self.labels.values(), *labels.values()], value)
        yield from families.values()

    def count_from(self, saved_at: Callable[[], float], interval_s: float) -> None:
        """Let the checkpoint's age be told when asked, so that it grows where a step hangs. `saved_at` is monotonic."""
        if self._registry is not None:
            self._gauge(AGE.name, {}).set_function(lambda: time.monotonic() - saved_at())
            self._gauge(OVERDUE.name, {}).set_function(lambda: (time.monotonic() - saved_at()) / interval_s)

    def alarm(self, rule: str, on: bool) -> None:
        """Say whether the training's own alarm of a rule is raised."""
        if self._registry is not None:
            self._gauge(ALARM.name, {"rule": rule}).set(float(on))

    def _gauge(self, name: str, labels: Mapping[str, str]) -> Any:
        from prometheus_client import Gauge

        if name not in self._gauges:
            names = [*TRAINING, *labels]
            self._gauges[name] = Gauge(name, METRICS[name].meaning, names, registry=self._registry)
        return self._gauges[name].labels(**self.labels, **labels)
