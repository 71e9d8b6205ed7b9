"""Fifty promoters at once, a third of them killed, on a journal in a real S3 server and on one in a folder.

`pytest -m s3 tests/s3/test_promotions.py -rP` prints what each race came to.
"""

import multiprocessing
from pathlib import Path

import pytest
from registry.racers import check, race, versions
from registry.racing import Append, check_order, run_race

from oapseg.registry.journal import Journal
from oapseg.registry.server import DEPRECATED_IN_MLFLOW

RACERS = 50


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_of_fifty_writers_of_a_journal_one_wins_each_entry_and_the_others_are_told(bucket: str, tmp_path: Path) -> None:
    journal = Append(f"{bucket}/promotions")
    race = run_race(journal, RACERS, tmp_path, multiprocessing.get_context("fork"), life_s=3)
    entries = Journal(journal.location, journal.model).entries()
    print(race.summary(entries))
    check_order(entries, race.told)
    assert len({each.racer for each in race.told}) >= RACERS - race.killed
    assert any(not each.won for each in race.told)


@pytest.mark.slow
@pytest.mark.filterwarnings(f"ignore:{DEPRECATED_IN_MLFLOW}")
@pytest.mark.parametrize("where", ["folder", "s3"])
def test_fifty_promotions_end_in_one_order_and_the_alias_is_the_last(where: str, bucket: str, tmp_path: Path) -> None:
    place = versions(tmp_path, RACERS, f"{bucket}/promotions" if where == "s3" else None)
    (tmp_path / "told").mkdir()
    raced = race(place, RACERS, tmp_path / "told")
    print(check(place, raced))
    assert len({each.racer for each in raced.told}) >= RACERS - raced.killed
