"""`python -m k8s.monitoring`: write the alert rules and the dashboards that lie beside this file."""

import json
from pathlib import Path

import yaml

from oapseg.monitor.alerts import groups, rules_text

FOLDER = Path(__file__).parent
HEADER = "# Made by `python -m k8s.monitoring`.\n"


def files() -> dict[str, str]:
    """Every file that is made, by its path from here."""
    from grafana_foundation_sdk.cog.encoder import JSONEncoder

    from k8s.monitoring.dashboards import BOARDS, build

    made = {"rules.yaml": rules_text(), "prometheus-rule.yaml": prometheus_rule()}
    for name in BOARDS:
        made[f"grafana/dashboards/{name}.json"] = JSONEncoder(sort_keys=True, indent=1).encode(build(name)) + "\n"
    return made


def prometheus_rule() -> str:
    """The same rules as an object of the Prometheus operator."""
    thing = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "oapseg", "labels": {"app.kubernetes.io/name": "oapseg"}},
        "spec": json.loads(json.dumps(groups())),
    }
    return HEADER + yaml.safe_dump(thing, sort_keys=False, width=120)


def main() -> None:
    for name, text in files().items():
        (FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
