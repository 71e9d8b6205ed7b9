"""Two runs compared: what each score and each photo gained, the page that shows it, and what cannot be compared."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from report.read_page import from_outside, read_page

from components.__main__ import main as run_step
from oapseg.cli import main
from oapseg.evaluate.ground_truth import all_labels
from oapseg.evaluate.predictions import Maker, PhotoResults, write_makers, write_predictions
from oapseg.masks import mask_to_rle, rle_to_mask
from oapseg.params import SampleParams, SetParams, Source, default_params_path
from oapseg.shards.manifest import Manifest, load_manifest
from oapseg.shards.sample import make_sample
from oapseg.shards.sources import list_set
from oapseg.shards.write import write_set

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools under numpy 2

PHOTOS = 6
MAKERS = {
    "generator": Maker("ones", "painted", checkpoint="facade", generator="oap"),
    "model": Maker("own", "votes", checkpoint="c0ffee", views="the whole photo at 96 px"),
}


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Path:
    chosen = yaml.safe_load(default_params_path().read_text())
    chosen["evaluate"] |= {"bootstrap": 40, "stuff_px": 0, "mapping": "hungarian"}
    path: Path = tmp_path_factory.mktemp("params") / "params.yaml"
    path.write_text(yaml.safe_dump(chosen))
    return path


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Photos of the embedded sample, with all kinds of labels."""
    folder = tmp_path_factory.mktemp("sample")
    make_sample(str(folder / "sample"), SampleParams(train=1, val=PHOTOS, size_px=96), seed=0, workers=1)
    listed = list_set(SetParams(root=str(folder / "sample"), sources=[Source(kind="coco", path=".", split="val")]))
    return write_set(listed, str(folder / "val"), samples_per_shard=4, max_broken=0.0, max_pixels=10**6, workers=1)


def perfect(labels: dict[str, Any]) -> list[dict[str, Any]]:
    """What is annotated, as if it had been predicted; a category's number is its cluster's."""
    found = [
        {**{key: each[key] for key in ("category_id", "segmentation", "bbox")}, "score": 0.9, "kind": "instance"}
        for each in labels["instances"]
    ]
    regions: dict[int, Any] = {}
    for each in labels["panoptic"]:
        mask = rle_to_mask(each["segmentation"])
        regions[each["category_id"]] = regions.get(each["category_id"], mask) | mask
    found += [
        {"category_id": number, "segmentation": mask_to_rle(mask), "bbox": [0, 0, 1, 1], "score": 1.0, "kind": "region"}
        for number, mask in regions.items()
    ]
    return [each | {"image_id": labels["image_id"]} for each in found]


@pytest.fixture(scope="module")
def make_run(manifest: Manifest, params: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A run of the pipeline's shape, whose model drops the first things of each photo."""

    def make(name: str, dropped: int, *more: str) -> Path:
        folder: Path = tmp_path_factory.mktemp("runs") / name
        shutil.copytree(manifest.location, folder / "shards" / "val")
        for maker, missing in (("generator", 1), ("model", dropped)):
            results = {labels["image_id"]: perfect(labels)[missing:] for labels in all_labels(manifest)}
            write_predictions(
                str(folder / "predict" / maker),
                manifest,
                lambda samples, found=results: [PhotoResults(found[each.labels["image_id"]]) for each in samples],
                batch=4,
                fingerprint="",
                what="test",
            )
        write_makers(str(folder / "predict"), MAKERS)
        assert evaluate(folder, params, *more) == 0
        return folder

    return make


def evaluate(folder: Path, params: Path, *more: str) -> int:
    places = ["--predictions", f"{folder}/predict", "--shards", f"{folder}/shards/val", "--out", f"{folder}/evaluate"]
    return run_step(["evaluate", *places, "--params", str(params), *more])


@pytest.fixture(scope="module")
def poor(make_run: Callable[..., Path]) -> Path:
    return make_run("poor", 2)


@pytest.fixture(scope="module")
def good(make_run: Callable[..., Path]) -> Path:
    return make_run("good", 0)


@pytest.fixture(scope="module")
def out(poor: Path, good: Path, params: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the comparison of both wrote."""
    folder: Path = tmp_path_factory.mktemp("out")
    assert main(["compare-runs", str(poor), str(good), "--out", str(folder), "--params", str(params)]) == 0
    return folder


def refused(capsys: pytest.CaptureFixture[str], params: Path, *arguments: object) -> str:
    """The one line that a comparison is refused with."""
    assert main(["compare-runs", *map(str, arguments), "--params", str(params)]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    return said.err


def test_what_one_run_finds_more_is_a_gain_beyond_luck_in_every_photo(out: Path) -> None:
    found = json.loads((out / "compare.json").read_text())
    recall = found["scores"]["mask_AR100"]
    assert recall["b"] == 100 > recall["a"]
    assert recall["value"] == pytest.approx(recall["b"] - recall["a"], abs=2e-3)
    assert recall["excludes_zero"]
    assert recall["low"] > 0
    photos = found["photos"]["instance"]
    assert len(photos) == PHOTOS
    assert all(photo["b"] == 1 > photo["a"] for photo in photos)
    assert photos == sorted(photos, key=lambda photo: photo["a"] - photo["b"])


def test_the_page_shows_both_beside_the_labels_and_stands_alone(out: Path) -> None:
    text = (out / "index.html").read_text()
    assert read_page(text).open == []
    assert from_outside(text) == []
    assert "Better in good" in text
    assert "model (checkpoint c0ffee); own; the whole photo at 96 px" in text
    assert "mapping: hungarian, fit_on: val, vote_score: 0.3" in text
    assert "Worse in good" not in text
    assert text.count("data:image/jpeg") == PHOTOS * 3
    assert f"{PHOTOS} of {PHOTOS} photos got better, 0 worse, 0 stayed the same" in text
    assert len(text) < 5_000_000


def test_a_run_compared_with_itself_differs_in_nothing(good: Path, params: Path, tmp_path: Path) -> None:
    assert main(["compare-runs", str(good), str(good), "--out", str(tmp_path), "--params", str(params)]) == 0
    found = json.loads((tmp_path / "compare.json").read_text())
    assert {each["value"] for each in found["scores"].values()} == {0.0}
    assert not any(each["excludes_zero"] for each in found["scores"].values())
    assert "Better in" not in (tmp_path / "index.html").read_text()


def test_two_makers_of_one_run_are_compared(good: Path, params: Path, tmp_path: Path) -> None:
    chosen = ["--maker", "generator", "model", "--out", str(tmp_path), "--photos", "1", "--params", str(params)]
    assert main(["compare-runs", str(good), str(good), *chosen]) == 0
    text = (tmp_path / "index.html").read_text()
    assert "<h1>model against generator</h1>" in text
    assert "generator (oap, checkpoint facade); ones" in text
    checkpoints = [json.loads((tmp_path / "compare.json").read_text())[side]["checkpoint"] for side in "ab"]
    assert checkpoints == ["facade", "c0ffee"]
    assert text.count('<section class="photo">') == 1


def test_the_step_wrote_what_the_curves_and_tables_are_drawn_from(good: Path, poor: Path) -> None:
    details = json.loads((good / "evaluate" / "details.json").read_text())
    model = details["makers"]["model"]
    assert set(model["precision_recall"]["0.75"]) == {1.0}
    assert all(row == column for row, column, _ in model["confusion"]["instance"]["cells"])
    assert all(row == column for row, column, _ in model["confusion"]["semantic"]["cells"])
    assert sum(group["photos"] for group in model["crowding"]) == PHOTOS
    assert {group["AP50"]["value"] for group in model["crowding"]} == {1.0}
    assert model["outcomes"]["truths"] == model["outcomes"]["found"]
    assert set(model["outcomes"]["wrong"]) == {0}
    for task in ("instance", "semantic", "panoptic"):
        assert model["photos"][task]["values"] == [1.0] * PHOTOS
    missing = json.loads((poor / "evaluate" / "details.json").read_text())["makers"]["model"]
    nothing = len(missing["confusion"]["instance"]["classes"]) + 1
    lost = sum(count for _, column, count in missing["confusion"]["instance"]["cells"] if column == nothing)
    assert lost == sum(missing["outcomes"]["truths"]) - sum(missing["outcomes"]["found"]) == 2 * PHOTOS


def test_runs_of_different_photos_are_refused(
    good: Path, params: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(good, other)
    details = json.loads((other / "evaluate" / "details.json").read_text())
    details["benchmark"]["data"] = "0" * 64
    (other / "evaluate" / "details.json").write_text(json.dumps(details))
    assert "not the photos and labels that" in refused(capsys, params, good, other, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_runs_scored_differently_are_refused(
    good: Path, params: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = yaml.safe_load(params.read_text())
    other["evaluate"]["mapping"] = "votes"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(other))
    changed = tmp_path / "changed"
    shutil.copytree(good, changed)
    assert evaluate(changed, tmp_path / "params.yaml") == 0
    capsys.readouterr()
    assert "scored differently (evaluate.mapping hungarian and votes)" in refused(capsys, params, good, changed)
    assert evaluate(changed, params, "--benchmark", "elsewhere") == 0
    capsys.readouterr()
    assert "their benchmarks differ in name (val and elsewhere)" in refused(capsys, params, good, changed)


def test_predictions_that_are_not_those_that_were_scored_are_refused(
    good: Path, poor: Path, params: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(good, changed)
    shutil.rmtree(changed / "predict")
    shutil.copytree(poor / "predict", changed / "predict")
    assert "run the step evaluate again" in refused(capsys, params, good, changed, "--out", tmp_path / "out")


def report(folder: Path, params: Path, out: Path) -> str:
    """The page of a run as of a benchmark: without the folders of a training."""
    places = ["--evaluate", f"{folder}/evaluate", "--predictions", f"{folder}/predict", "--out", str(out)]
    assert run_step(["report", *places, "--shards", f"{folder}/shards/val", "--params", str(params)]) == 0
    return (out / "index.html").read_text()


def test_a_benchmark_has_a_page_of_its_own(good: Path, params: Path, tmp_path: Path) -> None:
    text = report(good, params, tmp_path)
    assert read_page(text).open == []
    assert from_outside(text) == []
    for heading in ("Precision and recall", "By size and crowding", "What the model takes for what", "Clusters"):
        assert f"<h2>{heading}</h2>" in text
    assert "Learning" not in text
    assert "oapseg name-clusters MODEL names.json" in text
    assert re.findall("<h3>(Best|Median|Worst)</h3>", text) == ["Best", "Median", "Worst"]


def test_a_benchmark_without_instances_shows_a_class_at_each_pixel(good: Path, params: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(good, changed)
    details = json.loads((changed / "evaluate" / "details.json").read_text())
    for maker in details["makers"].values():
        maker["photos"] = {"semantic": maker["photos"]["semantic"]}
        for key in ("measure", "precision_recall", "crowding", "outcomes"):
            del maker[key]
    (changed / "evaluate" / "details.json").write_text(json.dumps(details))
    text = report(changed, params, tmp_path / "out")
    assert read_page(text).open == []
    assert text.count('<div class="row of2">') == text.count('<section class="photo">') > 0
    assert "whose cluster has their class: 100 %" in text


def test_what_is_no_run_is_said(good: Path, params: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no run: neither metrics.json nor evaluate/metrics.json" in refused(capsys, params, good, tmp_path)
    assert "no predictions by sam; there are those by generator, model" in refused(
        capsys, params, good, good, "--maker", "sam"
    )
    bare = tmp_path / "bare"
    shutil.copytree(good, bare, ignore=shutil.ignore_patterns("shards"))
    assert "no shards in shards/val or shards; name them by --shards" in refused(capsys, params, good, bare)
    (bare / "evaluate" / "details.json").unlink()
    assert "metrics.json without details.json" in refused(capsys, params, good, bare)
    assert load_manifest(str(good / "shards" / "val")).num_samples == PHOTOS
