"""What dashboards show of S3, asked of a real Prometheus that scrapes a training whose shards lie on a real server."""

import json
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

import ceph
import pytest
from monitor import live
from proxy import UNAVAILABLE, proxy
from train.tiny import tiny_encoder, tiny_params, tiny_shards, write_params

from oapseg.monitor.metrics import METRICS, STORAGE

ON_S3 = {metric.name for metric in STORAGE} | {name for name in METRICS if "_stage_storage_" in name}
SOURCE = "oapseg-prometheus"


def asked(panel: dict[str, Any]) -> set[str]:
    """The metrics that a panel asks for."""
    return {name for target in panel.get("targets", []) for name in re.findall(r"\boapseg_\w+", target["expr"])}


def board() -> live.Board:
    """The panels of all dashboards that show S3."""
    whole = [json.loads(path.read_text()) for path in live.BOARDS]
    return {"title": "S3", "panels": [panel for each in whole for panel in each["panels"] if asked(panel) & ON_S3]}


@pytest.fixture(scope="module")
def scraped(server: ceph.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[live.Prometheus]:
    """Scrapes a step that wrote shards to the server, and a training that reads them, once refused on the way."""
    if live.missing():
        pytest.skip("no Prometheus: Debian has it as prometheus and prometheus-pushgateway")
    folder = tmp_path_factory.mktemp("dashboards")
    tiny_shards(folder / "drawn")
    photos = {"root": str(folder / "drawn" / "photos"), "sources": [{"kind": "photos", "path": "."}]}
    params = tiny_params(pretrain={"steps": 100_000}, shards={"sets": {"mine": photos}})
    kept = ["--params", str(write_params(params, folder / "params.yaml"))]
    place, port = f"{ceph.make_bucket(server, 'dashboards')}/set", live.free_port()
    shard = [sys.executable, "-m", "components", "shard", "mine", "--out", place, *kept]
    words = ["--shards", place, "--encoder", str(tiny_encoder(folder / "encoder")), "--out", str(folder / "out")]
    pretrain = [sys.executable, "-m", "components", "pretrain", *words, *kept]
    with proxy(server.endpoint) as network, live.pushgateway() as gateway:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "OAPSEG_"))}
        environment |= dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), str(folder / "not-there"))
        environment |= server.environment | {"OMP_NUM_THREADS": "1", "AWS_ENDPOINT_URL": network.endpoint}
        ends = {"PUSHGATEWAY_URL": f"http://127.0.0.1:{gateway}", "OAPSEG_PUSH_KEEP_S": "600"}
        goes_on = {"OAPSEG_METRICS_PORT": str(port)}
        with (
            live.prometheus(folder, {"oapseg": [port], "pushgateway": [gateway]}) as prometheus,
            live.running(shard, env=environment | ends, cwd=live.ROOT),
        ):
            live.wait_for(prometheus, "oapseg_stage_storage_seconds")
            with live.running(pretrain, env=environment | goes_on, cwd=live.ROOT):
                live.wait_for(prometheus, "rate(oapseg_storage_requests_total[5m]) > 0")
                network.break_next(UNAVAILABLE)
                live.wait_for(prometheus, "increase(oapseg_storage_retries_total[5m]) > 0")
                yield prometheus


def test_every_panel_on_s3_has_series_with_the_labels_of_its_legend(scraped: live.Prometheus) -> None:
    assert {name for panel in board()["panels"] for name in asked(panel)} == ON_S3
    print(live.counted(board(), scraped))
    assert live.problems(board(), scraped, frozenset(), SOURCE) == []


TYPOS = {
    "metric": (
        "Requests to S3",
        "expr",
        "storage_requests",
        "storage_request",
        "no series for oapseg_storage_request_",
    ),
    "label": ("Tried again", "expr", "rank=", "rang=", "no series for oapseg_storage_retries_total{"),
    "legend": ("Time of a request", "legendFormat", "{{operation}}", "{{operations}}", "no label operations"),
    "metric of a step": ("Refused to a step", "expr", "storage_errors", "storage_error", "no series for oapseg_stage_"),
    "legend of a step": ("S3's time in a step", "legendFormat", "{{stage}}", "{{step}}", "no label step"),
}


@pytest.mark.parametrize("typo", TYPOS)
def test_a_planted_typo_in_a_panel_on_s3_is_found(typo: str, scraped: live.Prometheus) -> None:
    title, key, right, wrong, said = TYPOS[typo]
    planted = board()
    (target,) = next(panel for panel in planted["panels"] if panel["title"] == title)["targets"]
    assert right in target[key]
    target[key] = target[key].replace(right, wrong)
    found = live.problems(planted, scraped, frozenset(), SOURCE)
    print(f"{typo}: {found[0]}" if found else f"{typo}: not found")
    assert found
    assert all(problem.startswith(f"S3, {title}: {said}") for problem in found)
