"""`oapseg masks`: any folder of photos to masks, pictures and a gallery, with a small untrained encoder."""

import io
import json
import os
import re
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pycocotools import mask as coco_mask

from oapseg.cli import main
from oapseg.encode.encoder import own_encoder
from oapseg.encode.load import load_folder, save_folder
from oapseg.evaluate.generators import make_generator
from oapseg.evaluate.pooling import Job, choice_of, dense_crf, fingerprint, pool_set
from oapseg.evaluate.predict import CRF_RULE, generator_predictor
from oapseg.evaluate.predictions import Parts, Predictions
from oapseg.params import Source, default_params_path, load_params
from oapseg.shards.read import Photos
from oapseg.shards.sources import list_source
from oapseg.shards.write import write_set


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("params")
    torch.manual_seed(0)
    save_folder(own_encoder(width=16, depth=2, heads=2, patch_px=8, image_px=64), folder / "encoder", notes={})
    content: dict[str, Any] = yaml.safe_load(default_params_path().read_text())
    content["encode"] = {"name": "own", "weights": str(folder / "encoder")}
    content["predict"] |= {"image_px": 64, "batch": 2, "device": "cpu"}
    path = folder / "params.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def jpeg(width: int, height: int, seed: int) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST).save(data, "JPEG")
    return data.getvalue()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(jpeg(90, 60, 1))
    (folder / "b.jpg").write_bytes(jpeg(40, 100, 2))
    (folder / "more" / "a.JPG").write_bytes(jpeg(5, 3, 3))
    (folder / "notes.txt").write_text("no photo")
    return folder


def run(photos: Path, out: Path, params: Path) -> int:
    return main(["masks", str(photos), "--out", str(out), "--params", str(params)])


def test_every_mask_is_a_coco_result_at_the_size_of_its_photo(photos: Path, params: Path, tmp_path: Path) -> None:
    assert run(photos, tmp_path / "out", params) == 0
    results = json.loads((tmp_path / "out" / "masks.json").read_text())
    sizes = {"a.jpg": [60, 90], "b.jpg": [100, 40], "more/a.JPG": [3, 5]}
    assert {result["file_name"] for result in results} <= set(sizes)
    assert {result["file_name"] for result in results} >= {"a.jpg", "b.jpg"}
    for result in results:
        assert result["segmentation"]["size"] == sizes[result["file_name"]]
        assert result["bbox"] == coco_mask.toBbox(result["segmentation"]).tolist()
        assert (result["category_id"], result["score"]) == (1, 1.0)
        assert 1 <= result["level"] <= 5
        assert result["kind"] in ("instance", "semantic")


def test_masks_of_a_level_are_some_of_all_and_instances_lie_apart(photos: Path, params: Path, tmp_path: Path) -> None:
    found = []
    for name, words in (("all", []), ("wholes", ["--level", "1"])):
        assert main(["masks", str(photos), "--out", str(tmp_path / name), "--params", str(params), *words]) == 0
        found.append(json.loads((tmp_path / name / "masks.json").read_text()))
    every, wholes = found
    assert all(each in every for each in wholes)
    assert 0 < len(wholes) < len(every)
    for file_name in {each["file_name"] for each in wholes}:
        own = [each for each in wholes if (each["file_name"], each["kind"]) == (file_name, "instance")]
        assert not own or sum(coco_mask.decode(each["segmentation"]).astype(int) for each in own).max() == 1
    assert "level 1 from 0 (parts) to 1 (wholes)" in (tmp_path / "wholes" / "index.html").read_text()


ALL_CHANGED: dict[str, Any] = {
    "predict": {"level": 0.5, "crf": True, "max_masks": 3, "scales": [96], "flip": True},
    "refine": {"min_area": 0.05, "max_iou": 0.8, "fill_holes": True},
}


@pytest.mark.parametrize("generator", ["oap", "maskcut"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"predict": {"max_masks": 2}},
        {"predict": {"crf": True}},
        {"refine": {"min_area": 0.3}},
        {"refine": {"max_iou": 0.5}},
        {"refine": {"fill_holes": True}},
        ALL_CHANGED,
    ],
    ids=["default", "max_masks", "crf", "min_area", "max_iou", "fill_holes", "all"],
)
def test_masks_are_those_of_predict_and_compare_by_the_same_settings(
    generator: str, changes: dict[str, Any], photos: Path, params: Path, tmp_path: Path
) -> None:
    content = yaml.safe_load(params.read_text())
    for section, values in changes.items():
        content[section] |= values
    content["predict"]["generator"] = generator
    own = tmp_path / "params.yaml"
    own.write_text(yaml.safe_dump(content))
    assert run(photos, tmp_path / "out", own) == 0
    written: dict[str, list[Any]] = {"a.jpg": [], "b.jpg": [], "more/a.JPG": []}
    for each in json.loads((tmp_path / "out" / "masks.json").read_text()):
        written[each["file_name"]].append(essence(each))

    listing = list_source(Source(kind="photos", path="."), str(photos))
    sizes = {"samples_per_shard": 8, "max_broken": 0.0, "max_pixels": 10**6, "workers": 1}
    manifest = write_set([listing], str(tmp_path / "shards"), **sizes)
    settings, encoder = load_params(own), load_folder(content["encode"]["weights"])
    made_by = make_generator(generator, settings, encoder)
    samples = list(Photos(manifest))
    names = {sample.labels["image_id"]: sample.labels["name"] for sample in samples}
    predict = generator_predictor(encoder, made_by.batch, settings.predict, dense_crf(settings), choice_of(settings))
    predicted = [photo for start in (0, 2) for photo in predict(samples[start : start + 2])]
    for sample, photo in zip(samples, predicted, strict=True):
        assert [essence(each) for each in photo.results] == written[sample.labels["name"]]
    parts = Parts(str(tmp_path / "pooled"), manifest, fingerprint(generator, settings, encoder, manifest))
    pool_set(manifest, encoder, [Job(generator, made_by, parts, 0)], settings)
    compared = Predictions(parts.folder).part(0)
    assert {names[image]: [essence(each) for each in found] for image, found in compared.items()} == {
        name: found for name, found in written.items() if found
    }
    assert sum(map(len, written.values())) > 0


def essence(result: dict[str, Any]) -> tuple[Any, ...]:
    """A mask without the names by which files know its photo."""
    return result["segmentation"], result["bbox"], result["score"], result["kind"]


def test_the_gallery_says_by_which_settings_masks_were_made_and_shows_those_that_are_written(
    photos: Path, params: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = yaml.safe_load(params.read_text())
    for section, values in ALL_CHANGED.items():
        content[section] |= values
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
    assert run(photos, tmp_path / "out", tmp_path / "params.yaml") == 0
    page = (tmp_path / "out" / "index.html").read_text()
    printed = capsys.readouterr().out
    for said in (
        "Encoder own, generator oap; the whole photo at 64 px; features of views of 64, 96 px averaged; "
        "features of mirror images averaged in; level 0.5 from 0 (parts) to 1 (wholes)",
        CRF_RULE.format(load_params(tmp_path / "params.yaml").refine.crf),
        "holes of instances filled; of instances at least 0.05 of the photo, IoU with a better one at most 0.8",
        "of a photo at most 3 masks of each kind.",
    ):
        assert escape(said) in page
        assert said in printed
    written = json.loads((tmp_path / "out" / "masks.json").read_text())
    for kind in ("instance", "semantic"):
        counts = [int(count) for count in re.findall(rf"<figcaption>(\d+) {kind} masks", page)]
        assert counts == [
            sum((each["file_name"], each["kind"]) == (name, kind) for each in written)
            for name in ("a.jpg", "b.jpg", "more/a.JPG")
        ]


def test_a_level_beyond_parts_and_wholes_is_one_line(
    photos: Path, params: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["masks", str(photos), "--out", str(tmp_path / "out"), "--params", str(params), "--level", "2"]) == 2
    assert "--level: 2 must be from 0 (parts) to 1 (wholes)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_photo_has_its_picture_and_its_place_in_the_gallery(photos: Path, params: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out", params)
    pictures = tmp_path / "out" / "overlays"
    assert sorted(path.relative_to(pictures).as_posix() for path in pictures.rglob("*.*")) == [
        "a.jpg",
        "b.jpg",
        "more/a.JPG.jpg",
    ]
    assert (tmp_path / "out" / "index.html").read_text().count("<article>") == 3


def test_a_name_that_is_not_utf_8_costs_its_photo_alone(
    photos: Path, params: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / os.fsdecode(b"\xff.jpg")).write_bytes(jpeg(9, 9, 4))
    assert run(photos, tmp_path / "out", params) == 0
    assert r"1 broken and skipped: \xff.jpg (its name is not UTF-8; rename it)." in capsys.readouterr().out
    results = json.loads((tmp_path / "out" / "masks.json").read_text())
    assert {"a.jpg", "b.jpg"} <= {result["file_name"] for result in results} <= {"a.jpg", "b.jpg", "more/a.JPG"}


def test_broken_photos_are_counted_named_and_skipped(
    photos: Path, params: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "cut.jpg").write_bytes(jpeg(90, 60, 1)[:-300])
    (photos / "empty.png").touch()
    assert run(photos, tmp_path / "out", params) == 0
    assert "2 broken and skipped: cut.jpg (truncated), empty.png (empty file)." in capsys.readouterr().out
    assert (tmp_path / "out" / "index.html").read_text().count("<article>") == 3


def test_a_second_run_takes_no_picture_of_the_first_for_a_photo(photos: Path, params: Path) -> None:
    run(photos, photos, params)
    first = (photos / "masks.json").read_bytes()
    run(photos, photos, params)
    assert (photos / "masks.json").read_bytes() == first


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "no photo in it; "),
        ({"x.jpg": b""}, "none of its photos can be read: x.jpg (empty file)"),
    ],
)
def test_a_folder_without_photos_is_one_clear_line(
    content: dict[str, bytes], message: str, params: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    for name, data in content.items():
        (tmp_path / "photos" / name).write_bytes(data)
    assert run(tmp_path / "photos", tmp_path / "out", params) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err.splitlines()[-1]
    assert not (tmp_path / "out" / "masks.json").exists()


def test_a_missing_folder_is_one_clear_line(params: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "nowhere", tmp_path / "out", params) == 2
    assert "nowhere: no such folder" in capsys.readouterr().err
