"""What S3 has been asked so far, counted by operation: who watches a process reads it here, and nothing else does.

Counts are of this process. One that works for another (a loader's) hands over what it has counted.
"""

import os
from collections import Counter
from threading import Lock

OPERATIONS = ("read", "write", "head", "list", "delete")
COUNTED = ("requests", "seconds", "retries", "errors")  # answered; their time; tried again; refused or given up

Counts = dict[str, float]  # by `COUNTED_OPERATION`

_counts: Counter[str] = Counter()
_one_at_a_time = Lock()


def count(what: str, operation: str, amount: float = 1.0) -> None:
    """One more of `COUNTED`."""
    with _one_at_a_time:
        _counts[f"{what}_{operation}"] += amount  # type: ignore[assignment]  # seconds are no whole numbers


def told() -> Counts:
    """All so far; nothing where S3 was not asked."""
    with _one_at_a_time:
        return {name: float(value) for name, value in _counts.items()}


def taken() -> Counts:
    """All so far, which is then forgotten here."""
    with _one_at_a_time:
        counts = {name: float(value) for name, value in _counts.items()}
        _counts.clear()
        return counts


def add(counts: Counts) -> None:
    """Count as ours what another process has counted."""
    with _one_at_a_time:
        _counts.update(counts)


def _anew() -> None:
    """A process that was forked counts from nothing, and holds no lock of its parent's threads."""
    global _one_at_a_time
    _one_at_a_time = Lock()
    _counts.clear()


os.register_at_fork(after_in_child=_anew)
