"""A run on disk: its checkpoints, its history and what its observer remembers, all brought to one step."""

import json
import shutil
from pathlib import Path

from oapseg import storage
from oapseg.checkpoint.state import damage, latest_checkpoint, list_checkpoints, load_checkpoint, save_checkpoint
from oapseg.monitor.memory import load_memory, save_memory
from oapseg.monitor.pictures import FILE as PICTURE
from oapseg.monitor.recorder import Recorder
from oapseg.train.task import CONSOLE, Run, Task

ROLLBACKS = "rollbacks"  # of a state's values, where there were any


def resume(task: Task, run: Run) -> tuple[int, int]:
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
        cut_history(run.history, step)
    return step, 0 if state is None else state.values.get(ROLLBACKS, 0)


def cut_history(history: Path, step: int) -> None:
    """Drop what was recorded from `step` on, and a last line that a kill left half-written."""
    if history.exists():
        lines = [line for line in history.read_text().splitlines() if line.endswith("}")]
        kept = [line for line in lines if json.loads(line)["step"] < step]
        storage.write_text(history, "".join(f"{line}\n" for line in kept))


def save(task: Task, step: int, run: Run, recorder: Recorder) -> None:
    """Save, on rank 0: every rank has the same state."""
    if task.placement.rank == 0:
        state = task.state(step)
        state.values["fingerprint"] = run.fingerprint
        if recorder.rollbacks:
            state.values[ROLLBACKS] = recorder.rollbacks
        if task.observer is not None and task.observer.every:
            save_memory(run.folder, step, task.observer.state())
            if (picture := task.observer.picture()) is not None:
                storage.write_bytes(run.folder / PICTURE, picture)
        save_checkpoint(run.checkpoints, state, run.params_yaml)
    recorder.saved()
