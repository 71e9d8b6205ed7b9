"""`oapseg tune`: a search with a seed, chosen without labels, judged by them where there are some."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError
from train.tiny import brief_concepts, tiny_encoder, tiny_params, tiny_shards, write_params

import oapseg.cli
from oapseg.checkpoint.export import save_model
from oapseg.encode.load import load_folder
from oapseg.evaluate.tune import Trial, correlations, draw, scored, see, settings_to_try, try_settings
from oapseg.model.segmenter import Segmenter
from oapseg.params import Params, RangeParams, load_params
from oapseg.pool import GENERATORS
from oapseg.shards.manifest import load_manifest
from oapseg.shards.read import Photos


@pytest.fixture(scope="module")
def params() -> Params:
    return load_params("params.yaml")


def weights(**more: float) -> Mapping[str, float]:
    return {"coverage": 1.0, "edges": 1.0, "outline": 1.0, "flips": 1.0, "crops": 1.0, "levels": 1.0} | more


def test_every_generator_has_ranges_whose_ends_are_settings_that_it_takes(params: Params) -> None:
    assert list(params.tune.ranges) == list(GENERATORS)
    for name, ranges in params.tune.ranges.items():
        present = params.pool[name]
        for key, within in ranges.items():
            ends = within.choices if within.choices is not None else [within.low, within.high]
            for end in ends:
                value = int(end) if within.whole else end
                type(present).model_validate(present.model_dump() | {key: value})


def test_the_present_settings_come_first_and_no_two_are_alike(params: Params) -> None:
    tried = settings_to_try(params.pool.oap, params.tune.ranges["oap"], 10, 3)
    assert len(tried) == 11
    assert tried[0] == params.pool.oap
    assert len({json.dumps(each.model_dump()) for each in tried}) == 11
    assert tried == settings_to_try(params.pool.oap, params.tune.ranges["oap"], 10, 3)
    assert tried[1:] != settings_to_try(params.pool.oap, params.tune.ranges["oap"], 10, 4)[1:]


def test_narrow_ranges_end_the_search_early(params: Params) -> None:
    few = {"rounds": RangeParams(choices=[1, "stable"])}
    assert [each.rounds for each in settings_to_try(params.pool.oap, few, 10, 0)] == [1, "stable"]


def test_a_range_of_no_setting_is_named(params: Params) -> None:
    with pytest.raises(ValueError, match="taus is no setting; there are tau, sigma"):
        settings_to_try(params.pool.oap, {"taus": RangeParams(low=0.0, high=1.0)}, 1, 0)


@pytest.mark.parametrize("wrong", [{}, {"low": 1.0}, {"low": 2.0, "high": 1.0}, {"low": 0.0, "high": 1.0, "log": True}])
def test_a_range_without_an_inside_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RangeParams(**wrong)


def test_drawn_values_lie_in_their_range_and_follow_its_scale() -> None:
    rng = np.random.default_rng(0)
    plain, ratio = RangeParams(low=1.0, high=100.0), RangeParams(low=1.0, high=100.0, log=True)
    whole = RangeParams(low=1.0, high=3.0, whole=True)
    many = {name: [draw(each, rng) for _ in range(400)] for name, each in (("plain", plain), ("ratio", ratio))}
    assert all(1 <= value <= 100 for values in many.values() for value in values)
    assert np.median(many["plain"]) == pytest.approx(50, abs=8)
    assert np.median(many["ratio"]) == pytest.approx(10, abs=3)
    assert {draw(whole, rng) for _ in range(50)} == {1, 2, 3}


def test_the_score_is_the_geometric_mean_and_a_measure_that_is_missing_makes_it_nothing() -> None:
    trials = [
        Trial({}, {"coverage": 0.25, "edges": 0.8, "levels": float("nan")}),
        Trial({}, {"coverage": 1.0, "edges": float("nan"), "levels": float("nan")}),
        Trial({}, {"coverage": 1.0, "edges": 0.5, "levels": float("nan")}),
    ]
    assert [trial.score for trial in scored(trials, weights())] == pytest.approx([0.2**0.5, 0.0, 0.5**0.5])
    assert [trial.score for trial in scored(trials, weights(coverage=0.0))] == pytest.approx([0.8, 0.0, 0.5])
    with pytest.raises(ValueError, match=r"tune\.weights"):
        scored(trials, weights(coverage=0.0, edges=0.0))


def test_correlations_tell_a_score_that_follows_the_truth_from_one_that_does_not() -> None:
    trials = [
        Trial({}, {"edges": 4.0 - place}, truth={"AR": 10.0 * place**2}, score=float(place)) for place in range(4)
    ]
    assert correlations(trials, "AR") == pytest.approx({"score": 1.0, "edges": -1.0})
    assert correlations([Trial({}) for _ in range(4)], "AR") == {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tune")
    tiny_shards(folder, 5)
    params = tiny_params(
        encode={"name": "own", "weights": str(tiny_encoder(folder / "encoder"))},
        predict={"image_px": 64, "window_px": 48, "batch": 2, "device": "cpu"},
        tune={"photos": 4, "trials": 3},
    )
    write_params(params, folder / "params.yaml")
    return folder


def tune(folder: Path, *more: object) -> int:
    return int(oapseg.cli.main(["tune", *map(str, more), "--params", str(folder / "params.yaml")]))


def test_settings_are_judged_by_the_masks_that_are_kept(folder: Path) -> None:
    params, manifest = load_params(folder / "params.yaml"), load_manifest(str(folder / "shards"))
    encoder = load_folder(folder / "encoder")
    seen = see(list(Photos(manifest))[:2], encoder, params)
    fewer = params.model_copy(update={"predict": params.predict.model_copy(update={"max_masks": 2})})
    settings = [params.pool.oap.model_copy(update={"phi": 1})]
    (whole,), (kept,) = (list(try_settings("oap", settings, seen, each, encoder)) for each in (params, fewer))
    assert (whole.failure, kept.failure) == (None, None)
    assert whole.masks > kept.masks == 2
    assert whole.measures != kept.measures


def test_a_folder_of_photos_gives_settings_that_params_yaml_takes(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tune(folder, "oap", folder / "photos", "--out", tmp_path / "one") == 0
    assert "No labels: whether the choice is right is not known" in capsys.readouterr().out
    written = yaml.safe_load((tmp_path / "one/params.yaml").read_text())
    trials = json.loads((tmp_path / "one/trials.json").read_text())
    assert len(trials) == 4
    assert trials[0]["settings"] == written["pool"]["oap"]
    assert trials[0]["score"] == max(trial["score"] for trial in trials)
    raw = yaml.safe_load((folder / "params.yaml").read_text())
    raw["pool"] |= written["pool"]
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(raw))
    assert load_params(tmp_path / "mine.yaml").pool.oap.model_dump() == written["pool"]["oap"]
    assert not (tmp_path / "one/score.svg").exists()
    assert tune(folder, "oap", folder / "photos", "--out", tmp_path / "two") == 0
    assert (tmp_path / "two/trials.json").read_bytes() == (tmp_path / "one/trials.json").read_bytes()


def test_labels_choose_nothing_and_judge_the_choice(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert oapseg.cli.main(["sample", str(tmp_path / "sample"), "--params", str(sample_params(folder, tmp_path))]) == 0
    photos, labels = tmp_path / "sample/images/val", tmp_path / "sample/annotations/instances_val.json"
    assert tune(folder, "oap", photos, "--labels", labels, "--out", tmp_path / "with") == 0
    said = capsys.readouterr().out
    assert "By the labels, which chose nothing: AR " in said
    assert "Rank correlation with AR: score " in said
    assert (tmp_path / "with/score.svg").read_text().count("<circle") == 4
    assert tune(folder, "oap", photos, "--out", tmp_path / "without") == 0
    assert (tmp_path / "with/params.yaml").read_bytes() == (tmp_path / "without/params.yaml").read_bytes()


def test_networks_that_a_generator_asks_are_there_for_every_setting(folder: Path) -> None:
    params, encoder = load_params(folder / "params.yaml"), load_folder(folder / "encoder")
    torch.manual_seed(0)
    model = folder / "model"
    save_model(model, Segmenter(encoder, params.model).eval(), params.model, "seed: 0\n", image_px=64)
    changes = {"divider": str(model), "encode": True, "confidence": 0.0, "crop_px": 32}
    present = params.pool.divide_conquer.model_copy(update=changes)
    tried = [present, present.model_copy(update={"divider": None}), present.model_copy(update={"divider": "nowhere"})]
    photos = Photos(load_manifest(str(folder / "shards")))
    seen = see([photos[0], photos[1]], encoder, params)
    with_model, without, nowhere = try_settings("divide_conquer", tried, seen, params, encoder)
    assert (with_model.failure, without.failure) == (None, None)
    assert with_model.measures != without.measures
    assert nowhere.failure is not None
    assert "nowhere: no sha256.json" in nowhere.failure


def test_acseg_is_tuned_with_weights_trained_on_the_photos_where_there_are_none(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = brief_concepts(yaml.safe_load((folder / "params.yaml").read_text()), tmp_path)
    raw["tune"]["trials"] = 1
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    words = ["tune", "acseg", str(folder / "photos"), "--out", str(tmp_path / "out")]
    assert oapseg.cli.main([*words, "--params", str(tmp_path / "params.yaml")]) == 0
    assert "weights trained on these photos in 2 steps" in capsys.readouterr().out
    chosen = yaml.safe_load((tmp_path / "out/params.yaml").read_text())["pool"]["acseg"]
    assert chosen["weights"] == str(tmp_path / "out/acg/acg.safetensors")
    assert "weights trained on these photos in 2 steps" in (tmp_path / "out/trials.md").read_text()


def sample_params(folder: Path, tmp_path: Path) -> Path:
    raw = yaml.safe_load((folder / "params.yaml").read_text())
    raw["sample"] = {"train": 1, "val": 4, "size_px": 64}
    path = tmp_path / "sample.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["oap", "nowhere", "--out", "x"], "nowhere: no such folder"),
        (["oap", "--out", "x"], "give PHOTOS, a folder, or --shards"),
        (["oap", "nowhere", "--out", "x", "--trials", "0"], "--trials: must be at least 1, is 0"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str],
    said: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert tune(folder, *words) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
