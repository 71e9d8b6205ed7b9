"""The table beside the history: written rarely enough to cost little, and whole when a training ends."""

import json
from pathlib import Path

import pytest

from oapseg.monitor.history import HISTORY, TABLE, history_csv, read_history
from oapseg.monitor.metrics import EVERY_KEY
from oapseg.monitor.recorder import Recorder, Told
from oapseg.monitor.table import PAUSE, Table


class Clock:
    """A second passes between any two looks at it, so a write takes one."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def add(folder: Path, *steps: int) -> None:
    with (folder / HISTORY).open("a") as file:
        file.writelines(json.dumps({"step": step, "loss": 1 / (step + 1)}) + "\n" for step in steps)


def steps_of(folder: Path) -> list[int]:
    return [int(line.partition(",")[0]) for line in (folder / TABLE).read_text().splitlines()[1:]]


def whole(folder: Path) -> str:
    return history_csv(read_history(folder), EVERY_KEY)


def recorder(folder: Path) -> Recorder:
    return Recorder(Told(folder, "pretrain", 0, 9, 2, 1, 60.0, judge=False), resumed=False)


def test_it_is_written_again_when_its_cost_is_small_against_the_time_since(tmp_path: Path) -> None:
    clock = Clock()
    table = Table(tmp_path, clock)
    add(tmp_path, 0)
    table.keep_up()
    add(tmp_path, 1)
    written = clock.now
    table.keep_up()
    assert steps_of(tmp_path) == [0]
    clock.now = written + PAUSE - 2
    table.keep_up()
    assert steps_of(tmp_path) == [0]
    clock.now = written + PAUSE
    table.keep_up()
    assert steps_of(tmp_path) == [0, 1]


def test_without_a_history_there_is_no_table(tmp_path: Path) -> None:
    Table(tmp_path).write()
    assert not (tmp_path / TABLE).exists()


@pytest.mark.parametrize("end", [None, FloatingPointError, SystemExit])
def test_it_is_whole_when_a_training_has_ended_however_often_it_saved(
    end: type[BaseException] | None, tmp_path: Path
) -> None:
    def train() -> None:
        with recorder(tmp_path) as recording:
            for step in range(5):
                recording.did(step, {"loss": 1.0}, measured=False)
                recording.saved()
            if end is not None:
                raise end

    if end is None:
        train()
    else:
        with pytest.raises(end):
            train()
    assert steps_of(tmp_path) == list(range(5))
    assert (tmp_path / TABLE).read_text() == whole(tmp_path)


def test_after_a_kill_it_is_brought_up_to_date_at_the_first_checkpoint(tmp_path: Path) -> None:
    add(tmp_path, 0, 1)
    Table(tmp_path).write()
    add(tmp_path, 2, 3)  # and killed
    with recorder(tmp_path) as recording:
        recording.saved()
        assert steps_of(tmp_path) == [0, 1, 2, 3]
        recording.did(4, {"loss": 1.0}, measured=False)
    assert (tmp_path / TABLE).read_text() == whole(tmp_path)


def test_what_ended_a_training_is_not_hidden_by_a_table_that_cannot_be_written(tmp_path: Path) -> None:
    def train() -> None:
        with recorder(tmp_path) as recording:
            recording.did(0, {"loss": 1.0}, measured=False)
            (tmp_path / HISTORY).write_text("no line\n")
            raise FloatingPointError

    with pytest.raises(FloatingPointError):
        train()
