"""k8s/monitoring: what the operator, the network and Grafana are given agrees with what trainings and steps serve."""

import re
import shutil
import subprocess
from typing import Any

import kubernetes_validate
import pytest
import yaml
from rendered import K8S, Object, matches, named, rendered

from k8s.monitoring.scrapes import LABEL, NAME
from pipelines.stages import Meta
from pipelines.trainjob import train_job

MONITORING = K8S / "monitoring"
OPERATOR = {"PodMonitor", "ServiceMonitor", "PrometheusRule"}  # kinds without a schema here
PORT, RANKS = 9108, 16


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


def _asked(monitor: Object, container: str, ranks: str) -> list[int]:
    """The ports at which a pod is asked: its labels go through the relabelings as Prometheus takes them."""
    ports = []
    for endpoint in monitor["spec"]["podMetricsEndpoints"]:
        labels = {"__meta_kubernetes_pod_ip": "10.0.0.7", "__meta_kubernetes_pod_container_name": container}
        labels |= {NAME: ranks} if ranks else {}
        kept = True
        for rule in endpoint["relabelings"]:
            (source,) = rule["sourceLabels"]
            found = re.fullmatch(rule.get("regex", "(.*)"), labels.get(source, ""))
            if rule.get("action") == "keep":
                kept = kept and found is not None
            elif found:
                labels[rule["targetLabel"]] = found.expand(rule["replacement"].replace("$1", r"\1"))
        if kept:
            host, _, port = labels["__address__"].partition(":")
            assert host == "10.0.0.7"
            ports.append(int(port))
    return ports


@pytest.mark.parametrize("ranks", [1, 2, 8, RANKS])
def test_every_rank_of_a_training_is_asked_at_its_own_port_and_no_port_without_a_rank(
    objects: tuple[Object, ...], ranks: int
) -> None:
    meta = Meta(image="gpu", cpu=4, memory="8Gi", gpus=ranks, node_pool="gpu", nodes=2, retries=1)
    spec = train_job(meta)["spec"]
    (job,) = spec["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod = job["template"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert spec["trainer"]["numProcPerNode"] == ranks
    assert re.sub(r"\W", "_", f"__meta_kubernetes_pod_label_{LABEL}") == NAME
    monitor = named(objects, "PodMonitor")["oapseg-trainers"]
    assert _asked(monitor, container["name"], pod["metadata"]["labels"][LABEL]) == list(range(PORT, PORT + ranks))
    assert _asked(monitor, "istio-proxy", str(ranks)) == []


def test_a_step_and_a_job_of_somebody_else_are_asked_for_one_rank(objects: tuple[Object, ...]) -> None:
    monitors = named(objects, "PodMonitor")
    assert _asked(monitors["oapseg-steps"], "main", "") == [PORT]
    assert _asked(monitors["oapseg-trainers"], "node", "") == [PORT]


def test_trainings_are_told_the_first_port_and_the_network_lets_all_through(objects: tuple[Object, ...]) -> None:
    settings = named(rendered("aws"), "ConfigMap")["oapseg-registry"]["data"]
    assert settings["OAPSEG_METRICS_PORT"] == str(PORT)
    monitors, policies = named(objects, "PodMonitor"), named(objects, "NetworkPolicy")
    assert len(monitors) == 2
    for monitor in monitors.values():
        (policy,) = [each for each in policies.values() if each["spec"]["podSelector"] == monitor["spec"]["selector"]]
        (rule,) = policy["spec"]["ingress"]
        assert rule["ports"] == [{"protocol": "TCP", "port": PORT, "endPort": PORT + RANKS - 1}]


def test_beside_a_run_on_one_machine_prometheus_asks_every_rank_too() -> None:
    jobs = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    (job,) = [job for job in jobs if job["job_name"] == "oapseg"]
    (group,) = job["static_configs"]
    assert group["targets"] == [f"localhost:{PORT + rank}" for rank in range(RANKS)]


@pytest.mark.parametrize("kind", ["config", "rules"])
def test_prometheus_itself_can_read_what_it_is_given(kind: str) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("no promtool: Debian's prometheus has it")
    file = {"config": "prometheus.yml", "rules": "rules.yaml"}[kind]
    subprocess.run(["promtool", "check", kind, MONITORING / file], check=True, capture_output=True)


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


def test_the_compose_file_mounts_what_is_there_where_its_images_look() -> None:
    services = yaml.safe_load((MONITORING / "compose.yaml").read_text())["services"]
    images = yaml.safe_load((K8S / "images" / "kustomization.yaml").read_text())["images"]
    assert {image["newName"] for image in images} >= {services["pushgateway"]["image"].partition(":")[0]}
    mounted = {}
    for name, service in services.items():
        for volume in service.get("volumes", []):
            source, target, mode = volume.split(":")
            assert mode == "ro"
            assert (MONITORING / source).exists(), f"{name}: {source}"
            mounted[target] = source
    (option,) = [word for word in services["prometheus"]["command"] if word.startswith("--config.file=")]
    assert mounted[option.partition("=")[2]] == "./prometheus.yml"
    config = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    beside = option.partition("=")[2].rpartition("/")[0]
    assert [mounted[f"{beside}/{file}"] for file in config["rule_files"]] == ["./rules.yaml"]
    (provider,) = yaml.safe_load((MONITORING / "grafana" / "provider.yaml").read_text())["providers"]
    assert mounted[provider["options"]["path"]] == "./grafana/dashboards"
    for folder in ("datasources", "dashboards"):
        assert any(target.startswith(f"/etc/grafana/provisioning/{folder}/") for target in mounted)
    (source,) = yaml.safe_load((MONITORING / "grafana" / "datasource.yaml").read_text())["datasources"]
    assert source["url"] == "$PROMETHEUS_URL"
    listens = next(word for word in services["prometheus"]["command"] if word.startswith("--web.listen-address="))
    there = services["grafana"]["environment"]["PROMETHEUS_URL"]
    assert there.rpartition(":")[2] == listens.rpartition(":")[2]
    asked = {
        target for job in config["scrape_configs"] for group in job["static_configs"] for target in group["targets"]
    }
    gateway = next(word for word in services["pushgateway"]["command"] if word.startswith("--web.listen-address="))
    assert f"localhost:{gateway.rpartition(':')[2]}" in asked
