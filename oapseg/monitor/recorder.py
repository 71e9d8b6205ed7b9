"""What a training's loop tells of each step: a line of the history, the same to Prometheus, and what the rules say."""

import contextlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

from oapseg.monitor.exporter import Exporter
from oapseg.monitor.health import Alarm, Health
from oapseg.monitor.history import HISTORY
from oapseg.monitor.metrics import Row
from oapseg.monitor.table import Table
from oapseg.storage import tally

WAIT = "seconds_loader"  # of a step's values: what it waited for photos


@dataclass(frozen=True)
class Told:
    """What is known of a run before its first step."""

    folder: Path
    task: str
    rank: int
    steps: int
    images: int  # photos a step, on this rank
    log_every: int
    checkpoint_every_s: float
    judge: bool  # whether the rules are asked
    facts: Mapping[str, float] = field(default_factory=dict)  # of every line: what does not change


class Recorder:
    """`did(step, values)` after each step. The history is rank 0's; every rank serves its own values.

    A line is written every `log_every` steps, at the last step, and for each step that was measured.
    """

    def __init__(self, told: Told, *, resumed: bool, rollbacks: int = 0) -> None:
        self.told, self.health, self.rollbacks = told, Health(), rollbacks
        self.exporter = Exporter(str(told.folder), told.task, told.rank)
        self.table = Table(told.folder)
        self.saved_at = time.monotonic()
        self._resumes = 0.0
        self._file: IO[str] | None = None
        self._resumed = resumed
        self._begin_interval()

    def __enter__(self) -> "Recorder":
        self.exporter.__enter__()
        self.exporter.count_from(lambda: self.saved_at, self.told.checkpoint_every_s)
        if self.told.rank == 0:
            self.told.folder.mkdir(parents=True, exist_ok=True)
            self._look_back()
            self._file = (self.told.folder / HISTORY).open("a")
        self._begin_interval()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            with contextlib.suppress(*(() if kind is None else (OSError, ValueError))):  # what ended it is told first
                self.table.write()
        self.exporter.__exit__()

    def begin(self) -> None:
        """A step begins."""
        self._step_began = time.monotonic()

    def did(self, step: int, values: Mapping[str, float], *, measured: bool) -> list[Alarm]:
        """Take in a step; the alarms that begin with it."""
        now = time.monotonic()
        self._steps += 1
        self._waited += values.get(WAIT, 0.0)
        kept = values if measured else {name: value for name, value in values.items() if not _is_part(name)}
        row = {"step": step, **kept, "seconds": now - self._step_began} | dict(self.told.facts)
        logged = step % self.told.log_every == 0 or step + 1 == self.told.steps or measured
        if not logged:
            self.exporter.show(row)
            return []
        passed = max(now - self._began, 1e-9)
        row |= {
            "images_per_second": self._steps * self.told.images / passed,
            "loader_wait": min(self._waited / passed, 1.0),
            "checkpoint_age": now - self.saved_at,
            "checkpoint_overdue": (now - self.saved_at) / self.told.checkpoint_every_s,
            "resumes": self._resumes,
            "rollbacks": float(self.rollbacks),
            **_storage(),
        }
        self._begin_interval()
        self.exporter.show(row | {"steps": self.told.steps})
        if self._file is None:
            return []
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        return self._judge(row)

    def saved(self) -> None:
        """All state was saved just now; the table of the curves follows, and is whole when the training has ended."""
        self.saved_at = time.monotonic()
        if self.told.rank == 0:
            self.table.keep_up()

    def went_back(self) -> None:
        """The history was cut to an earlier step."""
        self.rollbacks += 1
        if self._file is not None:
            self._file.close()
            self.health = Health()
            self._look_back()
            self._file = (self.told.folder / HISTORY).open("a")
        self._begin_interval()

    def _begin_interval(self) -> None:
        self._began = self._step_began = time.monotonic()
        self._steps, self._waited = 0, 0.0

    def _look_back(self) -> None:
        """What the lines so far say: alarms, and how often the run was resumed."""
        path = self.told.folder / HISTORY
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        if rows:
            self._resumes = rows[-1].get("resumes", 0.0)
        if self._resumed:
            self._resumes, self._resumed = self._resumes + 1, False
        for row in rows:
            self._judge(row)

    def _judge(self, row: Row) -> list[Alarm]:
        if not self.told.judge:
            return []
        begun = self.health.see(row)
        firing = {alarm.rule.name for alarm in self.health.alarms}
        for rule in self.health.rules:
            if rule.key in row:
                self.exporter.alarm(rule.name, rule.name in firing)
        return begun


def _storage() -> dict[str, float]:
    """What S3 was asked so far. Trouble that an operation has not met is told as none: a rise is seen from a value."""
    counted = tally.told()
    operations = [each for each in tally.OPERATIONS if f"requests_{each}" in counted]
    none = {f"{what}_{each}": 0.0 for what in ("retries", "errors") for each in operations}
    return {f"storage_{name}": value for name, value in (none | counted).items()}


def _is_part(name: str) -> bool:
    """Times of parts are true of measured steps alone: on an accelerator the others do not wait for it."""
    return name.startswith("seconds_")
