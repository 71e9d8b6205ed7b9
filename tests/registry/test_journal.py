"""The journal of promotions: one order whatever happens, and nothing of it can be changed unseen."""

import json
from pathlib import Path

import pytest

from oapseg.registry.journal import Entry, Journal, Lost, head, held_before

SAID = {"reason": "", "override": "", "verdicts": [], "content_sha256": "", "run": "", "who": "ann"}


def write(journal: Journal, version: int, alias: str = "champion", action: str = "promote") -> Entry:
    entries = journal.entries()
    held = head(entries, alias)
    before = None if held is None else held.version
    return journal.append(entries, action=action, alias=alias, version=version, before=before, **SAID)


def test_entries_are_numbered_from_one_and_read_back_as_written(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), "shapes")
    assert journal.entries() == []
    written = [write(journal, version) for version in (3, 1, 2)]
    assert journal.entries() == written
    assert [(entry.number, entry.before, entry.version) for entry in written] == [(1, None, 3), (2, 3, 1), (3, 1, 2)]
    assert sorted(path.name for path in (tmp_path / "shapes").iterdir()) == [f"{n:06d}.json" for n in (1, 2, 3)]


def test_who_decided_on_an_older_journal_has_lost_and_is_told_who_won(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), "shapes")
    write(journal, 1)
    seen = journal.entries()
    write(journal, 2)
    with pytest.raises(Lost, match=r"ann made version 2 shapes@champion meanwhile \(promote, entry 2, ") as lost:
        journal.append(seen, action="promote", alias="champion", version=3, before=1, **SAID)
    assert lost.value.winner.version == 2
    assert len(journal.entries()) == 2


def test_an_entry_of_another_alias_in_between_is_no_loss(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), "shapes")
    seen = journal.entries()
    write(journal, 7, "candidate")
    entry = journal.append(seen, action="promote", alias="champion", version=3, before=None, **SAID)
    assert (entry.number, [each.number for each in journal.entries()]) == (2, [1, 2])


def test_an_entry_that_is_gone_or_changed_is_named(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), "shapes")
    for version in (1, 2, 3):
        write(journal, version)
    path = tmp_path / "shapes" / "000002.json"
    text = path.read_text()
    path.write_text(text.replace('"version": 2', '"version": 9'))
    with pytest.raises(ValueError, match=r"000003\.json: does not follow the entry before it"):
        journal.entries()
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"000002\.json: not an entry of a journal"):
        journal.entries()
    path.unlink()
    with pytest.raises(ValueError, match=r"000002\.json: missing, and there are later ones"):
        journal.entries()


def test_what_a_killed_writer_left_is_no_entry(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), "shapes")
    write(journal, 1)
    (tmp_path / "shapes" / ".000002.json.x8k2.part").write_text('{"number"')
    assert write(journal, 2).number == 2


def test_roll_backs_go_back_one_holder_after_the_other(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), "shapes")
    for version in (1, 2, 3):
        write(journal, version)
    write(journal, 9, "candidate")
    assert held_before(journal.entries(), "champion") == [1, 2]
    write(journal, 2, action="rollback")
    assert held_before(journal.entries(), "champion") == [1]
    write(journal, 4)
    assert held_before(journal.entries(), "champion") == [1, 2]
    write(journal, 1, action="rollback")
    assert held_before(journal.entries(), "champion") == []


def test_entries_are_json_that_says_everything(tmp_path: Path) -> None:
    write(Journal(str(tmp_path), "shapes"), 1)
    said = json.loads((tmp_path / "shapes" / "000001.json").read_text())
    assert said.keys() >= {"who", "when", "before", "version", "verdicts", "reason", "override", "previous"}
