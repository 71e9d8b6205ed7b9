"""When Prometheus raises what no recorded training raises, and a step that failed, which speaks for seconds alone."""

import shutil
import subprocess
from pathlib import Path

import live
import pytest
import yaml
from test_recorded import BROKEN

from k8s.monitoring.alerts import ONLY_PROMETHEUS, PREFIX, groups, rules_text
from oapseg.monitor.push import DEFAULT_KEEP_S
from oapseg.monitor.rules import RULES

SCRAPE_S = 15
LABELS = '{run="mine",task="pretrain",rank="0"}'
STEPS = {f"oapseg_train_step{LABELS}": "0+15x100"}  # a step a second
MADE_UP = {  # the rule, series scraped every 15 s, when it is quiet still and when it has fired
    "ClusterCollapse": ({f"oapseg_head_cluster_use_ratio{LABELS}": "0.9x3 0.2x100"}, 75, 105),
    "DeadClusters": ({f"oapseg_head_dead_clusters_ratio{LABELS}": "0.1x3 0.7x100"}, 75, 105),
    "StaleCheckpoint": ({f"oapseg_train_checkpoint_overdue_ratio{LABELS}": "0+0.5x100"}, 90, 105),
    "ThroughputDrop": ({f"oapseg_train_images_per_second{LABELS}": "6x20 2x100"}, 330, 375),
    "TrainingStands": (
        {f"oapseg_train_step{LABELS}": "0+15x4 60x200", f"oapseg_train_steps{LABELS}": "320x200"},
        900,
        1020,
    ),
    "RunFailed": ({'oapseg_run_succeeded{experiment="mine"}': "1x3 0x100"}, 45, 60),
}
FAILED = 'oapseg_stage_failed{run="mine",stage="pretrain"}'


def firing(eval_s: int, count: int, rule: str = "StageFailed") -> dict[str, object]:
    expr = f'count(ALERTS{{alertname="{PREFIX}{rule}",alertstate="firing"}}) or vector(0)'
    return {"expr": expr, "eval_time": f"{eval_s}s", "exp_samples": [{"labels": "{}", "value": count}]}


def test_rules_are_looked_at_as_often_as_values_are_asked_for() -> None:
    (group,) = groups()["groups"]
    config = yaml.safe_load((live.MONITORING / "prometheus.yml").read_text())
    pace = {config["global"]["scrape_interval"], config["global"]["evaluation_interval"], group["interval"]}
    assert pace == {f"{SCRAPE_S}s"}
    of_operator = yaml.safe_load((live.MONITORING / "prometheus-rule.yaml").read_text())
    assert [each["interval"] for each in of_operator["spec"]["groups"]] == [f"{SCRAPE_S}s"]
    assert SCRAPE_S < DEFAULT_KEEP_S  # a scrape comes in between


@pytest.mark.parametrize("rule", MADE_UP)
def test_prometheus_raises_what_no_recorded_training_raises_in_time_and_not_before(rule: str, tmp_path: Path) -> None:
    series, quiet_s, fired_s = MADE_UP[rule]
    promtool(tmp_path, STEPS | series, [firing(quiet_s, 0, rule), firing(fired_s, 1, rule)])


def test_of_every_rule_it_is_known_that_prometheus_raises_it() -> None:
    raised = {rule for rule, _ in BROKEN.values()} | set(MADE_UP) | {"StageFailed"}
    assert raised == {rule.name for rule in (*RULES, *ONLY_PROMETHEUS)}


def test_a_failure_that_one_scrape_has_seen_is_told_for_minutes_and_a_success_never(tmp_path: Path) -> None:
    well = {FAILED.replace("pretrain", "shard"): "0 0 0 0x40"}
    told = [firing(15, 0), firing(30, 1), firing(60, 1), firing(300, 1), firing(400, 0)]
    promtool(tmp_path, well | {FAILED: "_ _ 1 stale _x40"}, told)


def promtool(folder: Path, series: dict[str, str], told: list[dict[str, object]]) -> None:
    """What promtool finds of series that are scraped so."""
    if shutil.which("promtool") is None:
        pytest.skip("no promtool: Debian's prometheus has it")
    (folder / "rules.yaml").write_text(rules_text())
    scraped = [{"series": name, "values": values} for name, values in series.items()]
    test = {"name": "ours", "interval": f"{SCRAPE_S}s", "input_series": scraped, "promql_expr_test": told}
    content = {"rule_files": ["rules.yaml"], "evaluation_interval": f"{SCRAPE_S}s", "tests": [test]}
    (folder / "test.yaml").write_text(yaml.safe_dump(content))
    run = subprocess.run(["promtool", "test", "rules", folder / "test.yaml"], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
