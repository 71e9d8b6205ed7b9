"""What a step says that ends: how long it took, how it ended, how many photos; to a Pushgateway, and gone again.

`PUSHGATEWAY_URL` names the gateway; without it nothing is said. The group of a step, by run and stage, is deleted
`OAPSEG_PUSH_KEEP_S` after its end (20: a scrape at the usual 15 s comes in between), so that none outlives its run. A
gateway that does not answer is one line, and the step is none the worse.
"""

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from oapseg.checkpoint import RESUME
from oapseg.monitor.metrics import METRICS

GATEWAY, KEEP_S, RUN = "PUSHGATEWAY_URL", "OAPSEG_PUSH_KEEP_S", "OAPSEG_RUN"
JOB, ALIAS_JOB = "oapseg_stage", "oapseg_registry"
TIMEOUT_S = 10
DEFAULT_KEEP_S = 20.0


@contextlib.contextmanager
def stage(name: str, arguments: list[str]) -> Iterator[Callable[[int], None]]:
    """While a step runs and when it has ended; what is yielded takes its exit code. An exception is a failure."""
    url = os.environ.get(GATEWAY)
    if not url or os.environ.get("RANK", "0") != "0":
        yield lambda _code: None
        return
    codes, keep_s = [1], _keep_s()
    began = time.monotonic()
    key = {"run": os.environ.get(RUN) or Path.cwd().name, "stage": name}
    _tell(url, key, {"oapseg_stage_running": 1.0})
    try:
        yield codes.append
    except SystemExit as stop:
        if stop.code == RESUME:
            codes.append(0)
            keep_s = 0.0  # who stops a pod does not wait
        raise
    finally:
        ended = {
            "oapseg_stage_running": 0.0,
            "oapseg_stage_seconds": time.monotonic() - began,
            "oapseg_stage_failed": float(codes[-1] != 0),
        }
        if _tell(url, key, ended | counts(arguments)):
            time.sleep(keep_s)
            _forget(url, key)


def alias(model: str, name: str, version: int, scores: Mapping[str, float]) -> None:
    """Say which version has an alias, and its scores in percent; this group stays until the alias moves on."""
    url = os.environ.get(GATEWAY)
    if url:
        scored = {f"oapseg_alias_score {metric}": value for metric, value in scores.items()}
        key = {"model": model, "alias": name}
        _tell(url, key, {"oapseg_alias_version": float(version)} | scored, job=ALIAS_JOB)


def counts(arguments: list[str]) -> dict[str, float]:
    """Photos, broken ones and bytes of the shards that a step wrote (`--out`), or else read (`--shards`)."""
    from oapseg.shards.manifest import FILE_NAME, load_manifest

    for option in ("--out", "--shards"):
        place = next((after for word, after in pairwise(arguments) if word == option), "")
        if place and (option == "--shards" or Path(place, FILE_NAME).is_file()):
            with contextlib.suppress(ValueError, OSError):
                manifest = load_manifest(place)
                return {
                    "oapseg_stage_samples": float(manifest.num_samples),
                    "oapseg_stage_skipped_samples": float(sum(map(len, manifest.skipped.values()))),
                    "oapseg_stage_data_bytes": float(sum(shard.bytes for shard in manifest.shards)),
                }
    return {}


def _keep_s() -> float:
    text = os.environ.get(KEEP_S, "")
    try:
        return min(max(float(text), 0.0), 3600.0) if text else DEFAULT_KEEP_S
    except ValueError:
        print(f"{KEEP_S}: must be seconds, 0 to 3600, is {text!r}; taken for {DEFAULT_KEEP_S:.0f}", file=sys.stderr)
        return DEFAULT_KEEP_S


def _tell(url: str, key: Mapping[str, str], values: Mapping[str, float], job: str = JOB) -> bool:
    """Replace the group; whether that went well. A name may be followed by the value of the label `metric`."""
    try:
        from prometheus_client import CollectorRegistry, Gauge, push_to_gateway
    except ImportError:
        print(f"{GATEWAY}: not told: prometheus-client is not installed (oapseg[train] has it)", file=sys.stderr)
        return False
    registry = CollectorRegistry()
    gauges: dict[str, Any] = {}
    for told, value in values.items():
        name, _, label = told.partition(" ")
        if name not in gauges:
            gauges[name] = Gauge(name, METRICS[name].meaning, ["metric"] if label else [], registry=registry)
        (gauges[name].labels(metric=label) if label else gauges[name]).set(value)

    def push() -> None:
        push_to_gateway(url, job=job, registry=registry, grouping_key=dict(key), timeout=TIMEOUT_S)

    return _try(push)


def _forget(url: str, key: Mapping[str, str]) -> None:
    from prometheus_client import delete_from_gateway

    _try(lambda: delete_from_gateway(url, job=JOB, grouping_key=dict(key), timeout=TIMEOUT_S))


def _try(act: Callable[[], Any]) -> bool:
    try:
        act()
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        print(f"{GATEWAY}: the Pushgateway was not told ({reason})", file=sys.stderr)
        return False
    return True
