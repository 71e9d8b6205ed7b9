"""Rules over the lines of a history, as the training writes them and as anyone reads them later: the same alarms."""

import math
from bisect import insort
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from oapseg.monitor.metrics import Row
from oapseg.monitor.rules import RULES, Rule


@dataclass(frozen=True)
class Alarm:
    """A rule that holds long enough: since which step, and the value now beside its limit."""

    rule: Rule
    since: int
    step: int
    value: float
    limit: float

    def __str__(self) -> str:
        return (
            f"{self.rule.name}: {self.rule.says} ({self.rule.key} {self.value:.3g}, limit {self.rule.sign} "
            f"{self.limit:.3g}, since step {self.since}); see docs/runbook.md#{self.rule.name.lower()}"
        )


@dataclass
class _Seen:
    """What a rule remembers of its key."""

    recent: deque[tuple[int, float]] = field(default_factory=deque)  # within mean_steps
    ordered: list[float] = field(default_factory=list)  # all values after `after_step`, for the median
    since: int | None = None  # the first step of those on which the rule has held, without a break
    firing: Alarm | None = None


class Health:
    """What the rules say of a history that grows line by line."""

    def __init__(self, rules: Sequence[Rule] = RULES) -> None:
        self.rules = rules
        self._seen = {rule.name: _Seen() for rule in rules}

    @property
    def alarms(self) -> list[Alarm]:
        """Those that fire now."""
        return [seen.firing for seen in self._seen.values() if seen.firing is not None]

    @property
    def suspect_since(self) -> int | None:
        """The first step on which a rule held that holds still and may do more than warn; None where all is well."""
        held = [self._seen[rule.name].since for rule in self.rules if rule.action != "warn"]
        return min((since for since in held if since is not None), default=None)

    def see(self, row: Row) -> list[Alarm]:
        """Take in a line; the alarms that begin with it."""
        begun = []
        for rule in self.rules:
            seen = self._seen[rule.name]
            if rule.key not in row or row["step"] < rule.after_step:
                continue
            was = seen.firing
            self._judge(rule, seen, int(row["step"]), float(row[rule.key]))
            if seen.firing is not None and was is None:
                begun.append(seen.firing)
        return begun

    def _judge(self, rule: Rule, seen: _Seen, step: int, newest: float) -> None:
        seen.recent.append((step, newest))
        while len(seen.recent) > 1 and seen.recent[0][0] <= step - rule.mean_steps:
            seen.recent.popleft()
        value = sum(each for _, each in seen.recent) / len(seen.recent)
        limit = rule.limit
        if rule.against == "median":
            insort(seen.ordered, newest)
            middle = median(seen.ordered)
            # A multiple of what is not above 0 is no limit: the loss of `acg` is a modularity, and negative.
            limit = limit * middle if middle > 0 else math.nan
        if not (value > limit if rule.sign == ">" else value < limit):
            seen.since = seen.firing = None
            return
        seen.since = step if seen.since is None else seen.since
        if step - seen.since >= rule.for_steps:
            seen.firing = Alarm(rule, seen.since, step, value, limit)


def first_alarms(rows: Iterable[Row], rules: Sequence[Rule] = RULES) -> dict[str, Alarm]:
    """Of a whole history, the first alarm of each rule that fires in it."""
    health = Health(rules)
    found: dict[str, Alarm] = {}
    for row in rows:
        for alarm in health.see(row):
            found.setdefault(alarm.rule.name, alarm)
    return found
