"""A step with `--executor-input`: where it finds what it reads, where it leaves what it writes, how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from train.tiny import tiny_encoder, tiny_params, tiny_shards, write_params

from components import container
from components.__main__ import main
from components.artifact import lay, publish
from components.container import lay_external, params_text
from oapseg.shards.manifest import manifest_text, read_manifest

ENCODER = "encoder --shards work/shards --out work/encoder"
STEPS = 30  # of a training that is stopped twice on the way

PARAMS = """\
seed: 0  # of every choice
encode: {name: starter, weights: null}
train: {steps: 360, lr: 1.0, tau: [0.9, 1.0], mix: {a: 0.5, b: 0.5}}
register: {tracking_uri: "sqlite:///mlflow.db"}
"""


def executor_input(
    folder: Path, parameters: dict[str, Any], inputs: dict[str, str], outputs: dict[str, str]
) -> dict[str, Any]:
    """What the launcher gives: text of input artifacts and kinds of output artifacts by name."""
    for name, text in inputs.items():
        (folder / name).write_text(text)

    def slots(kinds: dict[str, str]) -> dict[str, Any]:
        return {
            name: {"artifacts": [{"name": name, "type": {"schemaTitle": kind}, "uri": str(folder / name)}]}
            for name, kind in kinds.items()
        }

    return {
        "inputs": {"parameterValues": parameters, "artifacts": slots(dict.fromkeys(inputs, "system.Artifact"))},
        "outputs": {"artifacts": slots(outputs), "outputFile": str(folder / "out/executor_output.json")},
    }


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The words of a sample step of two photos; its parameters are whole floats, as they come."""
    monkeypatch.setenv("OAPSEG_RUN", "run-1")
    monkeypatch.delenv("OAPSEG_WORKSPACE", raising=False)
    parameters = {"sample": {"train": 2.0, "val": 1.0, "size_px": 96.0}, "seed": 3.0, "s3_prefix": f"{tmp_path}/s3"}
    given = executor_input(tmp_path, parameters, {}, {"data_sample": "system.Dataset"})
    words = ["sample", "--out", "data/sample", "--bind=data_sample=data/sample"]
    return [*words, "--param=sample=sample", "--param=seed=seed", "--executor-input", json.dumps(given)]


def replaced(words: list[str], **parameters: Any) -> list[str]:
    """The words with other parameters in the executor input."""
    given = json.loads(words[-1])
    given["inputs"]["parameterValues"] |= parameters
    return [*words[:-1], json.dumps(given)]


def test_an_out_lies_below_prefix_and_run_and_its_artifact_points_there(sample, tmp_path):
    assert main(sample) == 0
    listing = json.loads((tmp_path / "data_sample").read_text())
    assert (listing["kind"], listing["url"]) == ("folder", f"{tmp_path}/s3/run-1/data/sample")
    photos = [file for file in listing["files"] if file["path"].startswith("images/")]
    assert len(photos) == 3
    assert all((Path(listing["url"]) / file["path"]).stat().st_size == file["bytes"] for file in photos)


def test_the_executor_output_names_uri_and_metadata(sample, tmp_path):
    assert main(sample) == 0
    output = json.loads((tmp_path / "out/executor_output.json").read_text())
    (artifact,) = output["artifacts"]["data_sample"]["artifacts"]
    assert artifact["uri"] == str(tmp_path / "data_sample")
    assert artifact["metadata"]["url"] == f"{tmp_path}/s3/run-1/data/sample"
    assert artifact["metadata"]["files"] > 3


def test_the_workspace_is_below_the_folder_of_the_environment_and_goes_away(sample, tmp_path, monkeypatch):
    space = tmp_path / "space"
    space.mkdir()
    monkeypatch.setenv("OAPSEG_WORKSPACE", str(space))
    before = Path.cwd()
    assert main(sample) == 0
    assert (list(space.iterdir()), Path.cwd()) == ([], before)


def test_bad_input_is_one_line_and_leaves_nothing(sample, tmp_path, capsys):
    assert main(replaced(sample, sample={"train": 0, "val": 1, "size_px": 96})) == 2
    assert "sample.train: input should be greater than or equal to 1" in capsys.readouterr().err
    assert not (tmp_path / "s3").exists()
    assert not (tmp_path / "out").exists()


def test_without_a_prefix_it_says_what_to_give(sample, capsys):
    assert main(replaced(sample, s3_prefix="")) == 2
    assert capsys.readouterr().err.startswith("python -m components sample: s3_prefix: empty; give the URL")


def test_without_a_run_it_says_what_to_set(sample, monkeypatch, capsys):
    monkeypatch.delenv("OAPSEG_RUN")
    assert main(sample) == 2
    assert "OAPSEG_RUN: not set" in capsys.readouterr().err


def test_what_is_no_executor_input_is_one_line(sample, capsys):
    assert main([*sample[:-1], "{}"]) == 2
    assert "no executor input of Pipelines v2" in capsys.readouterr().err


def test_values_as_in_the_file_leave_its_very_text():
    given = {"seed": 0.0, "train": {"steps": 360.0, "lr": 1.0, "tau": [0.9, 1.0], "mix": {"a": 0.5, "b": 0.5}}}
    assert params_text(PARAMS, given | {"encode": {"name": "starter"}}, []) == PARAMS


def test_numbers_come_back_as_they_are_written():
    given = {"train": {"steps": 7.0, "lr": 2.0, "tau": [1.0, 2.0, 3.0], "mix": {"a": 1.0, "c": 4.0}}}
    train = yaml.safe_load(params_text(PARAMS, given, []))["train"]
    assert train == {"steps": 7, "lr": 2.0, "tau": [1.0, 2.0, 3.0], "mix": {"a": 1.0, "c": 4}}
    kinds = [type(value) for value in (train["steps"], train["lr"], *train["tau"])]
    assert kinds == [int, float, float, float, float]


def test_a_key_that_is_null_in_the_file_is_null_where_it_is_not_given():
    encode = yaml.safe_load(params_text(PARAMS, {"encode": {"name": "own"}}, []))["encode"]
    assert encode == {"name": "own", "weights": None}


def test_sections_that_are_not_given_are_those_of_the_image():
    assert yaml.safe_load(params_text(PARAMS, {"seed": 5.0}, []))["train"] == yaml.safe_load(PARAMS)["train"]


def test_a_server_stands_in_for_a_registry_beside_the_run(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert yaml.safe_load(params_text(PARAMS, {}, []))["register"]["tracking_uri"] == "http://mlflow:5000"
    own = {"register": {"tracking_uri": "http://mine"}}
    assert yaml.safe_load(params_text(PARAMS, own, []))["register"]["tracking_uri"] == "http://mine"


def test_a_value_that_the_command_was_compiled_with_cannot_be_changed_in_the_form():
    assert params_text(PARAMS, {}, [("train.steps", "360")]) == PARAMS
    with pytest.raises(ValueError, match=r"train\.steps: is 7, but the pipeline was compiled with 360"):
        params_text(PARAMS, {"train": {"steps": 7.0}}, [("train.steps", "360")])


@pytest.mark.parametrize("name", ["folder", "folder/a.txt"])
def test_what_is_published_is_laid_the_same(tmp_path, name):
    (tmp_path / "folder/b").mkdir(parents=True)
    (tmp_path / "folder/a.txt").write_text("a")
    (tmp_path / "folder/b/c.txt").write_text("c")
    text, _ = publish(tmp_path / name, f"{tmp_path}/s3/{name}")
    lay(text, tmp_path / "laid" / name)
    ours = [path.relative_to(tmp_path / "laid").as_posix() for path in (tmp_path / "laid").rglob("*") if path.is_file()]
    assert set(ours) == ({"folder/a.txt", "folder/b/c.txt"} if name == "folder" else {"folder/a.txt"})
    assert (tmp_path / "laid/folder/a.txt").read_text() == "a"


def test_data_that_has_changed_since_is_refused(tmp_path):
    (tmp_path / "a").write_text("a")
    text, _ = publish(tmp_path / "a", f"{tmp_path}/s3/a")
    (tmp_path / "s3/a").write_text("b")
    with pytest.raises(OSError, match="sha256"):
        lay(text, tmp_path / "laid")
    assert not (tmp_path / "laid").exists()


def test_an_out_that_the_step_did_not_write_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="the step did not write it"):
        publish(tmp_path / "nothing", f"{tmp_path}/s3/nothing")


def test_shards_are_read_where_they_lie(tmp_path):
    manifest = tiny_shards(tmp_path)
    text, said = publish(Path(manifest.location), f"{tmp_path}/s3/shards")
    lay(text, tmp_path / "laid")
    assert [path.name for path in (tmp_path / "laid").iterdir()] == ["manifest.json"]
    assert said["photos"] == manifest.num_samples
    laid = json.loads((tmp_path / "laid/manifest.json").read_text())
    assert [shard["url"] for shard in laid["shards"]] == [
        f"{tmp_path}/s3/shards/{shard.url}" for shard in manifest.shards
    ]


def test_shards_from_outside_are_read_at_the_url_of_their_manifest(tmp_path):
    manifest = tiny_shards(tmp_path)
    lay_external(f"{manifest.location}/manifest.json", tmp_path / "nothing", tmp_path / "laid")
    laid = json.loads((tmp_path / "laid/manifest.json").read_text())
    assert [shard["url"] for shard in laid["shards"]] == [
        manifest.url(number) for number in range(len(manifest.shards))
    ]


def test_shards_that_dvc_tracks_keep_their_version(tmp_path):
    manifest = tiny_shards(tmp_path / "shards", 2)
    version = {"rev": "v3", "path": "data/shards", "md5": "12.dir"}
    (tmp_path / "shards/manifest.json").write_text(manifest_text(manifest, dvc=version))
    lay_external(f"{tmp_path}/shards/manifest.json", tmp_path / "nothing", tmp_path / "laid")
    assert read_manifest(f"{tmp_path}/laid/manifest.json")[1]["dvc"] == version


def test_a_step_finds_run_image_and_revision_of_the_data_in_its_environment(sample, monkeypatch):
    seen = {}

    def step(_words: list[str]) -> int:
        seen.update({name: os.environ.get(name) for name in ("OAPSEG_RUN", "OAPSEG_IMAGE", "OAPSEG_DATA_REV")})
        (Path("data/sample")).mkdir(parents=True)
        return 0

    monkeypatch.delenv("OAPSEG_IMAGE", raising=False)
    words = replaced(sample, data_rev="v3")
    assert container.run([*words[:-2], "--run", "run-2", "--image", "oapseg@sha256:12", *words[-2:]], step) == 0
    assert list(seen.values()) == ["run-2", "oapseg@sha256:12", "v3"]
    assert os.environ["OAPSEG_RUN"] == "run-1"
    assert not {"OAPSEG_IMAGE", "OAPSEG_DATA_REV"} & os.environ.keys()


def test_a_folder_of_an_earlier_run_is_copied_from_its_url(tmp_path):
    (tmp_path / "earlier/model").mkdir(parents=True)
    (tmp_path / "earlier/model/weights").write_text("7")
    lay_external(f"{tmp_path}/earlier", tmp_path / "nothing", tmp_path / "laid")
    assert (tmp_path / "laid/model/weights").read_text() == "7"


def benchmark(tmp_path: Path, *more: str) -> list[str]:
    """The words of a benchmark whose data are not there."""
    given = executor_input(tmp_path, {"s3_prefix": f"{tmp_path}/s3"}, {}, {"metrics": "system.Metrics"})
    folders = [
        "--root",
        "data/benchmarks/ECSSD",
        "--encoder",
        "none",
        "--model",
        "model",
        "none",
        "--out",
        "work/ecssd",
    ]
    words = ["benchmark", "ecssd", *folders, "--bind=metrics=work/ecssd/headlines.json", "--run=run-1", *more]
    return [*words, "--executor-input", json.dumps(given)]


def test_an_optional_step_without_its_data_is_skipped(tmp_path, capsys):
    assert main(benchmark(tmp_path, "--optional")) == 0
    error = capsys.readouterr().err
    assert "benchmarks.ecssd: data/benchmarks/ECSSD: no such folder" in error
    assert error.endswith("skipped\n")
    assert json.loads((tmp_path / "metrics").read_text())["files"] == []
    output = json.loads((tmp_path / "out/executor_output.json").read_text())
    assert output["artifacts"]["metrics"]["artifacts"][0]["metadata"] == {"skipped": 1}


def test_without_leave_to_skip_it_a_step_without_its_data_fails(tmp_path):
    assert main(benchmark(tmp_path)) == 3
    assert not (tmp_path / "metrics").exists()


def test_the_volume_of_data_sets_is_folder_data_of_the_workspace(tmp_path, monkeypatch, capsys):
    (tmp_path / "volume/benchmarks/ECSSD/images").mkdir(parents=True)
    monkeypatch.setenv("OAPSEG_DATA", str(tmp_path / "volume"))
    assert main(benchmark(tmp_path, "--optional")) == 0
    assert "data/benchmarks/ECSSD/ground_truth_mask: no such folder" in capsys.readouterr().err


def test_data_from_outside_that_is_nowhere_says_what_to_give(tmp_path, capsys):
    given = executor_input(tmp_path, {"s3_prefix": f"{tmp_path}/s3", "sh": ""}, {}, {})
    words = [*ENCODER.split(), "--external=sh=work/nowhere", "--run=run-1", "--executor-input", json.dumps(given)]
    assert main(words) == 2
    assert "work/nowhere: no step writes it and it is not here" in capsys.readouterr().err


@pytest.fixture
def training(tmp_path: Path) -> list[str]:
    """The words of a pretraining long enough to be stopped in the middle; its shards and encoder lie in `tmp_path`."""
    params = tiny_params(pretrain={"steps": STEPS, "checkpoint_every_s": 0.1})
    write_params(params, tmp_path / "params.yaml")
    shards, _ = publish(Path(tiny_shards(tmp_path).location), f"{tmp_path}/s3/shards")
    encoder, _ = publish(tiny_encoder(tmp_path / "encoder"), f"{tmp_path}/s3/encoder")
    given = executor_input(
        tmp_path, {"s3_prefix": f"{tmp_path}/s3"}, {"sh": shards, "enc": encoder}, {"work_pretrain": "system.Model"}
    )
    words = "pretrain --shards work/shards --encoder work/encoder --out work/pretrain --bind=sh=work/shards"
    options = ["--bind=enc=work/encoder", "--bind=work_pretrain=work/pretrain", "--persist=work/pretrain"]
    options += ["--mirror-s=0.05", f"--params={tmp_path}/params.yaml"]
    return [*words.split(), *options, "--executor-input", json.dumps(given)]


def stopped(words: list[str], how: signal.Signals, there: Path, after: int) -> tuple[int, str]:
    """Run a step, and send it a signal once a checkpoint past a step lies there whole; exit code and stderr."""
    environment = os.environ | {"OAPSEG_RUN": "run-1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "components", *words]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and newest(there) <= after:
            time.sleep(0.01)
        process.send_signal(how)
        said = process.communicate()[1]
    return process.returncode, said


def newest(there: Path) -> int:
    """The step of the newest whole checkpoint; 0 without one."""
    return max((int(path.parent.name[5:]) for path in there.glob("checkpoints/step-*/sha256.json")), default=0)


@pytest.mark.slow
def test_a_training_that_was_killed_and_stopped_goes_on_to_the_same_bits(training, tmp_path, monkeypatch):
    there = tmp_path / "s3/run-1/work/pretrain"
    code, _ = stopped(training, signal.SIGKILL, there, after=0)
    killed_at = newest(there)
    assert (code, 0 < killed_at < STEPS) == (-signal.SIGKILL, True)

    code, said = stopped(training, signal.SIGTERM, there, after=killed_at)
    assert (code, "brought back" in said) == (75, True), said
    assert killed_at < newest(there) < STEPS
    assert not (tmp_path / "out/executor_output.json").exists()

    monkeypatch.setenv("OAPSEG_RUN", "run-1")
    assert main(training) == 0
    plain = f"pretrain --shards {tmp_path}/shards --encoder {tmp_path}/encoder --out {tmp_path}/plain"
    assert main([*plain.split(), "--params", f"{tmp_path}/params.yaml"]) == 0
    for path in (tmp_path / "plain/model").iterdir():
        assert (there / "model" / path.name).read_bytes() == path.read_bytes(), path.name
    steps = [json.loads(line)["step"] for line in (there / "history.jsonl").read_text().splitlines()]
    assert steps == list(range(STEPS))
