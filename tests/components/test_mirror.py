"""A mirrored folder, and what is found after a kill."""

import time
from pathlib import Path

import pytest

from components.mirror import Mirror


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "here"


@pytest.fixture
def url(tmp_path: Path) -> Path:
    """Storage takes a folder as it takes a URL."""
    return tmp_path / "there"


def write(path: Path, text: str = "x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_comes_back_as_it_was(folder, url, tmp_path):
    write(folder / "step-1/model", "weights")
    write(folder / "step-1/sha256.json", "{}")
    write(folder / "history.jsonl", "1\n2\n")
    Mirror(folder, str(url)).sync()
    again = tmp_path / "again"
    Mirror(again, str(url)).restore()
    assert {name: (again / name).read_text() for name in names(again)} == {
        "step-1/model": "weights",
        "step-1/sha256.json": "{}",
        "history.jsonl": "1\n2\n",
    }


def test_what_is_still_being_written_stays_here(folder, url):
    write(folder / ".step-2.partial/model")
    write(folder / "step-1/model")
    Mirror(folder, str(url)).sync()
    assert names(url) == {"step-1/model"}


def test_what_goes_away_here_goes_away_there(folder, url):
    write(folder / "step-1/model")
    write(folder / "step-1/sha256.json")
    mirror = Mirror(folder, str(url))
    mirror.sync()
    (folder / "step-1/model").unlink()
    (folder / "step-1/sha256.json").unlink()
    write(folder / "step-2/model")
    mirror.sync()
    assert names(url) == {"step-2/model"}
    assert mirror.hashes.keys() == {"step-2/model"}


def sent_in_order(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    order: list[str] = []
    for name in ("_send", "_remove"):
        whole = getattr(mirror, name)
        monkeypatch.setattr(mirror, name, lambda what, *rest, whole=whole: (order.append(what), whole(what, *rest)))
    mirror.sync()
    return order


def test_a_seal_goes_last_after_the_history(folder, url, monkeypatch):
    write(folder / "a/sha256.json")
    write(folder / "a/model")
    write(folder / "history.jsonl")
    order = [what for what in sent_in_order(Mirror(folder, str(url)), monkeypatch) if isinstance(what, str)]
    assert order[-1] == "a/sha256.json"
    assert set(order[:-1]) == {"a/model", "history.jsonl"}


def test_a_seal_is_taken_off_before_what_it_seals_changes(folder, url, monkeypatch):
    write(folder / "model/weights", "old")
    write(folder / "model/sha256.json", "old")
    mirror = Mirror(folder, str(url))
    mirror.sync()
    write(folder / "model/weights", "newer")
    (folder / "model/sha256.json").unlink()
    order = sent_in_order(mirror, monkeypatch)
    assert order[0] == {"model/sha256.json"}
    assert names(url) == {"model/weights"}


def test_an_unchanged_file_is_not_sent_again(folder, url, monkeypatch):
    write(folder / "big")
    mirror = Mirror(folder, str(url))
    mirror.sync()
    assert "big" not in sent_in_order(mirror, monkeypatch)


def test_it_keeps_up_while_the_step_runs_and_ends_up_to_date(folder, url):
    with Mirror(folder, str(url), every_s=0.01):
        write(folder / "one")
        for _ in range(500):
            if (url / "one").exists():
                break
            time.sleep(0.01)
        assert (url / "one").exists()
        write(folder / "two")
    assert names(url) == {"one", "two"}


def test_a_storage_that_fails_meanwhile_is_tried_again(folder, url, capsys):
    write(url, "a file where the folder should be")
    with Mirror(folder, str(url), every_s=0.01):
        write(folder / "one")
        said = ""
        for _ in range(500):
            if said := capsys.readouterr().err:
                break
            time.sleep(0.01)
        assert "not mirrored, tried again" in said
        url.unlink()
    assert names(url) == {"one"}


def test_a_storage_that_fails_at_the_end_is_an_error(folder, url):
    write(url, "a file where the folder should be")
    with pytest.raises(OSError, match="there"), Mirror(folder, str(url)):
        write(folder / "one")
