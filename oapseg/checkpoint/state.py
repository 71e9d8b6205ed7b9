"""A checkpoint is a folder: it takes its name only when whole, and is believed only when its hashes agree."""

import hashlib
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from oapseg import storage

PREFIX = "step-"
PARTIAL = ".partial"
KEPT = 2


@dataclass
class State:
    """All that a run needs to go on to the same bits."""

    step: int
    model: dict[str, Tensor]  # what is kept for use: the teacher
    tensors: dict[str, Tensor] = field(default_factory=dict)  # student, optimizer, centre, RNG
    values: dict[str, Any] = field(default_factory=dict)  # data position and other plain values


def save_checkpoint(folder: Path, state: State, params_yaml: str) -> Path:
    """Write `folder/step-N` beside older ones, then drop all but the newest two.

    A kill at any moment leaves the older ones whole: the new folder is written under another name and renamed. What a
    kill left half-written is cleared away here.
    """
    final = folder / f"{PREFIX}{state.step:09d}"
    for unfinished in folder.glob(f".*{PARTIAL}"):
        shutil.rmtree(unfinished)
    partial = folder / f".{final.name}{PARTIAL}"
    partial.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in state.model.items()}, partial / "model.safetensors")
    save_file({name: tensor.contiguous() for name, tensor in state.tensors.items()}, partial / "state.safetensors")
    storage.write_json(partial / "state.json", {"step": state.step, "values": state.values})
    storage.write_text(partial / "params.yaml", params_yaml)
    storage.write_json(partial / "sha256.json", {path.name: storage.sha256(path) for path in sorted(partial.iterdir())})
    for path in partial.iterdir():
        _sync(path)
    _sync(partial)
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)
    _sync(folder)
    for old in list_checkpoints(folder)[:-KEPT]:
        shutil.rmtree(old)
    return final


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoints below a folder, oldest first."""
    return sorted(folder.glob(f"{PREFIX}*"))


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint was saved at."""
    return int(checkpoint.name.removeprefix(PREFIX))


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint whose hashes agree; a damaged one is passed over for the one before."""
    for path in reversed(list_checkpoints(folder)):
        if damage(path) is None:
            return path
    return None


def damage(path: Path) -> str | None:
    """What is wrong with a checkpoint or model folder, in one line; None where nothing is."""
    try:
        for name, digest in listed_hashes(path).items():
            if not (path / name).is_file():
                return f"{path}: {name} is missing"
            if (found := storage.sha256(path / name)) != digest:
                return changed(path, name, found, digest)
    except ValueError as error:
        return str(error)
    return None


def verified(location: str | Path) -> dict[str, bytes]:
    """Every file that `sha256.json` of a folder or URL lists, read once: what was checked is what is used.

    Errors: `ValueError` where one is missing or was changed.
    """
    files = {}
    for name, digest in listed_hashes(location).items():
        try:
            files[name] = storage.read_bytes(storage.join(location, name))
        except FileNotFoundError:
            raise ValueError(f"{location}: {name} is missing") from None
        if (found := hashlib.sha256(files[name]).hexdigest()) != digest:
            raise ValueError(changed(location, name, found, digest))
    return files


def listed_hashes(location: str | Path) -> dict[str, str]:
    """Hash by name of file, as `sha256.json` says it; names of files in this very folder alone.

    Errors: `ValueError` where there is no such list.
    """
    try:
        hashes = storage.read_json(storage.join(location, "sha256.json"))
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{location}: no sha256.json") from None
    if not isinstance(hashes, dict) or any("/" in name or name.startswith(".") for name in hashes):
        raise ValueError(f"{location}: sha256.json is no list of this folder's files")
    return hashes


def changed(location: str | Path, name: str, found: str, expected: str) -> str:
    """How it is told that a file is not what its hash says."""
    return f"{location}: {name} was changed (its sha256 is {found} and should be {expected})"


def load_checkpoint(path: Path) -> State:
    """Read a checkpoint back. Errors: `ValueError` where a file is missing or changed."""
    problem = damage(path)
    if problem is not None:
        raise ValueError(problem)
    plain = storage.read_json(path / "state.json")
    return State(
        plain["step"],
        load_file(path / "model.safetensors"),
        load_file(path / "state.safetensors"),
        plain["values"],
    )


def _sync(path: Path) -> None:
    """Content or folder entries on disk, so that a rename never outruns what it names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
