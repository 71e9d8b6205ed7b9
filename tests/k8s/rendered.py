"""What `kubectl kustomize` makes of the overlays, and how to look things up in it."""

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
K8S = ROOT / "k8s"
OVERLAYS = ("single-node", "aws", "gcp")
UNSET = "CHANGE-ME"

Object = dict[str, Any]


@cache
def rendered(overlay: str) -> tuple[Object, ...]:
    """The objects of an overlay."""
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl here; Debian has it as kubernetes-client")
    command = ["kubectl", "kustomize", str(K8S / "overlays" / overlay)]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return tuple(yaml.safe_load_all(text))


def named(objects: tuple[Object, ...], kind: str) -> dict[str, Object]:
    """The objects of a kind, by name."""
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def workloads(objects: tuple[Object, ...]) -> dict[str, Object]:
    """Pod templates of what runs all the time, by the workload's name."""
    return {
        name: workload["spec"]["template"]
        for kind in ("Deployment", "StatefulSet")
        for name, workload in named(objects, kind).items()
    }


def containers(pod: Object) -> list[Object]:
    """Every container of a pod template, those that run first included."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def matches(selector: Object, labels: dict[str, str]) -> bool:
    """Whether a label selector picks an object with these labels."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    return all(_holds(each, labels) for each in selector.get("matchExpressions", []))


def _holds(expression: Object, labels: dict[str, str]) -> bool:
    value = labels.get(expression["key"])
    match expression["operator"]:
        case "Exists":
            return value is not None
        case "In":
            return value in expression["values"]
        case "NotIn":
            return value not in expression["values"]
    raise ValueError(f"{expression['operator']}: no operator of our policies")
