"""Shapes in signatures are checked in every test; real photos come from a folder that a clone may lack."""

import os
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

install_import_hook("oapseg", "beartype.beartype")
torch.set_num_threads(1)  # workers of pytest-xdist share the cores; two thread pools on one core starve each other


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need an accelerator are skipped where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu") is not None:
                item.add_marker(pytest.mark.skip(reason="no CUDA device here"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real photos with labels, `OAPSEG_DATA` or `../shared/data`; tests skip without it."""
    folder = Path(os.environ.get("OAPSEG_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "coco").is_dir():
        pytest.skip(f"no real photos at {folder}; set OAPSEG_DATA to a folder that holds coco/")
    return folder
