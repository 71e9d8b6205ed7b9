"""Dashboards and rules against a real Prometheus that scrapes a real training, and against what makes them."""

import copy
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import live
import pytest
import yaml
from live import BOARDS, MONITORING, Board, Prometheus, problems, rule_problems

from k8s.monitoring.alerts import ONLY_PROMETHEUS, groups, rules_text
from oapseg.monitor import push
from oapseg.monitor.exporter import Exporter
from oapseg.monitor.metrics import METRICS, STORAGE, TRAIN_METRICS
from oapseg.monitor.panels import GROUPS
from oapseg.monitor.rules import RULES
from oapseg.monitor.serving import SERVING

sys.path.append(str(Path(__file__).parents[1] / "train"))
from tiny import tiny_encoder, tiny_params, tiny_shards, write_params

NOT_DRAWN = {"oapseg_train_step", "oapseg_train_steps", "oapseg_matched_queries", "oapseg_train_alarm"}
ABSENT = frozenset(  # no series where there is no S3: tests/s3 asks for them
    {name for name in METRICS if "_stage_storage_" in name} | {metric.name for metric in STORAGE}
)
DEVICE = {"gpu_memory": 9.5e9, "gpu_memory_peak": 1.2e10, "gpu_utilisation": 0.97}  # what an accelerator would say
SOURCE = "oapseg-prometheus"
SEEN = " and on () ".join(
    ("oapseg_mask_stability_ratio", "oapseg_stage_samples", "oapseg_serve_ready", "oapseg_alias_score")
)


def boards() -> list[Board]:
    return [json.loads(path.read_text()) for path in BOARDS]


def expressions() -> list[str]:
    return [rule["expr"] for rule in groups()["groups"][0]["rules"]]


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that scrapes a small training, a step, a registry's and a server's metrics.

    Of a training beside it there is what this one has not: the values of an accelerator, and an alarm.
    """
    if live.missing():
        pytest.skip("no Prometheus: Debian has it as prometheus and prometheus-pushgateway")
    folder = tmp_path_factory.mktemp("live")
    shards, encoder = tiny_shards(folder / "photos"), tiny_encoder(folder / "encoder")
    params = tiny_params(pretrain={"steps": 100_000}, monitor={"every": 1})
    port, other, served = live.free_port(), live.free_port(), live.free_port()
    words = ["--shards", shards.location, "--encoder", encoder, "--out", folder / "out"]
    words += ["--params", write_params(params, folder / "params.yaml")]
    with live.pushgateway() as gateway, _served(served), Exporter("ill", "pretrain", 0, port=other) as ill:
        ill.show({"step": 3, **DEVICE})
        ill.alarm("MaskInflation", on=True)
        more = {"OAPSEG_METRICS_PORT": str(port), "PUSHGATEWAY_URL": f"http://127.0.0.1:{gateway}"}
        environment = os.environ | more | {"OMP_NUM_THREADS": "1", "OAPSEG_PUSH_KEEP_S": "0"}
        command = [sys.executable, "-m", "components", "pretrain", *map(str, words)]
        targets = {"oapseg": [port, other], "pushgateway": [gateway], "serving": [served]}
        with (
            live.running(command, env=environment, cwd=live.ROOT),
            live.prometheus(folder, targets) as prometheus,
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setenv("PUSHGATEWAY_URL", more["PUSHGATEWAY_URL"])
            live.wait_for(prometheus, "oapseg_train_loss")
            _push(shards.location, more["PUSHGATEWAY_URL"])
            live.wait_for(prometheus, SEEN)
            live.wait_for(prometheus, "count_over_time(oapseg_serve_ready[1m]) > 3")
            yield prometheus


def _push(shards: str, gateway: str) -> None:
    """What a step that has ended, a run and a registry leave at the gateway."""
    from components.notify import push as push_run

    key = {"run": "run-1", "stage": "shard"}
    ended = {"oapseg_stage_running": 0.0, "oapseg_stage_seconds": 3.0, "oapseg_stage_failed": 0.0}
    push.tell(gateway, push.JOB, key, ended | push.counts(["shard", "--shards", shards]))
    push.alias("oapseg", "champion", 3, {"model.mask_AP50": 12.5})
    push_run(gateway, "SUCCEEDED", "run-0", "mine", {"model.mask_AP50": 12.5})


class _served:  # noqa: N801  # reads as a phrase where it is used
    """A server's own metrics, with requests that go on."""

    def __init__(self, port: int) -> None:
        self.port, self.over = port, threading.Event()

    def __enter__(self) -> None:
        from prometheus_client import start_http_server

        from oapseg.serve.metrics import Metrics

        metrics = Metrics(["too_large"])
        metrics.model.labels("oapseg", "3", "ab").set(1)
        self.server, _ = start_http_server(self.port, "127.0.0.1", registry=metrics.registry)

        def requests() -> None:
            while not self.over.wait(0.2):
                metrics.ended(None, 0.1)
                metrics.batch.observe(2)
                with metrics.phase("model"):
                    pass

        threading.Thread(target=requests, daemon=True).start()

    def __exit__(self, *_error: object) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize("board", boards(), ids=lambda board: board["uid"])
def test_every_panel_of_a_dashboard_has_series_with_the_labels_of_its_legend(board: Board, scraped: Prometheus) -> None:
    print(live.counted(board, scraped))
    assert problems(board, scraped, ABSENT, SOURCE) == []


@pytest.mark.slow
@pytest.mark.parametrize("expr", expressions())
def test_every_selector_of_a_rule_has_series(expr: str, scraped: Prometheus) -> None:
    assert rule_problems(expr, scraped) == []
    print(f"{len(live.SELECTOR.findall(expr))} selectors with series: {expr}")


def _typo(change: Callable[[dict[str, Any]], None]) -> Board:
    """The dashboard of trainings with one panel changed."""
    board = copy.deepcopy(next(board for board in boards() if board["uid"] == "oapseg-training"))
    change(next(panel for panel in board["panels"] if panel["title"] == "Parts of the loss"))
    return board


def _in_target(key: str, old: str, new: str) -> Callable[[dict[str, Any]], None]:
    def change(panel: dict[str, Any]) -> None:
        assert old in panel["targets"][0][key]
        panel["targets"][0][key] = panel["targets"][0][key].replace(old, new)

    return change


TYPOS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "metric": (_in_target("expr", "loss_part", "loss_parts"), "no series for oapseg_train_loss_parts"),
    "label": (_in_target("expr", "rank=", "rang="), "no series for"),
    "syntax": (_in_target("expr", "}", ""), "parse error"),
    "legend": (_in_target("legendFormat", "{{part}}", "{{parts}}"), "no label parts"),
    "source": (lambda panel: panel["datasource"].update(uid="other"), "another source than"),
    "unit": (lambda panel: panel["fieldConfig"]["defaults"].pop("unit"), "no description, unit or thresholds"),
}


@pytest.mark.slow
@pytest.mark.parametrize("typo", TYPOS)
def test_a_planted_typo_is_found(typo: str, scraped: Prometheus) -> None:
    change, said = TYPOS[typo]
    found = problems(_typo(change), scraped, ABSENT, SOURCE)
    print(f"{typo}: {found[0]}" if found else f"{typo}: not found")
    assert found
    assert all(said in problem for problem in found)


@pytest.mark.slow
def test_a_planted_typo_of_a_rule_is_found(scraped: Prometheus) -> None:
    found = rule_problems("oapseg_train_lost > 2", scraped)
    print(f"a rule's metric: {found[0]}" if found else "a rule's metric: not found")
    assert found == ["oapseg_train_lost > 2: no series for oapseg_train_lost"]


def test_what_lies_in_the_folder_is_what_the_code_makes() -> None:
    pytest.importorskip("grafana_foundation_sdk", reason="no Grafana SDK: extra dev has it")
    from k8s.monitoring.__main__ import files

    for name, text in files().items():
        assert (MONITORING / name).read_text() == text, f"{name}: run python -m k8s.monitoring"


def test_the_rules_are_those_of_the_training_and_the_runbook_has_a_paragraph_on_each() -> None:
    assert (MONITORING / "rules.yaml").read_text() == rules_text()
    runbook = (live.ROOT / "docs" / "runbook.md").read_text()
    headings = [line.removeprefix("## ") for line in runbook.splitlines() if line.startswith("## ")]
    assert headings == [rule.name for rule in (*RULES, *ONLY_PROMETHEUS)]
    for part in runbook.split("\n## ")[1:]:
        assert all(f"**{word}**" in part for word in ("What", "Why", "Do")), part.splitlines()[0]


def test_every_metric_of_a_training_is_on_a_dashboard_or_left_out_on_purpose() -> None:
    drawn = {name for panels in GROUPS.values() for panel in panels for name in panel.metrics}
    assert {metric.name for metric in TRAIN_METRICS} - drawn == NOT_DRAWN
    assert drawn <= set(METRICS)


def test_every_listed_metric_is_asked_for_by_some_dashboard() -> None:
    asked = "".join(path.read_text() for path in BOARDS)
    assert [name for name in METRICS if name not in asked and name not in NOT_DRAWN] == []


def test_servings_metrics_are_those_that_the_server_counts() -> None:
    from oapseg.serve.metrics import Metrics

    counted = {family.name: family for family in Metrics([]).registry.collect() if family.name.startswith("oapseg_")}
    listed = {metric.name.removesuffix("_total"): metric for metric in SERVING}
    assert set(counted) == set(listed)
    for name, family in counted.items():
        assert (family.type, family.documentation) == (listed[name].kind, listed[name].meaning)


def test_the_objects_for_the_operator_name_the_namespace_and_the_rules() -> None:
    rule = yaml.safe_load((MONITORING / "prometheus-rule.yaml").read_text())
    assert rule["spec"] == groups()
    assert rule["kind"] == "PrometheusRule"
