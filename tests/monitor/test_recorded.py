"""The rules on histories of real trainings: each broken one raises its alarm in time, none that is healthy raises any.

`recorded/` holds short trainings on the embedded sample (72 steps at small sizes), whole, or broken in one way from the
first step or from step 24 on, as `record.py` makes them; and the whole histories of the defaults (320 steps): three
seeds on the embedded sample, one on photos of COCO and ImageNet.
"""

import json
import shutil
import subprocess
from bisect import bisect_right
from pathlib import Path
from typing import Any

import pytest
import yaml

from k8s.monitoring.alerts import PREFIX, STEP_S, rules_text
from oapseg.monitor.health import first_alarms
from oapseg.monitor.metrics import TRAINING, samples

RECORDED = Path(__file__).parent / "recorded"
HEALTHY = sorted(path.stem for path in RECORDED.glob("healthy*.jsonl"))
BROKEN = {  # the alarm that a way of being broken must raise, and the step by which
    "learning_rate": ("StudentLost", 60),
    "black_photos": ("MaskInflation", 48),
    "shuffled_teacher": ("MasksOffEdges", 60),
    "centre": ("CentreFrozen", 44),
    "hot_teacher": ("TeacherUndecided", 44),
    "cold_teacher": ("TeacherOverconfident", 44),
    "throttled_loader": ("StarvingLoader", 60),
    "leaping_rate": ("LossSpike", 36),
}


def history(name: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (RECORDED / f"{name}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_training_raises_no_alarm(name: str) -> None:
    assert first_alarms(history(name)) == {}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_training_raises_its_alarm_in_time(name: str) -> None:
    rule, by = BROKEN[name]
    alarms = first_alarms(history(name))
    assert rule in alarms
    assert alarms[rule].step <= by


def test_there_are_three_healthy_seeds() -> None:
    assert len(HEALTHY) >= 3


def _series(name: str) -> list[dict[str, str]]:
    """A history as Prometheus would have scraped it: a line every so many seconds, the last value standing."""
    rows = history(name)
    labels = dict(zip(TRAINING, (name, "pretrain", "0"), strict=True))
    values: dict[str, list[str]] = {}
    for place, row in enumerate(rows):
        for metric, more, value in samples(row):
            told = ",".join(f'{label}="{each}"' for label, each in (labels | more).items())
            column = values.setdefault(f"{metric.name}{{{told}}}", ["_"] * place)
            column += column[-1:] * (place - len(column))
            column.append(repr(value))
    return [
        {"series": series, "values": " ".join(column + column[-1:] * (len(rows) - len(column)))}
        for series, column in values.items()
    ]


def _promtool_test(name: str, folder: Path) -> dict[str, Any]:
    """What promtool is to find: the alerts that have fired by the end, which are those of the training itself, and
    that of a way of being broken by its step already."""
    steps = [int(row["step"]) for row in history(name)]
    every_s = (steps[1] - steps[0]) * STEP_S

    def fired(rules: list[str], place: int, of: str = "") -> dict[str, Any]:
        """That these have fired, of all or of one rule, by a line of the history."""
        return {
            "expr": f'count by (alertname) (count_over_time(ALERTS{{alertstate="firing"{of}}}[1h]))',
            "eval_time": f"{every_s * place}s",
            "exp_samples": [{"labels": f'{{alertname="{PREFIX}{rule}"}}', "value": 1} for rule in rules],
        }

    asked = [fired(sorted(first_alarms(history(name))), len(steps) - 1)]
    if name in BROKEN:
        rule, by = BROKEN[name]
        asked.append(fired([rule], bisect_right(steps, by) - 1, f',alertname="{PREFIX}{rule}"'))
    return {
        "rule_files": [str(folder / "rules.yaml")],
        "evaluation_interval": f"{every_s}s",
        "tests": [
            {
                "name": name,
                "interval": f"{every_s}s",
                "input_series": _series(name),
                "promql_expr_test": asked,
            }
        ],
    }


@pytest.mark.parametrize("name", [*HEALTHY, *BROKEN])
def test_prometheus_raises_the_alarms_that_the_training_raises(name: str, tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("no promtool: Debian's prometheus has it")
    (tmp_path / "rules.yaml").write_text(rules_text())
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(_promtool_test(name, tmp_path)))
    run = subprocess.run(["promtool", "test", "rules", tmp_path / "test.yaml"], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
