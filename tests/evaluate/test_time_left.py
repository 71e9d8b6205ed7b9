"""How long work still takes, after a resume: what was there already is no speed of this run."""

from functools import partial
from pathlib import Path

import pytest
from train.tiny import tiny_encoder, tiny_params, tiny_shards

from oapseg.encode.load import load_folder
from oapseg.encode.patches import Patches
from oapseg.evaluate import pooling, predictions
from oapseg.evaluate.pooling import Job, fingerprint, pool_set
from oapseg.evaluate.predictions import Parts, PhotoResults, write_predictions
from oapseg.masks import Masks
from oapseg.pool.generator import Generator
from oapseg.pool.oap import OAP
from oapseg.progress import Progress
from oapseg.shards.manifest import load_manifest
from oapseg.shards.read import Sample

PARAMS = tiny_params(predict={"image_px": 64, "window_px": 48, "batch": 1, "device": "cpu"})
STOPPED_AT = 9  # photo of twelve, in shards of four: the first two are whole


class Clock:
    """Seconds that pass where the work says so, and what a bar showed of the time left before each of them."""

    def __init__(self) -> None:
        self.now, self.bar, self.left = 0.0, Progress(disable=True), list[float | None]()

    def progress(self, *columns: object, **options: object) -> Progress:
        self.bar = Progress(*columns, get_time=lambda: self.now, **options)
        return self.bar

    def second(self) -> None:
        self.left.append(self.bar.tasks[0].time_remaining)
        self.now += 1


class Slow(Generator):
    """OAP that takes a second a photo, until it is stopped."""

    def __init__(self, clock: Clock, stopped_at: int | None = None) -> None:
        self.oap, self.clock, self.left, self.warm = OAP(**PARAMS.pool.oap), clock, stopped_at, False

    def __call__(self, patches: Patches) -> Masks:
        return self.oap(patches)

    def batch(self, patches: list[Patches]) -> list[Masks]:
        if self.left is not None:
            self.left -= len(patches)
            if self.left < 0:
                raise KeyboardInterrupt
        self.clock.second()
        return self.oap.batch(patches)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (pooling, predictions):
        monkeypatch.setattr(module, "Progress", clock.progress)
    return clock


@pytest.mark.parametrize("kept", [False, True])
def test_a_pool_that_goes_on_tells_the_time_left_by_its_own_speed(
    kept: bool, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pooling, "KEEP_EVERY_S", 0.0 if kept else 1e9)
    tiny_shards(tmp_path, 12)
    manifest, encoder = load_manifest(str(tmp_path / "shards")), load_folder(tiny_encoder(tmp_path / "encoder"))
    parts = partial(Parts, str(tmp_path / "oap"), manifest, fingerprint("oap", PARAMS, encoder, manifest))
    with pytest.raises(KeyboardInterrupt):
        pool_set(manifest, encoder, [Job("oap", Slow(clock, STOPPED_AT), parts(), 0)], PARAMS)
    clock.left.clear()
    pool_set(manifest, encoder, [Job("oap", Slow(clock), parts(), 0)], PARAMS)
    assert clock.left == ([None, None, 1.0] if kept else [None, None, 2.0, 1.0])
    assert "12 of 12 photos" in capsys.readouterr().err


def test_the_log_of_a_pool_that_goes_on_says_the_time_that_it_takes(
    clock: Clock, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_shards(tmp_path, 16)
    manifest, encoder = load_manifest(str(tmp_path / "shards")), load_folder(tiny_encoder(tmp_path / "encoder"))
    parts = partial(Parts, str(tmp_path / "oap"), manifest, fingerprint("oap", PARAMS, encoder, manifest))
    with pytest.raises(KeyboardInterrupt):
        pool_set(manifest, encoder, [Job("oap", Slow(clock, 8), parts(), 0)], PARAMS)
    capsys.readouterr()
    pool_set(manifest, encoder, [Job("oap", Slow(clock), parts(), 0)], PARAMS)
    said = capsys.readouterr().err
    assert "shard 3 of 4 done, 12 of 16 photos" in said
    assert "4 s left" in said


def test_a_step_that_goes_on_predicting_tells_the_time_left_by_its_own_speed(clock: Clock, tmp_path: Path) -> None:
    manifest = tiny_shards(tmp_path, 12)
    seen: list[str] = []

    def predict(samples: list[Sample]) -> list[PhotoResults]:
        if len(seen) == STOPPED_AT:
            raise KeyboardInterrupt
        seen.extend(sample.key for sample in samples)
        clock.second()
        return [PhotoResults([]) for _ in samples]

    write = partial(write_predictions, str(tmp_path / "out"), manifest, predict, batch=1, fingerprint="same", what="x")
    with pytest.raises(KeyboardInterrupt):
        write()
    clock.left.clear()
    seen.append("never")
    write()
    assert clock.left == [None, None, 2.0, 1.0]
    assert len(seen) == STOPPED_AT + 1 + 4
