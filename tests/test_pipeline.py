"""`dvc.yaml` agrees with itself, with the steps it runs and with the parameters it names."""

import argparse
import importlib
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo
from dvc.stage import PipelineStage

from components.__main__ import FIELD as FIELD_STEPS
from components.__main__ import STEPS
from oapseg.params import default_params_path

ROOT = Path(__file__).parents[1]
ALL_STAGES: list[PipelineStage] = list(Repo(str(ROOT)).index.stages)
STAGES = [stage for stage in ALL_STAGES if stage.path_in_repo == "dvc.yaml"]
FIELD = [stage for stage in ALL_STAGES if stage.path_in_repo == "field/dvc.yaml"]
META = {"image": str, "cpu": int, "memory": str, "gpus": int, "node_pool": str, "retries": int}
each_stage = pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.addressing)


def params_of(stage: PipelineStage) -> list[str]:
    """Names of the parameters that a stage may see."""
    return [name for dep in stage.deps for name in getattr(dep, "params", [])]


def files_of(stage: PipelineStage) -> list[str]:
    """What a stage reads, besides parameters."""
    return [dep.def_path for dep in stage.deps if not getattr(dep, "params", [])]


def parsed(stage: PipelineStage) -> argparse.Namespace:
    """The arguments of a stage's step; `argparse` refuses what the step does not take."""
    python, module_option, package, step, *arguments = shlex.split(stage.cmd)
    assert (python, module_option, package) == ("python", "-m", "components")
    parser = argparse.ArgumentParser(exit_on_error=False)
    importlib.import_module(STEPS[step].module).add_arguments(parser)
    return parser.parse_args(arguments)


def paths(args: argparse.Namespace) -> set[str]:
    """Every argument that is a path below the clone."""
    values: list[Any] = list(vars(args).values())
    texts: set[str] = set()
    while values:
        value = values.pop()
        if isinstance(value, list):
            values += value
        elif value is not None:
            texts.add(str(value))
    return {text for text in texts if "/" in text}


def inside(path: str, folders: list[str]) -> bool:
    return any(Path(path).is_relative_to(folder) for folder in folders)


def test_every_step_is_a_stage_and_every_stage_a_step() -> None:
    assert {stage.addressing.split("@")[0] for stage in STAGES} == set(STEPS)


@each_stage
def test_its_command_is_one_that_its_step_takes(stage: PipelineStage) -> None:
    assert shlex.split(stage.cmd)[3] == stage.addressing.split("@")[0]
    parsed(stage)


@each_stage
def test_its_command_reads_only_its_deps_and_writes_only_its_outs(stage: PipelineStage) -> None:
    args = parsed(stage)
    outs = [out.def_path for out in stage.outs]
    assert all(inside(out, [str(args.out)]) for out in outs)
    for path in paths(args) - {str(args.out)}:
        deps = files_of(stage)
        assert inside(path, deps) or any(inside(dep, [path]) for dep in deps), path


@each_stage
def test_its_deps_are_the_outs_of_other_stages(stage: PipelineStage) -> None:
    made = [out.def_path for other in STAGES if other is not stage for out in other.outs]
    for dep in files_of(stage):
        assert inside(dep, made), f"{dep} is made by no stage"


@each_stage
def test_its_parameters_are_in_params_yaml(stage: PipelineStage) -> None:
    assert params_of(stage)
    for name in params_of(stage):
        section = yaml.safe_load(default_params_path().read_text())
        for key in name.split("."):
            assert key in section, f"{name} is not in params.yaml"
            section = section[key]


@each_stage
def test_it_says_what_it_is_and_what_it_needs_on_a_cluster(stage: PipelineStage) -> None:
    assert stage.desc
    meta = dict(stage.meta)
    assert {key: type(meta.get(key)) for key in META} == META
    assert meta["image"] in ("cpu", "gpu")
    assert (meta["gpus"] > 0) == (meta["image"] == "gpu") == (meta["node_pool"] == "gpu")
    assert meta["retries"] >= 1


def test_all_that_is_in_params_yaml_is_seen_by_some_stage() -> None:
    of_people = {"tune", "serve", "export"}  # commands, and no stages
    seen = {name.split(".")[0] for stage in ALL_STAGES for name in params_of(stage)} | of_people
    assert seen == set(yaml.safe_load(default_params_path().read_text()))


def test_training_folders_outlive_a_killed_stage() -> None:
    """DVC removes a stage's outs before it runs; a checkpoint must stay to be resumed from."""
    outs = {out.def_path: out.persist for stage in STAGES for out in stage.outs}
    assert all(outs[f"work/{name}"] for name in ("encoder", "pretrain", "finetune"))


def test_every_set_of_shards_is_made_by_a_stage_of_its_own() -> None:
    sets = yaml.safe_load(default_params_path().read_text())["shards"]["sets"]
    assert {parsed(stage).set for stage in STAGES if stage.addressing.startswith("shard@")} == set(sets)


def test_the_field_has_every_benchmark_of_params_yaml_scored_by_the_models_of_the_pipeline() -> None:
    benchmarks = yaml.safe_load(default_params_path().read_text())["benchmarks"]
    stages = [stage for stage in FIELD if stage.name.startswith("benchmark@")]
    assert {stage.name for stage in stages} == {f"benchmark@{name}" for name in benchmarks}
    made = [out.def_path for stage in STAGES for out in stage.outs]
    parser = argparse.ArgumentParser(exit_on_error=False)
    importlib.import_module(FIELD_STEPS["benchmark"].module).add_arguments(parser)
    for stage in stages:
        name = stage.name.partition("@")[2]
        args = parser.parse_args(shlex.split(stage.cmd)[4:])
        assert (args.name, str(args.out), args.root) == (name, f"work/field/{name}", benchmarks[name]["root"])
        assert all(inside(dep.removeprefix("../"), made) for dep in files_of(stage))
        assert f"benchmarks.{name}" in params_of(stage)


def test_each_benchmark_of_the_field_has_a_page_of_what_it_wrote() -> None:
    benchmarks = yaml.safe_load(default_params_path().read_text())["benchmarks"]
    stages = {stage.name: stage for stage in FIELD}
    assert set(stages) == {f"{step}@{name}" for step in ("benchmark", "report") for name in benchmarks}
    for name in benchmarks:
        report, folder = stages[f"report@{name}"], f"work/field/{name}"
        made = [out.def_path for out in stages[f"benchmark@{name}"].outs]
        args = parsed(report)
        assert (str(args.evaluate), args.predictions, args.shards) == (folder, f"{folder}/predict", f"{folder}/shards")
        assert (args.pretrain, args.finetune, str(args.out)) == (None, None, f"{folder}/report")
        assert set(files_of(report)) <= set(made)
        assert report.meta["pages"] == [f"{folder}/report/index.html"]
