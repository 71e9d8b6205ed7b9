"""The benchmarks on Kubeflow: a step and its page each; one without its data is skipped and the others go on."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from local_engine import run_package
from train.tiny import tiny_encoder, tiny_params, write_params

from oapseg.checkpoint.export import save_model
from oapseg.encode.load import load_folder
from oapseg.model.segmenter import Segmenter
from pipelines import cluster
from pipelines.__main__ import main
from pipelines.compiler import compile_package, package_path, title
from pipelines.diff import changes
from pipelines.stages import MAIN, ROOT, pipeline_files, read_pipeline

sys.path.append(str(Path(__file__).parents[1] / "shards"))
from layouts import BUILDERS


@pytest.fixture(scope="module")
def package() -> dict[str, Any]:
    spec, platform = yaml.safe_load_all(package_path("field").read_text())
    return spec | platform


@pytest.fixture(scope="module")
def names() -> list[str]:
    """Of the tasks that score."""
    return [
        f"benchmark-{name.replace('_', '-')}" for name in yaml.safe_load(Path("params.yaml").read_text())["benchmarks"]
    ]


def test_each_benchmark_is_a_task_that_waits_for_no_other_and_its_page_for_it(
    package: dict[str, Any], names: list[str]
) -> None:
    tasks = package["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    pages = {name.replace("benchmark-", "report-", 1): name for name in names}
    assert sorted(tasks) == sorted([*names, *pages])
    assert not any(tasks[name].get("dependentTasks") for name in names)
    assert all(tasks[page]["dependentTasks"] == [name] for page, name in pages.items())
    assert all(
        "--optional" in package["deploymentSpec"]["executors"][f"exec-{page}"]["container"]["args"] for page in pages
    )


def test_each_reads_the_volume_of_data_sets_and_may_be_skipped(package: dict[str, Any], names: list[str]) -> None:
    for name in names:
        container = package["deploymentSpec"]["executors"][f"exec-{name}"]["container"]
        config = package["platforms"]["kubernetes"]["deploymentSpec"]["executors"][f"exec-{name}"]
        (mount,) = config["pvcMount"]
        assert (mount["constant"], mount["mountPath"]) == (cluster.DATA_VOLUME, cluster.DATA_PATH)
        assert {"name": "OAPSEG_DATA", "value": cluster.DATA_PATH} in container["env"]
        assert "--optional" in container["args"]


def test_its_form_asks_for_the_models_and_shows_each_benchmark(package: dict[str, Any]) -> None:
    fields = package["root"]["inputDefinitions"]["parameters"]
    assert {"work_encoder", "work_pretrain", "work_finetune", "benchmarks_coco_val2017"} <= fields.keys()
    assert fields["benchmarks_coco_val2017"]["description"].startswith("5,000 photos")
    assert fields["experiment"]["defaultValue"] == "oapseg-field"
    assert package["pipelineInfo"]["name"] == "oapseg-field"
    assert package["pipelineInfo"]["description"].startswith("Every public benchmark of params.yaml")


def test_another_folder_with_stages_is_another_pipeline(tmp_path: Path) -> None:
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    for folder, text in (
        ("look", "stages:\n  look: {cmd: python -m components report, wdir: ..}\n"),
        ("plots", "plots: []\n"),
    ):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "dvc.yaml").write_text(f"# Look at it.\n{text}")
    assert pipeline_files(tmp_path) == {MAIN: "dvc.yaml", "look": "look/dvc.yaml"}
    meta = "{image: cpu, node_pool: cpu, cpu: 1, memory: 1Gi, retries: 0}"
    text = f"# Look at it.\nstages:\n  look:\n    cmd: python -m components report\n    meta: {meta}\n"
    (tmp_path / "look/dvc.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"look/dvc.yaml: stage look: wdir must be the clone's root"):
        read_pipeline(tmp_path, name="look")
    (tmp_path / "look/dvc.yaml").write_text(f"{text}    wdir: ..\n")
    found = read_pipeline(tmp_path, name="look")
    assert (found.description, title(found.name), [stage.name for stage in found.stages]) == (
        "Look at it",
        "oapseg-look",
        ["look"],
    )


def test_a_pipeline_that_is_not_there_names_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["diff", "--pipeline", "feild"]) == 2
    assert "no pipeline feild; there are oapseg, " in capsys.readouterr().err


def test_a_changed_benchmark_is_run_again_with_all_that_are_never_cached() -> None:
    before, after = (read_pipeline(overrides=each, name="field") for each in ([], ["benchmarks.lvis_v1.max_dets=100"]))
    reasons = {change.stage: change.reasons for change in changes(before, after)}
    assert reasons["benchmark@lvis_v1"] == ("benchmarks.lvis_v1.max_dets 300 -> 100",)
    assert reasons["benchmark@ecssd"] == ("never cached",)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two benchmarks at test size, the data of one of them, and models of random weights."""
    folder = tmp_path_factory.mktemp("clone")
    (folder / "field").mkdir()
    shutil.copyfile(ROOT / "field/dvc.yaml", folder / "field/dvc.yaml")
    params = tiny_params(
        predict={"image_px": 64, "window_px": 48, "batch": 2, "device": "cpu", "precision": "fp32"},
        evaluate={"bootstrap": 5},
    )
    chosen = {name: params.benchmarks[name] for name in ("ecssd", "duts_te")}
    write_params(params.model_copy(update={"benchmarks": chosen}), folder / "params.yaml")
    BUILDERS["ECSSD"](folder / "volume/benchmarks/ECSSD")
    tiny_encoder(folder / "encoder")
    for name in ("pretrain", "finetune"):
        torch.manual_seed(0)
        segmenter = Segmenter(load_folder(folder / "encoder"), params.model).eval()
        save_model(folder / name / "model", segmenter, params.model, "seed: 0\n", image_px=64)
    return folder


@pytest.mark.slow
def test_one_without_its_data_is_skipped_and_the_others_are_scored(
    clone: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(clone)
    monkeypatch.setenv("OAPSEG_DATA", str(clone / "volume"))
    pipeline = read_pipeline(clone, name="field")
    package = next(yaml.safe_load_all(compile_package(pipeline, image="oapseg:{target}", local=True)))
    models = {f"work_{name}": str(clone / name) for name in ("encoder", "pretrain", "finetune")}
    run_package(package, {"s3_prefix": str(clone / "s3"), **models}, clone / "artifacts", "run-1", monkeypatch)
    scored = json.loads((clone / "s3/run-1/work/field/ecssd/metrics.json").read_text())
    assert scored["model.saliency_IoU"]["images"] == 2
    assert "benchmarks.duts_te: data/benchmarks/DUTS-TE: no such folder" in capfd.readouterr().err
    assert (clone / "s3/run-1/work/field/ecssd/report/index.html").read_text().startswith("<!doctype html>")
    assert not (clone / "s3/run-1/work/field/duts_te").exists()
    (pointer,) = (clone / "artifacts").glob("*/benchmark-duts-te/work_field_duts_te_metrics_json")
    assert json.loads(pointer.read_text())["files"] == []
