"""`oapseg watch` and `oapseg plot` on recorded histories: what they show, and what they say where there is none."""

import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from oapseg.cli import main
from oapseg.monitor.history import HISTORY, read_history
from oapseg.monitor.panels import GROUPS
from oapseg.monitor.watch_command import blocks, drawn

RECORDED = Path(__file__).parent / "recorded"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    shutil.copy(RECORDED / "black_photos.jsonl", tmp_path / HISTORY)
    return tmp_path


def test_watching_a_broken_training_names_its_alarm_and_ends_with_1(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["watch", str(run), "--once"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "ALARM MaskInflation: half of the pseudo-masks" in said
    assert "step 71" in said


def test_watching_a_healthy_one_ends_with_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(RECORDED / "healthy_small.jsonl", tmp_path / HISTORY)
    assert main(["watch", str(tmp_path), "--once"]) == 0
    assert "well: no alarm" in capsys.readouterr().out


def test_the_curves_are_a_picture_and_a_page_with_all_inside(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["plot", str(run), "--out", str(out)]) == 0
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "curves.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "MaskInflation" in page
    assert "http" not in page


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_what_is_watched_has_its_number_however_narrow_the_terminal(
    run: Path, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    main(["watch", str(run), "--once"])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("  Loss "))
    newest = json.loads((run / HISTORY).read_text().splitlines()[-1])["loss"]
    assert line.split()[1] == f"{newest:.4g}"


def printed(run: Path, width: int, height: int | None) -> list[str]:
    """The lines of what is watched in a terminal."""
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(drawn(run, read_history(run), width, height))
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [80, 100, 140])
def test_nothing_in_the_table_is_cut(run: Path, width: int) -> None:
    assert not [line for line in printed(run, width, None) if "…" in line]


@pytest.mark.parametrize("height", [24, 40])
def test_in_a_low_terminal_all_that_rules_judge_is_there_and_how_many_lines_are_not(run: Path, height: int) -> None:
    low, whole = printed(run, 100, height), printed(run, 100, None)
    assert len(low) < height < len(whole)
    judged = {"Loss", "Photos a second"} | {
        panel.title for panels in GROUPS.values() for panel in panels if panel.rules()
    }
    assert not [title for title in judged if not any(line.startswith(f"  {title}") for line in low)]
    quantities = [[line for line in lines if line.startswith("  ")] for lines in (low, whole)]
    assert low[-1] == f"{len(quantities[1]) - len(quantities[0])} more in a higher terminal, or by --once"


def test_times_have_their_unit(run: Path) -> None:
    newest = json.loads((run / HISTORY).read_text().splitlines()[-1])["seconds"]
    assert any(line.startswith("  Step  ") and f" {newest:.4g} s " in line for line in printed(run, 100, None))


@pytest.mark.parametrize("command", [["watch", "--once"], ["plot"]])
def test_without_a_history_it_is_one_line(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command[0], str(tmp_path), *command[1:]]) == 2
    assert "history.jsonl: cannot be read" in capsys.readouterr().err


def test_values_are_blocks_from_the_lowest_to_the_highest() -> None:
    assert blocks([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]) == "▁▂▃▄▅▆▇█"
    assert blocks([5, 5]) == "▁▁"
    assert len(blocks(list(range(1000)))) == 40
