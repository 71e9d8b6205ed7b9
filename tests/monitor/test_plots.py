"""`dvc plots` shows all that a training says of itself: every panel, from the table beside its history."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.__main__ import main
from oapseg.monitor.history import HISTORY, TABLE, history_csv, read_history
from oapseg.monitor.metrics import EVERY_KEY, TRAIN_METRICS, find, keys
from oapseg.monitor.panels import GROUPS

ROOT = Path(__file__).parents[2]
ENCODER = f"work/encoder/{TABLE}"
TABLES = {f"work/{task}/{TABLE}" for task in ("pretrain", "finetune")}
NOT_OF_ENCODER = {panel.title for panel in GROUPS["Masks"]} | {"Parts of the loss", "Teacher's sharpness"}


def plots() -> dict[str, dict[str, Any]]:
    return {
        name: plot for each in yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"] for name, plot in each.items()
    }


def drawn(table: str) -> dict[str, set[str]]:
    """Columns by plot, of those that draw this table."""
    return {
        name: {plot["y"][table]} if isinstance(plot["y"][table], str) else set(plot["y"][table])
        for name, plot in plots().items()
        if table in plot["y"]
    }


def panels() -> dict[str, set[str]]:
    """Columns by panel."""
    said = {*EVERY_KEY, *history()}
    return {panel.title: set(panel.lines(said)) for group in GROUPS.values() for panel in group}


def history() -> dict[str, Any]:
    lines = (Path(__file__).parent / "recorded" / "healthy_small.jsonl").read_text().splitlines()
    return {key: value for line in lines for key, value in json.loads(line).items()}


@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_panel_is_a_plot_of_the_columns_that_belong_to_it(table: str) -> None:
    assert drawn(table) == panels()
    assert all(set(plot["y"]) - {ENCODER} == TABLES and plot["x"] == "step" for plot in plots().values())


def test_an_encoders_table_is_in_the_plots_of_what_training_an_encoder_says() -> None:
    assert drawn(ENCODER) == {title: keys for title, keys in panels().items() if title not in NOT_OF_ENCODER}


def test_the_table_has_every_column_that_is_plotted_whatever_the_training_says(tmp_path: Path) -> None:
    row = {key: 1.0 for key in history() if key != "stability"}
    (tmp_path / "history.jsonl").write_text(json.dumps(row | {"step": 0}) + "\n")
    names, line = history_csv(read_history(tmp_path), EVERY_KEY).splitlines()
    told = dict(zip(names.split(","), line.split(","), strict=True))
    for columns in drawn(f"work/pretrain/{TABLE}").values():
        assert columns <= set(told)
    assert (told["step"], told["loss"], told["stability"], told["gpu_memory"]) == ("0", "1.0", "", "")


def test_keys_of_a_metric_are_those_that_find_it() -> None:
    for metric in TRAIN_METRICS:
        for key in keys(metric):
            found = find(key)
            assert found is not None
            assert found[0] is metric


@pytest.mark.slow
def test_dvc_draws_all_of_a_run_whose_encoder_was_found_and_not_trained(tmp_path: Path) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    assert main(["encoder", "--shards", "none", "--out", str(tmp_path / "work" / "encoder")]) == 0
    assert (tmp_path / ENCODER).read_text() == "step\n"
    for table in TABLES:
        folder = (tmp_path / table).parent
        folder.mkdir()
        shutil.copy(ROOT / "tests" / "monitor" / "recorded" / "healthy_small.jsonl", folder / HISTORY)
        (folder / TABLE).write_text(history_csv(read_history(folder), EVERY_KEY))
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    assert "failed to load" not in dvc("plots", "show", "--out", "page", within=tmp_path)
    page = (tmp_path / "page" / "index.html").read_text()
    assert page.count('<div id = "') == len(plots())
    (tmp_path / ENCODER).unlink()
    assert "failed to load some plots" in dvc("plots", "show", within=tmp_path)


def dvc(*words: str, within: Path) -> str:
    """What it says."""
    run = subprocess.run([sys.executable, "-m", "dvc", *words], cwd=within, capture_output=True, text=True, check=True)
    return run.stdout + run.stderr
