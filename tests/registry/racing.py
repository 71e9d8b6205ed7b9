"""Many processes that promote at one moment, a third of them killed on the way, and what must hold afterwards.

A race of fifty for the journal alone, without a registry: `PYTHONPATH=tests python -m registry.racing 50 JOURNAL ...`
"""

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
from multiprocessing.process import BaseProcess
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


def run_race(
    attempt: Attempt, racers: int, folder: Path, context: BaseContext, *, life_s: float, seed: int = 0
) -> tuple[list[Told], int]:
    """Let processes promote different versions to one alias; what they were told, and how many were killed.

    A third is killed at random moments up to `life_s` after the start. Every racer writes what it is told to a file of
    its own, a line at a time, so that nothing is lost with it.
    """
    files = [folder / f"{racer:03d}.jsonl" for racer in range(racers)]
    first = context.Process(target=int)  # type: ignore[attr-defined]  # of a fork server: once it is gone, others come at once
    first.start()
    first.join()
    begin = time.monotonic() + 0.5 + racers / 50
    processes = [
        context.Process(target=_race, args=(attempt, racer, files[racer], begin))  # type: ignore[attr-defined]
        for racer in range(racers)
    ]
    for process in processes:
        process.start()
    chosen = _kill_a_third(processes, begin, life_s, random.Random(seed))
    for process in processes:
        process.join()
    died = [racer for racer, process in enumerate(processes) if process.exitcode == -signal.SIGKILL]
    failed = [racer for racer, process in enumerate(processes) if process.exitcode not in (0, -signal.SIGKILL)]
    if failed or not set(died) <= set(chosen):
        raise RuntimeError(f"racers {failed} failed, {died} died, {chosen} were to be killed")
    return list(_told(files)), len(died)


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


def counted(told: Sequence[Told]) -> str:
    return f"told: {sum(each.won for each in told)} won, {sum(not each.won for each in told)} lost"


def _race(attempt: Attempt, racer: int, file: Path, begin: float) -> None:
    os.environ["OAPSEG_WHO"] = f"racer {racer}"
    with open(file, "w", buffering=1) as out:
        time.sleep(max(0.0, begin - time.monotonic()))
        for _ in range(ROUNDS):
            try:
                entry = attempt(racer)
                if entry is None:
                    continue
                said = Told(racer, True, entry.number, racer + 1, entry.who)
            except Lost as lost:
                said = Told(racer, False, lost.winner.number, lost.winner.version, lost.winner.who)
            out.write(json.dumps(vars(said)) + "\n")


def _kill_a_third(processes: Sequence[BaseProcess], begin: float, life_s: float, chance: random.Random) -> list[int]:
    chosen = chance.sample(range(len(processes)), len(processes) // 3)
    for life, racer in sorted((chance.uniform(0, life_s), racer) for racer in chosen):
        time.sleep(max(0.0, begin + life - time.monotonic()))
        processes[racer].kill()
    return chosen


def _told(files: Sequence[Path]) -> Iterator[Told]:
    for file in files:
        for line in file.read_text().splitlines(keepends=True) if file.exists() else []:
            if line.endswith("\n"):
                yield Told(**json.loads(line))


def main(arguments: Sequence[str]) -> None:
    racers = int(arguments[0])
    for location in arguments[1:]:
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            life_s = float(os.environ.get("LIFE_S", "5"))
            context = multiprocessing.get_context("fork")
            told, killed = run_race(Append(location), racers, Path(folder), context, life_s=life_s)
            took = time.monotonic() - began
            entries = Journal(location, "shapes").entries()
            check_order(entries, told)
        print(
            f"{location}: {racers} processes, {killed} killed, {took:.1f} s: {len(entries)} entries in one chain; "
            f"{counted(told)}",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
