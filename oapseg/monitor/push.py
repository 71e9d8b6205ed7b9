"""What a step says that ends: how long it took, how it ended, how many photos; to a Pushgateway, and gone again.

`PUSHGATEWAY_URL` names the gateway; without it nothing is said. Each step of a run has a group of its own, by the name
of its stage: `shard@val` and `shard@pretrain` run side by side, and neither replaces nor deletes what the other said.
A group goes `OAPSEG_PUSH_KEEP_S` after its step's end (20: a scrape at the usual 15 s comes in between). A step that
is killed says nothing more, so the end of its run says for it that it failed (`end_run`), and none outlives its run.
A gateway that does not answer is one line, and the step is none the worse.
"""

import contextlib
import json
import os
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from oapseg.checkpoint import RESUME
from oapseg.monitor.metrics import METRICS
from oapseg.storage import tally

GATEWAY, KEEP_S, RUN = "PUSHGATEWAY_URL", "OAPSEG_PUSH_KEEP_S", "OAPSEG_RUN"
JOB, ALIAS_JOB = "oapseg_stage", "oapseg_registry"
TIMEOUT_S = 10
DEFAULT_KEEP_S = 20.0

Values = Mapping[str, float | Mapping[str, float]]  # by name; of one with the label `metric`, by its value


@contextlib.contextmanager
def stage(name: str, arguments: list[str]) -> Iterator[Callable[[int], None]]:
    """While a step runs and when it has ended; what is yielded takes its exit code. An exception is a failure.

    `name` is what tells it from the other steps of its run, `shard@val`.
    """
    url = os.environ.get(GATEWAY)
    if not url or os.environ.get("RANK", "0") != "0":
        yield lambda _code: None
        return
    codes, keep_s = [1], _keep_s()
    began = time.monotonic()
    key = {"run": os.environ.get(RUN) or Path.cwd().name, "stage": name}
    _try(lambda: tell(url, JOB, key, {"oapseg_stage_running": 1.0}))
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
        if _try(lambda: tell(url, JOB, key, ended | counts(arguments) | asked())):
            time.sleep(keep_s)
            _try(lambda: _forget(url, key))


def end_run(url: str, run: str) -> list[str]:
    """Say that the steps of a run that run no more have failed, and delete all that its steps have said; their names.

    Errors: `OSError` where the gateway does not answer, `ValueError` where what answers is none.
    """
    with urllib.request.urlopen(f"{url.rstrip('/')}/api/v1/metrics", timeout=TIMEOUT_S) as answer:
        try:
            said = [(each["labels"], _running(each)) for each in json.load(answer)["data"]]
        except (json.JSONDecodeError, KeyError, TypeError, IndexError) as error:
            raise ValueError(f"{GATEWAY}: what answers is no Pushgateway ({error!r})") from None
    ours = [(labels, running) for labels, running in said if labels["job"] == JOB and labels.get("run") == run]
    left = {labels["stage"]: running for labels, running in ours}
    killed = sorted(name for name, running in left.items() if running)
    for name in killed:
        tell(url, JOB, {"run": run, "stage": name}, {"oapseg_stage_running": 0.0, "oapseg_stage_failed": 1.0})
    if killed:
        time.sleep(_keep_s())
    for name in left:
        _forget(url, {"run": run, "stage": name})
    return killed


def _running(group: Mapping[str, Any]) -> bool:
    """Of a group of the gateway, whether it says so."""
    name = "oapseg_stage_running"
    return name in group and float(group[name]["metrics"][0]["value"]) == 1


def alias(model: str, name: str, version: int, scores: Mapping[str, float]) -> None:
    """Say which version has an alias, and its scores in percent; this group stays until the alias moves on."""
    url = os.environ.get(GATEWAY)
    if url:
        told: Values = {"oapseg_alias_version": float(version), "oapseg_alias_score": scores}
        _try(lambda: tell(url, ALIAS_JOB, {"model": model, "alias": name}, told))


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


def asked() -> dict[str, float]:
    """What this process, and its loader's, asked of S3 so far; nothing where that was nothing."""
    counted = tally.told()
    if not counted:
        return {}
    return {
        f"oapseg_stage_storage_{what}": sum(value for name, value in counted.items() if name.startswith(f"{what}_"))
        for what in ("seconds", "retries", "errors")
    }


def _keep_s() -> float:
    text = os.environ.get(KEEP_S, "")
    try:
        return min(max(float(text), 0.0), 3600.0) if text else DEFAULT_KEEP_S
    except ValueError:
        print(f"{KEEP_S}: must be seconds, 0 to 3600, is {text!r}; taken for {DEFAULT_KEEP_S:.0f}", file=sys.stderr)
        return DEFAULT_KEEP_S


def tell(url: str, job: str, key: Mapping[str, str], values: Values) -> None:
    """Replace the group of a job. Errors: `OSError` where the gateway does not take it."""
    from prometheus_client import CollectorRegistry, Gauge, push_to_gateway

    registry = CollectorRegistry()
    for name, value in values.items():
        labelled = isinstance(value, Mapping)
        gauge = Gauge(name, METRICS[name].meaning, ["metric"] if labelled else [], registry=registry)
        for label, each in value.items() if isinstance(value, Mapping) else [("", value)]:
            (gauge.labels(metric=label) if labelled else gauge).set(each)
    push_to_gateway(url, job=job, registry=registry, grouping_key=dict(key), timeout=TIMEOUT_S)


def _forget(url: str, key: Mapping[str, str]) -> None:
    from prometheus_client import delete_from_gateway

    delete_from_gateway(url, job=JOB, grouping_key=dict(key), timeout=TIMEOUT_S)


def _try(act: Callable[[], Any]) -> bool:
    try:
        act()
    except ImportError:
        print(f"{GATEWAY}: not told: prometheus-client is not installed (oapseg[train] has it)", file=sys.stderr)
        return False
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        print(f"{GATEWAY}: the Pushgateway was not told ({reason})", file=sys.stderr)
        return False
    return True
