"""The loop that every training shares: step, record, save, stop when asked, go on from where it stopped."""

import contextlib
import json
import math
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from oapseg import storage
from oapseg.checkpoint.state import (
    State,
    damage,
    latest_checkpoint,
    list_checkpoints,
    load_checkpoint,
    save_checkpoint,
)
from oapseg.progress import Progress
from oapseg.train.distributed import Placement

CONSOLE = Console(stderr=True)
RESUME = 75  # exit code: stopped on request with all state saved, run the same command again (EX_TEMPFAIL)


@runtime_checkable  # the tests check types at run time
class Task(Protocol):
    """Something that is trained: it knows its own step and its own state, and nothing of files or signals."""

    name: str
    steps: int
    placement: Placement

    def step(self, step: int) -> dict[str, float]:
        """One optimizer step; losses and rates by name. `loss` must be among them."""

    def state(self, step: int) -> State: ...

    def restore(self, state: State) -> None: ...


@dataclass(frozen=True)
class Run:
    """Where a run lives and what makes it this run and no other."""

    folder: Path
    params_yaml: str  # kept beside the weights
    fingerprint: str  # of the parameters and inputs that decide the result
    checkpoint_every_s: float
    log_every: int

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def history(self) -> Path:
        return self.folder / "history.jsonl"


def fit(task: Task, run: Run) -> State | None:
    """Train to the end, from the run's newest whole checkpoint where there is one; its final state, on rank 0 alone.

    SIGTERM and SIGINT finish the step, save, and leave with exit code `RESUME`. A checkpoint of another fingerprint
    (other parameters or data) belongs to another run: training starts anew in its place, and says so.

    Errors: `FloatingPointError` at a loss that is not finite, with the last good checkpoint named.
    """
    start = _resume(task, run)
    saved_at = time.monotonic()
    with _stop_requests() as stop, _progress(task) as progress, _writer(task, run.history) as record:
        bar = progress.add_task(task.name, total=task.steps, completed=start, loss=math.nan)
        for step in range(start, task.steps):
            began = time.monotonic()
            values = task.step(step)
            if not math.isfinite(values["loss"]):
                raise FloatingPointError(
                    f"{task.name}: loss is {values['loss']} at step {step}; last good checkpoint: "
                    f"{latest_checkpoint(run.checkpoints) or 'none yet'}"
                )
            progress.update(bar, completed=step + 1, loss=values["loss"])
            if step % run.log_every == 0 or step + 1 == task.steps:
                record({"step": step, **values, "seconds": time.monotonic() - began})
            if step + 1 == task.steps or stop.asked or time.monotonic() - saved_at > run.checkpoint_every_s:
                _save(task, step + 1, run)
                saved_at = time.monotonic()
            if stop.asked and step + 1 < task.steps:
                CONSOLE.print(f"{task.name}: stopped at step {step + 1}, saved; run again to go on")
                raise SystemExit(RESUME)
    if task.placement.rank != 0:  # ranks on other machines have another disk
        return None
    final = latest_checkpoint(run.checkpoints)
    if final is None:
        raise ValueError(f"{run.checkpoints}: no whole checkpoint after training")
    return load_checkpoint(final)


def _resume(task: Task, run: Run) -> int:
    """Bring the task to its newest checkpoint, and the history to the same step; the step to go on with."""
    checkpoint = latest_checkpoint(run.checkpoints)
    for newer in reversed(list_checkpoints(run.checkpoints)):
        if newer == checkpoint:
            break
        CONSOLE.print(f"{task.name}: passed over a damaged checkpoint: {damage(newer)}")
    state = None if checkpoint is None else load_checkpoint(checkpoint)
    if state is not None and state.values["fingerprint"] != run.fingerprint:
        CONSOLE.print(f"{task.name}: {checkpoint} is of other parameters or data; training starts anew")
        state = None
    if state is not None:
        task.restore(state)
    if task.placement.rank == 0:
        if state is None:
            shutil.rmtree(run.checkpoints, ignore_errors=True)
        _cut_history(run.history, 0 if state is None else state.step)
    return 0 if state is None else state.step


def _cut_history(history: Path, step: int) -> None:
    """Drop what was recorded from `step` on, and a last line that a kill left half-written."""
    if history.exists():
        lines = [line for line in history.read_text().splitlines() if line.endswith("}")]
        kept = [line for line in lines if json.loads(line)["step"] < step]
        storage.write_text(history, "".join(f"{line}\n" for line in kept))


def _save(task: Task, step: int, run: Run) -> None:
    """Save on rank 0; the other ranks take part in gathering the state."""
    state = task.state(step)
    state.values["fingerprint"] = run.fingerprint
    if task.placement.rank == 0:
        save_checkpoint(run.checkpoints, state, run.params_yaml)


class _Stop:
    asked = False


@contextlib.contextmanager
def _stop_requests() -> Iterator[_Stop]:
    """SIGTERM and SIGINT become a wish that the loop reads between steps."""
    stop = _Stop()

    def ask(_signal: int, _frame: FrameType | None) -> None:
        stop.asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _progress(task: Task) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeRemainingColumn(),
        console=CONSOLE,
        disable=task.placement.rank != 0,
    )


@runtime_checkable
class _Record(Protocol):
    def __call__(self, values: Mapping[str, float | int]) -> None: ...


@contextlib.contextmanager
def _writer(task: Task, history: Path) -> Iterator[_Record]:
    """Appends one JSON object a line, flushed at once, on rank 0."""
    if task.placement.rank != 0:
        yield lambda _values: None
        return
    history.parent.mkdir(parents=True, exist_ok=True)
    with history.open("a") as file:

        def record(values: Mapping[str, float | int]) -> None:
            file.write(json.dumps(dict(values)) + "\n")
            file.flush()

        yield record
