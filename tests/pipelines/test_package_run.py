"""The compiled package, run by `kfp.local`, gives what the plain commands of `dvc.yaml` give."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from local_engine import run_package
from train.tiny import tiny_params, write_params

from components.__main__ import main
from pipelines.compiler import compile_package
from pipelines.stages import ROOT, Pipeline, read_pipeline

pytestmark = pytest.mark.slow
IMAGE = "registry/oapseg@sha256:12"  # of every step


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`dvc.yaml` beside parameters of test size."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copyfile(ROOT / "dvc.yaml", folder / "dvc.yaml")
    tiny = tiny_params(
        sample={"train": 8, "val": 3, "size_px": 96},
        predict={"image_px": 64, "window_px": 48, "batch": 2, "device": "cpu"},
        evaluate={"bootstrap": 20},
        report={"photos": 2},
        register={"tracking_uri": f"sqlite:///{folder}/mlflow.db"},
    )
    write_params(tiny, folder / "params.yaml")
    return folder


@pytest.fixture(scope="module")
def patch() -> pytest.MonkeyPatch:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def pipeline(clone: Path) -> Pipeline:
    return read_pipeline(clone)


@pytest.fixture(scope="module")
def plain(clone: Path, pipeline: Pipeline, patch: pytest.MonkeyPatch) -> Path:
    """What the commands themselves write, run in DVC's order."""
    patch.chdir(clone)
    for stage in pipeline.stages:
        assert main(shlex.split(stage.cmd)[3:]) == 0, stage.name
    return clone


@pytest.fixture(scope="module")
def kubeflow(clone: Path, pipeline: Pipeline, patch: pytest.MonkeyPatch) -> Path:
    """What the package writes below `s3_prefix/RUN`, its artifacts beside it, its version in a registry of its own."""
    patch.chdir(clone)
    package = next(yaml.safe_load_all(compile_package(pipeline, image=IMAGE, local=True)))
    given = {"s3_prefix": str(clone / "s3"), "data_rev": "v3"}
    with pytest.MonkeyPatch.context() as registry:
        registry.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{clone}/cluster.db")
        run_package(package, given, clone / "artifacts", "run-1", patch)
    return clone / "s3" / "run-1"


def tags(database: Path) -> dict[str, str]:
    """Of the one version of a registry."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{database}"
    (version,) = MlflowClient(tracking_uri=uri, registry_uri=uri).search_model_versions("")
    return dict(version.tags)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("out", ["data/sample", "work/shards", "work/encoder", "work/evaluate"])
def test_it_writes_the_same_bytes(plain: Path, kubeflow: Path, out: str) -> None:
    assert files(kubeflow / out) == files(plain / out)


@pytest.mark.parametrize("out", ["work/pretrain", "work/finetune"])
def test_it_trains_to_the_same_bits(plain: Path, kubeflow: Path, out: str) -> None:
    ours, theirs = files(kubeflow / out), files(plain / out)
    assert ours.keys() == theirs.keys()
    assert {name for name in ours if ours[name] != theirs[name]} <= {"history.jsonl", "history.csv"}  # with seconds


def test_it_reports_the_same_page(plain: Path, kubeflow: Path) -> None:
    page = Path("work/report/index.html")
    assert (kubeflow / page).read_bytes() == (plain / page).read_bytes()


def test_it_registers_the_same_version(plain: Path, kubeflow: Path) -> None:
    assert (kubeflow / "work/register/version.json").read_bytes() == (plain / "work/register/version.json").read_bytes()


def test_the_version_says_run_image_and_revision_of_the_data_and_the_data_are_those_of_the_plain_run(
    plain: Path, kubeflow: Path
) -> None:
    ours, theirs = tags(kubeflow.parents[1] / "cluster.db"), tags(plain / "mlflow.db")
    assert (ours["pipeline_run"], ours["image"], ours["data_rev"]) == ("run-1", "registry/oapseg@sha256:12", "v3")
    assert not {"image", "data_rev"} & theirs.keys()
    data = {name: version for name, version in ours.items() if name.startswith("data.")}
    assert data.keys() == {"data.pretrain", "data.finetune", "data.val"}
    assert data == {name: version for name, version in theirs.items() if name.startswith("data.")}
    card = (kubeflow / "work/register/card.md").read_text()
    assert f"`{data['data.val'][:19]}`" in card
    assert "Image `registry/oapseg@sha256:12`." in card


def artifact(clone: Path, task: str, name: str) -> Path:
    (found,) = (clone / "artifacts").glob(f"*/{task}/{name}")
    return found


def test_artifacts_are_pointers_and_pages(clone: Path, kubeflow: Path) -> None:
    manifest = json.loads(artifact(clone, "shard-val", "work_shards_val").read_text())
    assert manifest["shards"][0]["url"] == f"{kubeflow}/work/shards/val/shard-000000.tar"
    listing = json.loads(artifact(clone, "pretrain", "work_pretrain").read_text())
    assert listing["kind"] == "folder"
    assert "model/model.safetensors" in {file["path"] for file in listing["files"]}
    page = artifact(clone, "report", "work_report_index_html").read_bytes()
    assert page == (kubeflow / "work/report/index.html").read_bytes()


def test_metrics_are_metadata_of_their_artifact(clone: Path, kubeflow: Path) -> None:
    output = json.loads(artifact(clone, "evaluate", "executor_output.json").read_text())
    (found,) = output["artifacts"]["work_evaluate_headlines_json"]["artifacts"]
    shown = json.loads((kubeflow / "work/evaluate/headlines.json").read_text())
    assert found["metadata"]["model.mask_AP50"] == shown["model.mask_AP50"]
