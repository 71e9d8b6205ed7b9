"""Recorded histories in a real Prometheus: as blocks of its database, as if it had scraped them in the last hours."""

import contextlib
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import live

from oapseg.monitor.health import Health
from oapseg.monitor.metrics import METRICS, TRAINING, Row, samples

STEP_S = 15  # a step takes so long there, so that a scrape sees each


@contextlib.contextmanager
def prometheus_of(folder: Path, histories: Mapping[str, Sequence[Row]]) -> Iterator[live.Prometheus]:
    """A Prometheus that has scraped these trainings until now; it scrapes nothing more."""
    (folder / "recorded.txt").write_text(openmetrics(histories, time.time()))
    blocks = ["promtool", "tsdb", "create-blocks-from", "openmetrics", folder / "recorded.txt", folder / "data"]
    subprocess.run(blocks, check=True, capture_output=True)
    with live.prometheus(folder, {}) as prometheus:
        live.wait_for(prometheus, "oapseg_train_step")
        yield prometheus


def openmetrics(histories: Mapping[str, Sequence[Row]], stop: float) -> str:
    """Histories as OpenMetrics has them: each line at its time, the training's own alarms beside it."""
    found: dict[str, list[str]] = {}
    for run, rows in histories.items():
        labels = dict(zip(TRAINING, (run, "pretrain", "0"), strict=True))
        health, steps = Health(), rows[-1]["step"] + 1
        for row in rows:
            at = stop - (steps - 1 - row["step"]) * STEP_S
            health.see(row)
            firing = {alarm.rule.name for alarm in health.alarms}
            told = [(metric.name, more, value) for metric, more, value in samples({**row, "steps": steps})]
            told += [
                ("oapseg_train_alarm", {"rule": rule.name}, float(rule.name in firing))
                for rule in health.rules
                if rule.key in row
            ]
            for name, more, value in told:
                inside = ",".join(f'{label}="{each}"' for label, each in (labels | more).items())
                found.setdefault(name, []).append(f"{name}{{{inside}}} {value!r} {at:.3f}\n")
    parts = [f"# TYPE {name} {METRICS[name].kind}\n" + "".join(lines) for name, lines in found.items()]
    return "".join(parts) + "# EOF\n"
