"""Every object of every overlay is one that Kubernetes takes, pinned, and refers only to what is there."""

import copy
import re
import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml
from rendered import K8S, OVERLAYS, ROOT, UNSET, Object, containers, named, rendered, workloads

KUBERNETES = "1.33"  # the oldest that the manifests are held to
PINNED = re.compile(rf"^(docker\.io/[a-z/]+|{UNSET}/oapseg)@sha256:([0-9a-f]{{64}}|{UNSET})$")
CLOUD_CLASSES = {"gcp": ("standard-rwx", "premium-rwo")}
CLUSTER_WIDE = {"Namespace", "PriorityClass", "StorageClass"}
each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


def validate(thing: Object) -> None:
    kubernetes_validate.validate(thing, KUBERNETES, strict=True)


def references(value: Any, key: str) -> set[str]:
    """Names under every `key` of a template, however deep."""
    if isinstance(value, list):
        return {name for each in value for name in references(each, key)}
    if not isinstance(value, dict):
        return set()
    here = {value[key]["name"]} if isinstance(value.get(key), dict) else set()
    return here | {name for each in value.values() for name in references(each, key)}


@each_overlay
def test_every_object_has_a_known_kind_and_only_known_fields(overlay: str) -> None:
    objects = rendered(overlay)
    assert len(objects) > 30
    for thing in objects:
        validate(thing)  # a kind that it has no schema for is an error too


def test_a_misspelt_field_is_refused() -> None:
    deployment = copy.deepcopy(named(rendered("aws"), "Deployment")["mlflow"])
    deployment["spec"]["template"]["spec"]["nodeselector"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(deployment)


def test_a_kind_without_schema_is_refused() -> None:
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        validate(yaml.safe_load((K8S / "profile.yaml").read_text()))


def test_the_profile_is_a_name_and_an_owner() -> None:
    """Kubeflow's kind has no schema here, so it is held to these very fields."""
    assert yaml.safe_load((K8S / "profile.yaml").read_text()) == {
        "apiVersion": "kubeflow.org/v1",
        "kind": "Profile",
        "metadata": {"name": "oapseg"},
        "spec": {"owner": {"kind": "User", "name": f"{UNSET}@example.com"}},
    }


@each_overlay
def test_every_image_is_pinned_by_digest(overlay: str) -> None:
    images = [each["image"] for pod in workloads(rendered(overlay)).values() for each in containers(pod)]
    assert len(images) == 4
    assert [image for image in images if not PINNED.match(image)] == []


@each_overlay
def test_nothing_is_applied_while_something_is_unset(overlay: str) -> None:
    assert UNSET in yaml.safe_dump_all(rendered(overlay))
    run = subprocess.run([K8S / "apply.sh", overlay, "--dry-run=client"], capture_output=True, text=True)
    assert run.returncode == 2
    assert "not applied" in run.stderr
    assert "image: docker.io/library/postgres@sha256:CHANGE-ME" in run.stderr
    assert run.stdout == ""


@each_overlay
def test_everything_is_in_the_namespace(overlay: str) -> None:
    for thing in rendered(overlay):
        expected = None if thing["kind"] in CLUSTER_WIDE else "oapseg"
        assert thing["metadata"].get("namespace") == expected, thing["metadata"]["name"]


@each_overlay
def test_no_secret_is_in_it_and_the_guide_creates_each_that_is_named(overlay: str) -> None:
    objects = rendered(overlay)
    assert not named(objects, "Secret")
    asked = references(list(workloads(objects).values()), "secretRef")
    asked |= references(list(workloads(objects).values()), "secretKeyRef")
    assert asked == {"oapseg-s3", "oapseg-postgres"}
    guide = (ROOT / "docs" / "kubernetes.md").read_text()
    assert [name for name in asked if f"create secret generic {name}" not in guide] == []


@each_overlay
def test_pods_refer_only_to_what_is_there(overlay: str) -> None:
    objects = rendered(overlay)
    for name, pod in workloads(objects).items():
        spec = pod["spec"]
        assert spec["priorityClassName"] in named(objects, "PriorityClass"), name
        assert spec.get("serviceAccountName", "default") in {*named(objects, "ServiceAccount"), "default"}
        maps = references(pod, "configMapRef") | references(pod, "configMapKeyRef")
        assert maps <= set(named(objects, "ConfigMap")), name
        mounted = {mount["name"] for each in containers(pod) for mount in each.get("volumeMounts", [])}
        claims = named(objects, "StatefulSet").get(name, {}).get("spec", {}).get("volumeClaimTemplates", [])
        assert mounted == {each["name"] for each in [*spec.get("volumes", []), *(c["metadata"] for c in claims)]}


@each_overlay
def test_volumes_ask_for_storage_that_is_there(overlay: str) -> None:
    """Classes that the overlay does not bring are those that the cloud does."""
    objects = rendered(overlay)
    claims = [*named(objects, "PersistentVolumeClaim").values()]
    claims += [
        each for stateful in named(objects, "StatefulSet").values() for each in stateful["spec"]["volumeClaimTemplates"]
    ]
    assert len(claims) == 3
    brought = {*named(objects, "StorageClass"), *CLOUD_CLASSES.get(overlay, ())}
    for claim in claims:
        assert claim["spec"].get("storageClassName") in (brought or {None})


@each_overlay
def test_no_empty_bundle_of_certificates_turns_checking_off(overlay: str) -> None:
    for settings in named(rendered(overlay), "ConfigMap").values():
        assert settings["data"].get("AWS_CA_BUNDLE") != ""
