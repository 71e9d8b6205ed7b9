"""The rules of health as alert rules of Prometheus, and those that only it can see.

Prometheus counts seconds where a training counts steps: a step is taken for `STEP_S`, the embedded sample's on two
cores. Where steps are quicker, Prometheus is slower to raise an alarm than the training itself.
"""

from dataclasses import dataclass
from typing import Any

import yaml

from k8s.monitoring.scrapes import EVERY_S
from oapseg.monitor.metrics import TRAINING, find
from oapseg.monitor.rules import RULES, Rule

STEP_S = 1
MEDIAN_OVER = "6h"  # the run's own median
RUNBOOK = "docs/runbook.md"
GROUP = "oapseg"
FAILED_FOR = "5m"  # that a failed step is told of; its own values are gone in seconds
PREFIX = "Oapseg"  # of the names of alerts, which share a list with everyone else's
TRAINING_IS = "{{ $labels.task }} of {{ $labels.run }}, rank {{ $labels.rank }}"
STEP, ON = "oapseg_train_step", f"on ({', '.join(TRAINING)})"


@dataclass(frozen=True)
class Seen:
    """A rule that a training cannot see of itself."""

    name: str
    expr: str
    for_s: int
    severity: str
    says: str
    of: str  # what it is said of, in Prometheus' template


ONLY_PROMETHEUS = (
    Seen(
        "TrainingStands",
        f"changes({STEP}[10m]) == 0 and {ON} {STEP} + 1 < {ON} oapseg_train_steps",
        300,
        "critical",
        "no step was done for ten minutes",
        TRAINING_IS,
    ),
    Seen(
        "StageFailed",
        f"max_over_time(oapseg_stage_failed[{FAILED_FOR}]) == 1",
        0,
        "critical",
        "a step of the pipeline failed",
        "{{ $labels.stage }} of {{ $labels.run }}",
    ),
    Seen(
        "RunFailed",
        "oapseg_run_succeeded == 0",
        0,
        "critical",
        "the newest run of the experiment failed",
        "{{ $labels.experiment }}",
    ),
)


def expression(rule: Rule) -> str:
    """What a rule says, in PromQL."""
    found = find(rule.key)
    if found is None:
        raise ValueError(f"{rule.name}: {rule.key} is no metric")
    metric, labels = found
    chosen = ",".join(f'{name}="{value}"' for name, value in labels)
    series = metric.name + (f"{{{chosen}}}" if chosen else "")
    now = f"avg_over_time({series}[{rule.mean_steps * STEP_S}s])" if rule.mean_steps else series
    limit = median_limit(rule, series) if rule.against == "median" else f"{rule.limit:g}"
    after = f" and {ON} {STEP} >= {rule.after_step}" if rule.after_step else ""
    after += f" and {median_limit(rule, series)} > 0" if rule.against == "median" else ""
    return f"{now} {rule.sign} {limit}{after}"


def median_limit(rule: Rule, series: str) -> str:
    """The limit of a rule against the run's own median, in PromQL."""
    return f"{rule.limit:g} * quantile_over_time(0.5, {series}[{MEDIAN_OVER}])"


def alert(name: str, expr: str, for_s: int, severity: str, says: str, of: str) -> dict[str, Any]:
    """One alert rule, as Prometheus reads it."""
    return {
        "alert": f"{PREFIX}{name}",
        "expr": expr,
        **({"for": f"{for_s}s"} if for_s else {}),
        "labels": {"severity": severity},
        "annotations": {
            "summary": f"{says[0].upper()}{says[1:]}",
            "description": f"{of}: {{{{ $value | humanize }}}}",
            "runbook": f"{RUNBOOK}#{name.lower()}",
        },
    }


def groups() -> dict[str, Any]:
    """All alert rules, as a file of rules of Prometheus; looked at as often as values are asked for."""
    ours = [
        alert(
            rule.name,
            expression(rule),
            rule.for_steps * STEP_S,
            rule.severity,
            rule.says,
            TRAINING_IS,
        )
        for rule in RULES
    ]
    seen = [alert(rule.name, rule.expr, rule.for_s, rule.severity, rule.says, rule.of) for rule in ONLY_PROMETHEUS]
    return {"groups": [{"name": GROUP, "interval": f"{EVERY_S}s", "rules": [*ours, *seen]}]}


def rules_text() -> str:
    """The file that Prometheus loads."""
    return "# Made by `python -m k8s.monitoring`; the rules are in oapseg/monitor/rules.py.\n" + yaml.safe_dump(
        groups(), sort_keys=False, width=120
    )
