from pathlib import Path

import pytest
import yaml

from pipelines.__main__ import main
from pipelines.diff import changes
from pipelines.stages import read_pipeline


@pytest.fixture(scope="module")
def shipped():
    return read_pipeline()


def changed(shipped, *overrides: str) -> dict[str, tuple[str, ...]]:
    return {change.stage: change.reasons for change in changes(shipped, read_pipeline(overrides=overrides))}


def test_a_parameter_runs_again_who_sees_it_and_all_behind(shipped):
    found = changed(shipped, "finetune.steps=7")
    assert list(found) == ["finetune", "predict", "evaluate", "report", "register"]
    before = yaml.safe_load(Path("params.yaml").read_text())["finetune"]["steps"]
    assert found["finetune"] == (f"finetune.steps {before} -> 7",)
    assert found["predict"] == ("reads finetune",)


def test_without_a_change_only_what_is_never_cached_runs(shipped):
    assert changed(shipped) == {"register": ("never cached",)}


def test_a_changed_root_is_another_command(shipped):
    found = changed(shipped, "shards.sets.val.root=elsewhere")
    assert {"other command", "reads other files"} <= set(found["shard@val"])


def test_a_key_that_is_not_there_is_one_line(capsys):
    assert main(["diff", "-S", "pretrain.stepps=3"]) == 2
    error = capsys.readouterr().err
    assert "pretrain.stepps" in error
    assert error.count("\n") == 1


def test_a_value_out_of_range_names_what_is_allowed(capsys):
    assert main(["diff", "-S", "pretrain.steps=0"]) == 2
    assert "pretrain.steps: input should be greater than or equal to 1" in capsys.readouterr().err
