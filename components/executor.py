"""What Kubeflow's launcher tells a step and wants to be told: the executor input and output of Pipelines v2."""

import json
from dataclasses import dataclass
from typing import Any

from oapseg import storage

LOCAL_ROOTS = {"gs://": "/gcs/", "minio://": "/minio/", "s3://": "/s3/"}  # where the launcher keeps what lies at a URI


@dataclass(frozen=True)
class Slot:
    """An artifact of a step: where the launcher has laid an input, or from where it takes an output.

    `detached` is where there is no such launcher, and the artifact is read and written at its URI.
    """

    kind: str  # "system.Dataset", "system.HTML" ...
    uri: str
    detached: bool = False

    def read(self) -> bytes:
        return storage.read_bytes(self.location)

    def write(self, content: bytes) -> None:
        storage.write_bytes(self.location, content)

    @property
    def location(self) -> str:
        for scheme, root in LOCAL_ROOTS.items():
            if self.uri.startswith(scheme) and not self.detached:
                return root + self.uri.removeprefix(scheme)
        return self.uri


@dataclass(frozen=True)
class Execution:
    """One run of one step. Numbers of `parameters` have passed through a Struct, which turns 3 into 3.0."""

    parameters: dict[str, Any]
    inputs: dict[str, Slot]
    outputs: dict[str, Slot]
    output_parameters: dict[str, str]  # the file that each is written to
    output_file: str


def read_execution(text: str, *, detached: bool = False) -> Execution:
    """Read an executor input (`{{$}}` of a component's command). Errors: `ValueError` where it is none."""
    try:
        raw = json.loads(text)
        given = raw.get("inputs", {})
        return Execution(
            parameters=given.get("parameterValues", {}),
            inputs=_slots(given.get("artifacts", {}), detached),
            outputs=_slots(raw["outputs"].get("artifacts", {}), detached),
            output_parameters={
                name: found["outputFile"] for name, found in raw["outputs"].get("parameters", {}).items()
            },
            output_file=raw["outputs"]["outputFile"],
        )
    except (json.JSONDecodeError, AttributeError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"--executor-input: no executor input of Pipelines v2 ({error!r})") from None


def write_outputs(execution: Execution, metadata: dict[str, dict[str, Any]]) -> None:
    """Write `executor_output.json`: without it the launcher keeps no metadata, and local runs lose the artifacts."""
    artifacts = {
        name: {"artifacts": [{"name": name, "uri": slot.uri, "metadata": metadata.get(name, {})}]}
        for name, slot in execution.outputs.items()
    }
    storage.write_json(execution.output_file, {"artifacts": artifacts})


def _slots(artifacts: dict[str, Any], detached: bool) -> dict[str, Slot]:
    first = {name: entry["artifacts"][0] for name, entry in artifacts.items() if entry["artifacts"]}
    return {
        name: Slot(found.get("type", {}).get("schemaTitle", ""), found["uri"], detached)
        for name, found in first.items()
    }
