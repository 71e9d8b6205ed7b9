"""Generators side by side: what the leaderboard says of each, also of one that fails, with labels and without."""

import argparse
import csv
import html
import importlib
import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from train.tiny import brief_concepts, tiny_encoder, tiny_params, write_params

import components.__main__
import oapseg.cli
from oapseg.encode.encoder import encoder_hash, own_encoder
from oapseg.encode.load import load_folder, save_folder
from oapseg.encode.patches import Patches
from oapseg.evaluate import compare as comparing
from oapseg.evaluate.compare import Row, Value, check_names, compare
from oapseg.evaluate.cost import Cost
from oapseg.evaluate.generators import make_generator
from oapseg.evaluate.predict import EQUAL_RULE
from oapseg.evaluate.predictions import Predictions
from oapseg.evaluate.probe import Probed
from oapseg.masks import Masks, rle_to_mask
from oapseg.params import Params, load_params
from oapseg.pool import GENERATORS
from oapseg.pool.concept_generator import encoder_of, load_generator, save_generator
from oapseg.pool.generator import Generator
from oapseg.report.compare_command import PUBLISHED, with_concepts
from oapseg.report.leaderboard import Told, as_csv, as_html, as_markdown
from oapseg.shards.manifest import Manifest, load_manifest
from oapseg.shards.sources import Source, list_source
from oapseg.shards.write import write_set

NAMES = ["oap", "tokencut"]


class Refuses(Generator):
    """Built with any settings, good for no photo."""

    def __init__(self, **_settings: Any) -> None:
        pass

    def __call__(self, patches: Patches) -> Masks:
        raise RuntimeError(f"no luck with {len(patches.features)} patches")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five photos of a bright square, each a COCO annotation."""
    folder = tmp_path_factory.mktemp("compare")
    (folder / "photos").mkdir()
    images, annotations = [], []
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 60, (64, 96, 3), dtype=np.uint8)
        left, top = 8 * number, 4 * number
        pixels[top : top + 32, left : left + 40] = 250
        Image.fromarray(pixels).save(folder / "photos" / f"{number}.jpg", quality=95)
        images.append({"id": 10 + number, "file_name": f"{number}.jpg", "width": 96, "height": 64})
        corners = [left, top, left + 40, top, left + 40, top + 32, left, top + 32]
        label = {"id": number + 1, "image_id": 10 + number, "category_id": 1, "iscrowd": 0, "area": 1280}
        annotations.append(label | {"bbox": [left, top, 40, 32], "segmentation": [corners]})
    found = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "square"}]}
    (folder / "labels.json").write_text(json.dumps(found))
    tiny_encoder(folder / "encoder")
    sizes = {"image_px": 64, "window_px": 48, "batch": 2, "device": "cpu"}
    params = tiny_params(
        encode={"name": "own", "weights": str(folder / "encoder")},
        predict=sizes,
        evaluate={"bootstrap": 20},
        compare={"photos": 2},
    )
    write_params(params, folder / "params.yaml")
    return folder


@pytest.fixture
def params(photos: Path) -> Params:
    return load_params(photos / "params.yaml")


@pytest.fixture(scope="module")
def shards(photos: Path) -> Path:
    source = Source(kind="coco_json", path=".", photos="photos", labels="labels.json")
    listing = list_source(source, str(photos))
    write_set([listing], photos / "shards", samples_per_shard=3, max_broken=0.0, max_pixels=10**6, workers=1)
    return photos / "shards"


@pytest.fixture
def manifest(shards: Path) -> Manifest:
    return load_manifest(str(shards))


@pytest.fixture(autouse=True)
def without_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is measured in a process of its own, which has a test of its own."""
    monkeypatch.setattr(comparing, "probe_set", lambda *_: Probed(12_300_000))


def run(photos: Path, out: Path, *more: object) -> int:
    words = ["compare", *map(str, more), "--out", str(out), "--params", str(photos / "params.yaml")]
    return int(oapseg.cli.main(words))


def test_the_leaderboard_has_scores_with_intervals_times_and_pictures_of_the_same_photos(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (photos / "photos", "--labels", photos / "labels.json", "--generators", ",".join(NAMES))
    assert run(photos, tmp_path, *words) == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "leaderboard.csv").read_text())))
    assert sorted(row["generator"] for row in rows) == NAMES
    for row in rows:
        for name in ("mask_AP", "mask_AP50", "mask_AR100", "box_AP", "box_AP50", "box_AR100"):
            assert 0 <= float(row[f"{name}_low"]) <= float(row[name]) <= float(row[f"{name}_high"]) <= 100
        assert (row["photos"], row["photos_failed"], row["peak_bytes"], row["failure"]) == ("5", "0", "12300000", "")
        assert float(row["seconds"]) > 0
        assert float(row["cpu_seconds"]) > 0
        assert float(row["instance_masks"]) >= 1
    page = (tmp_path / "index.html").read_text()
    assert page.count("<img ") == 2 * (1 + 2 * len(NAMES))
    assert "<script" not in page
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", page)
    assert "every mask 1.0" in (tmp_path / "leaderboard.md").read_text()
    assert "tokencut" in capsys.readouterr().out


def test_photos_without_labels_are_compared_by_all_but_scores(photos: Path, tmp_path: Path) -> None:
    assert run(photos, tmp_path, photos / "photos", "--generators", "oap") == 0
    (row,) = csv.DictReader(io.StringIO((tmp_path / "leaderboard.csv").read_text()))
    assert not [name for name in row if "AP" in name]
    assert all(0 <= float(row[name]) <= 1 for name in ("coverage", "edges"))
    assert "No labels: nothing here says how right the masks are." in (tmp_path / "leaderboard.md").read_text()


def test_a_generator_that_fails_is_a_row_that_says_why_and_the_others_run(
    params: Params, photos: Path, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(GENERATORS, "maskcut", Refuses)
    encoder = load_folder(photos / "encoder")
    rows = {row.name: row for row in compare(manifest, encoder, ["maskcut", "acseg", "oap"], params, str(tmp_path))}
    assert next(iter(rows)) == "oap"
    assert rows["oap"].failure is None
    assert rows["maskcut"].failure is not None
    assert "0.jpg (RuntimeError: no luck with 64 patches)" in rows["maskcut"].failure
    assert rows["acseg"].failure == (
        "ValueError: pool.acseg.weights: no file work/acg/acg.safetensors; "
        "generators/dvc.yaml has the step that trains one"
    )
    table = as_markdown(Told("All", []), list(rows.values()))
    assert "| acseg | ValueError: pool.acseg.weights: no file" in table
    assert as_html(Told("All", []), list(rows.values()), []).count('class="why"') == 2


def test_weights_of_concepts_are_trained_on_the_photos_once_where_there_are_none(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = brief_concepts(yaml.safe_load((photos / "params.yaml").read_text()), tmp_path)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    words = ["compare", str(photos / "photos"), "--generators", "acseg", "--params", str(tmp_path / "params.yaml")]
    assert oapseg.cli.main([*words, "--out", str(tmp_path / "out")]) == 0
    assert "weights trained on these photos in 2 steps" in capsys.readouterr().out
    assert "weights trained on these photos in 2 steps" in (tmp_path / "out/leaderboard.md").read_text()
    (row,) = csv.DictReader(io.StringIO((tmp_path / "out/leaderboard.csv").read_text()))
    assert (row["generator"], row["photos"], row["failure"]) == ("acseg", "5", "")
    weights, masks = tmp_path / "out/acg/acg.safetensors", sorted((tmp_path / "out/masks/acseg").iterdir())
    before, written = weights.read_bytes(), [file.stat().st_mtime_ns for file in masks]
    history = (tmp_path / "out/acg/history.jsonl").read_bytes()
    assert oapseg.cli.main([*words, "--out", str(tmp_path / "out")]) == 0
    assert weights.read_bytes() == before
    assert (tmp_path / "out/acg/history.jsonl").read_bytes() == history
    assert [file.stat().st_mtime_ns for file in masks] == written
    raw["pool"]["acseg"]["weights"] = str(weights)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    assert oapseg.cli.main([*words, "--out", str(tmp_path / "other")]) == 0
    assert f"acseg: weights of {weights}" in (tmp_path / "other/leaderboard.md").read_text()
    assert not (tmp_path / "other/acg").exists()


def test_where_no_concepts_can_be_trained_the_leaderboard_says_why_and_has_the_others(
    photos: Path, tmp_path: Path
) -> None:
    raw = yaml.safe_load((photos / "params.yaml").read_text())
    raw["acg"] |= {"heads": 7, "device": "cpu"}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    words = ["compare", str(photos / "photos"), "--generators", "acseg,oap", "--params", str(tmp_path / "params.yaml")]
    assert oapseg.cli.main([*words, "--out", str(tmp_path / "out")]) == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out/leaderboard.csv").read_text())))
    assert [(row["generator"], bool(row["failure"])) for row in rows] == [("oap", False), ("acseg", True)]
    assert "none could be trained: acg.heads: 7 must divide" in (tmp_path / "out/leaderboard.md").read_text()


@pytest.fixture
def concepts(params: Params, tmp_path: Path) -> Params:
    """Parameters by which concepts are trained at once, and weights that are not there."""
    small = {"steps": 2, "batch": 2, "image_px": 32, "heads": 2, "ffn": 16, "workers": 0, "device": "cpu"}
    acseg = params.pool.acseg.model_copy(update={"weights": str(tmp_path / "mine.safetensors")})
    pool = params.pool.model_copy(update={"acseg": acseg})
    return params.model_copy(update={"acg": params.acg.model_copy(update=small), "pool": pool})


def test_what_the_disk_refuses_is_a_note_and_no_end_of_the_command(
    concepts: Params, manifest: Manifest, tmp_path: Path
) -> None:
    (tmp_path / "acg").write_text("no folder")
    same, note = with_concepts(concepts, manifest, str(tmp_path))
    assert same is concepts
    assert "none could be trained: [Errno" in note
    (tmp_path / "mine.safetensors").write_text("no weights")
    same, note = with_concepts(concepts, manifest, str(tmp_path))
    assert same is concepts
    assert "mine.safetensors cannot be had: " in note


def test_photos_of_no_whole_number_of_patches_are_rounded_down_for_the_concepts(
    concepts: Params, manifest: Manifest, tmp_path: Path
) -> None:
    odd = concepts.model_copy(update={"acg": concepts.acg.model_copy(update={"image_px": 39})})
    trained, note = with_concepts(odd, manifest, str(tmp_path))
    assert note.endswith("in 2 steps of 2 photos at 32 px (acg.image_px of 39 in patches of 8), without labels")
    assert Path(trained.pool.acseg.weights).exists()


def test_weights_of_another_encoder_are_trained_anew_and_those_that_do_not_say_are_warned_of(
    concepts: Params, manifest: Manifest, tmp_path: Path
) -> None:
    first, _ = with_concepts(concepts, manifest, str(tmp_path / "first"))
    again, note = with_concepts(first, manifest, str(tmp_path / "again"))
    assert (again, note) == (first, f"acseg: weights of {first.pool.acseg.weights}")
    torch.manual_seed(1)
    other = own_encoder(width=32, depth=2, heads=4, patch_px=8, image_px=64)
    save_folder(other, tmp_path / "encoder", notes={})
    encode = first.encode.model_copy(update={"weights": str(tmp_path / "encoder")})
    with pytest.raises(ValueError, match=r"acg\.safetensors was trained for another encoder; train with this one"):
        make_generator("acseg", first, other)
    changed, note = with_concepts(first.model_copy(update={"encode": encode}), manifest, str(tmp_path / "other"))
    assert "was trained for another encoder; weights trained on these photos in 2 steps" in note
    assert encoder_of(changed.pool.acseg.weights) == encoder_hash(other)
    save_generator(load_generator(first.pool.acseg.weights), concepts.pool.acseg.weights)
    same, note = with_concepts(concepts, manifest, str(tmp_path / "silent"))
    assert same is concepts
    assert note.endswith("mine.safetensors, which do not say for which encoder they were trained")


def test_instances_that_are_dropped_are_said_and_made_anew(
    params: Params, photos: Path, manifest: Manifest, tmp_path: Path
) -> None:
    encoder = load_folder(photos / "encoder")
    (whole,) = compare(manifest, encoder, ["oap"], params, str(tmp_path))
    refine = params.refine.model_copy(update={"min_area": 0.9})
    (chosen,) = compare(manifest, encoder, ["oap"], params.model_copy(update={"refine": refine}), str(tmp_path))
    assert whole.score_rule == chosen.score_rule == EQUAL_RULE
    assert "; of instances at least 0.9 of the photo, IoU with a better one at most 1; " in chosen.views
    assert "of instances" not in whole.views
    least = 0.9 * 64 * 96
    found = [each for results in Predictions(chosen.folder).part(0).values() for each in results]
    assert all(int(rle_to_mask(each["segmentation"]).sum()) >= least for each in found if each["kind"] == "instance")


def test_published_settings_stand_for_those_of_section_pool_and_the_leaderboard_says_so(
    photos: Path, tmp_path: Path
) -> None:
    raw = yaml.safe_load((photos / "params.yaml").read_text())
    raw["compare"]["published"]["tokencut"] = {"tau": 0.9, "eps": 0.01}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    words = ["compare", str(photos / "photos"), "--generators", "tokencut", "--params", str(tmp_path / "params.yaml")]
    assert oapseg.cli.main([*words, "--published", "--out", str(tmp_path / "published")]) == 0
    raw["pool"]["tokencut"] |= {"tau": 0.9, "eps": 0.01}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    assert oapseg.cli.main([*words, "--out", str(tmp_path / "own")]) == 0
    told = {each: (tmp_path / each / "leaderboard.md").read_text() for each in ("published", "own")}
    assert [PUBLISHED in told[each] for each in ("published", "own")] == [True, False]
    masks = [tmp_path / each / "masks/tokencut" for each in ("published", "own")]
    assert [each.name for each in masks[0].iterdir()]
    for file in masks[0].glob("*.json*"):
        assert file.read_bytes() == (masks[1] / file.name).read_bytes()


CRF = {"steps": 1, "gaussian_sigma_px": 1.0, "bilateral_sigma_px": 4.0}


@pytest.mark.parametrize(
    ("section", "values", "said"),
    [
        ("predict", {"crf": True}, "dense CRF at the photo's size, 1 steps"),
        ("predict", {"level": 0.5}, "level 0.5 from 0 (parts) to 1 (wholes)"),
        ("predict", {"scales": [48]}, "features of views of 64, 48 px averaged"),
        ("predict", {"flip": True}, "features of mirror images averaged in"),
        ("predict", {"max_masks": 7}, "at most 7 masks of a kind"),
        ("refine", {"max_iou": 0.7}, "IoU with a better one at most 0.7"),
        ("pool", {"phi": 3}, "phi: 3"),
    ],
)
def test_leaderboards_of_different_settings_do_not_read_alike(
    section: str, values: dict[str, Any], said: str, photos: Path, shards: Path, tmp_path: Path
) -> None:
    raw = yaml.safe_load((photos / "params.yaml").read_text())
    raw["refine"]["crf"] |= CRF
    (raw["pool"]["oap"] if section == "pool" else raw[section]).update(values)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    words = ["compare", "--shards", str(shards), "--generators", "oap", "--params", str(tmp_path / "params.yaml")]
    assert oapseg.cli.main([*words, "--out", str(tmp_path / "out")]) == 0
    assert run(photos, tmp_path / "usual", "--shards", shards, "--generators", "oap") == 0
    for file in ("leaderboard.md", "leaderboard.csv", "index.html"):
        told = [html.unescape((tmp_path / out / file).read_text()) for out in ("out", "usual")]
        assert [said in each for each in told] == [True, False]


def test_concepts_are_trained_as_published_whatever_weights_there_are(
    photos: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = brief_concepts(yaml.safe_load((photos / "params.yaml").read_text()), tmp_path)
    raw["compare"]["published_acg"] = {"steps": 3, "batch": 7, "image_px": 40}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    params = load_params(tmp_path / "params.yaml")
    first, _ = with_concepts(params, load_manifest(str(shards)), str(tmp_path / "first"))
    raw["pool"]["acseg"]["weights"] = first.pool.acseg.weights
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    words = ["compare", "--shards", str(shards), "--generators", "acseg", "--params", str(tmp_path / "params.yaml")]
    capsys.readouterr()
    assert oapseg.cli.main([*words, "--published", "--out", str(tmp_path / "out")]) == 0
    note = (
        "acseg: as published (compare.published_acg); weights trained on these photos in 3 steps of 7 photos at 40 px"
    )
    printed = capsys.readouterr()
    assert note in printed.out
    assert "3/3" in printed.err
    assert note in (tmp_path / "out/leaderboard.md").read_text()
    assert (tmp_path / "out/acg_published/acg.safetensors").read_bytes() != Path(first.pool.acseg.weights).read_bytes()
    (row,) = csv.DictReader(io.StringIO((tmp_path / "out/leaderboard.csv").read_text()))
    assert (row["failure"], "acg_published" in row["settings"]) == ("", True)
    raw["compare"]["published"]["acseg"] = {"weights": first.pool.acseg.weights}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    assert oapseg.cli.main([*words, "--published", "--out", str(tmp_path / "own")]) == 0
    assert f"acseg: weights of {first.pool.acseg.weights}" in (tmp_path / "own/leaderboard.md").read_text()


def test_shipped_concepts_are_published_with_the_steps_of_the_paper() -> None:
    params = load_params("params.yaml")
    acg = params.acg.with_settings(params.compare.published_acg)
    assert (acg.steps, acg.batch, acg.image_px, acg.lr, acg.weight_decay) == (2500, 32, 224, 1e-4, 0.01)
    assert (acg.prototypes, acg.updates, acg.heads) == (5, 6, params.acg.heads)


def test_crops_are_whole_patches_and_the_leaderboard_says_so(photos: Path, shards: Path, tmp_path: Path) -> None:
    raw = yaml.safe_load((photos / "params.yaml").read_text())
    raw["pool"]["divide_conquer"] |= {"encode": True, "crop_px": 38}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    words = ["compare", "--shards", str(shards), "--params", str(tmp_path / "params.yaml")]
    assert oapseg.cli.main([*words, "--generators", "divide_conquer", "--out", str(tmp_path / "out")]) == 0
    (row,) = csv.DictReader(io.StringIO((tmp_path / "out/leaderboard.csv").read_text()))
    assert (row["photos_failed"], row["failure"]) == ("0", "")
    assert float(row["instance_masks"]) >= 1
    assert "crop_px: 32" in row["settings"]
    said = "divide_conquer: crop_px is 32, pool.divide_conquer.crop_px of 38 in patches of 8 px."
    assert said in (tmp_path / "out/leaderboard.md").read_text()


def test_why_a_memory_is_not_known_is_a_note_and_the_generator_has_its_row(
    photos: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparing, "probe_set", lambda *_: Probed(None, "RuntimeError: <no> luck"))
    for _ in range(2):  # once found out, once known
        assert run(photos, tmp_path / "out", "--shards", shards, "--generators", "oap") == 0
        (row,) = csv.DictReader(io.StringIO((tmp_path / "out/leaderboard.csv").read_text()))
        assert (row["peak_bytes"], row["failure"], row["photos"]) == ("", "", "5")
        assert "- No MB of oap: RuntimeError: <no> luck." in (tmp_path / "out/leaderboard.md").read_text()
        assert "No MB of oap: RuntimeError: &lt;no&gt; luck." in (tmp_path / "out/index.html").read_text()
    monkeypatch.setattr(comparing, "probe_set", lambda *_: Probed(None, "its process was killed", killed=True))
    assert run(photos, tmp_path / "killed", "--shards", shards, "--generators", "oap") == 0
    (row,) = csv.DictReader(io.StringIO((tmp_path / "killed/leaderboard.csv").read_text()))
    assert row["failure"] == "its process was killed"
    assert not (tmp_path / "killed/masks/oap").exists()


@pytest.mark.parametrize("words", [["compare"], ["tune", "oap"], ["step"]])
def test_shards_without_a_photo_are_one_line(
    words: list[str], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = {"source": "nowhere", "labels": [], "categories": [], "skipped": {}, "num_samples": 0, "shards": []}
    (tmp_path / "none").mkdir()
    (tmp_path / "none/manifest.json").write_text(json.dumps(none))
    common = ["--shards", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
    common += ["--params", str(photos / "params.yaml")]
    if words == ["step"]:
        code = components.__main__.main(["compare", *common, "--encoder", str(photos / "encoder")])
    else:
        code = oapseg.cli.main([*words, *common])
    assert code == 2
    printed = capsys.readouterr().err
    assert f"{tmp_path}/none/manifest.json: no photo in these shards" in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_second_run_and_the_step_pool_leave_nothing_to_do(
    photos: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ["--encoder", str(photos / "encoder"), "--shards", str(shards), "--params", str(photos / "params.yaml")]
    assert components.__main__.main(["pool", "oap", *common, "--out", str(tmp_path / "pool/oap")]) == 0
    step = ["compare", *common, "--generators", "oap", "--out", str(tmp_path / "out")]
    monkeypatch.setattr("oapseg.encode.encoder.Encoder.patches", lambda *_: pytest.fail("a photo was encoded again"))
    assert components.__main__.main([*step, "--pooled", str(tmp_path / "pool")]) == 0
    assert not (tmp_path / "out/masks/oap").exists()
    assert components.__main__.main([*step, "--pooled", str(tmp_path / "pool")]) == 0


def test_every_generator_sees_the_same_features_of_a_photo_encoded_once(
    params: Params, photos: Path, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, counted = load_folder(photos / "encoder"), []
    patches = type(encoder).patches

    def counting(self: Any, images: Any, image_px: Any) -> Any:
        counted.append(len(images))
        return patches(self, images, image_px)

    monkeypatch.setattr(type(encoder), "patches", counting)
    compare(manifest, encoder, NAMES, params, str(tmp_path))
    assert sum(counted) == 5
    compare(manifest, encoder, [*NAMES, "multicut"], params, str(tmp_path))
    assert sum(counted) == 10
    assert len(Predictions(str(tmp_path / "multicut")).parts) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["PHOTOS", "--shards", "SHARDS"], "give PHOTOS, a folder, or --shards; one of the two"),
        ([], "give PHOTOS, a folder, or --shards; one of the two"),
        (["--shards", "SHARDS", "--labels", "x.json"], "--labels goes with PHOTOS; shards carry their own"),
        (["PHOTOS", "--generators", "oap,magic"], "no generator 'magic'; allowed are oap, "),
        (["PHOTOS", "--generators", "oap,oap"], "generator oap is named twice"),
        (["PHOTOS/nowhere"], "nowhere: no such folder"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], said: str, photos: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"PHOTOS": str(photos / "photos"), "SHARDS": str(shards)}
    for key, value in places.items():
        words = [word.replace(key, value) for word in words]
    assert run(photos, tmp_path / "out", *words) == 2
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_broken_photos_are_named_and_the_others_compared(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/whole.jpg").write_bytes((photos / "photos/0.jpg").read_bytes())
    (tmp_path / "mine/cut.jpg").write_bytes((photos / "photos/1.jpg").read_bytes()[:-500])
    assert run(photos, tmp_path / "out", tmp_path / "mine", "--generators", "oap") == 0
    assert "1 photos of photos" in (tmp_path / "out/leaderboard.md").read_text()
    assert "broken and left out: 1 truncated (cut.jpg)" in (tmp_path / "out/leaderboard.md").read_text()


def test_rows_are_ranked_by_ap50_and_failures_come_last() -> None:
    rows = [
        Row("failed", "no weights"),
        Row("poor", scores={"mask_AP50": Value(1.0, 0.5, 2.0)}, cost=Cost(2, 1.0, 0.5, {"edges": 0.9})),
        Row("good", scores={"mask_AP50": Value(3.0, 2.0, 4.0)}),
    ]
    assert [row.name for row in sorted(rows, key=comparing.rank, reverse=True)] == ["good", "poor", "failed"]
    assert "poor,1.000,0.500,2.000,,,0.500000,0.250000,,,0.9000,,2,0,,,,\n" in as_csv(rows)


def test_the_pipeline_of_generators_has_all_of_them_and_compare_reads_what_they_write() -> None:
    stages = yaml.safe_load(Path("generators/dvc.yaml").read_text())["stages"]
    listed = stages["pool"]["foreach"] + stages["pool_trained"]["foreach"]
    assert sorted(listed) == sorted(GENERATORS)
    check_names(listed)
    for name in ("pool", "pool_trained"):
        assert "work/pool/${item}" in stages[name]["do"]["outs"][0]
    assert "work/pool" in stages["compare"]["deps"]
    for name, step in (("acg", "acg"), ("pool", "pool"), ("pool_trained", "pool"), ("compare", "compare")):
        stage = stages[name].get("do", stages[name])
        python, option, package, said, *arguments = shlex.split(stage["cmd"])
        assert (python, option, package, said) == ("python", "-m", "components", step)
        parser = argparse.ArgumentParser(exit_on_error=False)
        importlib.import_module(components.__main__.FIELD[step].module).add_arguments(parser)
        args = parser.parse_args(arguments)
        assert {str(args.encoder), args.shards} <= set(stage["deps"])
        assert all(
            out.startswith(str(args.out))
            for each in stage["outs"]
            for out in ([each] if isinstance(each, str) else each)
        )
    weights = load_params("params.yaml").pool.acseg.weights
    assert Path(weights).is_relative_to(next(iter(stages["acg"]["outs"][0])))
    assert "work/acg" in stages["pool_trained"]["do"]["deps"]
