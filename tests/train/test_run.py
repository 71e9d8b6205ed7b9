"""Training as a whole: stopped at any step and resumed to the same bits, and refused where it must be."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tiny import tiny_encoder, tiny_params, tiny_shards, write_params

from oapseg.checkpoint import RESUME
from oapseg.checkpoint.export import load_model
from oapseg.checkpoint.state import latest_checkpoint, load_checkpoint
from oapseg.params import Params
from oapseg.shards.manifest import Manifest
from oapseg.train.run import finetune, pretrain, train_encoder


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return tiny_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


def _pretrain(params: Params, shards: Manifest, encoder: Path, out: Path) -> str:
    """Hash of the final checkpoint."""
    pretrain(params, shards, encoder, out)
    final = latest_checkpoint(out / "checkpoints")
    assert final is not None
    return (final / "sha256.json").read_text()


def test_stopped_by_sigterm_and_resumed_gives_the_same_bits(shards: Manifest, encoder: Path, tmp_path: Path) -> None:
    params = tiny_params()
    straight = _pretrain(params, shards, encoder, tmp_path / "straight")
    codes: list[object] = []
    while True:
        history = tmp_path / "stopped" / "history.jsonl"
        before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            with _terminate_after(history, 2 * (len(codes) + 1)):
                resumed = _pretrain(params, shards, encoder, tmp_path / "stopped")
            break
        except SystemExit as stop:
            codes.append(stop.code)
        finally:
            signal.signal(signal.SIGTERM, before)
    assert codes == [RESUME, RESUME]
    assert resumed == straight
    lines = [json.loads(line) for line in history.read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(6))


class _terminate_after:  # noqa: N801  # reads as a phrase where it is used
    """Send SIGTERM to this process as soon as the history has `lines` lines: from inside the step's own record."""

    def __init__(self, history: Path, lines: int) -> None:
        self.history, self.lines = history, lines

    def __enter__(self) -> None:
        write = json.dumps

        def dumps(value: object, **options: object) -> str:
            if isinstance(value, dict) and value.get("step") == self.lines - 1 and "loss" in value:
                os.kill(os.getpid(), signal.SIGTERM)
            return write(value, **options)  # type: ignore[arg-type]

        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(json, "dumps", dumps)

    def __exit__(self, *_exception: object) -> None:
        self.patch.undo()


@pytest.mark.slow
def test_killed_outright_and_resumed_gives_the_same_bits(shards: Manifest, encoder: Path, tmp_path: Path) -> None:
    params = write_params(
        tiny_params(pretrain={"steps": 40, "checkpoint_every_s": 0.05, "workers": 1}), tmp_path / "params.yaml"
    )

    def start(out: str) -> subprocess.Popen[bytes]:
        options = {"--params": params, "--shards": shards.location, "--encoder": encoder, "--out": tmp_path / out}
        command = [sys.executable, "-m", "components", "pretrain", *(str(x) for pair in options.items() for x in pair)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    assert start("straight").wait(timeout=300) == 0
    killed = start("killed")
    _wait_for_checkpoint(tmp_path / "killed" / "checkpoints", killed)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait(timeout=60) == -signal.SIGKILL
    assert start("killed").wait(timeout=300) == 0
    straight, resumed = (latest_checkpoint(tmp_path / name / "checkpoints") for name in ("straight", "killed"))
    assert straight is not None
    assert resumed is not None
    assert (straight / "sha256.json").read_text() == (resumed / "sha256.json").read_text()


def _wait_for_checkpoint(folder: Path, process: subprocess.Popen[bytes]) -> None:
    for _ in range(6000):
        if latest_checkpoint(folder) is not None:
            return
        assert process.poll() is None, "ended before its first checkpoint"
        time.sleep(0.01)
    raise AssertionError("no checkpoint in a minute")


def test_number_of_loader_workers_changes_no_bit(shards: Manifest, encoder: Path, tmp_path: Path) -> None:
    hashes = [
        _pretrain(tiny_params(pretrain={"steps": 2, "workers": workers}), shards, encoder, tmp_path / str(workers))
        for workers in (0, 2)
    ]
    assert hashes[0] == hashes[1]


def test_the_trained_model_is_the_teacher_and_loads_from_its_folder(
    shards: Manifest, encoder: Path, tmp_path: Path
) -> None:
    params = tiny_params(pretrain={"steps": 3})
    folder = pretrain(params, shards, encoder, tmp_path)
    final = latest_checkpoint(tmp_path / "checkpoints")
    assert final is not None
    teacher = load_checkpoint(final).model
    model = load_model(folder, "cpu").state_dict()
    assert all(torch.equal(model[name], tensor) for name, tensor in teacher.items())
    student = load_checkpoint(final).tensors["student.decoder.query_features"]
    assert not torch.equal(student, teacher["decoder.query_features"])


def test_other_parameters_start_anew(
    shards: Manifest, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = _pretrain(tiny_params(pretrain={"steps": 2}), shards, encoder, tmp_path / "a")
    changed = tiny_params(pretrain={"steps": 2, "lr": 0.01})
    second = _pretrain(changed, shards, encoder, tmp_path / "a")
    assert "training starts anew" in capsys.readouterr().err.replace("\n", " ")
    assert first != second == _pretrain(changed, shards, encoder, tmp_path / "b")


def test_a_damaged_checkpoint_is_passed_over_aloud(
    shards: Manifest, encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = tiny_params(pretrain={"steps": 2})
    straight = _pretrain(params, shards, encoder, tmp_path)
    final = latest_checkpoint(tmp_path / "checkpoints")
    assert final is not None
    (final / "state.json").write_text("{}")
    assert _pretrain(params, shards, encoder, tmp_path) == straight
    said = capsys.readouterr().err.replace("\n", " ")
    assert "passed over a damaged checkpoint" in said


def test_a_loss_that_is_not_finite_stops_and_names_the_last_good_checkpoint(
    shards: Manifest, encoder: Path, tmp_path: Path
) -> None:
    params = tiny_params(pretrain={"lr": 1e30, "warmup_steps": 0, "grad_clip": 1e30, "checkpoint_every_s": 1e-6})
    with pytest.raises((FloatingPointError, ValueError), match=r"step-0000000|not finite"):
        pretrain(params, shards, encoder, tmp_path)
    assert latest_checkpoint(tmp_path / "checkpoints") is not None


def test_finetuning_goes_on_from_the_checkpoint_on_a_mix(shards: Manifest, encoder: Path, tmp_path: Path) -> None:
    params = tiny_params()
    pretrain(params, shards, encoder, tmp_path / "pretrain")
    sets = {"pretrain": shards, "finetune": shards}
    folder = finetune(params, sets, encoder, tmp_path / "pretrain", tmp_path / "finetune")
    start, end = (latest_checkpoint(tmp_path / name / "checkpoints") for name in ("pretrain", "finetune"))
    assert start is not None
    assert end is not None
    before, after = load_checkpoint(start).model, load_checkpoint(end).model
    assert load_model(folder, "cpu") is not None
    moved = (after["decoder.query_features"] - before["decoder.query_features"]).abs().max()
    assert 0 < moved < 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"finetune": {"mix": {"elsewhere": 1.0}}}, "finetune.mix: no shards for elsewhere"),
        ({}, "no whole checkpoint to fine-tune from; run pretrain first"),
    ],
)
def test_finetuning_without_its_inputs_is_one_line(
    change: dict[str, dict[str, object]], message: str, shards: Manifest, encoder: Path, tmp_path: Path
) -> None:
    sets = {"pretrain": shards, "finetune": shards}
    with pytest.raises(ValueError, match=message):
        finetune(tiny_params(**change), sets, encoder, tmp_path, tmp_path / "out")


def test_a_side_that_the_patch_does_not_divide_is_one_line(shards: Manifest, encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"pretrain.image_px: 60 must be a multiple of the encoder's patch, 8 px"):
        pretrain(tiny_params(pretrain={"image_px": 60}), shards, encoder, tmp_path)


def test_an_encoder_is_trained_by_the_same_loop_and_resumes_to_the_same_bits(shards: Manifest, tmp_path: Path) -> None:
    params = tiny_params()
    train_encoder(params, shards, tmp_path / "straight")
    with pytest.raises(SystemExit), _terminate_after(tmp_path / "history.jsonl", 3):
        train_encoder(params, shards, tmp_path / "stopped")
    train_encoder(params, shards, tmp_path / "stopped")
    straight, stopped = (tmp_path / name / "model.safetensors" for name in ("straight", "stopped"))
    assert straight.read_bytes() == stopped.read_bytes()


def test_too_few_photos_for_a_batch_are_one_line(shards: Manifest, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"encoder.batch: 64 is more than the 6 photos there are"):
        train_encoder(tiny_params(encoder={"batch": 64}), shards, tmp_path)
