"""The compiled package: what it says of each stage, and that Kubeflow's own messages take it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec

from pipelines import cluster
from pipelines.compiler import PACKAGES, compile_package, form, package_path
from pipelines.stages import MAIN, ROOT, Pipeline, identifier, pipeline_files, read_pipeline

NEW_STAGE = """
  look:
    foreach: [a, b]
    do:
      desc: Look at ${item}
      cmd: python -m components report --evaluate work/evaluate --out work/look/${item}
      params: [report]
      deps: [work/evaluate/metrics.json, work/finetune/model]
      outs:
        - work/look/${item}: {type: dataset}
      meta: {image: gpu, cpu: 3, memory: 5Gi, gpus: 2, node_pool: gpu, retries: 4, timeout_s: 60, cache: false}

plots:"""


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return read_pipeline()


@pytest.fixture(scope="module")
def package() -> dict[str, Any]:
    return read(package_path(MAIN).read_text())


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The package of a clone whose `dvc.yaml` has one entry more."""
    folder = clone(tmp_path_factory.mktemp("extended"), "\nplots:", NEW_STAGE)
    return read(compile_package(read_pipeline(folder)))


def clone(folder: Path, old: str, new: str) -> Path:
    text = (ROOT / "dvc.yaml").read_text()
    assert old in text
    (folder / "dvc.yaml").write_text(text.replace(old, new))
    shutil.copyfile(ROOT / "params.yaml", folder / "params.yaml")
    return folder


def read(text: str) -> dict[str, Any]:
    """Both documents of a package in one."""
    spec, platform = yaml.safe_load_all(text)
    return spec | platform


def tasks(package: dict[str, Any]) -> dict[str, Any]:
    return package["components"]["comp-exit-handler-1"]["dag"]["tasks"]


def on_kubernetes(package: dict[str, Any]) -> dict[str, Any]:
    return package["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


def container(package: dict[str, Any], task: str) -> dict[str, Any]:
    return package["deploymentSpec"]["executors"][f"exec-{task}"]["container"]


@pytest.mark.parametrize("name", pipeline_files())
def test_the_package_beside_the_code_is_what_the_code_compiles(name: str) -> None:
    assert package_path(name).read_text() == compile_package(read_pipeline(name=name)), (
        "run `python -m pipelines compile`"
    )


def test_every_package_is_of_a_pipeline() -> None:
    assert {path.stem for path in PACKAGES.iterdir()} == set(pipeline_files())
    assert next(iter(pipeline_files())) == MAIN


@pytest.mark.parametrize("name", pipeline_files())
def test_kubeflows_messages_take_it_and_know_every_field(name: str) -> None:
    package = read(package_path(name).read_text())
    json_format.ParseDict({key: value for key, value in package.items() if key != "platforms"}, PipelineSpec())
    for config in on_kubernetes(package).values():
        json_format.ParseDict(config, KubernetesExecutorConfig())


def test_every_stage_is_a_task_that_waits_for_who_writes_what_it_reads(
    package: dict[str, Any], pipeline: Pipeline
) -> None:
    found = {name: set(task.get("dependentTasks", [])) for name, task in tasks(package).items()}
    dashed = {
        stage.name.replace("@", "-"): {name.replace("@", "-") for name in pipeline.upstream(stage.name)}
        for stage in pipeline.stages
    }
    assert found == dashed
    assert found["pretrain"] == {"shard-pretrain", "encoder"}
    assert all(found[f"shard-{name}"] == {"sample"} for name in ("pretrain", "finetune", "val"))


def test_the_form_has_each_section_once_with_its_values_and_comments(
    package: dict[str, Any], pipeline: Pipeline
) -> None:
    fields = package["root"]["inputDefinitions"]["parameters"]
    shipped = yaml.safe_load((ROOT / "params.yaml").read_text())
    named = {key for stage in pipeline.stages for key in stage.params}
    sections = fields.keys() - {"s3_prefix", "experiment", "data_rev", "image_cpu", "image_gpu"}
    assert {"pool_oap", "pretrain", "evaluate"} <= sections
    assert all(any(f"{each}_".startswith(f"{identifier(key)}_") for key in named) for each in sections)
    assert all(any(f"{each}_".startswith(f"{identifier(key)}_") for each in sections) for key in named)
    assert not [each for each in sections for other in sections if other.startswith(f"{each}_")]
    assert fields["pretrain"]["defaultValue"] == shipped["pretrain"]
    assert "steps: (160,000)" in fields["pretrain"]["description"].splitlines()
    assert fields["pool_oap"]["description"].startswith("Online Agglomerative Pooling, section 4.2\n")
    assert all(field["description"] and field["isOptional"] for field in fields.values())


def test_a_stage_sees_its_sections_and_no_other(package: dict[str, Any]) -> None:
    assert package["components"]["comp-report"]["inputDefinitions"]["parameters"].keys() == {
        *("report", "s3_prefix", "image")
    }
    seen = package["components"]["comp-evaluate"]["inputDefinitions"]["parameters"].keys()
    assert seen == {"seed", "evaluate", "s3_prefix", "image"}


def test_artifacts_are_typed(package: dict[str, Any]) -> None:
    kinds = {
        name: found["artifactType"]["schemaTitle"]
        for component in package["components"].values()
        for name, found in component.get("outputDefinitions", {}).get("artifacts", {}).items()
    }
    assert kinds["work_shards_val"] == "system.Dataset"
    assert kinds["work_pretrain"] == "system.Model"
    assert kinds["work_evaluate_headlines_json"] == "system.Metrics"
    assert kinds["work_report_index_html"] == "system.HTML"
    assert kinds["work_register_card_md"] == "system.Markdown"


def test_images_are_parameters_of_the_run_or_compiled_in(package: dict[str, Any], pipeline: Pipeline) -> None:
    assert container(package, "pretrain")["image"] == "{{$.inputs.parameters['pipelinechannel--image_gpu']}}"
    assert container(package, "report")["image"] == "{{$.inputs.parameters['pipelinechannel--image_cpu']}}"
    static = read(compile_package(pipeline, image="localhost/oapseg:{target}"))
    assert container(static, "pretrain")["image"] == "localhost/oapseg:gpu"
    assert not {"image_cpu", "image_gpu"} & static["root"]["inputDefinitions"]["parameters"].keys()


@pytest.mark.parametrize("name", pipeline_files())
def test_every_step_is_told_the_image_that_its_container_runs(name: str) -> None:
    """By the same parameter of the run, with its digest where that has one; a container cannot look it up."""
    package = read(package_path(name).read_text())
    for task in package["deploymentSpec"]["executors"].keys() - {"exec-notify"}:
        found = container(package, task.removeprefix("exec-"))
        words = found["args"]
        assert words[words.index("--image") + 1] == "{{$.inputs.parameters['image']}}"
        given = tasks(package)[task.removeprefix("exec-")]["inputs"]["parameters"]
        assert given["image"] == given[found["image"].split("'")[1]]
    pinned = "registry/oapseg@sha256:12"
    package = read(compile_package(read_pipeline(name=name), image=pinned))
    for task in tasks(package).values():
        assert task["inputs"]["parameters"]["image"] == {"runtimeValue": {"constant": pinned}}


def test_the_revision_of_the_data_is_told_to_who_registers(package: dict[str, Any]) -> None:
    told = {name for name, task in tasks(package).items() if "data_rev" in task["inputs"]["parameters"]}
    assert told == {"register"}


def test_a_training_gets_what_its_meta_asks_for(package: dict[str, Any], pipeline: Pipeline) -> None:
    meta = next(stage.meta for stage in pipeline.stages if stage.name == "pretrain")
    resources, config = container(package, "pretrain")["resources"], on_kubernetes(package)["exec-pretrain"]
    assert resources["accelerator"]["resourceType"] == "nvidia.com/gpu"
    assert resources["accelerator"]["resourceCount"] == str(meta.gpus)
    assert (resources["resourceCpuLimit"], resources["resourceMemoryLimit"]) == (str(meta.cpu), meta.memory)
    assert config["nodeSelector"]["labels"] == {cluster.POOL_LABEL: "gpu"}
    assert config["tolerations"] == [{"key": cluster.GPU_TAINT, "operator": "Exists", "effect": "NoSchedule"}]
    assert config["activeDeadlineSeconds"] == str(meta.timeout_s)
    shm = {"volumeName": "shm", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": meta.shm}
    assert shm in config["emptyDirMounts"]
    assert tasks(package)["pretrain"]["retryPolicy"] == {
        "maxRetryCount": meta.retries,
        "backoffDuration": "60s",
        "backoffFactor": 2.0,
        "backoffMaxDuration": "3600s",
    }


def test_a_cpu_stage_tolerates_no_gpu_node(package: dict[str, Any]) -> None:
    assert "tolerations" not in on_kubernetes(package)["exec-report"]
    assert "accelerator" not in container(package, "report")["resources"]


def test_only_who_downloads_weights_mounts_the_cache(package: dict[str, Any]) -> None:
    mounting = {name for name, config in on_kubernetes(package).items() if "pvcMount" in config}
    assert mounting == {"exec-encoder"}


def test_register_is_never_cached(package: dict[str, Any]) -> None:
    cached = {name for name, task in tasks(package).items() if task["cachingOptions"].get("enableCache")}
    assert cached == tasks(package).keys() - {"register"}


def test_secrets_are_references_and_the_webhooks_is_the_last_steps_alone(package: dict[str, Any]) -> None:
    named = {
        name: {secret["secretName"] for secret in config.get("secretAsEnv", [])}
        for name, config in on_kubernetes(package).items()
    }
    assert named.pop("exec-notify") == {"oapseg-s3", "oapseg-notify"}
    assert set(map(frozenset, named.values())) == {frozenset({"oapseg-s3"})}


def test_the_last_step_is_told_how_the_run_ended(package: dict[str, Any]) -> None:
    last = package["root"]["dag"]["tasks"]["notify"]
    assert last["inputs"]["parameters"]["status"] == {"taskFinalStatus": {"producerTask": "exit-handler-1"}}
    assert last["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert "--metrics=work/evaluate/headlines.json" in container(package, "notify")["args"]


def test_a_stage_added_to_dvc_yaml_is_in_the_package(extended: dict[str, Any]) -> None:
    assert {"look-a", "look-b"} <= tasks(extended).keys()
    assert set(tasks(extended)["look-a"]["dependentTasks"]) == {"evaluate", "finetune"}
    words = ["report", "--evaluate", "work/evaluate", "--out", "work/look/a"]
    assert container(extended, "look-a")["args"][: len(words)] == words
    assert container(extended, "look-a")["resources"]["accelerator"]["resourceCount"] == "2"
    assert on_kubernetes(extended)["exec-look-a"]["activeDeadlineSeconds"] == "60"
    assert not tasks(extended)["look-a"]["cachingOptions"].get("enableCache")
    made = extended["components"]["comp-look-a"]["outputDefinitions"]["artifacts"]["work_look_a"]
    assert made["artifactType"]["schemaTitle"] == "system.Dataset"


def test_data_that_no_stage_writes_is_a_field_of_the_form() -> None:
    pipeline = read_pipeline(overrides=["shards.sets.val.root=photos/mine"])
    fields = {field.name: field for field in form(pipeline)}
    assert "photos/mine" in fields["photos_mine"].description
    words = container(read(compile_package(pipeline)), "shard-val")["args"]
    assert "--external=photos_mine=photos/mine" in words
    assert '--fixed=shards.sets.val.root="photos/mine"' in words


def test_what_a_frozen_stage_wrote_comes_from_outside(tmp_path: Path) -> None:
    folder = clone(
        tmp_path, "    foreach: ${shards.sets}\n    do:\n", "    foreach: ${shards.sets}\n    do:\n      frozen: true\n"
    )
    pipeline = read_pipeline(folder)
    assert not any(stage.name.startswith("shard@") for stage in pipeline.stages)
    assert pipeline.external("pretrain") == ["work/shards/pretrain"]
    package = read(compile_package(pipeline))
    assert "--external=work_shards_pretrain=work/shards/pretrain" in container(package, "pretrain")["args"]
    parameters = package["components"]["comp-pretrain"]["inputDefinitions"]["parameters"]
    assert {"work_shards_pretrain", "data_rev"} <= parameters.keys()


def test_a_wrong_meta_names_stage_and_key(tmp_path: Path) -> None:
    folder = clone(tmp_path, "cache: false,", "cahce: false,")
    with pytest.raises(ValueError, match=r"stage register: meta\.cahce: Extra inputs are not permitted"):
        read_pipeline(folder)


def test_a_command_that_is_no_step_is_refused(tmp_path: Path) -> None:
    folder = clone(tmp_path, "python -m components sample --out data/sample", "bash sample.sh")
    with pytest.raises(ValueError, match="stage sample: cmd must be `python -m components STEP"):
        compile_package(read_pipeline(folder))
