"""The served model on Kubernetes, as a deployment and by KServe: known fields, few rights, probes that it answers."""

import copy
import shutil
import subprocess
from functools import cache
from typing import Any

import kubernetes_validate
import pytest
import yaml
from rendered import K8S, ROOT, UNSET, Object, matches, named, rendered

from oapseg.cli import COMMANDS

KUBERNETES = "1.33"
WAYS = ("deployment", "kserve")
OF_KSERVE = {"labels", "minReplicas", "maxReplicas", "scaleMetric", "scaleTarget"}  # beside those of a pod
each_way = pytest.mark.parametrize("way", WAYS)


@cache
def serving(way: str) -> tuple[Object, ...]:
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl here; Debian has it as kubernetes-client")
    command = ["kubectl", "kustomize", str(K8S / "serving" / way)]
    return tuple(yaml.safe_load_all(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def pod_of(way: str) -> Object:
    """Labels and specification of the pods that serve, whoever makes them."""
    if way == "deployment":
        template: Object = named(serving(way), "Deployment")["serving"]["spec"]["template"]
        return {"labels": template["metadata"]["labels"], "spec": template["spec"]}
    predictor = named(serving(way), "InferenceService")["oapseg"]["spec"]["predictor"]
    return {"labels": predictor["labels"], "spec": {k: v for k, v in predictor.items() if k not in OF_KSERVE}}


def validate(way: str) -> None:
    """KServe's kind has no schema here: it is held to these fields, and what it says of its pods to a pod's schema."""
    for thing in serving(way):
        if thing["kind"] != "InferenceService":
            kubernetes_validate.validate(thing, KUBERNETES, strict=True)
            continue
        assert set(thing) == {"apiVersion", "kind", "metadata", "spec"}
        assert thing["apiVersion"] == "serving.kserve.io/v1beta1"
        assert set(thing["spec"]) == {"predictor"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod_of(way)["spec"]}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


@each_way
def test_every_object_has_only_known_fields_and_is_in_the_namespace(way: str) -> None:
    validate(way)
    assert {thing["metadata"]["namespace"] for thing in serving(way)} == {"oapseg"}


@each_way
def test_a_misspelt_field_of_its_pods_is_refused(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = copy.deepcopy(serving(way))
    for thing in wrong:
        spec = thing.get("spec", {})
        for pod in (spec.get("predictor"), spec.get("template", {}).get("spec")):
            if pod:
                pod["enableServiceLink"] = False
    monkeypatch.setitem(globals(), "serving", lambda _: wrong)
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(way)


@each_way
def test_its_pods_have_no_rights_that_they_do_not_use(way: str) -> None:
    spec = pod_of(way)["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert (spec["securityContext"]["runAsNonRoot"], spec["securityContext"]["runAsUser"]) == (True, 10001)
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "memory" in container["resources"]["limits"]
    assert f"@sha256:{UNSET}" in container["image"]


@each_way
def test_what_it_refers_to_is_in_the_base(way: str) -> None:
    base, spec = rendered("aws"), pod_of(way)["spec"]
    assert spec["priorityClassName"] in named(base, "PriorityClass")
    assert spec["serviceAccountName"] in named(serving(way), "ServiceAccount")
    (container,) = spec["containers"]
    keys = [each["valueFrom"]["configMapKeyRef"] for each in container["env"] if "valueFrom" in each]
    assert keys
    assert all(key["key"] in named(base, "ConfigMap")[key["name"]]["data"] for key in keys)
    assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in spec["volumes"]}


@each_way
def test_its_command_is_one_that_there_is_and_its_probes_are_routes(way: str) -> None:
    (container,) = pod_of(way)["spec"]["containers"]
    assert container["args"][:3] == ["python", "-m", "oapseg"]
    assert container["args"][3] in COMMANDS
    source = "".join(path.read_text() for path in (ROOT / "oapseg" / "serve").glob("*.py"))
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert f'.get("{container[probe]["httpGet"]["path"]}"' in source
    assert f"--port={container['ports'][0]['containerPort']}" in container["args"]


@each_way
def test_it_has_time_to_leave(way: str) -> None:
    params: Any = yaml.safe_load((ROOT / "params.yaml").read_text())["serve"]
    assert pod_of(way)["spec"]["terminationGracePeriodSeconds"] > params["leave_s"] + params["drain_s"] + 5


@each_way
def test_it_reaches_the_registry_and_both_ends_agree(way: str) -> None:
    policies = named(serving(way), "NetworkPolicy")
    assert matches(policies["serving"]["spec"]["podSelector"], pod_of(way)["labels"])
    (out,) = policies["serving"]["spec"]["egress"]
    (into,) = policies["mlflow-from-serving"]["spec"]["ingress"]
    registry = named(rendered("aws"), "Deployment")["mlflow"]["spec"]["template"]["metadata"]["labels"]
    assert matches(out["to"][0]["podSelector"], registry)
    assert matches(policies["mlflow-from-serving"]["spec"]["podSelector"], registry)
    assert matches(into["from"][0]["podSelector"], pod_of(way)["labels"])
    assert [each["port"] for each in (*out["ports"], *into["ports"])] == [5000, 5000]


def test_service_budget_and_deployment_choose_the_same_pods() -> None:
    objects, labels = serving("deployment"), pod_of("deployment")["labels"]
    service, budget = named(objects, "Service")["serving"], named(objects, "PodDisruptionBudget")["serving"]
    assert matches({"matchLabels": service["spec"]["selector"]}, labels)
    assert matches(budget["spec"]["selector"], labels)
    assert matches(named(objects, "Deployment")["serving"]["spec"]["selector"], labels)


@each_way
def test_nothing_is_applied_while_the_image_is_unset(way: str) -> None:
    run = subprocess.run([K8S / "apply.sh", f"../serving/{way}", "--dry-run=client"], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (2, "")
    assert "not applied" in run.stderr
