"""The last step of a run on a cluster: tell a webhook how it ended, and push its final metrics to the Pushgateway, from
which it takes away what killed steps of the run have left there.

`WEBHOOK_URL` and `PUSHGATEWAY_URL` come from the environment; without one, that part is left out. What cannot be told
is a line on stderr and no error: a run that went well does not fail because nobody listened.
"""

import argparse
import json
import os
import sys
import time
import urllib.request
from typing import Any

from components.container import numbers
from components.executor import read_execution
from oapseg import storage
from oapseg.monitor.push import end_run, tell

TIMEOUT_S = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--executor-input", required=True, help="what Kubeflow's launcher says of this run of the step")
    parser.add_argument(
        "--metrics",
        action="append",
        default=[],
        metavar="[NAME=]PATH",
        help="a metrics file of the run; its numbers are told as NAME.NUMBER",
    )
    parser.add_argument("--run", default=os.environ.get("OAPSEG_RUN", ""), help="id of the pipeline run (OAPSEG_RUN)")


def main(args: argparse.Namespace) -> None:
    execution = read_execution(args.executor_input)
    given = execution.parameters
    status = given.get("status", {})
    metrics = final_metrics(str(given.get("s3_prefix", "")), args.run, args.metrics)
    state = str(status.get("state", "UNKNOWN"))
    print(f"run {args.run}: {state}, {len(metrics)} metrics")
    if url := os.environ.get("WEBHOOK_URL"):
        _try("webhook", lambda: post(url, message(state, status, args.run, given, metrics)))
    if url := os.environ.get("PUSHGATEWAY_URL"):
        _try("Pushgateway", lambda: push(url, state, args.run, str(given.get("experiment", "oapseg")), metrics))


def final_metrics(prefix: str, run: str, paths: list[str]) -> dict[str, float]:
    """The numbers of the run's metrics files; none of one that the run did not come to, or took from the cache.

    A path may have a name before it, `coco_val2017=PATH`, and so have its numbers: `coco_val2017.model.mask_AP50`.
    """
    found: dict[str, float] = {}
    for path in paths:
        name, _, path = path.rpartition("=")
        location = storage.join(prefix, run, path)
        try:
            if storage.exists(location):
                of = f"{name}." if name else ""
                found |= {of + number: value for number, value in numbers(storage.read_json(location)).items()}
        except (OSError, ValueError) as error:
            print(f"notify: {error}", file=sys.stderr)
    return found


def message(
    state: str, status: dict[str, Any], run: str, given: dict[str, Any], metrics: dict[str, float]
) -> dict[str, Any]:
    """What is posted; `text` alone is what chats show."""
    error = str((status.get("error") or {}).get("message", ""))
    experiment, data_rev = str(given.get("experiment", "")), str(given.get("data_rev", ""))
    shown = ", ".join(f"{name} {value:g}" for name, value in sorted(metrics.items()))
    said = [f"{experiment} run {run}: {state}", *([error] if error else []), *([shown] if shown else [])]
    return {
        "text": ". ".join(said),
        "state": state,
        "run": run,
        "experiment": experiment,
        "data_rev": data_rev,
        "error": error,
        "metrics": metrics,
    }


def post(url: str, content: dict[str, Any]) -> None:
    """POST as JSON."""
    body = json.dumps(content).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=TIMEOUT_S):
        pass


def push(gateway: str, state: str, run: str, experiment: str, metrics: dict[str, float]) -> None:
    """Replace the experiment's group by the newest run's numbers and end, and clear away what its killed steps left."""
    ended = {"oapseg_run_end_timestamp_seconds": time.time(), "oapseg_run_succeeded": float(state == "SUCCEEDED")}
    tell(gateway, "oapseg", {"experiment": experiment}, ended | {"oapseg_final_metric": metrics})
    if killed := end_run(gateway, run):
        print(f"run {run}: killed: {', '.join(killed)}")


def _try(what: str, act: Any) -> None:
    """Errors name the kind of failure, never the URL: a webhook's URL is a secret."""
    try:
        act()
    except (OSError, ValueError) as error:
        code = getattr(error, "code", None)
        reason = f"HTTP {code}" if code else type(getattr(error, "reason", error)).__name__
        print(f"notify: the {what} was not told ({reason})", file=sys.stderr)
