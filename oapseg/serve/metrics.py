"""What Prometheus is told of a server. No label takes a value that a request chooses."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

from oapseg.monitor.serving import OUTCOME, SERVING
from oapseg.serve.masks import Named

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
PHOTOS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256)
PHASES = ("upload", "wait_and_model", "model", "answer")
SAID = {metric.name: metric for metric in SERVING}
Kind = TypeVar("Kind", Counter, Histogram, Gauge)


class Metrics:
    """Counters of one server, in a registry of its own; rows that may come are there from the start, at 0."""

    def __init__(self, reasons: list[str]) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)

        def of(kind: type[Kind], name: str, **more: Any) -> Kind:
            said = SAID[f"oapseg_serve_{name}"]
            return kind(said.name, said.meaning, list(said.labels), registry=registry, **more)

        self.requests = of(Counter, "requests_total")
        self.rejected = of(Counter, "rejected_total")
        self.seconds = of(Histogram, "request_seconds", buckets=SECONDS)
        self.phases = of(Histogram, "phase_seconds", buckets=SECONDS)
        self.batch = of(Histogram, "batch_photos", buckets=PHOTOS)
        self.queue = of(Gauge, "queue_depth")
        self.wait = of(Gauge, "expected_wait_seconds")
        self.places = of(Gauge, "requests_in_progress")
        self.bytes = of(Gauge, "upload_bytes")
        self.ready = of(Gauge, "ready")
        self.model = of(Gauge, "model_info")
        self.swaps = of(Counter, "model_swaps_total")
        self.follow_errors = of(Counter, "follow_errors_total")
        for outcome in OUTCOME.split("|"):
            self.requests.labels(outcome)
        for reason in reasons:
            self.rejected.labels(reason)
        for phase in PHASES:
            self.phases.labels(phase)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure a phase, also one that fails."""
        begin = time.perf_counter()
        try:
            yield
        finally:
            self.phases.labels(name).observe(time.perf_counter() - begin)

    def ended(self, reason: str | None, seconds: float) -> None:
        """A request for masks is over: with masks, or without and why."""
        self.seconds.observe(seconds)
        outcome = "ok" if reason is None else reason if reason in ("failed", "gone") else "refused"
        self.requests.labels(outcome).inc()
        if reason is not None:
            self.rejected.labels(reason).inc()

    def serves(self, named: Named) -> None:
        """The model now is this one, and no other."""
        self.model.clear()
        self.model.labels(named.name, named.version or "", named.sha256).set(1)
