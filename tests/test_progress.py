"""How far long work is, for who watches and for who reads the log."""

import io

import pytest
from rich.console import Console

from oapseg import progress
from oapseg.progress import Progress, track


def said(monkeypatch: pytest.MonkeyPatch, every_s: float, *, terminal: bool = False) -> str:
    """What is written for three steps of four, before the end."""
    monkeypatch.setattr(progress, "LOG_EVERY_S", every_s)
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=80)
    with Progress(console=console, auto_refresh=False) as shown:
        bar = shown.add_task("photos", total=4)
        for _ in range(3):
            shown.advance(bar)
        return file.getvalue()


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = said(monkeypatch, 0.0).splitlines()
    assert [line.split()[0] for line in lines] == ["photos"] * 3
    assert [f"{count}/4" in line for count, line in enumerate(lines, 1)] == [True] * 3


def test_a_log_gets_no_line_for_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(monkeypatch, 1000.0) == ""


def test_a_terminal_gets_its_bar_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(monkeypatch, 0.0, terminal=True) == said(monkeypatch, 1000.0, terminal=True)


def test_what_is_tracked_comes_through(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(iter("abc"), "letters", total=3)) == ["a", "b", "c"]
    assert "letters" in capsys.readouterr().err
