"""Pods have no rights that they do not use, and reach nothing that they do not need."""

import re
from typing import Any

import pytest
from rendered import OVERLAYS, ROOT, Object, containers, matches, named, rendered, workloads

each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)
STEP = {"workflows.argoproj.io/workflow": "oapseg-x7k2p"}
TRAINER = {"jobset.sigs.k8s.io/jobset-name": "oapseg-pretrain"}


def policies(overlay: str, labels: dict[str, str], direction: str) -> list[Object]:
    """Rules of a direction that hold for a pod with these labels."""
    found = []
    for policy in named(rendered(overlay), "NetworkPolicy").values():
        spec = policy["spec"]
        if direction.capitalize() in spec["policyTypes"] and matches(spec["podSelector"], labels):
            found += spec.get(direction, [])
    return found


def admits(rules: list[Object], side: str, peer: dict[str, str], port: int) -> bool:
    """Whether rules let a pod of this namespace through at a port."""
    for rule in rules:
        ports = {each["port"] for each in rule.get("ports", [])}
        peers = [each["podSelector"] for each in rule[side] if set(each) == {"podSelector"}]
        if (not ports or port in ports) and any(matches(selector, peer) for selector in peers):
            return True
    return False


def labels_of(overlay: str, name: str) -> dict[str, str]:
    labels: dict[str, str] = workloads(rendered(overlay))[name]["metadata"]["labels"]
    return labels


@each_overlay
def test_pods_run_without_root_without_capabilities_on_a_read_only_root(overlay: str) -> None:
    for name, pod in workloads(rendered(overlay)).items():
        context = pod["spec"]["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in containers(pod):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False
            assert own["readOnlyRootFilesystem"] is True
            assert own["capabilities"] == {"drop": ["ALL"]}


@each_overlay
def test_pods_get_no_token_for_the_cluster(overlay: str) -> None:
    objects = rendered(overlay)
    for name, pod in workloads(objects).items():
        account = named(objects, "ServiceAccount").get(pod["spec"].get("serviceAccountName", ""), {})
        places = (pod["spec"], account)
        assert any(place.get("automountServiceAccountToken") is False for place in places), name


@each_overlay
def test_pods_are_probed_and_bounded(overlay: str) -> None:
    for pod in workloads(rendered(overlay)).values():
        for container in pod["spec"]["containers"]:
            assert {"readinessProbe", "livenessProbe"} <= set(container)
            assert {"cpu", "memory"} <= set(container["resources"]["requests"])
            assert "memory" in container["resources"]["limits"]


@each_overlay
def test_roles_name_what_they_grant(overlay: str) -> None:
    rules = [rule for role in named(rendered(overlay), "Role").values() for rule in role["rules"]]
    assert len(rules) > 5
    for rule in rules:
        said = [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
        assert "*" not in said
        if {"secrets", "configmaps"} & set(rule["resources"]):
            assert rule["resourceNames"]
            assert rule["verbs"] == ["get"]
    assert not named(rendered(overlay), "ClusterRole")


def test_the_launcher_of_trainings_may_do_what_it_asks_for_and_no_more() -> None:
    source = (ROOT / "components" / "launch.py").read_text()
    verbs = {"POST": "create", "GET": "get", "DELETE": "delete", "PATCH": "patch", "PUT": "update"}
    asked = {verbs[method] for method in re.findall(r'_ask\("([A-Z]+)"', source)}
    (rule,) = named(rendered("aws"), "Role")["oapseg-trainjobs"]["rules"]
    assert (rule["apiGroups"], rule["resources"]) == (["trainer.kubeflow.org"], ["trainjobs"])
    assert set(rule["verbs"]) == asked


@each_overlay
def test_bindings_join_a_role_and_an_account_that_are_there(overlay: str) -> None:
    objects = rendered(overlay)
    bindings = named(objects, "RoleBinding")
    assert {binding["roleRef"]["name"] for binding in bindings.values()} == set(named(objects, "Role"))
    for binding in bindings.values():
        for subject in binding["subjects"]:
            assert subject["name"] in named(objects, "ServiceAccount")
            assert subject["namespace"] == "oapseg"


@each_overlay
def test_nothing_may_pass_unless_a_policy_says_so(overlay: str) -> None:
    denied = named(rendered(overlay), "NetworkPolicy")["default-deny"]["spec"]
    assert denied == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


PATHS: list[tuple[Any, str, int, bool]] = [
    (STEP, "mlflow", 5000, True),
    (STEP, "pushgateway", 9091, True),
    (STEP, "postgres", 5432, False),
    ("mlflow", "postgres", 5432, True),
    ("pushgateway", "postgres", 5432, False),
    ("postgres", "mlflow", 5000, False),
    (TRAINER, "postgres", 5432, False),
]


@each_overlay
@pytest.mark.parametrize(("source", "target", "port", "allowed"), PATHS)
def test_both_ends_agree_on_who_reaches_whom(overlay: str, source: Any, target: str, port: int, allowed: bool) -> None:
    sender = labels_of(overlay, source) if isinstance(source, str) else source
    receiver = labels_of(overlay, target)
    leaves = admits(policies(overlay, sender, "egress"), "to", receiver, port)
    enters = admits(policies(overlay, receiver, "ingress"), "from", sender, port)
    assert (leaves and enters) is allowed
    assert leaves == enters == allowed or not allowed


@each_overlay
def test_services_point_at_pods_and_ports_that_are_there(overlay: str) -> None:
    pods = workloads(rendered(overlay))
    for name, service in named(rendered(overlay), "Service").items():
        chosen = [
            pod
            for pod in pods.values()
            if matches({"matchLabels": service["spec"]["selector"]}, pod["metadata"]["labels"])
        ]
        assert len(chosen) == 1, name
        ports = {port["name"]: port["containerPort"] for port in chosen[0]["spec"]["containers"][0]["ports"]}
        for port in service["spec"]["ports"]:
            assert ports.get(port.get("targetPort", port["name"])) == port["port"]


@each_overlay
def test_each_workload_has_a_budget_for_disruptions(overlay: str) -> None:
    pods = workloads(rendered(overlay))
    budgets = named(rendered(overlay), "PodDisruptionBudget")
    assert set(budgets) == set(pods)
    for name, budget in budgets.items():
        assert matches(budget["spec"]["selector"], pods[name]["metadata"]["labels"])


def test_trainers_talk_among_themselves_alone() -> None:
    inside = policies("aws", TRAINER, "ingress")
    assert admits(inside, "from", TRAINER, 29500)
    assert not admits(inside, "from", STEP, 29500)
    assert admits(policies("aws", TRAINER, "egress"), "to", TRAINER, 29500)
