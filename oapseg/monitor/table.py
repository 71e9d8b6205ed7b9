"""The history as a table that `dvc plots` draws, brought up to date as a training goes, at a cost that stays small."""

import time
from collections.abc import Callable
from pathlib import Path

from oapseg import storage
from oapseg.monitor.history import HISTORY, TABLE, history_csv, read_history
from oapseg.monitor.metrics import EVERY_KEY

PAUSE = 200  # times what it last cost until it is written again: at most half a percent of the time


class Table:
    """Written whole from the history each time, so a run that went on or back needs no care; dearer as that grows."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.folder, self._clock = folder, clock
        self._due = clock()

    def keep_up(self) -> None:
        """Write it, unless it was written a moment ago."""
        if self._clock() >= self._due:
            self.write()

    def write(self) -> None:
        """Write it whole, where there is a history."""
        if (self.folder / HISTORY).exists():
            began = self._clock()
            storage.write_text(self.folder / TABLE, history_csv(read_history(self.folder), EVERY_KEY))
            ended = self._clock()
            self._due = ended + PAUSE * (ended - began)
