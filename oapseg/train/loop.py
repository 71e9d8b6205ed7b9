"""The loop that every training shares: step, record, save, stop when asked or ill, go on from where it stopped."""

import contextlib
import math
import signal
import time
from collections.abc import Iterator
from types import FrameType

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from oapseg.checkpoint import RESUME
from oapseg.checkpoint.state import State, latest_checkpoint, load_checkpoint
from oapseg.monitor.recorder import Recorder, Told
from oapseg.progress import Progress
from oapseg.train.kept import resume, save
from oapseg.train.recovery import STRONG, go_back, heed
from oapseg.train.task import CONSOLE, Run, Task


def fit(task: Task, run: Run) -> State | None:
    """Train to the end, from the run's newest whole checkpoint where there is one; its final state, on rank 0 alone.

    SIGTERM and SIGINT finish the step, save, and leave with exit code `RESUME`. A checkpoint of another fingerprint
    (other parameters or data) belongs to another run: training starts anew in its place, and says so.

    An alarm of the run's own rules (`oapseg.monitor.rules`) is a line; `monitor.action` says whether it may stop the
    training, or take it back to the last checkpoint before it.

    Errors: `FloatingPointError` at a loss that is not finite, with the last good checkpoint named; `UnhealthyError`
    where a rule stops the training.
    """
    start, rollbacks = resume(task, run)
    with (
        _stop_requests() as stop,
        _progress(task) as progress,
        Recorder(_told(task, run), resumed=start > 0, rollbacks=rollbacks) as recorder,
    ):
        bar = progress.add_task(task.name, total=task.steps, completed=start, loss="")
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
            progress.update(bar, completed=step, loss=f"loss {values['loss']:.3f}")
            ill = heed(task, run, alarms)
            if ill is not None:
                step = go_back(task, run, ill, recorder)
            elif step == task.steps or stop.asked or _save_is_due(run, recorder):
                save(task, step, run, recorder)
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


def _save_is_due(run: Run, recorder: Recorder) -> bool:
    """Whether it is time; not while a rule holds that may take the run back: older checkpoints would go for it."""
    suspect = run.monitor.action in STRONG and recorder.health.suspect_since is not None
    return time.monotonic() - recorder.saved_at > run.checkpoint_every_s and not suspect


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
        TextColumn("{task.fields[loss]}"),
        TimeRemainingColumn(),
        console=CONSOLE,
        disable=task.placement.rank != 0,
    )
