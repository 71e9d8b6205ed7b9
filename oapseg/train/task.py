"""What the loop trains and where it keeps it: a task knows nothing of files, a run nothing of networks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from rich.console import Console

from oapseg.checkpoint.state import State
from oapseg.monitor.history import HISTORY
from oapseg.monitor.quality import Observer
from oapseg.params import MonitorParams
from oapseg.train.distributed import Placement

CONSOLE = Console(stderr=True)


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
