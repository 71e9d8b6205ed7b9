"""Metrics of a server, which `oapseg.serve.metrics` counts: here, where the dashboards can see them."""

from oapseg.monitor.metrics import Metric

OUTCOME = "ok|refused|failed|gone"
WORD = r"[a-z_]{1,40}"
SERVING = (
    Metric(
        "oapseg_serve_requests_total",
        "requests",
        "Requests for masks by how they ended",
        labels={"outcome": OUTCOME},
        kind="counter",
    ),
    Metric(
        "oapseg_serve_rejected_total",
        "requests",
        "Requests that got no masks, by reason",
        labels={"reason": WORD},
        kind="counter",
    ),
    Metric("oapseg_serve_request_seconds", "seconds", "From the first byte to the answer", kind="histogram"),
    Metric(
        "oapseg_serve_phase_seconds",
        "seconds",
        "Of each phase of a request",
        labels={"phase": WORD},
        kind="histogram",
    ),
    Metric("oapseg_serve_batch_photos", "photos", "Photos that the model saw at a time", kind="histogram"),
    Metric("oapseg_serve_queue_depth", "photos", "Photos that wait for the model"),
    Metric("oapseg_serve_expected_wait_seconds", "seconds", "Wait of a photo that comes now, by the pace so far"),
    Metric("oapseg_serve_requests_in_progress", "photos", "Photos on their way"),
    Metric("oapseg_serve_upload_bytes", "bytes", "Uploads in memory"),
    Metric("oapseg_serve_ready", "", "1 where requests are welcome"),
    Metric(
        "oapseg_serve_model_info",
        "",
        "The model that is served",
        labels={"name": ".*", "version": r"\d*", "sha256": "[0-9a-f]*"},
    ),
    Metric("oapseg_serve_model_swaps_total", "swaps", "Times that the model was changed", kind="counter"),
    Metric(
        "oapseg_serve_follow_errors_total",
        "errors",
        "Times that the place of the model could not be read, or its model not be loaded",
        kind="counter",
    ),
)
