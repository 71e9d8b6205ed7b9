"""`dvc plots` shows all that a training says of itself: every panel, from the table beside its history."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from oapseg.monitor.history import TABLE, history_csv, read_history
from oapseg.monitor.metrics import EVERY_KEY, TRAIN_METRICS, find, keys
from oapseg.monitor.panels import GROUPS

ROOT = Path(__file__).parents[2]
TABLES = {f"work/{task}/{TABLE}" for task in ("pretrain", "finetune")}


def plots() -> dict[str, dict[str, Any]]:
    return {
        name: plot for each in yaml.safe_load((ROOT / "dvc.yaml").read_text())["plots"] for name, plot in each.items()
    }


def drawn(table: str) -> dict[str, set[str]]:
    """Columns by plot."""
    return {
        name: {plot["y"][table]} if isinstance(plot["y"][table], str) else set(plot["y"][table])
        for name, plot in plots().items()
    }


def history() -> dict[str, Any]:
    lines = (Path(__file__).parent / "recorded" / "healthy_small.jsonl").read_text().splitlines()
    return {key: value for line in lines for key, value in json.loads(line).items()}


@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_panel_is_a_plot_of_the_columns_that_belong_to_it(table: str) -> None:
    said = {*EVERY_KEY, *history()}
    panels = {panel.title: set(panel.lines(said)) for panels in GROUPS.values() for panel in panels}
    assert drawn(table) == panels
    assert all(set(plot["y"]) == TABLES and plot["x"] == "step" for plot in plots().values())


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
