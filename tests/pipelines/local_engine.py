"""A compiled package run by `kfp.local`, which makes each executor input and reads each output, without containers.

Its runner for subprocesses refuses container components, so the last step alone is ours: the command that a container
would be given is run in this process.
"""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from kfp import local
from kfp.local import pipeline_orchestrator, status, subprocess_task_handler
from kfp.pipeline_spec import pipeline_spec_pb2

from components.__main__ import main
from pipelines.component import STEP


class InThisProcess:
    """A task handler of `kfp.local`."""

    def __init__(self, full_command: list[str], **_: Any) -> None:
        self.command = full_command

    def run(self) -> status.Status:
        assert self.command[: len(STEP)] == STEP
        return status.Status.SUCCESS if main(self.command[len(STEP) :]) == 0 else status.Status.FAILURE


def run_package(
    package: dict[str, Any], arguments: dict[str, Any], root: Path, run: str, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Run a compiled package; the folder in which `kfp.local` keeps the artifacts."""
    monkeypatch.setenv("OAPSEG_RUN", run)
    monkeypatch.setattr(subprocess_task_handler, "SubprocessTaskHandler", InThisProcess)
    local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(root), raise_on_error=True)
    spec = json_format.ParseDict(package, pipeline_spec_pb2.PipelineSpec())
    pipeline_orchestrator.run_local_pipeline(spec, arguments)
    return root
