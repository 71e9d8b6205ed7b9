"""What an observer remembers, beside the checkpoint of the same step: nothing of the training depends on it."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from oapseg import storage

FILE = "monitor.safetensors"
STEP = "step"


def save_memory(folder: Path, step: int, tensors: dict[str, Tensor]) -> None:
    """Keep it; a kill leaves the old file or the new one."""
    content = save({name: tensor.contiguous() for name, tensor in tensors.items()}, {STEP: str(step)})
    storage.write_bytes(folder / FILE, content)


def load_memory(folder: Path, step: int) -> dict[str, Tensor]:
    """What was remembered at this very step; nothing where the file is of another, or damaged, or not there."""
    try:
        with safe_open(folder / FILE, "pt") as file:
            if (file.metadata() or {}).get(STEP) != str(step):
                return {}
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except (OSError, SafetensorError):
        return {}
