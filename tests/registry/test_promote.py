"""Promotion, roll-back and the alias that follows the journal, in a registry of MLflow's."""

import os
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from registry.born import context
from registry.versions import ALIAS, GATE, NAME, OPEN, place_in, registered

import oapseg.cli
from oapseg.checkpoint.export import HASHES, WEIGHTS, model_hash, write_files
from oapseg.evaluate.resamples import RESAMPLES
from oapseg.params import load_params
from oapseg.registry import promote as promotion
from oapseg.registry.evidence import METRICS, SCORES, score_files
from oapseg.registry.gate import Verdict, refusal
from oapseg.registry.journal import Journal, Lost
from oapseg.registry.load import SEAL_TAG
from oapseg.registry.promote import has, judge_registered, promote, reconcile, roll_back
from oapseg.registry.register import CONTENT_TAG, Version
from oapseg.registry.server import DEPRECATED_IN_MLFLOW, Place, artifacts, place_of, registry

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(f"ignore:{DEPRECATED_IN_MLFLOW}")]


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions of 20, 30 and 10 percent, and one of data that may not be used; made once, copied for each test."""
    folder = tmp_path_factory.mktemp("laid-out")
    place = place_in(folder)
    numbers = [registered(place, folder / str(percent), percent) for percent in (20.0, 30.0, 10.0)]
    numbers.append(registered(place, folder / "nc", 40.0, **{"licence.val": "CC-BY-NC-4.0"}))
    assert numbers == [1, 2, 3, 4]
    return folder


@pytest.fixture
def place(laid_out: Path, tmp_path: Path) -> Place:
    """A registry of its own for a test; the artifacts are shared, as they are only read."""
    shutil.copyfile(laid_out / "mlflow.db", tmp_path / "mlflow.db")
    return place_in(tmp_path)


def alias(place: Place) -> int | None:
    with registry(place.tracking_uri) as client:
        return has(client, place.name, ALIAS)


def numbers(place: Place) -> list[tuple[str, int | None, int]]:
    return [(entry.action, entry.before, entry.version) for entry in Journal(place.journal, place.name).entries()]


def test_a_version_that_passes_gets_the_alias_and_the_journal_says_why(place: Place) -> None:
    promote(place, 1, ALIAS, GATE)
    decision = promote(place, "latest", ALIAS, OPEN, reason="it is the last")
    assert alias(place) == 4
    entry = Journal(place.journal, NAME).entries()[1]
    assert decision.entry == entry
    assert (entry.action, entry.before, entry.version, entry.reason) == ("promote", 1, 4, "it is the last")
    assert entry.who
    assert [verdict["rule"] for verdict in entry.verdicts] == ["files", "card", "licences"]


def test_a_worse_version_is_refused_and_nothing_but_its_tag_changes(place: Place) -> None:
    promote(place, 1, ALIAS, GATE)
    decision = promote(place, 3, ALIAS, GATE)
    assert (decision.passed, decision.entry) == (False, None)
    assert (alias(place), len(numbers(place))) == (1, 1)
    with registry(place.tracking_uri) as client:
        said = client.get_model_version(NAME, "3").tags["gate.champion"]
        (table,) = client.list_artifacts(client.get_model_version(NAME, "3").run_id, "verdicts")
    assert table.path == "verdicts/champion.md"
    assert said.startswith("refused: val mask_AP50: max_regression: ")
    assert "against" in said


def test_data_whose_licence_is_not_allowed_is_refused(place: Place) -> None:
    assert not promote(place, 4, ALIAS, GATE).passed


def test_files_that_were_changed_with_their_hashes_are_refused_by_what_was_registered(tmp_path: Path) -> None:
    place = place_in(tmp_path)
    registered(place, tmp_path / "made", 20.0)
    (kept,) = (tmp_path / "mlartifacts").rglob("model.safetensors")
    files = {path.name: path.read_bytes() for path in kept.parent.iterdir() if path.name != HASHES}
    write_files(kept.parent, files | {kept.name: b"other weights"})
    decision = promote(place, 1, ALIAS, GATE)
    assert not decision.passed
    assert refusal(decision.verdicts).startswith("files: model: models:/shapes/1: sha256.json was changed")


@pytest.mark.parametrize("name", [METRICS, RESAMPLES, HASHES])
def test_scores_that_were_changed_are_refused_by_name(name: str, tmp_path: Path) -> None:
    """A bare number that was raised, and one whose hash was written anew with it."""
    place = place_in(tmp_path)
    registered(place, tmp_path / "made", 20.0)
    assert promote(place, 1, ALIAS, GATE, dry_run=True).passed
    (kept,) = (tmp_path / "mlartifacts").rglob(f"evaluate/val/{name}")
    if name == HASHES:
        better = (kept.parent / METRICS).read_text().replace('"value": 2', '"value": 9')
        assert better != (kept.parent / METRICS).read_text()
        write_files(kept.parent, score_files(kept.parent) | {METRICS: better.encode()})
    else:
        kept.write_bytes(kept.read_bytes().replace(b"2", b"9"))
    decision = promote(place, 1, ALIAS, GATE)
    assert not decision.passed
    assert re.match(rf"files: .*val.*: {re.escape(name)} was changed \(its sha256 is ", refusal(decision.verdicts))
    assert alias(place) is None


def test_scores_of_the_holder_that_were_changed_are_compared_with_nobodys(tmp_path: Path) -> None:
    place = place_in(tmp_path)
    for percent in (20.0, 30.0):
        registered(place, tmp_path / str(percent), percent)
    promote(place, 1, ALIAS, GATE)
    with registry(place.tracking_uri) as client, artifacts(client, client.get_model_version(NAME, "1"), "") as folder:
        kept = Path(folder, "evaluate", "val", METRICS)
    kept.write_text(kept.read_text().replace('"value": 2', '"value": 1'))
    decision = promote(place, 2, ALIAS, GATE)
    assert "version 1 was not measured (" in refusal(decision.verdicts)
    assert "metrics.json was changed" in refusal(decision.verdicts)


def test_scores_that_were_registered_without_a_hash_are_no_evidence(place: Place) -> None:
    with registry(place.tracking_uri) as client:
        client.delete_model_version_tag(NAME, "1", f"{SCORES}val")
    decision = promote(place, 1, ALIAS, GATE)
    assert "files: its scores were registered without a hash" in refusal(decision.verdicts)


def test_files_that_were_registered_without_a_hash_are_refused(place: Place) -> None:
    with registry(place.tracking_uri) as client:
        client.delete_model_version_tag(NAME, "1", SEAL_TAG)
    assert refusal(promote(place, 1, ALIAS, GATE).verdicts) == "files: its files were registered without a hash"


def test_a_version_that_is_not_what_it_was_is_not_rolled_back_to(place: Place) -> None:
    for number in (1, 2):
        promote(place, number, ALIAS, GATE)
    with registry(place.tracking_uri) as client:
        client.set_model_version_tag(NAME, "1", CONTENT_TAG, "another")
    with pytest.raises(ValueError, match=r"^shapes version 1: its content_sha256 is another, and was .* \(entry 1\)$"):
        roll_back(place, ALIAS)
    assert alias(place) == 2


def test_a_version_that_was_registered_before_is_judged_by_what_it_was_registered_with(place: Place) -> None:
    (said,) = (each for each in registered_again(place, 4) if each.rule == "licences")
    assert not said.passed
    assert all(each.passed for each in registered_again(place, 1))


def registered_again(place: Place, number: int, journal: str | None = None) -> list[Verdict]:
    version = Version(NAME, number, f"models:/{NAME}/{number}", "", new=False)
    return judge_registered(place.tracking_uri, journal, version, ALIAS, None, GATE)


def test_a_registered_version_is_judged_against_whom_the_journal_names_and_not_an_alias_left_behind(
    place: Place,
) -> None:
    """As after a promoter that was killed before it set the alias: version 2 has it, the registry says version 1."""
    for number in (1, 2):
        promote(place, number, ALIAS, GATE)
    with registry(place.tracking_uri) as client:
        client.set_registered_model_alias(NAME, ALIAS, "1")
    assert "against 30." in refusal(registered_again(place, 3, place.journal))
    assert "of version 2: " in refusal(registered_again(place, 3, place.journal))
    assert "of version 1: " in refusal(registered_again(place, 3))


def test_a_version_whose_scores_are_of_another_model_is_refused(tmp_path: Path) -> None:
    place = place_in(tmp_path)
    registered(place, tmp_path / "first", 20.0)
    registered(place, tmp_path / "second", 30.0, of=tmp_path / "first" / "model")
    said = [model_hash(tmp_path / each / "model") for each in ("first", "second")]
    decision = promote(place, 2, ALIAS, GATE)
    assert f"files: scores of val are of model {said[0]} and not of {said[1]}" in refusal(decision.verdicts)
    assert "required: not scored on it (scored on: none)" in refusal(decision.verdicts)
    assert (decision.entry, alias(place)) == (None, None)


def test_scores_of_a_holder_that_are_another_models_are_not_compared_with(tmp_path: Path) -> None:
    place = place_in(tmp_path)
    registered(place, tmp_path / "first", 20.0)
    registered(place, tmp_path / "second", 10.0, of=tmp_path / "first" / "model")
    promote(place, 2, ALIAS, OPEN, override="nobody looked")
    line = refusal(promote(place, 1, ALIAS, GATE).verdicts)
    assert "max_regression: version 2 was not measured (scores of val are of model " in line


def test_an_override_is_recorded_with_its_reason_and_the_verdicts(place: Place) -> None:
    promote(place, 2, ALIAS, GATE, override="not needed")
    promote(place, 3, ALIAS, GATE, override="the others are withdrawn")
    first, second = Journal(place.journal, NAME).entries()
    assert (first.override, second.override) == ("", "the others are withdrawn")
    assert [verdict["passed"] for verdict in second.verdicts].count(False) == 1
    assert alias(place) == 3


def test_a_dry_run_changes_nothing(place: Place) -> None:
    assert promote(place, 1, ALIAS, GATE, dry_run=True).passed
    assert not Path(place.journal).exists()
    assert alias(place) is None


def test_a_version_that_has_the_alias_gets_no_second_entry(place: Place) -> None:
    promote(place, 1, ALIAS, GATE)
    assert promote(place, 1, ALIAS, GATE).entry is None
    assert len(numbers(place)) == 1


def test_a_roll_back_is_an_entry_and_takes_the_alias_along(place: Place) -> None:
    for version in (3, 1, 2):
        promote(place, version, ALIAS, GATE)
    assert roll_back(place, ALIAS, dry_run=True).version == 1
    assert (alias(place), len(numbers(place))) == (2, 3)
    roll_back(place, ALIAS, reason="complaints")
    assert alias(place) == 1
    roll_back(place, ALIAS)
    assert alias(place) == 3
    assert numbers(place)[3:] == [("rollback", 2, 1), ("rollback", 1, 3)]
    with pytest.raises(ValueError, match="nothing to roll back to"):
        roll_back(place, ALIAS)


def test_a_roll_back_goes_to_an_earlier_holder_alone(place: Place) -> None:
    for version in (3, 1, 2):
        promote(place, version, ALIAS, GATE)
    with pytest.raises(ValueError, match=r"version 4 did not have it before; these did: 3, 1$"):
        roll_back(place, ALIAS, to=4)
    roll_back(place, ALIAS, to=3)
    assert alias(place) == 3


def test_a_roll_back_to_the_version_that_has_the_alias_is_refused(place: Place) -> None:
    """Also where it had the alias before the last one did, as version 1 here."""
    for version in (1, 2, 1):
        promote(place, version, ALIAS, OPEN)
    with pytest.raises(ValueError, match=r"^shapes@champion: version 1 has it already; nothing to roll back$"):
        roll_back(place, ALIAS, to=1)
    with pytest.raises(ValueError, match=r"version 4 did not have it before; these did: 2$"):
        roll_back(place, ALIAS, to=4)
    assert len(numbers(place)) == 3


@pytest.mark.parametrize("resealed", [False, True])
def test_a_version_with_a_file_that_was_changed_is_not_rolled_back_to(resealed: bool, tmp_path: Path) -> None:
    """No load would take it, so whoever uses the alias would have nothing."""
    place = place_in(tmp_path)
    for number, percent in enumerate((20.0, 30.0), 1):
        registered(place, tmp_path / str(percent), percent)
        promote(place, number, ALIAS, OPEN)
    with (
        registry(place.tracking_uri) as client,
        artifacts(client, client.get_model_version(NAME, "1"), "model") as kept,
    ):
        folder = Path(kept)
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != HASHES}
    if resealed:
        write_files(folder, files | {WEIGHTS: b"other weights"})
    else:
        (folder / WEIGHTS).write_bytes(b"other weights")
    changed = HASHES if resealed else WEIGHTS
    said = rf"^shapes@champion: not rolled back to version 1: model: [^\n]*: {re.escape(changed)} was changed \([^\n]*$"
    for dry_run in (True, False):
        with pytest.raises(ValueError, match=said):
            roll_back(place, ALIAS, dry_run=dry_run)
    assert (alias(place), len(numbers(place))) == (2, 2)


def test_an_unknown_model_or_version_is_told_with_those_there_are(place: Place) -> None:
    with pytest.raises(ValueError, match=r"no version 9; the registry has 1, 2, 3, 4$"):
        promote(place, 9, ALIAS, GATE)
    with pytest.raises(ValueError, match=r"^other: the registry has no version"):
        promote(Place("other", place.tracking_uri, place.journal), 1, ALIAS, GATE)


def killed_once_it_is_written(place: Place, version: int) -> None:
    """Promote, and be killed between the journal and the alias."""

    def kill(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    promotion.follow = kill
    promote(place, version, ALIAS, OPEN)


def test_an_alias_that_a_killed_promoter_left_behind_is_reconciled(place: Place) -> None:
    promote(place, 1, ALIAS, GATE)
    child = context().Process(target=killed_once_it_is_written, args=(place, 2))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert (alias(place), numbers(place)[-1]) == (1, ("promote", 1, 2))
    assert reconcile(place) == {ALIAS: (1, 2)}
    assert alias(place) == 2
    assert reconcile(place) == {ALIAS: (2, 2)}


def test_a_slow_promoter_does_not_take_the_alias_from_the_one_after_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first writes its entry and sets the alias last: it looks again and gives it to the second."""
    follow = promotion.follow

    def late(client: Any, journal: Journal, name: str) -> tuple[int | None, int]:
        monkeypatch.setattr(promotion, "follow", follow)
        promote(place, 2, ALIAS, OPEN)
        client.set_registered_model_alias(journal.model, name, "1")
        return follow(client, journal, name)

    monkeypatch.setattr(promotion, "follow", late)
    promote(place, 1, ALIAS, OPEN)
    assert [version for _, _, version in numbers(place)] == [1, 2]
    assert alias(place) == 2


def test_who_was_overtaken_while_judging_is_told_and_changes_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = promotion.judge

    def long_look(*arguments: Any) -> Any:
        monkeypatch.setattr(promotion, "judge", judge)
        monkeypatch.setenv("OAPSEG_WHO", "bea")
        promote(place, 2, ALIAS, GATE)
        return judge(*arguments)

    monkeypatch.setattr(promotion, "judge", long_look)
    with pytest.raises(Lost, match="bea made version 2 shapes@champion meanwhile"):
        promote(place, 1, ALIAS, GATE)
    assert numbers(place) == [("promote", None, 2)]
    assert alias(place) == 2


def cli(*arguments: str) -> int:
    return oapseg.cli.main([*arguments])


def test_the_commands_promote_tell_the_history_roll_back_and_reconcile(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place.tracking_uri)
    monkeypatch.setenv("OAPSEG_WHO", "ann")
    assert cli("promote", NAME, "1", "--to", ALIAS, "--dry-run") == 0
    assert "version 1 would be shapes@champion; nothing was changed" in capsys.readouterr().out
    assert cli("promote", NAME, "1", "--to", ALIAS, "--reason", "the first") == 0
    assert cli("promote", NAME, "2", "--to", ALIAS) == 0
    assert cli("promote", NAME, "3", "--to", ALIAS) == 2
    printed = capsys.readouterr()
    assert "REFUSED" in printed.out
    assert printed.err.startswith(
        "oapseg promote: shapes version 3 refused for champion: val mask_AP50: max_regression:"
    )
    assert printed.err.count("\n") == 1
    assert cli("rollback", NAME) == 0
    assert "version 1 is shapes@champion again, after version 2 (entry 3, by ann)" in capsys.readouterr().out
    with registry(place.tracking_uri) as client:
        client.set_registered_model_alias(NAME, ALIAS, "3")
    assert cli("reconcile", NAME) == 0
    assert "version 1, was version 3 and now is as the journal says" in capsys.readouterr().out
    assert cli("history", NAME) == 0
    printed = capsys.readouterr()
    assert "the first" in printed.out
    assert printed.out.count("promote") == 2
    assert printed.out.count("rollback") == 1
    assert cli("promote", NAME, "1", "--to", "emperor") == 2
    assert "promote.gates has no emperor; it has champion, candidate" in capsys.readouterr().err


def test_a_shared_registry_needs_a_journal_that_all_see(monkeypatch: pytest.MonkeyPatch) -> None:
    params = load_params("params.yaml")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    with pytest.raises(ValueError, match=r"^promote\.journal: promotions is a folder here"):
        place_of(params)
    monkeypatch.setenv("OAPSEG_JOURNAL", "s3://bucket/promotions")
    assert place_of(params) == Place("oapseg", "http://mlflow:5000", "s3://bucket/promotions")
