"""The race of `racing.py` with all of a promotion: versions in MLflow, the gate, the journal, the alias.

A race of fifty on each of some journals: `PYTHONPATH=tests python -m registry.racers 50 JOURNAL ...`
"""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from registry.born import context
from registry.racing import Race, check_order, run_race
from registry.versions import ALIAS, NAME, OPEN, place_in, registered

from oapseg.registry.journal import Entry, Journal, head
from oapseg.registry.promote import has, promote, reconcile
from oapseg.registry.server import Place, registry

LIFE_S = 0.3  # times the number of racers: about as long as a first try takes


@dataclass(frozen=True)
class Promote:
    """To promote the version of a racer's own."""

    place: Place

    def __call__(self, racer: int) -> Entry | None:
        return promote(self.place, racer + 1, ALIAS, OPEN).entry


def race(place: Place, racers: int, folder: Path) -> Race:
    return run_race(Promote(place), racers, folder, context(), life_s=LIFE_S * racers)


def check(place: Place, race: Race) -> str:
    """One order, and an alias that equals its end once it is reconciled; in a line, what was found."""
    entries = Journal(place.journal, place.name).entries()
    check_order(entries, race.told)
    before = alias(place)
    reconcile(place)
    last = head(entries, ALIAS)
    assert last is not None
    assert alias(place) == last.version
    return f"{race.summary(entries)}; the last entry's version {last.version}, the alias {before} before reconcile"


def alias(place: Place) -> int | None:
    with registry(place.tracking_uri) as client:
        return has(client, NAME, ALIAS)


def versions(folder: Path, count: int, journal: str | None = None) -> Place:
    """A registry with that many versions of one model, as they are only raced with."""
    place = place_in(folder, journal)
    registered(place, folder / "made", 10.0)
    with registry(place.tracking_uri) as client:
        first = client.get_model_version(NAME, "1")
        for _ in range(count - 1):
            client.create_model_version(NAME, first.source, first.run_id, tags=dict(first.tags))
    return place


def main(arguments: Sequence[str]) -> None:
    racers = int(arguments[0])
    with tempfile.TemporaryDirectory() as name:
        place = versions(Path(name), racers)
        for number, journal in enumerate(arguments[1:]):
            folder = Path(name, str(number))
            folder.mkdir()
            raced = replace(place, journal=journal)
            print(f"{journal}: {check(raced, race(raced, racers, folder))}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
