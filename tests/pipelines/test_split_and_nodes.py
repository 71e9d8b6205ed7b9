"""Stages that several machines share: parts of a source, nodes of a training."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob
from train.tiny import tiny_params, write_params

from components.__main__ import main
from pipelines import cluster
from pipelines.compiler import compile_package
from pipelines.stages import ROOT, Pipeline, read_pipeline
from pipelines.trainjob import train_job

SPLIT = """
stages:
  sample:
    desc: Draw
    cmd: python -m components sample --out data/sample
    params: [seed, sample]
    outs: [data/sample]
    meta: {image: cpu, cpu: 1, memory: 1Gi, node_pool: cpu, retries: 1}
  shard:
    desc: Shard
    cmd: python -m components shard pretrain --root data/sample --out work/shards/pretrain
    params: [shards]
    deps: [data/sample]
    outs: [work/shards/pretrain]
    meta: {image: cpu, cpu: 1, memory: 1Gi, node_pool: cpu, retries: 1, split: 3}
"""


def with_nodes(folder: Path) -> Pipeline:
    """The pipeline, its pretraining on three machines."""
    text = (ROOT / "dvc.yaml").read_text()
    stage = text.index("  pretrain:\n    desc")
    at = text.index("gpus: 1", stage)
    (folder / "dvc.yaml").write_text(text[:at] + "nodes: 3, " + text[at:])
    shutil.copyfile(ROOT / "params.yaml", folder / "params.yaml")
    return read_pipeline(folder)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pipeline = with_nodes(tmp_path_factory.mktemp("nodes"))
    return train_job(next(stage.meta for stage in pipeline.stages if stage.name == "pretrain"))


class Engine:
    """Runs single tasks of a package, whose loops and fan-in `kfp.local` does not know; artifacts lie in a folder."""

    def __init__(self, package: dict[str, Any], folder: Path) -> None:
        self.package, self.folder = package, folder
        folder.mkdir()

    def run(self, task: str, parameters: dict[str, Any], run: str = "run-1") -> str:
        """The words of its container with the placeholders filled in; the output parameter `done` where it has one."""
        interface = self.package["components"][f"comp-{task}"]
        inputs, outputs = interface.get("inputDefinitions", {}), interface.get("outputDefinitions", {})

        def slots(definitions: dict[str, Any]) -> dict[str, Any]:
            kinds = {name: found["artifactType"] for name, found in definitions.get("artifacts", {}).items()}
            return {n: {"artifacts": [{"name": n, "type": kinds[n], "uri": str(self.folder / n)}]} for n in kinds}

        seen = {name: parameters[name] for name in inputs["parameters"] if name in parameters}
        done = self.folder / f"{task}-done"
        given = {
            "inputs": {"parameterValues": seen, "artifacts": slots(inputs)},
            "outputs": {
                "artifacts": slots(outputs),
                "parameters": {name: {"outputFile": str(done)} for name in outputs.get("parameters", {})},
                "outputFile": str(self.folder / "executor_output.json"),
            },
        }
        filled = {"{{$.inputs.parameters['part']}}": parameters.get("part", ""), "{{$}}": json.dumps(given)}
        words = self.package["deploymentSpec"]["executors"][f"exec-{task}"]["container"]["args"]
        assert main([*(filled.get(word, word) for word in words), "--run", run]) == 0
        return done.read_text() if done.exists() else ""


@pytest.mark.parametrize("runs", [("run-1", "run-1", "run-1"), ("run-0", "run-1", "run-0")], ids=["fresh", "cached"])
def test_parts_joined_by_the_package_are_the_set_of_one_worker(tmp_path, monkeypatch, runs: tuple[str, ...]) -> None:
    (tmp_path / "dvc.yaml").write_text(SPLIT)
    tiny = tiny_params(sample={"train": 9, "val": 1, "size_px": 96}, shards={"samples_per_shard": 2})
    write_params(tiny, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    package = next(yaml.safe_load_all(compile_package(read_pipeline(tmp_path), image="oapseg:{target}")))
    engine = Engine(package, tmp_path / "artifacts")
    fields = package["root"]["inputDefinitions"]["parameters"]
    values = {name: field.get("defaultValue") for name, field in fields.items()} | {"s3_prefix": str(tmp_path / "s3")}
    engine.run("sample", values)
    parts = [engine.run("shard-part", values | {"part": f"{n}/3"}, run) for n, run in enumerate(runs, start=1)]
    engine.run("shard", values | {"parts": parts})

    assert main(["sample", "--out", "data/sample"]) == 0
    assert main(["shard", "pretrain", "--root", "data/sample", "--out", "plain"]) == 0
    joined, plain = tmp_path / "s3/run-1/work/shards/pretrain", tmp_path / "plain"
    assert sorted(path.name for path in joined.iterdir()) == sorted(path.name for path in plain.iterdir())
    assert all((joined / path.name).read_bytes() == path.read_bytes() for path in plain.iterdir())
    pointer = json.loads((tmp_path / "artifacts/work_shards_pretrain").read_text())
    assert pointer["shards"][0]["url"] == str(joined / "shard-000000.tar")


def test_a_split_stage_is_a_loop_whose_parts_are_fanned_in(tmp_path) -> None:
    (tmp_path / "dvc.yaml").write_text(SPLIT)
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    package = next(yaml.safe_load_all(compile_package(read_pipeline(tmp_path))))
    json_format.ParseDict(package, PipelineSpec())
    tasks = package["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    ((name, loop),) = ((name, task) for name, task in tasks.items() if "parameterIterator" in task)
    assert json.loads(loop["parameterIterator"]["items"]["raw"]) == ["1/3", "2/3", "3/3"]
    assert tasks["shard"]["inputs"]["parameters"]["parts"]["taskOutputParameter"]["producerTask"] == name


def test_a_training_on_nodes_is_a_launcher_that_asks_for_no_gpu(tmp_path) -> None:
    package, platform = yaml.safe_load_all(compile_package(with_nodes(tmp_path)))
    json_format.ParseDict(package, PipelineSpec())
    container = package["deploymentSpec"]["executors"]["exec-pretrain"]["container"]
    words = container["args"]
    assert words[0] == "launch"
    assert words[words.index("--image") + 1] == "{{$.inputs.parameters['image']}}"
    behind = words[words.index("--") + 1 :]
    assert behind[:3] == ["pretrain", "--shards", "work/shards/pretrain"]
    assert behind[-2:] == ["--executor-input", "{{$}}"]
    assert behind[-4:-2] == ["--image", "{{$.inputs.parameters['image']}}"]  # so each of its pods says what it runs
    assert "accelerator" not in container["resources"]
    task = package["components"]["comp-exit-handler-1"]["dag"]["tasks"]["pretrain"]
    image = {"componentInputParameter": "pipelinechannel--image_gpu"}
    assert task["inputs"]["parameters"]["image"] == image
    config = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-pretrain"]
    assert config["nodeSelector"]["labels"] == {cluster.POOL_LABEL: "cpu"}


def test_its_job_has_the_machines_and_what_each_asks_for(job: dict[str, Any]) -> None:
    spec = job["spec"]
    assert (spec["trainer"]["numNodes"], spec["trainer"]["numProcPerNode"]) == (3, 1)
    assert spec["trainer"]["resourcesPerNode"]["limits"] == {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "1"}
    (patch,) = spec["runtimePatches"]
    (replicated,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    template = replicated["template"]["spec"]["template"]
    assert template["metadata"]["labels"] == {"sidecar.istio.io/inject": "false", "oapseg.io/ranks": "1"}
    assert template["spec"]["nodeSelector"] == {cluster.POOL_LABEL: "gpu"}
    assert template["spec"]["serviceAccountName"] == cluster.TRAINER_ACCOUNT
    assert template["spec"]["securityContext"]["runAsUser"] == cluster.USER


def test_its_keys_are_references(job: dict[str, Any]) -> None:
    values = [each for each in job["spec"]["trainer"]["env"] if "KEY" in each["name"]]
    assert values
    assert all(each["valueFrom"]["secretKeyRef"]["name"] == "oapseg-s3" and "value" not in each for each in values)


def test_kubeflows_own_models_take_every_field_of_it(job: dict[str, Any]) -> None:
    found = TrainerV1alpha1TrainJob.from_dict(job | {"metadata": {"name": "pretrain-run-1"}})
    assert found is not None
    assert found.to_dict()["spec"] == job["spec"]  # a field they do not know would be missing
