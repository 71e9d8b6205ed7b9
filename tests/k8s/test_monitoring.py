"""k8s/monitoring: what the operator, the network and Grafana are given agrees with what trainings and steps serve."""

import shutil
import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml
from rendered import K8S, Object, matches, named, rendered

MONITORING = K8S / "monitoring"
OPERATOR = {"PodMonitor", "ServiceMonitor", "PrometheusRule"}  # kinds without a schema here
PORT = 9108


@pytest.fixture(scope="module")
def objects() -> tuple[Object, ...]:
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl here; Debian has it as kubernetes-client")
    text = subprocess.run(["kubectl", "kustomize", MONITORING], check=True, capture_output=True, text=True).stdout
    return tuple(yaml.safe_load_all(text))


def test_what_kubernetes_itself_knows_has_only_known_fields(objects: tuple[Object, ...]) -> None:
    assert {each["kind"] for each in objects} == OPERATOR | {"ConfigMap", "NetworkPolicy"}
    for each in objects:
        if each["kind"] not in OPERATOR:
            kubernetes_validate.validate(each, "1.33", strict=True)


def test_trainings_are_asked_at_the_port_that_they_are_told_and_the_network_lets_it_through(
    objects: tuple[Object, ...],
) -> None:
    settings = named(rendered("aws"), "ConfigMap")["oapseg-registry"]["data"]
    assert settings["OAPSEG_METRICS_PORT"] == str(PORT)
    monitors, policies = named(objects, "PodMonitor"), named(objects, "NetworkPolicy")
    for monitor in monitors.values():
        (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
        assert any(str(each.get("replacement", "")).endswith(f":{PORT}") for each in endpoint["relabelings"])
        (policy,) = [each for each in policies.values() if each["spec"]["podSelector"] == monitor["spec"]["selector"]]
        (rule,) = policy["spec"]["ingress"]
        assert rule["ports"][0]["port"] == PORT


def test_the_pushgateway_is_found_by_its_labels_and_port(objects: tuple[Object, ...]) -> None:
    monitor = named(objects, "ServiceMonitor")["oapseg-pushgateway"]["spec"]
    service: Any = named(rendered("aws"), "Service")["pushgateway"]
    assert matches(monitor["selector"], service["metadata"]["labels"])
    assert monitor["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert monitor["endpoints"][0]["honorLabels"] is True


def test_every_dashboard_is_given_to_grafana(objects: tuple[Object, ...]) -> None:
    given = named(objects, "ConfigMap")["oapseg-dashboards"]["data"]
    assert set(given) == {path.name for path in (MONITORING / "grafana" / "dashboards").glob("*.json")}
    assert sum(map(len, given.values())) < 1_000_000  # what a ConfigMap may hold
