import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from photo_files import noisy_jpeg
from PIL import Image
from pycocotools import mask as coco_mask

from oapseg.masks import rle_to_mask
from oapseg.params import Source
from oapseg.shards.read import Photos
from oapseg.shards.sources import list_source
from oapseg.shards.write import write_set

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools under numpy 2

SQUARE = [10.0, 5.0, 20.0, 5.0, 20.0, 15.0, 10.0, 15.0]
SIZE = {"width": 48, "height": 32}


def samples_of(root: Path, **source) -> dict[str, dict]:
    """The labels of every sample by original name, after sharding and reading."""
    out = root.parent / "out"
    listing = list_source(Source(**source), str(root))
    manifest = write_set([listing], out, samples_per_shard=100, max_broken=0.0, max_pixels=10**7, workers=1)
    return {sample.labels["name"]: sample.labels for sample in Photos(manifest)}


def annotations(images: list[int], instances: list[dict]) -> str:
    return json.dumps(
        {
            "licenses": [{"id": 4, "name": "CC BY"}],
            "images": [{"id": number, "file_name": f"{number}.jpg", "license": 4, **SIZE} for number in images],
            "annotations": instances,
            "categories": [{"id": 3, "name": "cat"}],
        }
    )


def instance(image_id: int, segmentation, **more) -> dict:
    return {"id": 70 + image_id, "image_id": image_id, "category_id": 3, "segmentation": segmentation, **more}


@pytest.fixture(params=["images/val", "val"])
def coco(request, tmp_path) -> Path:
    """Photos 1 to 5: 1 with a polygon, 2 listed without any, 3 in a file of additions, 4 and 5 listed nowhere."""
    root = tmp_path / "coco"
    (root / request.param).mkdir(parents=True)
    (root / "annotations").mkdir()
    for number in range(1, 6):
        (root / request.param / f"{number}.jpg").write_bytes(noisy_jpeg(number))
    (root / "annotations/instances_val.json").write_text(annotations([1, 2, 9], [instance(1, [SQUARE])]))
    more = annotations(
        [1, 3], [instance(1, [SQUARE], id=1), instance(3, {"size": [32, 48], "counts": [100, 50, 1386]})]
    )
    (root / "annotations/instances_val_more.json").write_text(more)
    return root


def test_coco_labels_are_those_of_the_first_file_that_lists_the_photo(coco):
    found = samples_of(coco, kind="coco", path=".", split="val")
    counts = {name: len(labels["instances"]) if "instances" in labels else None for name, labels in found.items()}
    assert counts == {"1.jpg": 1, "2.jpg": 0, "3.jpg": 1, "4.jpg": None, "5.jpg": None}
    assert found["1.jpg"]["instances"][0]["id"] == 71


def test_coco_regions_are_those_of_pycocotools(coco):
    found = samples_of(coco, kind="coco", path=".", split="val")
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([SQUARE], 32, 48)))
    [polygon] = found["1.jpg"]["instances"]
    assert np.array_equal(rle_to_mask(polygon["segmentation"]).numpy(), expected)
    assert (polygon["bbox"], polygon["area"]) == ([10, 5, 10, 10], 100)
    assert rle_to_mask(found["3.jpg"]["instances"][0]["segmentation"]).sum() == 50


def test_coco_photos_keep_their_id_and_licence_and_others_get_ids_above(coco):
    found = samples_of(coco, kind="coco", path=".", split="val")
    assert [found[f"{number}.jpg"]["image_id"] for number in range(1, 6)] == [1, 2, 3, 4, 5]
    assert found["1.jpg"]["licence"] == "CC BY"


def test_panoptic_segments_are_cut_from_the_png(coco):
    ids = np.zeros((32, 48), np.int64)
    ids[:, 30:] = 70_000
    ids[:5] = 258
    folder = coco / "annotations/panoptic_val"
    folder.mkdir()
    Image.fromarray(np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)).save(folder / "4.png")
    segments = [{"id": 70_000, "category_id": 3}, {"id": 258, "category_id": 90}]
    (coco / "annotations/panoptic_val.json").write_text(
        json.dumps(
            {
                "images": [{"id": 4, "file_name": "4.jpg", **SIZE}],
                "annotations": [{"image_id": 4, "file_name": "4.png", "segments_info": segments}],
                "categories": [{"id": 3, "name": "cat", "isthing": 1}, {"id": 90, "name": "sea", "isthing": 0}],
            }
        )
    )
    found = samples_of(coco, kind="coco", path=".", split="val")
    assert [name for name in found if "panoptic" in found[name]] == ["4.jpg"]
    thing, stuff = found["4.jpg"]["panoptic"]
    assert (thing["isthing"], stuff["isthing"]) == (1, 0)
    assert np.array_equal(rle_to_mask(thing["segmentation"]).numpy(), ids == 70_000)
    assert np.array_equal(rle_to_mask(stuff["segmentation"]).numpy(), ids == 258)


def test_coco_without_annotations_is_a_folder_of_photos(coco):
    for path in (coco / "annotations").iterdir():
        path.unlink()
    found = samples_of(coco, kind="coco", path=".", split="val")
    assert len(found) == 5
    assert all("instances" not in labels for labels in found.values())


def test_labels_of_another_size_break_the_photo(coco):
    text = (coco / "annotations/instances_val.json").read_text().replace('"height": 32', '"height": 33', 1)
    (coco / "annotations/instances_val.json").write_text(text)
    with pytest.raises(ValueError, match=r"1.jpg \(instances_val.json: image 1 of 48 x 33 px, the photo has 48 x 32\)"):
        samples_of(coco, kind="coco", path=".", split="val")


def test_a_split_that_is_not_there_names_those_that_are(coco):
    with pytest.raises(ValueError, match=r"no such split; .* holds .*val"):
        list_source(Source(kind="coco", path=".", split="train"), str(coco))


def test_damaged_run_lengths_break_the_photo(coco):
    text = annotations([1], [instance(1, {"size": [32, 48], "counts": "!!"})])
    (coco / "annotations/instances_val.json").write_text(text)
    with pytest.raises(ValueError, match=r"1.jpg \(instances_val.json: annotation 71: damaged run lengths\)"):
        samples_of(coco, kind="coco", path=".", split="val")


@pytest.mark.parametrize(("listed", "lacking"), [("images", "file_name"), ("annotations", "image_id")])
def test_an_annotation_file_with_a_part_missing_is_said_in_a_line(coco, listed, lacking):
    raw = json.loads((coco / "annotations/instances_val.json").read_text())
    del raw[listed][0][lacking]
    (coco / "annotations/instances_val.json").write_text(json.dumps(raw))
    with pytest.raises(ValueError, match=rf"instances_val.json: not a COCO annotation file, '{lacking}' is missing"):
        list_source(Source(kind="coco", path=".", split="val"), str(coco))


def test_an_annotation_file_of_another_kind_is_said_in_a_line(coco):
    (coco / "annotations/instances_val.json").write_text('{"images": []}')
    with pytest.raises(ValueError, match="not a COCO annotation file, has no annotations, categories"):
        list_source(Source(kind="coco", path=".", split="val"), str(coco))


def test_class_folders_give_each_photo_its_class(tmp_path):
    for name in ("dog", "ant/deep", "empty"):
        (tmp_path / "in" / name).mkdir(parents=True)
    for path in ("dog/1.jpg", "ant/deep/2.JPEG"):
        (tmp_path / "in" / path).write_bytes(noisy_jpeg())
    found = samples_of(tmp_path / "in", kind="classes", path=".")
    assert {name: labels["class"] for name, labels in found.items()} == {
        "ant/deep/2.JPEG": {"id": 0, "name": "ant"},
        "dog/1.jpg": {"id": 1, "name": "dog"},
    }


def test_a_plain_folder_takes_photos_at_any_depth_and_follows_links(tmp_path):
    root = tmp_path / "in"
    (root / "deep" / "er").mkdir(parents=True)
    for name in ("b.jpg", "deep/er/a.jpg", ".hidden.jpg", "notes.txt"):
        (root / name).write_bytes(noisy_jpeg())
    (root / "deep" / "back").symlink_to(root)
    assert list(samples_of(root, kind="photos", path=".")) == ["b.jpg", "deep/er/a.jpg"]


def test_foreign_tar_shards_are_read_by_webdataset_naming(tmp_path):
    root = tmp_path / "in"
    root.mkdir()
    files = {"x/a.b.jpg": noisy_jpeg(), "x/one.jpeg": noisy_jpeg(1), "x/one.cls": b"7", "x/two.jpg": noisy_jpeg(2),
             "x/two.json": b'{"caption": "not ours"}', "readme.txt": b"hello"}  # fmt: skip
    with tarfile.open(root / "0.tar", "w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    found = samples_of(root, kind="tar", path=".")
    assert set(found) == {"0.tar/x/one.jpeg", "0.tar/x/two.jpg"}
    assert found["0.tar/x/one.jpeg"]["class"] == {"id": 7, "name": "7"}
    assert "caption" not in found["0.tar/x/two.jpg"]


def test_our_own_shards_are_a_source_that_keeps_its_labels(coco):
    first = samples_of(coco, kind="coco", path=".", split="val")
    (coco.parent / "out").rename(coco.parent / "shards")
    again = samples_of(coco.parent / "shards", kind="tar", path=".")
    kept = ("image_id", "instances", "licence")
    assert [{key: labels.get(key) for key in kept} for labels in again.values()] == [
        {key: labels.get(key) for key in kept} for labels in first.values()
    ]


@pytest.mark.parametrize("kind", ["photos", "classes", "tar"])
def test_an_empty_source_is_said_in_a_line_with_what_is_there(tmp_path, kind):
    (tmp_path / "in" / "sub").mkdir(parents=True)
    with pytest.raises(ValueError, match=f"no photo for a source of kind {kind}; .* holds sub/"):
        list_source(Source(kind=kind, path="in"), str(tmp_path))


def test_a_missing_folder_names_what_is_there(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match=r"trian: no such folder; .* holds train/"):
        list_source(Source(kind="photos", path="trian"), str(tmp_path))


def test_a_damaged_tar_is_named(tmp_path):
    (tmp_path / "0.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(ValueError, match=r"0\.tar: not a whole tar"):
        list_source(Source(kind="tar", path="."), str(tmp_path))


def test_real_coco_is_sharded_with_the_labels_that_it_has(real_data, tmp_path):
    root = tmp_path / "coco"
    root.symlink_to(real_data / "coco")
    found = samples_of(root, kind="coco", path=".", split="val2017")
    assert len(found) == 255
    assert sum("instances" in labels for labels in found.values()) == 255
    assert sum(len(labels["instances"]) for labels in found.values()) == 1786 + 394
    assert sum("panoptic" in labels for labels in found.values()) == 53
