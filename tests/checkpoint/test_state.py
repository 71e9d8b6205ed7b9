"""A checkpoint comes back as it was, or not at all."""

from pathlib import Path

import pytest
import torch
from torch import nn

from oapseg.checkpoint.optimizer import optimizer_tensors, restore_optimizer
from oapseg.checkpoint.state import State, latest_checkpoint, list_checkpoints, load_checkpoint, save_checkpoint


def _state(step: int) -> State:
    return State(step, {"w": torch.full((2,), float(step))}, {"m": torch.arange(3)}, {"draw": 8 * step})


def test_a_state_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, _state(7), "seed: 0\n")
    back = load_checkpoint(path)
    assert back.step == 7
    assert back.values == {"draw": 56}
    assert torch.equal(back.model["w"], torch.full((2,), 7.0))
    assert torch.equal(back.tensors["m"], torch.arange(3))
    assert (path / "params.yaml").read_text() == "seed: 0\n"


def test_no_file_of_a_checkpoint_is_a_pickle(tmp_path: Path) -> None:
    names = {path.name for path in save_checkpoint(tmp_path, _state(1), "").iterdir()}
    assert names == {"model.safetensors", "state.safetensors", "state.json", "params.yaml", "sha256.json"}


def test_the_newest_two_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 30):
        save_checkpoint(tmp_path, _state(step), "")
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000000002", "step-000000030"]


def test_what_a_kill_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".step-000000001.partial").mkdir()
    (tmp_path / ".step-000000001.partial" / "model.safetensors").write_bytes(b"half")
    assert latest_checkpoint(tmp_path) is None
    save_checkpoint(tmp_path, _state(2), "")
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000002"]


@pytest.mark.parametrize("harm", ["change", "cut", "remove", "hashes", "unfinished"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(tmp_path: Path, harm: str) -> None:
    good, bad = save_checkpoint(tmp_path, _state(1), ""), save_checkpoint(tmp_path, _state(2), "")
    file = bad / "state.safetensors"
    if harm == "change":
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(bytes(data))
    elif harm == "cut":
        file.write_bytes(file.read_bytes()[:-4])
    elif harm == "remove":
        file.unlink()
    elif harm == "hashes":
        (bad / "sha256.json").write_text('{"model')
    else:
        (bad / "sha256.json").unlink()
    assert latest_checkpoint(tmp_path) == good
    with pytest.raises(ValueError, match=bad.name):
        load_checkpoint(bad)


def test_an_optimizer_goes_on_as_if_never_interrupted() -> None:
    def train(steps: int, interrupted_at: int | None) -> torch.Tensor:
        torch.manual_seed(0)
        layer = nn.Linear(4, 4)
        optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
        for step in range(steps):
            if step == interrupted_at:
                saved = {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer, layer).items()}
                optimizer = torch.optim.AdamW(layer.parameters(), lr=0.1)
                restore_optimizer(optimizer, layer, saved)
            optimizer.zero_grad()
            layer(torch.full((1, 4), float(step))).square().sum().backward()
            optimizer.step()
        return layer.weight

    assert torch.equal(train(6, None), train(6, 3))
