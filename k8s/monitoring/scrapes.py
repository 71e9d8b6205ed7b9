"""Where Prometheus asks trainings for their metrics: each rank on a machine serves its own, at a port of its own."""

from typing import Any

import yaml

PORT = 9108  # of the first rank on a machine (`OAPSEG_METRICS_PORT`); the next has the next
RANKS = 16  # on a machine, at most; k8s/monitoring/network.yaml lets as many ports through
EVERY_S = 15
LABEL = "oapseg.io/ranks"  # of a pod: how many there are in it
NAME = "__meta_kubernetes_pod_label_oapseg_io_ranks"  # the same, as Prometheus finds it
PUSHGATEWAY, SERVING = "localhost:9091", "localhost:8080"


def pod_monitors() -> str:
    """What the operator of Prometheus is told of pods: a step has one rank, a machine of a TrainJob has several.

    A container of either declares no port, so the address is made here.
    """
    steps = _pod_monitor("oapseg-steps", "workflows.argoproj.io/workflow", [_endpoint("main", 0)])
    machines = [_endpoint("node", rank) for rank in range(RANKS)]
    trainers = _pod_monitor("oapseg-trainers", "jobset.sigs.k8s.io/jobset-name", machines)
    return yaml.safe_dump_all([steps, trainers], sort_keys=False, width=120)


def prometheus_yml() -> str:
    """A Prometheus beside a run on one machine, as `make monitor` and compose.yaml start it: ranks that do not run are
    down there.
    """
    jobs: list[dict[str, Any]] = [
        {"job_name": "oapseg", "static_configs": [{"targets": [f"localhost:{PORT + rank}" for rank in range(RANKS)]}]},
        {"job_name": "pushgateway", "honor_labels": True, "static_configs": [{"targets": [PUSHGATEWAY]}]},
        {"job_name": "serving", "static_configs": [{"targets": [SERVING]}]},
    ]
    pace = {"scrape_interval": f"{EVERY_S}s", "evaluation_interval": f"{EVERY_S}s"}
    settings = {"global": pace, "rule_files": ["rules.yaml"], "scrape_configs": jobs}
    return yaml.safe_dump(settings, sort_keys=False, width=120)


def _pod_monitor(name: str, label: str, endpoints: list[dict[str, Any]]) -> dict[str, Any]:
    selector = {"matchExpressions": [{"key": label, "operator": "Exists"}]}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PodMonitor",
        "metadata": {"name": name},
        "spec": {"selector": selector, "podMetricsEndpoints": endpoints},
    }


def _endpoint(container: str, rank: int) -> dict[str, Any]:
    """The port of one rank; from the second on, of those pods alone that have so many."""
    container_name = "__meta_kubernetes_pod_container_name"
    kept: list[dict[str, Any]] = [{"action": "keep", "sourceLabels": [container_name], "regex": container}]
    if rank:
        more = "|".join(str(ranks) for ranks in range(rank + 1, RANKS + 1))
        kept.append({"action": "keep", "sourceLabels": [NAME], "regex": more})
    address = {
        "sourceLabels": ["__meta_kubernetes_pod_ip"],
        "targetLabel": "__address__",
        "replacement": f"$1:{PORT + rank}",
    }
    return {"path": "/metrics", "interval": f"{EVERY_S}s", "relabelings": [*kept, address]}
