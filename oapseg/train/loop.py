"""The loop that every training shares: step, record, save, stop when asked or ill, go on from where it stopped."""

import contextlib
import json
import math
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Protocol, runtime_checkable

import torch
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
    step_of,
)
from oapseg.monitor.health import Alarm
from oapseg.monitor.history import HISTORY
from oapseg.monitor.memory import load_memory, save_memory
from oapseg.monitor.quality import Observer
from oapseg.monitor.recorder import Recorder, Told
from oapseg.params import MonitorParams
from oapseg.progress import Progress
from oapseg.train.distributed import Placement

CONSOLE = Console(stderr=True)
ROLLBACKS = "rollbacks"  # of a state's values, where there were any
RESUME = 75  # exit code: stopped on request with all state saved, run the same command again (EX_TEMPFAIL)


@runtime_checkable  # the tests check types at run time
class Task(Protocol):
    """Something that is trained: it knows its own step and its own state, and nothing of files or signals."""

    name: str
    steps: int
    images: int  # photos a step, on this rank
    placement: Placement
    observer: Observer | None  # of its masks, where it makes any

    def step(self, step: int) -> dict[str, float]:
        """One optimizer step; losses and rates by name. `loss` must be among them."""

    def state(self, step: int) -> State: ...

    def restore(self, state: State) -> None: ...


@runtime_checkable
class Skips(Protocol):
    """A task that can pass over photos, so that going back does not meet the same trouble again."""

    def skip(self, steps: int) -> None:
        """From now on, learn from what would have come so many steps later."""


class UnhealthyError(ValueError):
    """A training that one of its own rules has stopped."""


@dataclass(frozen=True)
class Run:
    """Where a run lives and what makes it this run and no other."""

    folder: Path
    params_yaml: str  # kept beside the weights
    fingerprint: str  # of the parameters and inputs that decide the result
    checkpoint_every_s: float
    log_every: int
    monitor: MonitorParams
    facts: Mapping[str, float] = field(default_factory=dict)  # for every line of the history

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def history(self) -> Path:
        return self.folder / HISTORY


def fit(task: Task, run: Run) -> State | None:
    """Train to the end, from the run's newest whole checkpoint where there is one; its final state, on rank 0 alone.

    SIGTERM and SIGINT finish the step, save, and leave with exit code `RESUME`. A checkpoint of another fingerprint
    (other parameters or data) belongs to another run: training starts anew in its place, and says so.

    An alarm of the run's own rules (`oapseg.monitor.rules`) is a line; `monitor.action` says whether it may stop the
    training, or take it back to the last checkpoint before it.

    Errors: `FloatingPointError` at a loss that is not finite, with the last good checkpoint named; `UnhealthyError`
    where a rule stops the training.
    """
    start, rollbacks = _resume(task, run)
    with (
        _stop_requests() as stop,
        _progress(task) as progress,
        Recorder(_told(task, run), resumed=start > 0, rollbacks=rollbacks) as recorder,
    ):
        bar = progress.add_task(task.name, total=task.steps, completed=start, loss=math.nan)
        step = start
        while step < task.steps:
            recorder.begin()
            values = task.step(step)
            if not math.isfinite(values["loss"]):
                raise FloatingPointError(
                    f"{task.name}: loss is {values['loss']} at step {step}; last good checkpoint: "
                    f"{latest_checkpoint(run.checkpoints) or 'none yet'}"
                )
            measured = task.observer is not None and task.observer.due(step)
            alarms = recorder.did(step, values, measured=measured)
            step += 1
            progress.update(bar, completed=step, loss=values["loss"])
            ill = _heed(task, run, alarms)
            if ill is not None:
                step = _go_back(task, run, ill, recorder)
            elif step == task.steps or stop.asked or _save_is_due(run, recorder):
                _save(task, step, run, recorder)
            if stop.asked and step < task.steps:
                CONSOLE.print(f"{task.name}: stopped at step {step}, saved; run again to go on")
                raise SystemExit(RESUME)
    if task.placement.rank != 0:  # ranks on other machines have another disk
        return None
    final = latest_checkpoint(run.checkpoints)
    if final is None:
        raise ValueError(f"{run.checkpoints}: no whole checkpoint after training")
    return load_checkpoint(final)


def _told(task: Task, run: Run) -> Told:
    """What the recorder is to know of the run."""
    return Told(
        run.folder,
        task.name,
        task.placement.rank,
        task.steps,
        task.images,
        run.log_every,
        run.checkpoint_every_s,
        judge=run.monitor.action != "ignore",
        facts=run.facts,
    )


def _resume(task: Task, run: Run) -> tuple[int, int]:
    """Bring the task to its newest checkpoint, and the history to the same step.

    The step to go on with, and how often the run went back before.
    """
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
    step = 0 if state is None else state.step
    if task.observer is not None:
        task.observer.restore(load_memory(run.folder, step))
    if task.placement.rank == 0:
        if state is None:
            shutil.rmtree(run.checkpoints, ignore_errors=True)
        _cut_history(run.history, step)
    return step, 0 if state is None else state.values.get(ROLLBACKS, 0)


def _cut_history(history: Path, step: int) -> None:
    """Drop what was recorded from `step` on, and a last line that a kill left half-written."""
    if history.exists():
        lines = [line for line in history.read_text().splitlines() if line.endswith("}")]
        kept = [line for line in lines if json.loads(line)["step"] < step]
        storage.write_text(history, "".join(f"{line}\n" for line in kept))


def _save_is_due(run: Run, recorder: Recorder) -> bool:
    """Whether it is time; not while a rule holds that may take the run back: older checkpoints would go for it."""
    suspect = run.monitor.action in ("stop", "rollback") and recorder.health.suspect_since is not None
    return time.monotonic() - recorder.saved_at > run.checkpoint_every_s and not suspect


def _save(task: Task, step: int, run: Run, recorder: Recorder) -> None:
    """Save on rank 0; the other ranks take part in gathering the state."""
    state = task.state(step)
    state.values["fingerprint"] = run.fingerprint
    if recorder.rollbacks:
        state.values[ROLLBACKS] = recorder.rollbacks
    if task.placement.rank == 0:
        if task.observer is not None and task.observer.every:
            save_memory(run.folder, step, task.observer.state())
        save_checkpoint(run.checkpoints, state, run.params_yaml)
    recorder.saved()


def _heed(task: Task, run: Run, alarms: list[Alarm]) -> Alarm | None:
    """Say the alarms; of rank 0's, the first that may end or take back the training, on every rank alike."""
    for alarm in alarms:
        CONSOLE.print(f"{task.name}: {alarm}", highlight=False)
    if run.monitor.action not in ("stop", "rollback"):
        return None
    ill = next((alarm for alarm in alarms if alarm.rule.action != "warn"), None)
    if task.placement.world > 1:
        told = torch.tensor([float(ill is not None)], device=task.placement.device)
        if float(task.placement.mean(told)) and ill is None:
            raise SystemExit(RESUME)  # rank 0 says why, and leaves likewise
    return ill


def _go_back(task: Task, run: Run, ill: Alarm, recorder: Recorder) -> int:
    """Take the task to the newest checkpoint from before the alarm, past the photos since; the step to go on with.

    With several ranks the new state is saved, and all leave with exit code `RESUME` to start from it.

    Errors: `UnhealthyError` where the rule or `monitor` does not allow it, or there is no such checkpoint.
    """
    stopped = f"{task.name}: stopped by its own alarm. {ill}"
    if run.monitor.action != "rollback" or ill.rule.action != "rollback" or not isinstance(task, Skips):
        raise UnhealthyError(stopped)
    if recorder.rollbacks >= run.monitor.rollbacks:
        raise UnhealthyError(f"{stopped} (after {recorder.rollbacks} times back, monitor.rollbacks)")
    before = [path for path in list_checkpoints(run.checkpoints) if step_of(path) <= ill.since and damage(path) is None]
    if not before:
        raise UnhealthyError(f"{stopped} (no checkpoint from before it to go back to)")
    state = load_checkpoint(before[-1])
    CONSOLE.print(f"{task.name}: back from step {ill.step} to step {state.step}, past the photos since")
    task.restore(state)
    task.skip(ill.step + 1 - state.step)
    for path in list_checkpoints(run.checkpoints):
        if step_of(path) > state.step:
            shutil.rmtree(path)
    _cut_history(run.history, state.step)
    recorder.went_back()
    if task.observer is not None:
        task.observer.restore({})
    _save(task, state.step, run, recorder)
    if task.placement.world > 1:
        raise SystemExit(RESUME)
    return state.step


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
