"""The loop that every training shares: step, record, save, stop when asked, go on from where it stopped."""

import contextlib
import json
import math
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from oapseg import storage
from oapseg.checkpoint.state import State, latest_checkpoint, load_checkpoint, save_checkpoint
from oapseg.train.distributed import Placement

RESUME = 75  # exit code: stopped on request with all state saved, run the same command again (EX_TEMPFAIL)


class Task(Protocol):
    """Something that is trained: it knows its own step and its own state, and nothing of files or signals."""

    name: str
    steps: int
    placement: Placement

    def step(self, step: int) -> dict[str, float]:
        """One optimizer step; losses and rates by name. `loss` must be among them."""

    def state(self, step: int) -> State: ...

    def restore(self, state: State) -> None: ...


def fit(task: Task, folder: Path, params_yaml: str, *, checkpoint_every_s: float, log_every: int) -> Path:
    """Train to the end, from the newest whole checkpoint in `folder` where there is one; returns the final one.

    SIGTERM and SIGINT finish the step, save, and leave with exit code `RESUME`.

    Errors: `FloatingPointError` at a loss that is not finite, with the last good checkpoint named. `ValueError` where
    `folder` holds a run of other parameters.
    """
    checkpoints, history = folder / "checkpoints", folder / "history.jsonl"
    start = _resume(task, checkpoints, history, params_yaml)
    saved_at = time.monotonic()
    with _stop_requests() as stop, _progress(task) as progress, _writer(task, history) as record:
        bar = progress.add_task(task.name, total=task.steps, completed=start, loss=math.nan)
        for step in range(start, task.steps):
            began = time.monotonic()
            values = task.step(step)
            if not math.isfinite(values["loss"]):
                raise FloatingPointError(
                    f"{task.name}: loss is {values['loss']} at step {step}; last good checkpoint: "
                    f"{latest_checkpoint(checkpoints) or 'none yet'}"
                )
            progress.update(bar, completed=step + 1, loss=values["loss"])
            if step % log_every == 0 or step + 1 == task.steps:
                record({"step": step, **values, "seconds": time.monotonic() - began})
            if step + 1 == task.steps or stop.asked or time.monotonic() - saved_at > checkpoint_every_s:
                _save(task, step + 1, checkpoints, params_yaml)
                saved_at = time.monotonic()
            if stop.asked and step + 1 < task.steps:
                Console(stderr=True).print(f"{task.name}: stopped at step {step + 1}, saved; run again to go on")
                raise SystemExit(RESUME)
    final = latest_checkpoint(checkpoints)
    if final is None:
        raise ValueError(f"{checkpoints}: no whole checkpoint after training")
    return final


def _resume(task: Task, checkpoints: Path, history: Path, params_yaml: str) -> int:
    """Bring the task to its newest checkpoint, and the history to the same step; the step to go on with."""
    checkpoint = latest_checkpoint(checkpoints)
    if checkpoint is None:
        return 0
    if (checkpoint / "params.yaml").read_text() != params_yaml:
        raise ValueError(f"{checkpoint} was made with other parameters; remove its folder, or restore its params.yaml")
    state = load_checkpoint(checkpoint)
    task.restore(state)
    if task.placement.rank == 0 and history.exists():
        lines = [line for line in history.read_text().splitlines() if json.loads(line)["step"] < state.step]
        storage.write_text(history, "".join(f"{line}\n" for line in lines))
    return state.step


def _save(task: Task, step: int, checkpoints: Path, params_yaml: str) -> None:
    """Save on rank 0; the other ranks take part in gathering the state."""
    state = task.state(step)
    if task.placement.rank == 0:
        save_checkpoint(checkpoints, state, params_yaml)


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
        console=Console(stderr=True),
        disable=task.placement.rank != 0,
    )


class _Record(Protocol):
    def __call__(self, values: dict[str, float]) -> None: ...


@contextlib.contextmanager
def _writer(task: Task, history: Path) -> Iterator[_Record]:
    """Appends one JSON object a line, flushed at once, on rank 0."""
    if task.placement.rank != 0:
        yield lambda _values: None
        return
    history.parent.mkdir(parents=True, exist_ok=True)
    with history.open("a") as file:

        def record(values: dict[str, float]) -> None:
            file.write(json.dumps(values) + "\n")
            file.flush()

        yield record
