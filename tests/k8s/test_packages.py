"""Whatever a compiled package asks of a cluster is there in k8s/."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rendered import K8S, OVERLAYS, ROOT, Object, named, rendered, workloads

from pipelines import cluster

PACKAGES = sorted((ROOT / "pipelines" / "compiled").glob("*.yaml"))
POOLS: dict[str, Object] = yaml.safe_load((K8S / "node-pools.yaml").read_text())["pools"]
OPTIONAL_KEYS = {"AWS_ENDPOINT_URL", "AWS_CA_BUNDLE"}  # absent where they are Amazon's and the public authorities'
each_package = pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.stem)
each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def asked(package: Path) -> list[Object]:
    """What each task of a package wants of Kubernetes."""
    configs = []
    for document in yaml.safe_load_all(package.read_text()):
        platform = document.get("platforms", {}).get("kubernetes", {})
        configs += platform.get("deploymentSpec", {}).get("executors", {}).values()
    assert configs, f"{package.name} asks nothing of Kubernetes"
    return configs


def entries(package: Path, key: str) -> Iterator[Object]:
    return itertools.chain.from_iterable(config.get(key, []) for config in asked(package))


def name_in(entry: Object, key: str) -> str:
    """A name that the compiler wrote plainly, or as a constant that stands for a parameter."""
    name: str = entry.get(key) or entry[f"{key}Parameter"]["runtimeValue"]["constant"]
    return name


def test_there_are_packages() -> None:
    assert PACKAGES


@each_package
@each_overlay
def test_its_config_maps_and_their_keys_are_there(package: Path, overlay: str) -> None:
    maps = named(rendered(overlay), "ConfigMap")
    for entry in entries(package, "configMapAsEnv"):
        keys = {pair["configMapKey"] for pair in entry["keyToEnv"]}
        missing = keys - set(maps[name_in(entry, "configMapName")]["data"])
        assert missing <= OPTIONAL_KEYS
        assert not missing or entry["optional"]


@each_package
def test_its_secrets_are_created_with_their_keys_by_the_guide(package: Path) -> None:
    guide = (ROOT / "docs" / "kubernetes.md").read_text().replace("\\\n", " ")
    for entry in entries(package, "secretAsEnv"):
        name = name_in(entry, "secretName")
        command = next((line for line in guide.splitlines() if f"create secret generic {name}" in line), "")
        assert [pair["secretKey"] for pair in entry["keyToEnv"] if f"={pair['secretKey']}=" not in command] == [], name


@each_package
@each_overlay
def test_its_volumes_are_claimed(package: Path, overlay: str) -> None:
    for entry in entries(package, "pvcMount"):
        name = entry.get("constant") or name_in(entry, "pvcName")
        assert name in named(rendered(overlay), "PersistentVolumeClaim")


@each_package
def test_its_node_labels_and_tolerations_are_those_of_a_pool(package: Path) -> None:
    for config in asked(package):
        wanted = config["nodeSelector"]["labels"]
        pool = next(pool for pool in POOLS.values() if pool["labels"] == wanted)
        tolerated = {(each["key"], each["effect"]) for each in config.get("tolerations", [])}
        assert {(taint["key"], taint["effect"]) for taint in pool["taints"]} <= tolerated


@each_package
def test_its_user_is_the_image_s(package: Path) -> None:
    users = {config["securityContext"]["runAsUser"] for config in asked(package)}
    assert {int(user) for user in users} == {10001}
    assert f"--uid {cluster.USER} " in (ROOT / "images" / "Dockerfile").read_text()


@each_overlay
def test_names_outside_of_packages_are_there_too(overlay: str) -> None:
    objects = rendered(overlay)
    assert cluster.NAMESPACE in named(objects, "Namespace")
    assert {cluster.SERVICE_ACCOUNT, cluster.TRAINER_ACCOUNT} <= set(named(objects, "ServiceAccount"))
    assert {cluster.CACHE_VOLUME, cluster.DATA_VOLUME} <= set(named(objects, "PersistentVolumeClaim"))


def test_services_run_on_nodes_of_a_pool() -> None:
    for overlay in ("aws", "gcp"):
        for pod in workloads(rendered(overlay)).values():
            assert pod["spec"]["nodeSelector"] in [pool["labels"] for pool in POOLS.values()]


def test_node_groups_of_aws_carry_the_pools_labels_and_taints() -> None:
    groups = yaml.safe_load((K8S / "overlays" / "aws" / "node-groups.yaml").read_text())["managedNodeGroups"]
    said: list[Any] = [{"labels": group["labels"], "taints": group.get("taints", [])} for group in groups]
    assert said == list(POOLS.values())


def test_node_pools_of_gcp_carry_the_pools_labels_and_taints() -> None:
    script = (K8S / "overlays" / "gcp" / "node-pools.sh").read_text()
    for pool in POOLS.values():
        assert all(f"--node-labels {key}={value}" in script for key, value in pool["labels"].items())
        for taint in pool["taints"]:
            assert f"--node-taints {taint['key']}={taint['value']}:{taint['effect']}" in script
