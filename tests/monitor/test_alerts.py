"""A step that fails is told of, though what it says of itself is there for twenty seconds alone."""

import shutil
import subprocess
from pathlib import Path

import live
import pytest
import yaml

from k8s.monitoring.alerts import PREFIX, groups, rules_text
from oapseg.monitor.push import DEFAULT_KEEP_S

SCRAPE_S = 15
FAILED = 'oapseg_stage_failed{run="mine",stage="pretrain"}'


def firing(eval_s: int, count: int) -> dict[str, object]:
    expr = f'count(ALERTS{{alertname="{PREFIX}StageFailed",alertstate="firing"}}) or vector(0)'
    return {"expr": expr, "eval_time": f"{eval_s}s", "exp_samples": [{"labels": "{}", "value": count}]}


def test_rules_are_looked_at_as_often_as_values_are_asked_for() -> None:
    (group,) = groups()["groups"]
    config = yaml.safe_load((live.MONITORING / "prometheus.yml").read_text())
    pace = {config["global"]["scrape_interval"], config["global"]["evaluation_interval"], group["interval"]}
    assert pace == {f"{SCRAPE_S}s"}
    of_operator = yaml.safe_load((live.MONITORING / "prometheus-rule.yaml").read_text())
    assert [each["interval"] for each in of_operator["spec"]["groups"]] == [f"{SCRAPE_S}s"]
    assert SCRAPE_S < DEFAULT_KEEP_S  # a scrape comes in between


def test_a_failure_that_one_scrape_has_seen_is_told_for_minutes_and_a_success_never(tmp_path: Path) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("no promtool: Debian's prometheus has it")
    (tmp_path / "rules.yaml").write_text(rules_text())
    seen_once = {"series": FAILED, "values": "_ _ 1 stale _x40"}
    well = {"series": FAILED.replace("pretrain", "shard"), "values": "0 0 0 0x40"}
    told = [firing(15, 0), firing(30, 1), firing(60, 1), firing(300, 1), firing(400, 0)]
    test = {"name": "failed", "interval": f"{SCRAPE_S}s", "input_series": [seen_once, well], "promql_expr_test": told}
    content = {"rule_files": ["rules.yaml"], "evaluation_interval": f"{SCRAPE_S}s", "tests": [test]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(content))
    run = subprocess.run(["promtool", "test", "rules", tmp_path / "test.yaml"], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
