"""Many processes that promote at one moment, a third of them killed on the way, and what must hold afterwards.

A race of fifty for the journal alone, without a registry: `PYTHONPATH=tests python -m registry.racing 50 JOURNAL ...`
"""

import itertools
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from pathlib import Path

from oapseg.registry.journal import Entry, Journal, Lost, head

ALIAS = "champion"
ROUNDS = 6  # promotions that each process tries
NAMELESS = {"reason": "", "override": "", "verdicts": [], "content_sha256": "", "run": ""}

Attempt = Callable[[int], Entry | None]  # a racer's number to its entry, where it needed one


@dataclass(frozen=True)
class Told:
    """What a promoter was told: that it won with an entry, or lost to one."""

    racer: int
    won: bool
    entry: int
    version: int
    winner: str


@dataclass(frozen=True)
class Append:
    """To promote by the journal alone: look, and write what follows."""

    location: str
    model: str = "shapes"

    def __call__(self, racer: int) -> Entry | None:
        journal = Journal(self.location, self.model)
        entries = journal.entries()
        held = head(entries, ALIAS)
        before = None if held is None else held.version
        if before == racer + 1:
            return None
        said = NAMELESS | {"who": os.environ["OAPSEG_WHO"]}
        return journal.append(entries, action="promote", alias=ALIAS, version=racer + 1, before=before, **said)


@dataclass(frozen=True)
class End:
    """When a racer is killed: so many tries on, after this share of the time that one takes."""

    tries: int
    share: float


@dataclass(frozen=True)
class Race:
    """What came of one."""

    racers: int
    killed: int
    took_s: float
    told: list[Told]

    def summary(self, entries: Sequence[Entry]) -> str:
        """In a line, with what a journal of these entries lacks and repeats."""
        numbers = [entry.number for entry in entries]
        repeated = len(numbers) - len(set(numbers))
        gaps = max(numbers, default=0) - len(set(numbers))
        won = sum(each.won for each in self.told)
        return (
            f"{self.racers} processes, {self.killed} killed, {self.took_s:.0f} s: {len(entries)} entries, {gaps} gaps, "
            f"{repeated} duplicates; told: {won} that they won, {len(self.told) - won} that they lost; "
            f"{len(entries) - won} killed between an entry and being told"
        )


def run_race(
    attempt: Attempt, racers: int, folder: Path, context: BaseContext, *, life_s: float, seed: int = 0
) -> Race:
    """Let processes promote different versions to one alias.

    A third is killed, each at a random moment of a random one of its tries, as its own pace tells; in the first, within
    `life_s`. Every racer writes what it is told to a file of its own, a line at a time, so that nothing is lost.
    """
    files = [folder / f"{racer:03d}.jsonl" for racer in range(racers)]
    first = context.Process(target=int)  # type: ignore[attr-defined]  # of a fork server: once it is gone, others come at once
    first.start()
    first.join()
    chance = random.Random(seed)
    ends = {
        racer: End(chance.randrange(ROUNDS), chance.random()) for racer in chance.sample(range(racers), racers // 3)
    }
    begin = time.monotonic() + 0.5 + racers / 50
    processes = [
        context.Process(target=_race, args=(attempt, racer, files[racer], begin, life_s, ends.get(racer)))  # type: ignore[attr-defined]
        for racer in range(racers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    took_s = time.monotonic() - begin
    wrong = [
        racer for racer, each in enumerate(processes) if each.exitcode != (-signal.SIGALRM if racer in ends else 0)
    ]
    if wrong:
        raise RuntimeError(f"racers {wrong} failed; {sorted(ends)} were to be killed")
    return Race(racers, len(ends), took_s, list(_told(files)))


def check_order(entries: Sequence[Entry], told: Sequence[Told]) -> None:
    """No gap, no fork, no duplicate; each winner is there as it was told, each loser was told one that is there."""
    assert [entry.number for entry in entries] == list(range(1, len(entries) + 1))
    assert [entry.before for entry in entries] == [None, *(entry.version for entry in entries[:-1])]
    assert max(Counter(entry.id for entry in entries).values()) == 1
    by_number = {entry.number: entry for entry in entries}
    won = [each.entry for each in told if each.won]
    assert len(set(won)) == len(won)
    for each in told:
        assert by_number[each.entry].version == each.version
        assert by_number[each.entry].who == each.winner
        assert each.won == (each.winner == f"racer {each.racer}")


def _race(attempt: Attempt, racer: int, file: Path, begin: float, life_s: float, end: End | None) -> None:
    os.environ["OAPSEG_WHO"] = f"racer {racer}"
    with open(file, "w", buffering=1) as out:
        time.sleep(max(0.0, begin - time.monotonic()))
        for tried in itertools.count() if end else range(ROUNDS):
            if end and tried == end.tries:
                _die_in(end.share * ((time.monotonic() - begin) / tried if tried else life_s))
            try:
                entry = attempt(racer)
                if entry is None:
                    continue
                said = Told(racer, True, entry.number, racer + 1, entry.who)
            except Lost as lost:
                said = Told(racer, False, lost.winner.number, lost.winner.version, lost.winner.who)
            out.write(json.dumps(vars(said)) + "\n")


def _die_in(seconds: float) -> None:
    """By an alarm that nobody handles: the kernel ends the process, as by SIGKILL, wherever it is."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))


def _told(files: Sequence[Path]) -> Iterator[Told]:
    for file in files:
        for line in file.read_text().splitlines(keepends=True) if file.exists() else []:
            if line.endswith("\n"):
                yield Told(**json.loads(line))


def main(arguments: Sequence[str]) -> None:
    racers = int(arguments[0])
    for location in arguments[1:]:
        with tempfile.TemporaryDirectory() as folder:
            context = multiprocessing.get_context("fork")
            race = run_race(Append(location), racers, Path(folder), context, life_s=1)
            entries = Journal(location, "shapes").entries()
            check_order(entries, race.told)
        print(f"{location}: {race.summary(entries)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
