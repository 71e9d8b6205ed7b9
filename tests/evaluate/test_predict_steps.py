"""The steps `predict` and `evaluate` as a whole: from shards and models to scores of every maker, and their report."""

import json
from pathlib import Path

import pytest
import yaml
from evaluate.squares import labelled_shards, small_params, small_segmenter, unlabelled_shards

import components.__main__
from components import predict
from oapseg.checkpoint.export import save_model
from oapseg.encode.load import save_folder
from oapseg.evaluate.predictions import read_makers
from oapseg.params import load_params

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools under numpy 2


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled_shards(tmp_path_factory.mktemp("coco"))


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unlabelled_shards(tmp_path_factory.mktemp("photos"))


def run(*words: object) -> int:
    return components.__main__.main([str(word) for word in words])


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A model twice over, an encoder, parameters."""
    params_path = small_params(tmp_path)
    params = load_params(params_path)
    segmenter = small_segmenter(params)
    for name in ("pretrained", "model"):
        save_model(tmp_path / name, segmenter, params.model, params_path.read_text(), image_px=64)
    save_folder(segmenter.backbone.encoder, tmp_path / "encoder", notes={})
    return tmp_path


def predict_words(work: Path, shards: Path) -> list[object]:
    models = [word for name in ("pretrained", "model") for word in ("--model", name, work / name)]
    folders = ["--encoder", work / "encoder", "--shards", shards, "--train-shards", shards, "--out", work / "predict"]
    return ["predict", *models, *folders, "--params", work / "params.yaml"]


def evaluate_words(work: Path, shards: Path) -> list[object]:
    folders = ["--predictions", work / "predict", "--shards", shards, "--out", work / "evaluate"]
    return ["evaluate", *folders, "--params", work / "params.yaml"]


def test_the_steps_write_predictions_and_then_scores_of_every_maker(work: Path, shards: Path) -> None:
    assert run(*predict_words(work, shards)) == 0
    assert list(read_makers(str(work / "predict"))) == ["generator", "pretrained", "model"]
    assert run(*evaluate_words(work, shards)) == 0
    shown, metrics = (json.loads((work / "evaluate" / f"{name}.json").read_text()) for name in ("headlines", "metrics"))
    assert shown["model.mask_AR4"] == metrics["model.mask_AR4"]["value"] == metrics["pretrained.mask_AR4"]["value"]
    of_class = metrics["model.class_mask_AP"]
    assert (of_class["fit_on"], of_class["mapping"], of_class["benchmark"]) == ("val", "votes", "val")
    assert of_class["images"] == 3
    assert len(of_class["checkpoint"]) == len(of_class["data"]) == 64
    pooled = metrics["generator.mask_AP"]
    assert pooled["generator"] == "oap"
    assert len(pooled["checkpoint"]) == 64
    assert pooled["checkpoint"] != of_class["checkpoint"]


def test_filled_holes_are_other_predictions_of_the_generator_and_none_of_the_models(work: Path, shards: Path) -> None:
    def made() -> list[str]:
        assert run(*predict_words(work, shards)) == 0
        folders = [work / "predict" / name for name in ("generator", "pretrained", "model")]
        return [json.loads((folder / "index.json").read_text())["fingerprint"] for folder in folders]

    before = made()
    raw = yaml.safe_load((work / "params.yaml").read_text())
    raw["refine"]["fill_holes"] = True
    (work / "params.yaml").write_text(yaml.safe_dump(raw))
    after = made()
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, True, True]
    assert read_makers(str(work / "predict"))["generator"].views.endswith("px; holes of instances filled")


def test_clusters_get_their_classes_on_train_where_asked(
    work: Path, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = yaml.safe_load((work / "params.yaml").read_text())
    raw["evaluate"]["fit_on"] = "train"
    (work / "params.yaml").write_text(yaml.safe_dump(raw))
    assert run(*predict_words(work, shards)) == 0
    assert run(*evaluate_words(work, shards), "--train-shards", shards) == 2
    assert "its photos were not predicted; set predict.train: true" in capsys.readouterr().err
    raw["predict"]["train"] = True
    (work / "params.yaml").write_text(yaml.safe_dump(raw))
    assert run(*predict_words(work, shards)) == 0
    assert run(*evaluate_words(work, shards), "--train-shards", shards) == 0
    assert (work / "predict" / "train" / "model" / "part-000000.json").exists()
    assert run(*evaluate_words(work, shards)) == 2
    assert "--train-shards must name labelled shards" in capsys.readouterr().err


def test_photos_without_labels_are_one_clear_line(
    work: Path, unlabelled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*evaluate_words(work, unlabelled)) == 2
    said = capsys.readouterr().err
    assert "no instance, semantic or panoptic labels to score against (labels: none); set shards.sets.val" in said


def test_predictions_of_other_shards_are_one_clear_line(
    work: Path, shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*predict_words(work, shards)) == 0
    (work / "predict/generator/index.json").write_text('{"fingerprint": "", "parts": ["part-000000.json"]}')
    assert run(*evaluate_words(work, shards)) == 2
    assert "predictions of 1 shards; " in capsys.readouterr().err


def test_an_unknown_generator_is_one_line(tmp_path: Path) -> None:
    params = load_params(small_params(tmp_path))
    wrong = params.model_copy(update={"predict": params.predict.model_copy(update={"generator": "magic"})})
    with pytest.raises(ValueError, match=r"predict\.generator: no generator 'magic'; allowed are .*oap"):
        predict.predict_sets({}, "nowhere", {}, wrong)


def test_the_report_of_an_evaluation_shows_its_photos(work: Path, shards: Path) -> None:
    assert run(*predict_words(work, shards)) == run(*evaluate_words(work, shards)) == 0
    for name in ("pretrain", "finetune"):
        (work / name).mkdir()
        (work / name / "history.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n')
    folders = ["--evaluate", work / "evaluate", "--predictions", work / "predict", "--shards", shards]
    histories = ["--pretrain", work / "pretrain", "--finetune", work / "finetune"]
    assert run("report", *folders, *histories, "--out", work / "report", "--params", work / "params.yaml") == 0
    page = (work / "report" / "index.html").read_text()
    exemplars = page.count(' alt="cluster ')
    assert page.count("<img ") - exemplars == 8
    assert exemplars
    assert {each.name for each in (work / "report").iterdir()} == {"index.html"}
