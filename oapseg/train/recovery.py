"""What a run does about its own alarms: say them, stop, or go back to before them (`monitor.action`)."""

import shutil

import torch

from oapseg.checkpoint import RESUME
from oapseg.checkpoint.state import damage, list_checkpoints, load_checkpoint, step_of
from oapseg.monitor.health import Alarm
from oapseg.monitor.recorder import Recorder
from oapseg.train.kept import cut_history, save
from oapseg.train.task import CONSOLE, Run, Skips, Task

STRONG = ("stop", "rollback")  # of `monitor.action`: more than words


class UnhealthyError(ValueError):
    """A training that one of its own rules has stopped."""


def heed(task: Task, run: Run, alarms: list[Alarm]) -> Alarm | None:
    """Say the alarms; of rank 0's, the first that may end or take back the training, on every rank alike."""
    for alarm in alarms:
        CONSOLE.print(f"{task.name}: {alarm}", highlight=False)
    if run.monitor.action not in STRONG:
        return None
    ill = next((alarm for alarm in alarms if alarm.rule.action != "warn"), None)
    if task.placement.world > 1:
        told = torch.tensor([float(ill is not None)], device=task.placement.device)
        if float(task.placement.mean(told)) and ill is None:
            raise SystemExit(RESUME)  # rank 0 says why, and leaves likewise
    return ill


def go_back(task: Task, run: Run, ill: Alarm, recorder: Recorder) -> int:
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
    cut_history(run.history, state.step)
    recorder.went_back()
    if task.observer is not None:
        task.observer.restore({})
    save(task, state.step, run, recorder)
    if task.placement.world > 1:
        raise SystemExit(RESUME)
    return state.step
