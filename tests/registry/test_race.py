"""Promoters that race: one order, no lost update, every loser told. `tests/s3/test_promotions.py` has more of them."""

import multiprocessing
from pathlib import Path

import pytest
from registry.racers import check, race, versions
from registry.racing import Append, check_order, run_race

from oapseg.registry.journal import Journal
from oapseg.registry.server import DEPRECATED_IN_MLFLOW


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_of_fifty_writers_of_a_journal_one_wins_each_entry_and_the_others_are_told(tmp_path: Path) -> None:
    (tmp_path / "told").mkdir()
    journal = Append(str(tmp_path / "promotions"))
    race = run_race(journal, 50, tmp_path / "told", multiprocessing.get_context("fork"), life_s=0.5)
    entries = Journal(journal.location, journal.model).entries()
    print(race.summary(entries))
    check_order(entries, race.told)
    assert len({entry.version for entry in entries}) > 1
    assert len({each.racer for each in race.told}) >= 50 - race.killed
    assert any(not each.won for each in race.told)


@pytest.mark.slow
@pytest.mark.filterwarnings(f"ignore:{DEPRECATED_IN_MLFLOW}")
def test_of_promoters_at_once_all_get_into_one_order_and_the_alias_is_the_last(tmp_path: Path) -> None:
    place = versions(tmp_path, 6)
    (tmp_path / "told").mkdir()
    raced = race(place, 6, tmp_path / "told")
    print(check(place, raced))
    assert raced.killed <= 2
    assert len({each.racer for each in raced.told}) >= 6 - raced.killed
