"""`oapseg predict`: what each task writes, and that nothing depends on how often the run was killed."""

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from use.small import CLUSTERS, SIZES, contents, photo_bytes, predict, small_model, small_params, write_photos

import oapseg
from oapseg import storage
from oapseg.checkpoint.model import Model, clusters
from oapseg.masks import INSTANCE, rle_to_mask
from oapseg.params import Source
from oapseg.shards.sources import list_source
from oapseg.shards.write import write_set
from oapseg.storage import files


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, parameters and photos."""
    folder = tmp_path_factory.mktemp("there")
    small_model(folder / "model")
    small_params(folder)
    write_photos(str(folder / "photos"))
    return folder


@pytest.fixture(scope="module")
def model(there: Path) -> Model:
    return oapseg.load(there / "model", device="cpu")


def words(there: Path, out: Path | str, *more: str) -> list[str]:
    given = ["--model", str(there / "model"), "--params", str(there / "params.yaml"), "--out", str(out)]
    return [str(there / "photos"), *given, *more]


def read(out: Path, name: str) -> Any:
    return json.loads((out / name).read_text())


def test_instance_masks_are_those_of_the_model_as_coco_results_with_the_names_of_their_clusters(
    there: Path, model: Model, tmp_path: Path
) -> None:
    assert predict(*words(there, tmp_path)) == 0
    images = {image["id"]: image for image in read(tmp_path, "images.json")}
    assert {image["file_name"]: (image["height"], image["width"]) for image in images.values()} == SIZES
    results = read(tmp_path, "masks.json")
    for image_id, image in images.items():
        own = [result for result in results if result["image_id"] == image_id]
        (masks,) = model([there / "photos" / image["file_name"]])
        masks = masks.select(masks.kind == INSTANCE)
        masks = masks.select(masks.masks.flatten(1).any(1))
        assert torch.equal(torch.stack([rle_to_mask(result["segmentation"]) for result in own]), masks.masks)
        assert [result["category_id"] for result in own] == clusters(masks).tolist()
        assert [result["score"] for result in own] == pytest.approx(masks.scores.tolist())
        for result in own:
            assert result["name"] == {2: "sky"}.get(result["category_id"])
            assert result["bbox"] == coco_mask.toBbox(result["segmentation"]).tolist()


@pytest.mark.parametrize("task", ["panoptic", "semantic"])
def test_pictures_in_the_panoptic_format_hold_the_segments_that_the_json_tells_of(
    task: str, there: Path, tmp_path: Path
) -> None:
    assert (
        predict(*words(there, tmp_path, "--task", task, *(["--min-score", "0.1"] if task == "panoptic" else []))) == 0
    )
    said = read(tmp_path, f"{task}.json")
    categories = {category["id"]: category for category in said["categories"]}
    images = {image["id"]: image for image in said["images"]}
    assert len(said["annotations"]) == len(SIZES)
    kinds = set()
    for annotation in said["annotations"]:
        pixels = np.array(Image.open(tmp_path / task / annotation["file_name"])).astype(int)
        ids = pixels[..., 0] + 256 * pixels[..., 1] + 65536 * pixels[..., 2]
        assert ids.shape == SIZES[images[annotation["image_id"]]["file_name"]]
        assert set(np.unique(ids)) - {0} == {info["id"] for info in annotation["segments_info"]}
        for info in annotation["segments_info"]:
            mask = ids == info["id"]
            assert info["area"] == mask.sum()
            assert info["bbox"] == coco_mask.toBbox(coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))).tolist()
            category = categories[info["category_id"]]
            assert (category["cluster"], category["isthing"]) == (info["cluster"], info["isthing"])
            assert category["name"] == (info["name"] or f"cluster {info['cluster']}")
            kinds.add(info["isthing"])
    assert kinds == ({0} if task == "semantic" else {0, 1})
    assert len(categories) == (CLUSTERS if task == "semantic" else 2 * CLUSTERS)


def test_a_semantic_map_covers_the_photo_and_has_each_cluster_once(there: Path, tmp_path: Path) -> None:
    assert predict(*words(there, tmp_path, "--task", "semantic")) == 0
    for annotation in read(tmp_path, "semantic.json")["annotations"]:
        found = [info["cluster"] for info in annotation["segments_info"]]
        assert len(set(found)) == len(found)
        assert (np.array(Image.open(tmp_path / "semantic" / annotation["file_name"])).sum(-1) > 0).all()


def test_scores_and_the_level_leave_some_masks_out(there: Path, tmp_path: Path) -> None:
    found = {}
    for name, more in (("all", []), ("best", ["--min-score", "0.2"]), ("wholes", ["--level", "1"])):
        assert predict(*words(there, tmp_path / name, *more)) == 0
        found[name] = read(tmp_path / name, "masks.json")
    assert found["best"] == [result for result in found["all"] if result["score"] >= 0.2]
    assert 0 < len(found["best"]) < len(found["all"])
    assert 0 < len(found["wholes"]) < len(found["all"])
    assert all(result in found["all"] for result in found["wholes"])


def test_a_level_and_a_score_choose_the_masks_that_they_choose_in_python(
    there: Path, model: Model, tmp_path: Path
) -> None:
    assert predict(*words(there, tmp_path, "--level", "0.5", "--min-score", "0.1")) == 0
    results, found = read(tmp_path, "masks.json"), []
    for image in read(tmp_path, "images.json"):
        (masks,) = model([there / "photos" / image["file_name"]], level=0.5, min_score=0.1)
        masks = masks.select((masks.kind == INSTANCE) & masks.masks.flatten(1).any(1))
        own = [rle_to_mask(each["segmentation"]) for each in results if each["image_id"] == image["id"]]
        assert [mask.tolist() for mask in own] == masks.masks.tolist()
        found += own
    assert len(found) == len(results) > 0


def test_each_photo_has_its_picture_and_the_page_shows_them_without_anything_from_outside(
    there: Path, tmp_path: Path
) -> None:
    assert predict(*words(there, tmp_path)) == 0
    drawn = {path.relative_to(tmp_path / "overlays").as_posix() for path in (tmp_path / "overlays").rglob("*.jpg")}
    assert drawn == {"a.jpg", "b.png.jpg", "more/c.jpg", "d.jpg", "e.jpg"}
    page = (tmp_path / "index.html").read_text()
    assert all(f"overlays/{name}" in page for name in drawn)
    assert "http" not in page
    assert "<script" not in page


def killed_at(write: int, arguments: list[str]) -> None:
    """The command, killed as it is about to give its n-th file its name."""
    replace, seen = Path.replace, [0]

    def counted(self: Path, target: Path) -> Path:
        seen[0] += 1
        if seen[0] == write:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)

    files.Path.replace = counted  # type: ignore[method-assign]
    os._exit(predict(*arguments))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("task", ["instance", "panoptic"])
def test_a_run_that_is_killed_at_any_write_and_goes_on_gives_the_very_same_files(
    task: str, there: Path, tmp_path: Path
) -> None:
    (there / "photos" / "broken.jpg").write_bytes(b"no photo")
    try:
        assert predict(*words(there, tmp_path / "at-once", "--task", task)) == 0
        killed, code = 0, -signal.SIGKILL
        while code == -signal.SIGKILL:
            run = multiprocessing.get_context("fork").Process(
                target=killed_at, args=(killed + 1, words(there, tmp_path / "killed", "--task", task))
            )
            run.start()
            run.join(60)
            code = run.exitcode
            killed += code == -signal.SIGKILL
        assert (code, killed > 5) == (0, True)
        assert contents(str(tmp_path / "killed")) == contents(str(tmp_path / "at-once"))
        assert read(tmp_path / "killed", "failed.json") == {"broken.jpg": "not a photo"}
    finally:
        (there / "photos" / "broken.jpg").unlink()


def test_a_run_over_what_is_whole_changes_nothing(
    there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(*words(there, tmp_path)) == 0
    first, before = capsys.readouterr().out, {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert predict(*words(there, tmp_path)) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert capsys.readouterr().out.splitlines()[0] == first.splitlines()[0]


def test_other_options_are_refused_in_one_line_and_start_anew_with_overwrite(
    there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert predict(*words(there, out)) == 0
    before = contents(str(out))
    (out / "mine.txt").write_text("a note")
    assert predict(*words(there, out, "--task", "semantic")) == 2
    error = capsys.readouterr().err
    assert "holds predictions of task instance and not semantic; name another --out, or start anew" in error
    assert contents(str(out)).items() >= before.items()
    assert predict(*words(there, out, "--task", "semantic", "--overwrite")) == 0
    assert not (out / "masks.json").exists()
    assert (out / "mine.txt").read_text() == "a note"
    assert predict(*words(there, tmp_path / "new", "--task", "semantic")) == 0
    assert {name: each for name, each in contents(str(out)).items() if name != "mine.txt"} == contents(
        str(tmp_path / "new")
    )


def test_overwrite_makes_anew_what_is_whole(there: Path, tmp_path: Path) -> None:
    photo, out = tmp_path / "a.bmp", tmp_path / "out"
    photo.write_bytes(photo_bytes(40, 60, 1, "BMP"))
    given, stamp = [photo, *words(there, out)[1:]], photo.stat().st_mtime_ns
    assert predict(*given) == 0
    before = contents(str(out))
    (out / "overlays" / "a.bmp.jpg").unlink()
    assert predict(*given, "--overwrite") == 0
    assert contents(str(out)) == before
    photo.write_bytes(photo_bytes(40, 60, 2, "BMP"))
    os.utime(photo, ns=(stamp, stamp))  # changed unseen, as an object in a bucket is
    assert predict(*given) == 0
    assert contents(str(out)) == before
    assert predict(*given, "--overwrite") == 0
    now = contents(str(out))
    assert now.keys() == before.keys()
    assert {"masks.json", "overlays/a.bmp.jpg", "index.html"} <= {name for name in now if now[name] != before[name]}


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_overwrite_goes_on_with_what_is_half_made(there: Path, tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=killed_at, args=(8, words(there, tmp_path)))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    part = (tmp_path / "overlays" / "a.jpg").stat().st_mtime_ns
    assert (tmp_path / "parts" / "0000000.json").exists()
    assert predict(*words(there, tmp_path, "--overwrite")) == 0
    assert read(tmp_path, "index.json")["finished"]
    assert (tmp_path / "overlays" / "a.jpg").stat().st_mtime_ns == part


def test_a_folder_with_other_peoples_files_is_left_alone(
    there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "index.html").write_text("my page")
    assert predict(*words(there, tmp_path, "--overwrite")) == 2
    assert "holds index.html, which would be written over" in capsys.readouterr().err
    assert contents(str(tmp_path)).keys() == {"index.html"}
    (tmp_path / "index.json").write_text("{}")
    assert predict(*words(there, tmp_path, "--overwrite")) == 2
    assert "index.json: is not of `oapseg predict`" in capsys.readouterr().err


def test_a_photo_changed_under_its_name_is_seen(there: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    write_photos(str(photos))
    given = [str(photos), *words(there, tmp_path / "out")[1:]]
    assert predict(*given) == 0
    (photos / "a.jpg").write_bytes(photo_bytes(60, 91, 9))
    assert predict(*given) == 2


def test_photos_that_are_none_are_named_with_the_reason_and_skipped(
    there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    whole = photo_bytes(200, 200, 1)
    (photos / "whole.jpg").write_bytes(whole)
    (photos / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "empty.png").write_bytes(b"")
    (photos / "gone.jpg").symlink_to("nowhere")
    assert predict(photos, *words(there, tmp_path / "out")[1:]) == 0
    assert read(tmp_path / "out", "failed.json") == {
        "half.jpg": "truncated",
        "empty.png": "empty file",
        "gone.jpg": "No such file or directory",
    }
    assert [image["file_name"] for image in read(tmp_path / "out", "images.json")] == ["whole.jpg"]
    assert "3 broken and skipped: empty.png (empty file), " in capsys.readouterr().out


def test_a_name_that_is_not_utf_8_costs_its_photo_alone(
    there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / os.fsdecode(b"photos-\xe9")
    photos.mkdir()
    for name in (b"a.jpg", b"\xff.jpg"):
        (photos / os.fsdecode(name)).write_bytes(photo_bytes(40, 40, 1))
    assert predict(photos, *words(there, tmp_path / "out")[1:]) == 0
    assert read(tmp_path / "out", "failed.json") == {r"\xff.jpg": "its name is not UTF-8; rename it"}
    assert [image["file_name"] for image in read(tmp_path / "out", "images.json")] == ["a.jpg"]
    assert r"1 broken and skipped: \xff.jpg (its name is not UTF-8; rename it)." in capsys.readouterr().out
    assert r"photos-\xe9" in (tmp_path / "out" / "index.html").read_text()


def test_of_photos_that_are_all_broken_nothing_is_written(
    there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no photo")
    assert predict(tmp_path / "a.jpg", *words(there, tmp_path / "out")[1:]) == 2
    assert "none of 1 photos can be read: a.jpg (not a photo)" in capsys.readouterr().err
    assert contents(str(tmp_path / "out")) == {}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--level", "2"], "--level: must be from 0 to 1, is 2"),
        (["--min-score", "-1"], "--min-score: must be from 0 to 1, is -1"),
        (["--task", "semantic", "--level", "1"], "--level: is of instance masks; the task semantic is a map"),
        (["--model", "models:/oapseg"], "models:/oapseg: must be models:/NAME@ALIAS"),
        (["--model", "nowhere"], "model: nowhere: no sha256.json, so it is no model"),
    ],
)
def test_bad_options_are_one_line_and_nothing_is_written(
    more: list[str], said: str, there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(*words(there, tmp_path / "out", *more)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_files_folders_and_shards_give_the_same_masks(there: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in (7, 12):
        (photos / f"{number:012d}.jpg").write_bytes(photo_bytes(40, 60, number))
    given = words(there, tmp_path / "folder")[1:]
    assert predict(photos, *given) == 0
    each = [str(path) for path in photos.iterdir()]
    assert predict(*each, *words(there, tmp_path / "files")[1:]) == 0
    assert read(tmp_path / "files", "masks.json") == read(tmp_path / "folder", "masks.json")
    listing = list_source(Source(kind="photos", path="photos"), str(tmp_path))
    write_set([listing], str(tmp_path / "shards"), samples_per_shard=1, max_broken=0.0, max_pixels=10**6, workers=1)
    assert predict(tmp_path / "shards", *words(there, tmp_path / "of-shards")[1:]) == 0
    for name, number in (("masks.json", "image_id"), ("images.json", "id")):
        of_shards, of_folder = (read(tmp_path / which, name) for which in ("of-shards", "folder"))
        assert [each | {number: 0} for each in of_shards] == [each | {number: 0} for each in of_folder]
    assert [image["id"] for image in read(tmp_path / "folder", "images.json")] == [7, 12]


def test_two_photos_of_one_name_are_refused(there: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_photos(str(tmp_path / "photos"))
    assert predict(tmp_path / "photos", *words(there, tmp_path / "out")) == 2
    assert "two photos are called a.jpg: " in capsys.readouterr().err


def test_photos_must_not_lie_in_out(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(str(there))
    assert predict(*words(there, there)) == 2
    assert "--out: " in capsys.readouterr().err
    assert contents(str(there)) == before


def test_memory_of_reading_ahead_is_bounded() -> None:
    from oapseg.use.predict import ahead

    begun: list[int] = []
    results = ahead(lambda item: item * item, (begun.append(item) or item for item in range(100)), 4)
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    assert len(begun) <= 3 + 4
    assert list(results) == [item * item for item in range(3, 100)]


def test_an_error_on_the_way_ends_the_run_and_the_next_one_goes_on(
    there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from oapseg.use import predict as running

    def full(*_: object) -> bytes:
        raise OSError(28, "No space left on device", "overlays")

    with monkeypatch.context() as patched:
        patched.setattr(running.pictures, "picture", full)
        assert predict(*words(there, tmp_path / "out")) == 2
    assert not read(tmp_path / "out", "index.json")["finished"]
    assert predict(*words(there, tmp_path / "out")) == 0
    assert read(tmp_path / "out", "index.json")["finished"]
    assert storage.exists(tmp_path / "out" / "masks.json")
