"""How far long work is: a bar on a terminal, and a line now and then where there is none, such as in a pod's log."""

import time
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeVar

from rich import progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn

LOG_EVERY_S: Final = 20.0  # a log that is silent for a minute is cut off by some that follow it

Item = TypeVar("Item")


class Progress(progress.Progress):
    """rich's, on stderr; what, a bar, how many of how many, and the time left where no columns are given."""

    def __init__(self, *columns: str | ProgressColumn, **options: Any) -> None:
        usual = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        super().__init__(*(columns or usual), **({"console": Console(stderr=True)} | options))
        self._said = time.monotonic()

    def advance(self, task_id: TaskID, advance: float | int = 1) -> None:
        super().advance(task_id, advance)
        self._say()

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._say()

    def _say(self) -> None:
        if not self.console.is_terminal and not self.disable and time.monotonic() - self._said >= LOG_EVERY_S:
            self._said = time.monotonic()
            self.console.print(self.get_renderable())


def track(items: Iterable[Item], description: str, total: int | None = None) -> Iterator[Item]:
    """The items, with how many of them were taken."""
    with Progress() as shown:
        yield from shown.track(items, total=total, description=description)
