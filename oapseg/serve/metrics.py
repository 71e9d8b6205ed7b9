"""What Prometheus is told of a server. No label takes a value that a request chooses."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

from oapseg.serve.masks import Named

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
PHOTOS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256)
PHASES = ("upload", "wait_and_model", "model", "answer")


class Metrics:
    """Counters of one server, in a registry of its own; rows that may come are there from the start, at 0."""

    def __init__(self, reasons: list[str]) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter(
            "oapseg_serve_requests", "Requests for masks by how they ended", ["outcome"], registry=registry
        )
        self.rejected = Counter(
            "oapseg_serve_rejected", "Requests that got no masks, by reason", ["reason"], registry=registry
        )
        self.seconds = Histogram(
            "oapseg_serve_request_seconds", "From the first byte to the answer", buckets=SECONDS, registry=registry
        )
        self.phases = Histogram(
            "oapseg_serve_phase_seconds", "Of each phase of a request", ["phase"], buckets=SECONDS, registry=registry
        )
        self.batch = Histogram(
            "oapseg_serve_batch_photos", "Photos that the model saw at a time", buckets=PHOTOS, registry=registry
        )
        self.queue = Gauge("oapseg_serve_queue_depth", "Photos that wait for the model", registry=registry)
        self.wait = Gauge(
            "oapseg_serve_expected_wait_seconds",
            "Wait of a photo that comes now, by the pace so far",
            registry=registry,
        )
        self.places = Gauge("oapseg_serve_requests_in_progress", "Photos on their way", registry=registry)
        self.bytes = Gauge("oapseg_serve_upload_bytes", "Uploads in memory", registry=registry)
        self.ready = Gauge("oapseg_serve_ready", "1 where requests are welcome", registry=registry)
        self.model = Gauge(
            "oapseg_serve_model_info", "The model that is served", ["name", "version", "sha256"], registry=registry
        )
        self.swaps = Counter("oapseg_serve_model_swaps", "Times that the model was changed", registry=registry)
        self.follow_errors = Counter(
            "oapseg_serve_follow_errors", "Times that the place of the model could not be read", registry=registry
        )
        for outcome in ("ok", "refused", "failed", "gone"):
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
