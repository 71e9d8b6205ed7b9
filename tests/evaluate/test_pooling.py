"""Step `pool`: masks of a set by any generator, gone on with after a kill, split over workers, failures in a ledger."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from train.tiny import tiny_encoder, tiny_params, tiny_shards, write_params

import components.__main__
from components.pool import own_part, summary
from oapseg.encode.encoder import encoder_hash
from oapseg.encode.load import load_folder
from oapseg.encode.patches import Patches
from oapseg.evaluate import pooling
from oapseg.evaluate.cost import read_cost
from oapseg.evaluate.pooling import Job, fingerprint, pool_set
from oapseg.evaluate.predict import generator_predictor
from oapseg.evaluate.predictions import Parts, Predictions
from oapseg.evaluate.probe import Probed, probe
from oapseg.masks import Masks
from oapseg.params import Params
from oapseg.pool.generator import Generator
from oapseg.pool.oap import OAP
from oapseg.shards.manifest import Manifest, load_manifest
from oapseg.shards.parts import Part
from oapseg.shards.read import Photos

SIZE = {"predict": {"image_px": 64, "window_px": 48, "batch": 2, "device": "cpu"}}


@pytest.fixture(scope="module")
def params() -> Params:
    return tiny_params(**SIZE, shards={"max_broken": 0.25})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, params: Params) -> Path:
    """Seven photos in two shards, an encoder, parameters."""
    folder = tmp_path_factory.mktemp("pool")
    tiny_shards(folder, 7)
    tiny_encoder(folder / "encoder")
    write_params(params, folder / "params.yaml")
    return folder


@pytest.fixture
def manifest(folder: Path) -> Manifest:
    return load_manifest(str(folder / "shards"))


class Moody(Generator):
    """OAP that fails on photos of some number, counted as they come; a batch fails with its photo."""

    def __init__(self, oap: OAP, fails: dict[int, BaseException]) -> None:
        self.oap, self.fails, self.seen = oap, fails, dict[float, int]()

    def __call__(self, patches: Patches) -> Masks:
        return self.batch([patches])[0]

    def batch(self, patches: list[Patches]) -> list[Masks]:
        for each in patches:
            number = self.seen.setdefault(float(each.features.sum()), len(self.seen))
            if number in self.fails:
                raise self.fails[number]
        return self.oap.batch(patches)


def pool(out: Path, folder: Path, params: Params, fails: dict[int, BaseException] | None = None, most: int = 9) -> Job:
    """Every photo of the set by a generator with a mood; without one, plain OAP."""
    manifest, encoder = load_manifest(str(folder / "shards")), load_folder(folder / "encoder")
    decided = fingerprint("oap", params, encoder, manifest)
    job = Job("oap", Moody(OAP(**params.pool.oap), fails or {}), Parts(str(out), manifest, decided), most)
    pool_set(manifest, encoder, [job], params)
    return job


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def step(folder: Path, out: Path, *more: str) -> int:
    words = ["pool", "oap", "--encoder", folder / "encoder", "--shards", folder / "shards", "--out", out, *more]
    return components.__main__.main([*map(str, words), "--params", str(folder / "params.yaml")])


def test_masks_are_those_that_the_step_predict_makes(
    folder: Path, params: Params, manifest: Manifest, tmp_path: Path
) -> None:
    pool(tmp_path / "oap", folder, params)
    encoder, batch = load_folder(folder / "encoder"), params.predict.batch
    predict = generator_predictor(encoder, OAP(**params.pool.oap).batch, params.predict)
    samples, expected = list(Photos(manifest)), []
    for start in range(0, 4, batch):
        expected += [result for each in predict(samples[start : start + batch]) for result in each.results]
    found = [each for results in Predictions(str(tmp_path / "oap")).part(0).values() for each in results]
    assert len(found) > 4
    assert found == expected


def test_a_photo_that_a_generator_fails_on_is_named_with_its_error_and_the_others_of_its_batch_are_not(
    folder: Path, params: Params, tmp_path: Path
) -> None:
    job = pool(tmp_path / "oap", folder, params, {2: RuntimeError("did not\nconverge")})
    assert list(job.failed.values()) == ["RuntimeError: did not converge"]
    (name,) = job.failed
    assert json.loads((tmp_path / "oap/part-000000.failed.json").read_text()) == job.failed
    made = Predictions(str(tmp_path / "oap"))
    whole = pool(tmp_path / "whole", folder, params)
    everything = Predictions(str(tmp_path / "whole"))
    assert whole.failed == {}
    missing = set(everything.part(0)) - set(made.part(0))
    assert len(missing) == 1
    assert all(made.part(0)[each] == everything.part(0)[each] for each in made.part(0))
    assert name == "2.jpg"


def test_too_many_failures_end_it_and_are_counted_on_in_the_next_run(
    folder: Path, params: Params, tmp_path: Path
) -> None:
    fails: dict[int, BaseException] = {1: ValueError("one"), 5: ValueError("five")}
    job = pool(tmp_path / "oap", folder, params, fails, most=1)
    assert job.given_up == "oap failed on 2 photos, 1 may fail: 1.jpg (ValueError: one), 5.jpg (ValueError: five)"
    with pytest.raises(ValueError, match="1 of 2 parts missing"):
        Predictions(str(tmp_path / "oap"))
    assert pool(tmp_path / "oap", folder, params, {1: ValueError("five")}, most=1).given_up is not None


@pytest.mark.parametrize("stopped_at", [0, 1, 3, 4, 6])
def test_a_run_that_is_stopped_goes_on_to_the_same_bytes(
    stopped_at: int, folder: Path, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooling, "KEEP_EVERY_S", 0.0)
    fails: dict[int, BaseException] = {2: ValueError("never")}
    pool(tmp_path / "straight", folder, params, fails)
    with pytest.raises(KeyboardInterrupt):
        pool(tmp_path / "stopped", folder, params, fails | {stopped_at: KeyboardInterrupt()})
    begun = sorted(path.name for path in (tmp_path / "stopped").iterdir())
    resumed = Moody(OAP(**params.pool.oap), {})
    manifest, encoder = load_manifest(str(folder / "shards")), load_folder(folder / "encoder")
    kept = 2 * (stopped_at // 2) if stopped_at < 4 else 4 + 2 * ((stopped_at - 4) // 2)
    resumed.fails = {2 - kept: ValueError("never")} if kept <= 2 else {}
    job = Job(
        "oap", resumed, Parts(str(tmp_path / "stopped"), manifest, fingerprint("oap", params, encoder, manifest)), 9
    )
    pool_set(manifest, encoder, [job], params)
    assert content(tmp_path / "stopped") == content(tmp_path / "straight")
    assert ("part-000000.begun" in begun) == (stopped_at in (3,))
    assert len(job.failed) == 1
    assert read_cost(str(tmp_path / "stopped"), range(2)).photos == 7


def test_a_memory_that_is_not_known_is_told_with_its_reason(folder: Path, params: Params, tmp_path: Path) -> None:
    pool(tmp_path / "oap", folder, params)
    said = summary(str(tmp_path / "oap"), range(2), {}, Probed(None, "RuntimeError: no luck"))
    assert "besides the encoder, memory not known (RuntimeError: no luck); failed: none" in said
    assert " MB" not in said
    assert "besides the encoder, 12 MB for one; " in summary(str(tmp_path / "oap"), range(2), {}, Probed(12_300_000))


def test_masks_of_other_settings_are_made_anew(folder: Path, params: Params, tmp_path: Path) -> None:
    pool(tmp_path / "oap", folder, params)
    before = content(tmp_path / "oap")
    other = tiny_params(**SIZE, pool={"oap": params.pool.oap.model_dump() | {"phi": 40}})
    pool(tmp_path / "oap", folder, other)
    assert content(tmp_path / "oap") != before


def test_workers_share_the_shards_and_make_the_bytes_of_one(folder: Path, tmp_path: Path, capsys: Any) -> None:
    assert step(folder, tmp_path / "one") == 0
    assert "7 photos in 2 parts" in capsys.readouterr().out
    for number in (2, 1):
        assert step(folder, tmp_path / "shared", "--part", f"{number}/2") == 0
    assert content(tmp_path / "shared") == content(tmp_path / "one")


def test_workers_do_not_clear_what_others_made_of_other_settings(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("stale", "nameless"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part-000000.json").write_text("[]")
    (tmp_path / "stale" / "index.json").write_text('{"fingerprint": "of another", "parts": []}')
    for name in ("stale", "nameless"):
        assert step(folder, tmp_path / name, "--part", "1/2") == 2
        assert "delete it, then start them again" in capsys.readouterr().err
        assert (tmp_path / name / "part-000000.json").read_text() == "[]"


def test_the_launchers_rank_is_the_part(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_part() is None
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert own_part() == Part(1, 4)
    monkeypatch.setenv("RANK", "3")
    assert own_part() == Part(4, 4)
    monkeypatch.setenv("RANK", "4")
    with pytest.raises(ValueError, match="RANK, WORLD_SIZE: must be a rank"):
        own_part()


def test_what_drops_instances_or_fills_them_is_part_of_the_fingerprint_where_it_is_on(
    folder: Path, params: Params, manifest: Manifest
) -> None:
    encoder = load_folder(folder / "encoder")
    found = {fingerprint("oap", params, encoder, manifest)}
    both = {"min_area": 0.01, "max_iou": 0.9}
    for change in ({"min_area": 0.01}, {"max_iou": 0.9}, both, {"fill_holes": True}, both | {"fill_holes": True}):
        refine = params.refine.model_copy(update=change)
        found.add(fingerprint("oap", params.model_copy(update={"refine": refine}), encoder, manifest))
    assert len(found) == 6


def test_an_encoder_is_known_by_what_it_computes_not_by_where_it_lies(folder: Path, tmp_path: Path) -> None:
    encoder, again = load_folder(folder / "encoder"), load_folder(tiny_encoder(tmp_path / "copy"))
    assert encoder_hash(encoder) == encoder_hash(again)
    with torch.no_grad():
        next(again.vit.parameters())[0] += 1e-3
    assert encoder_hash(encoder) != encoder_hash(again)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pool", "magic", "--encoder", "x", "--shards", "x", "--out", "x"], "no generator 'magic'; allowed are oap"),
        (["pool", "oap", "--encoder", "x", "--shards", "x", "--out", "x", "--part", "0/2"], "--part: must be I/N"),
        (["pool", "oap", "--encoder", "x", "--shards", "x", "--out", "x"], "x/manifest.json: no such manifest"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    params = Path(__file__).parents[2] / "params.yaml"
    assert components.__main__.main([*words, "--params", str(params)]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_killed_step_goes_on_to_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "components", "pool", "oap", "--params", folder / "params.yaml"]
    words += ["--encoder", folder / "encoder", "--shards", folder / "shards", "--out"]
    subprocess.run([*words, tmp_path / "straight"], check=True, capture_output=True)
    marks = ["index.json", "part-000000.json"]  # killed as soon as these are there, at any moment after
    for mark in marks:
        process = subprocess.Popen([*words, tmp_path / "killed"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (tmp_path / "killed" / mark).exists():
            time.sleep(0.001)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run([*words, tmp_path / "killed"], check=True, capture_output=True)
    assert content(tmp_path / "killed") == content(tmp_path / "straight")


@pytest.mark.slow
def test_memory_is_what_a_fresh_process_grows_by(params: Params) -> None:
    """OAP of 1,600 patches holds their affinities, 10 MB, and little more than twice that."""
    features = torch.nn.functional.normalize(torch.randn(1600, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    found = probe(OAP(**params.pool.oap), [Patches(features, (40, 40))])
    assert found.failure is None
    assert found.peak_bytes is not None
    assert 1600**2 * 4 <= found.peak_bytes < 8 * 1600**2 * 4


def test_a_generator_that_cannot_be_sent_to_a_fresh_process_says_so() -> None:
    class Here(OAP):
        """Known in this test alone."""

    found = probe(Here([0.5], 0.1, 0.6, 1, "mean", 1, 8), [Patches(torch.eye(4), (2, 2))])
    assert found.peak_bytes is None
    assert "Here" in str(found.failure)
