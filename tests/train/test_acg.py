"""Training the Adaptive Concept Generator: it learns, resumes to the same bits, and refuses what does not fit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from test_run import _terminate_after
from tiny import tiny_encoder, tiny_params, tiny_shards

from oapseg.checkpoint import RESUME
from oapseg.encode.load import load_encoder, load_folder
from oapseg.params import Params
from oapseg.pool.acseg import ACSeg
from oapseg.shards.manifest import Manifest
from oapseg.train.acg import train_concepts

TINY = {"updates": 2, "heads": 2, "ffn": 16, "steps": 6, "batch": 2, "image_px": 32, "workers": 0, "log_every": 1}


def params_of(**changes: Any) -> Params:
    return tiny_params(acg={**TINY, "device": "cpu", **changes})


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return tiny_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


def test_stopped_by_sigterm_and_resumed_gives_the_same_weights(shards: Manifest, encoder: Path, tmp_path: Path) -> None:
    straight = train_concepts(params_of(), shards, encoder, tmp_path / "straight")
    out = tmp_path / "stopped"
    with pytest.raises(SystemExit) as stop, _terminate_after(out / "history.jsonl", 3):
        train_concepts(params_of(), shards, encoder, out)
    assert stop.value.code == RESUME
    assert not (out / "acg.safetensors").exists()
    assert train_concepts(params_of(), shards, encoder, out).read_bytes() == straight.read_bytes()
    steps = [json.loads(line)["step"] for line in (out / "history.jsonl").read_text().splitlines()]
    assert steps == list(range(6))


@pytest.mark.slow
def test_number_of_loader_workers_changes_no_bit(shards: Manifest, encoder: Path, tmp_path: Path) -> None:
    files = [train_concepts(params_of(steps=2, workers=n), shards, encoder, tmp_path / str(n)) for n in (0, 2)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_measured_step_tells_its_parts_and_each_how_long_it_waited(
    shards: Manifest, encoder: Path, tmp_path: Path
) -> None:
    params = tiny_params(acg={**TINY, "device": "cpu"}, monitor={"every": 2})
    train_concepts(params, shards, encoder, tmp_path)
    parts = {f"seconds_{part}" for part in ("loader", "teacher", "student", "loss", "backward", "optimizer")}
    for line in map(json.loads, (tmp_path / "history.jsonl").read_text().splitlines()):
        assert "loader_wait" in line
        assert {key for key in line if key.startswith("seconds_")} == (parts if line["step"] % 2 == 0 else set())
        assert sum(line.get(part, 0.0) for part in parts) <= line["seconds"]


def test_the_loss_falls_and_the_weights_serve_the_generator(shards: Manifest, encoder: Path, tmp_path: Path) -> None:
    file = train_concepts(params_of(steps=40, lr=0.003), shards, encoder, tmp_path)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert sum(losses[-5:]) < sum(losses[:5])
    image = torch.zeros(40, 40, 3, dtype=torch.uint8)
    image[:, 20:] = 255
    (patches,) = load_folder(encoder).patches([image], 64)
    assert len(ACSeg(str(file), phi=1)(patches)) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_px": 36}, "acg.image_px: 36 must be a multiple of the encoder's patch, 8 px"),
        ({"heads": 5}, "acg.heads: 5 must divide the encoder's 32 channels"),
    ],
)
def test_what_does_not_fit_the_encoder_is_one_line(
    change: dict[str, int], message: str, shards: Manifest, encoder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        train_concepts(params_of(**change), shards, encoder, tmp_path)


def test_the_shipped_sizes_fit_the_shipped_encoder() -> None:
    params = tiny_params()
    assert load_encoder(params.encode).channels % params.acg.heads == 0
