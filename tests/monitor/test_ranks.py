"""A training of two ranks on one machine: each serves its own values at its own port, and both can be told apart."""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import live
import pytest
from prometheus_client.parser import text_string_to_metric_families

sys.path.append(str(Path(__file__).parents[1] / "train"))
from tiny import tiny_encoder, tiny_params, tiny_shards, write_params

RANKS = ("0", "1")
STOP_S = 60  # torchrun passes the wish on and waits for its ranks

Page = dict[str, list[tuple[dict[str, str], float]]]  # labels and values by metric


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """The ports of both ranks, of a training that goes on."""
    folder = tmp_path_factory.mktemp("ranks")
    shards, encoder = tiny_shards(folder / "photos"), tiny_encoder(folder / "encoder")
    params = tiny_params(pretrain={"steps": 5000}, monitor={"every": 1})
    port = next(port for port in iter(live.free_port, None) if _is_free(port + 1))
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    launch += ["--master-port", str(live.free_port()), "-m", "components", "pretrain"]
    words = ["--shards", shards.location, "--encoder", encoder, "--out", folder / "out"]
    words += ["--params", write_params(params, folder / "params.yaml")]
    environment = os.environ | {"OAPSEG_METRICS_PORT": str(port), "OAPSEG_RUN": "two", "OMP_NUM_THREADS": "1"}
    with (folder / "said").open("w") as said:
        process = subprocess.Popen(
            [*launch, *map(str, words)], env=environment, cwd=live.ROOT, stdout=said, stderr=said
        )
        try:
            for rank in range(2):
                _wait_for(process, port + rank, folder / "said")
            yield port, port + 1
        finally:
            process.terminate()
            process.wait(STOP_S)


def _is_free(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _wait_for(process: subprocess.Popen[bytes], port: int, said: Path, patience_s: float = 240.0) -> None:
    """Until a rank has served a step."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError):
            if "oapseg_train_step" in page(port):
                return
        time.sleep(0.5)
    raise AssertionError(f"no step at port {port}: {said.read_text()[-2000:]}")


def page(port: int) -> Page:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
    return {family.name: [(each.labels, each.value) for each in family.samples] for family in families}


@pytest.mark.slow
def test_each_rank_serves_its_own_values_under_its_own_number(ports: tuple[int, int]) -> None:
    pages = [page(port) for port in ports]
    for rank, found in zip(RANKS, pages, strict=True):
        for name in ("oapseg_train_step", "oapseg_train_loss", "oapseg_train_step_seconds", "oapseg_masks_per_image"):
            ((labels, _),) = found[name]
            assert labels == {"run": "two", "task": "pretrain", "rank": rank}
    assert "oapseg_train_alarm" not in pages[1]  # rank 0 alone judges


@pytest.mark.slow
def test_prometheus_tells_the_ranks_apart_and_compares_them(ports: tuple[int, int], tmp_path: Path) -> None:
    if live.missing():
        pytest.skip("no Prometheus: Debian has it as prometheus and prometheus-pushgateway")
    with live.prometheus(tmp_path, {"oapseg": list(ports)}) as prometheus:
        live.wait_for(prometheus, 'count(oapseg_train_images_per_second{run="two"}) == 2')
        by_rank = {each["metric"]["rank"]: float(each["value"][1]) for each in prometheus.ask("oapseg_train_step")}
        assert set(by_rank) == set(RANKS)
        board = json.loads((live.MONITORING / "grafana" / "dashboards" / "runs.json").read_text())
        asked = {panel["title"]: panel["targets"][0]["expr"] for panel in board["panels"] if panel.get("targets")}
        for title, least in (("Slowest rank against the fastest", 1.0), ("Photos a second, all ranks", 0.0)):
            (both,) = prometheus.ask(asked[title].replace("$run", "two").replace("$rank", ".+"))
            assert float(both["value"][1]) >= least, title
