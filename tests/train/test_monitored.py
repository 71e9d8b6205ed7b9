"""A training that is watched learns the same bits, tells its values, and heeds its own alarms where it may."""

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny import tiny_encoder, tiny_params, tiny_shards

from oapseg.checkpoint import RESUME
from oapseg.checkpoint.state import latest_checkpoint, list_checkpoints, load_checkpoint
from oapseg.monitor import health, recorder
from oapseg.monitor.exporter import PORT, Exporter
from oapseg.monitor.history import HISTORY, TABLE
from oapseg.monitor.memory import load_memory
from oapseg.monitor.metrics import EVERY_KEY, find
from oapseg.monitor.rules import Rule
from oapseg.params import Params
from oapseg.shards.manifest import Manifest
from oapseg.train import loop
from oapseg.train.recovery import UnhealthyError
from oapseg.train.run import pretrain, train_encoder
from oapseg.train.segmenter import SegmenterTraining

EXISTING = {
    *("step", "loss", "loss_mask", "loss_dice", "loss_objectness", "loss_distill", "lr", "momentum"),
    *("teacher_temperature", "gradient_norm", "masks", "matched", "cluster_entropy", "code_entropy", "seconds"),
}
STEEP = Rule("Steep", "loss", ">", 0.0, "the loss is above nothing", after_step=3, for_steps=1, action="rollback")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return tiny_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def run(shards: Manifest, encoder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Train in a folder of the given name; sections may be changed."""

    def trained(name: str, **changes: dict[str, Any]) -> Path:
        pretrain(params(**changes), shards, encoder, tmp_path / name)
        return tmp_path / name

    return trained


def params(**changes: dict[str, Any]) -> Params:
    return tiny_params(**({"monitor": {"every": 2, "photos": 4}} | changes))


def sums(folder: Path) -> str:
    final = latest_checkpoint(folder / "checkpoints")
    assert final is not None
    return (final / "sha256.json").read_text()


def rows(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / HISTORY).read_text().splitlines()]


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The next training is asked to stop in this step."""
    inner = SegmenterTraining.step

    def stepped(self: SegmenterTraining, number: int) -> dict[str, float]:
        if number == step:
            monkeypatch.setattr(loop._Stop, "asked", True)
        return inner(self, number)

    monkeypatch.setattr(SegmenterTraining, "step", stepped)


def ruled(monkeypatch: pytest.MonkeyPatch, *rules: Rule) -> None:
    """Trainings judge themselves by these rules alone."""
    monkeypatch.setattr(recorder, "Health", lambda: health.Health(rules))


def test_measured_often_seldom_or_never_it_learns_the_same_bits(run: Callable[..., Path]) -> None:
    found = {every: sums(run(str(every), monitor={"every": every, "photos": 4})) for every in (0, 1, 3)}
    assert found[0] == found[1] == found[3]


def test_stopped_and_resumed_it_learns_and_remembers_the_same(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = run("straight")
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(SystemExit) as stopped:
            run("stopped")
    assert stopped.value.code == RESUME
    resumed = run("stopped")
    assert sums(straight) == sums(resumed)
    one, other = load_memory(straight, 6), load_memory(resumed, 6)
    assert set(one) == set(other) == {"agreed", "used", "photos", "masks", "packed"}
    assert all(one[name].equal(other[name]) for name in one)
    lines = rows(resumed)
    assert [row["resumes"] for row in lines] == [0, 0, 0, 1, 1, 1]
    timed = {"images_per_second", "loader_wait", "checkpoint_age", "checkpoint_overdue", "resumes", "seconds"}
    for row, again in zip(rows(straight), lines, strict=True):
        same = {key for key in row if key not in timed and not key.startswith("seconds_")}
        assert {key: row[key] for key in same} == {key: again.get(key) for key in same}


def test_every_key_of_a_line_is_a_metric_and_what_was_there_before_stays(run: Callable[..., Path]) -> None:
    lines = rows(run("a"))
    assert set(lines[1]) >= EXISTING
    assert {key for row in lines for key in row if find(key) is None} == set()
    assert {"coverage", "teacher_student_iou", "dead_clusters", "seconds_pool"} <= set(lines[2]) - set(lines[1])


def test_the_table_beside_the_history_has_its_columns(run: Callable[..., Path]) -> None:
    folder = run("a")
    header, *lines = (folder / TABLE).read_text().splitlines()
    assert set(header.split(",")) == {key for row in rows(folder) for key in row} | set(EVERY_KEY)
    assert len(lines) == 6


def test_photos_and_masks_of_the_newest_measured_step_lie_beside_it_as_a_picture(run: Callable[..., Path]) -> None:
    folder = run("a")
    with Image.open(folder / "masks.png") as picture:
        assert picture.size == (2 * 64, 2 * 64)  # two photos of 64 px, below each its masks
        photos, masked = picture.crop((0, 0, 128, 64)), picture.crop((0, 64, 128, 128))
    assert photos.tobytes() != masked.tobytes()
    assert not (run("b", monitor={"every": 0}) / "masks.png").exists()


def test_training_an_encoder_tells_its_rates_the_parts_of_its_steps_and_its_heads_health(
    shards: Manifest, tmp_path: Path
) -> None:
    train_encoder(tiny_params(monitor={"every": 2}), shards, tmp_path / "encoder")
    lines = rows(tmp_path / "encoder")
    every = {"loss", "lr", "momentum", "teacher_temperature", "student_temperature", "gradient_norm", "seconds"}
    assert all(every <= set(line) for line in lines)
    assert all({"images_per_second", "loader_wait"} <= set(line) for line in lines)
    parts = {f"seconds_{part}" for part in ("loader", "teacher", "student", "loss", "backward", "optimizer")}
    health = {"cluster_use", "dead_clusters", "largest_cluster", "centre_norm", "centre_lag"}
    for line in lines:
        assert (parts | health <= set(line)) == (line["step"] % 2 == 0)
        assert sum(line.get(part, 0.0) for part in parts) <= line["seconds"]
        assert all(find(key) is not None for key in line)


def test_values_are_served_while_it_trains(run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    inner = Exporter.show

    def show(self: Exporter, row: dict[str, float]) -> None:
        inner(self, row)
        assert self._server is not None
        url = f"http://127.0.0.1:{self._server[0].server_port}/metrics"
        said.append(urllib.request.urlopen(url, timeout=10).read().decode())

    monkeypatch.setattr(Exporter, "show", show)
    monkeypatch.setenv(PORT, str(free_port()))
    monkeypatch.setenv("OAPSEG_RUN", "mine")
    run("a")
    labels = 'rank="0",run="mine",task="pretrain"'
    assert f"oapseg_train_step{{{labels}}} 5.0" in said[-1]
    assert f'oapseg_train_loss_part{{part="dice",{labels}}}' in said[-1]
    assert "oapseg_train_checkpoint_age_seconds{" in said[-1]


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_port_that_is_taken_is_one_line_and_no_end_of_the_training(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv(PORT, str(port))
        run("a", pretrain={"steps": 1})
    assert f"no metrics: port {port} cannot be had" in capsys.readouterr().err


def test_a_port_that_is_none_is_refused_before_the_first_step(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PORT, "http")
    with pytest.raises(ValueError, match="OAPSEG_METRICS_PORT: must be a port, 1 to 65535, or 0 for none; is 'http'"):
        run("a")


def test_an_alarm_warns_and_changes_nothing_where_it_may_not(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    straight = sums(run("straight"))
    ruled(monkeypatch, STEEP)
    assert sums(run("warned")) == straight
    said = " ".join(capsys.readouterr().err.split())
    assert "Steep: the loss is above nothing" in said
    assert "see docs/runbook.md#steep" in said


def test_an_alarm_stops_the_training_where_it_may(run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    ruled(monkeypatch, STEEP)
    with pytest.raises(UnhealthyError, match=r"pretrain: stopped by its own alarm. Steep: .* since step 3"):
        run("a", monitor={"action": "stop"})


def test_an_alarm_takes_it_back_before_the_trouble_and_past_the_photos(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The rule holds from step 3 on and fires at step 4, in every try, so the second alarm ends it."""
    ruled(monkeypatch, STEEP)
    back = {"monitor": {"every": 2, "action": "rollback", "rollbacks": 1}, "pretrain": {"checkpoint_every_s": 1e-6}}
    with pytest.raises(UnhealthyError, match=r"after 1 times back, monitor.rollbacks"):
        run("a", **back)
    (kept,) = [path for path in list_checkpoints(tmp_path / "a" / "checkpoints") if path.name.endswith("3")]
    values = load_checkpoint(kept).values
    assert values["rollbacks"] == 1
    assert values["draw"] == (3 + 2) * 2  # steps 3 and 4 were passed over, of 2 photos each
    assert [row["rollbacks"] for row in rows(tmp_path / "a")] == [0, 0, 0, 1, 1]
    assert [row["passed_photos"] for row in rows(tmp_path / "a")] == [0, 0, 0, 4, 4]


def test_taken_back_and_then_well_it_goes_on_to_the_end_and_resumes_to_the_same_bits(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule fires at step 4 of the first try alone: the photos after them have another loss."""
    lines = rows(run("plain"))
    ill = next(row["loss"] for row in lines if row["step"] == 4)
    ruled(
        monkeypatch,
        Rule("Once", "loss", ">", ill * (1 - 1e-9), "as at step 4", after_step=4, for_steps=0, action="rollback"),
    )
    back = {"monitor": {"every": 2, "action": "rollback"}, "pretrain": {"checkpoint_every_s": 1e-6}}
    straight = run("straight", **back)
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        with pytest.raises(SystemExit):
            run("stopped", **back)
    assert sums(run("stopped", **back)) == sums(straight)


def test_without_a_checkpoint_from_before_it_stops(run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    ruled(monkeypatch, STEEP)
    with pytest.raises(UnhealthyError, match="no checkpoint from before it to go back to"):
        run("a", monitor={"action": "rollback"})
