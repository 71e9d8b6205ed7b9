"""What a training asked of S3 is in its history, and at its port as counters of Prometheus."""

import json
import urllib.request
from pathlib import Path

import live
import pytest

from oapseg.monitor.history import HISTORY
from oapseg.monitor.metrics import STORAGE, find
from oapseg.monitor.push import asked
from oapseg.monitor.recorder import Recorder, Told
from oapseg.storage import tally


@pytest.fixture(autouse=True)
def _from_nothing() -> None:
    tally.taken()


def recorder(folder: Path) -> Recorder:
    told = Told(folder, "pretrain", 0, steps=4, images=2, log_every=1, checkpoint_every_s=60.0, judge=False)
    return Recorder(told, resumed=False)


def test_a_line_of_the_history_says_what_s3_was_asked_so_far(tmp_path: Path) -> None:
    with recorder(tmp_path) as recording:
        recording.did(0, {"loss": 1.0}, measured=False)
        tally.count("requests", "read")
        tally.count("retries", "read", 2.0)
        recording.did(1, {"loss": 1.0}, measured=False)
    before, after = [json.loads(line) for line in (tmp_path / HISTORY).read_text().splitlines()]
    assert not {name for name in before if name.startswith("storage_")}
    assert {name: value for name, value in after.items() if name.startswith("storage_")} == {
        "storage_requests_read": 1.0,
        "storage_retries_read": 2.0,
        "storage_errors_read": 0.0,  # told before the first, so that Prometheus sees it rise
    }


def test_the_port_of_a_training_tells_them_as_counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port = live.free_port()
    monkeypatch.setenv("OAPSEG_METRICS_PORT", str(port))
    monkeypatch.setenv("OAPSEG_RUN", "mine")
    with recorder(tmp_path) as recording:
        for number in range(2):
            for what in tally.COUNTED:
                tally.count(what, "write", 1.5)
            recording.did(number, {"loss": 1.0}, measured=False)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            page = answer.read().decode()
    for metric in STORAGE:
        assert f"# TYPE {metric.name} counter" in page
        labels = 'operation="write",rank="0",run="mine",task="pretrain"'
        (line,) = [line for line in page.splitlines() if line.startswith(f"{metric.name}{{")]
        assert sorted(line[len(metric.name) + 1 :].partition("}")[0].split(",")) == sorted(labels.split(","))
        assert float(line.rpartition(" ")[2]) == 3.0


def test_every_count_is_a_metric_and_no_other_operation_is() -> None:
    for what in tally.COUNTED:
        for operation in tally.OPERATIONS:
            found = find(f"storage_{what}_{operation}")
            assert found is not None
            assert found[0].name == f"oapseg_storage_{what}_total"
        assert find(f"storage_{what}_rename") is None


def test_a_step_tells_the_sum_over_all_operations_and_nothing_where_s3_was_not_asked() -> None:
    assert asked() == {}
    for operation in ("read", "write"):
        tally.count("requests", operation)
        tally.count("seconds", operation, 0.25)
    tally.count("errors", "read")
    assert asked() == {
        "oapseg_stage_storage_seconds": 0.5,
        "oapseg_stage_storage_retries": 0,
        "oapseg_stage_storage_errors": 1.0,
    }
