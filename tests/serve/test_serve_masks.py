"""What a server makes of what the model saw: the masks that the model itself gives, as each request asks for them."""

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from serve.serving import Running, running
from use.small import CLUSTERS, photo_bytes, small_model

import oapseg
from oapseg import storage
from oapseg.checkpoint.model import Model
from oapseg.masks import rle_to_mask
from oapseg.model.predicted import Predicted
from oapseg.refine.levels import at_level
from oapseg.serve.masks import Asked, chosen
from oapseg.use.tasks import Layout

SIZE = (48, 72)
PHOTO = photo_bytes(*SIZE, 0, "PNG")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("serve") / "model")


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return oapseg.load(folder, device="cpu")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    with running(folder) as server:
        yield server


def masks_of(said: dict[str, Any]) -> torch.Tensor:
    return torch.stack([rle_to_mask(each["segmentation"]) for each in said["masks"]])


def test_an_answer_holds_the_model_s_own_instance_masks_best_first(server: Running, model: Model) -> None:
    said = server.masks(PHOTO).said
    (own,) = model([np.array(Image.open(io.BytesIO(PHOTO)))])
    things = own.select((own.kind == 0) & own.masks.flatten(1).any(1))
    assert torch.equal(masks_of(said), things.masks)
    assert [each["score"] for each in said["masks"]] == pytest.approx(things.scores.tolist(), abs=1e-5)
    assert [each["cluster"] for each in said["masks"]] == things.features.argmax(1).tolist()
    assert (said["size"], said["photo_size"], said["task"]) == ([*SIZE], [*SIZE], "instance")


def test_each_mask_has_its_box_its_area_and_the_name_of_its_cluster(server: Running) -> None:
    said = server.masks(PHOTO).said
    assert said["masks"]
    for each, mask in zip(said["masks"], masks_of(said), strict=True):
        left, top, width, height = each["bbox"]
        rows, columns = mask.nonzero().unbind(1)
        assert (top, left) == (rows.min(), columns.min())
        assert (top + height - 1, left + width - 1) == (rows.max(), columns.max())
        assert each["area"] == mask.sum()
        assert each["name"] == ("sky" if each["cluster"] == 2 else None)


def test_an_answer_says_which_model_it_is_from(server: Running, folder: Path) -> None:
    said = server.masks(PHOTO).said["model"]
    assert said == {"name": "oapseg", "version": None, "sha256": storage.sha256(folder / "sha256.json")}
    assert server.ask("GET", "/v1/model").said["sha256"] == said["sha256"]


@pytest.mark.parametrize("level", [0.0, 0.3, 0.5, 1.0])
def test_a_level_is_the_one_that_the_model_would_have_looked_at(server: Running, model: Model, level: float) -> None:
    photo = photo_bytes(64, 64, 3)
    said = server.masks(photo, f"level={level}").said
    looking = replace(model, look=replace(model.look, level=level))
    (own,) = looking([np.array(Image.open(io.BytesIO(photo)))])
    assert torch.equal(masks_of(said), own.select((own.kind == 0) & own.masks.flatten(1).any(1)).masks)


def test_levels_of_each_mask_choose_what_a_look_at_that_level_chooses() -> None:
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    masks = torch.stack([(rows // 2**up == y) & (columns // 2**up == x) for up, y, x in NESTED])
    scores, none = torch.linspace(1, 0.8, len(masks)), torch.zeros(len(masks), dtype=torch.long)
    nothing = torch.zeros(0)
    seen = Predicted(masks.float(), 0.5, (32, 32), scores, none, none, nothing[:, None, None], nothing.long())
    asked = Asked("instance", None, 0.0, None, None, Layout(0.0, 0.5, 0))
    shown = dict(chosen(seen, asked))
    assert len({span for span in shown.values() if span}) > 3
    assert None in shown.values()
    for level in [0.0, 0.2, 1 / 4, 1 / 3, 0.5, 2 / 3, 0.75, 0.9, 1.0]:
        by_span = [place for place, span in shown.items() if span and span[0] <= level < span[1]]
        assert by_span == at_level(masks, none, none, scores, level).tolist()
        assert by_span == [place for place, _ in chosen(seen, asked._replace(level=level))]


NESTED = [(5, 0, 0), (4, 0, 0), (4, 1, 1), (3, 0, 0), (3, 1, 1), (2, 0, 0), (1, 0, 0), (2, 7, 7), (3, 0, 3), (4, 0, 0)]


def test_scores_below_the_smallest_and_masks_beyond_the_most_are_left_out(server: Running) -> None:
    every = server.masks(PHOTO, "min_score=0").said["masks"]
    middle = every[len(every) // 2]["score"]
    kept = server.masks(PHOTO, f"min_score={middle}").said["masks"]
    assert kept == [each for each in every if each["score"] >= middle]
    assert 0 < len(kept) < len(every)
    assert server.masks(PHOTO, "max_masks=2").said["masks"] == every[:2]


def test_masks_come_at_a_smaller_size_where_it_is_asked_for(server: Running) -> None:
    said = server.masks(PHOTO, "side_px=36").said
    assert (said["size"], said["photo_size"]) == ([24, 36], [*SIZE])
    assert masks_of(said).shape[1:] == (24, 36)
    assert server.masks(PHOTO, "side_px=7200").said["size"] == [*SIZE]


@pytest.mark.parametrize("task", ["semantic", "panoptic"])
def test_segments_are_disjoint_and_a_semantic_map_covers_the_photo(server: Running, task: str) -> None:
    said = server.masks(PHOTO, f"task={task}").said
    covered = masks_of(said).sum(0)
    assert covered.max() == 1
    assert task == "panoptic" or covered.min() == 1
    assert {each["cluster"] for each in said["masks"]} <= set(range(CLUSTERS))


def test_a_png_holds_the_panoptic_segments_and_says_what_each_is(server: Running) -> None:
    answer = server.masks(PHOTO, "min_score=0.1", {"Accept": "image/png"})
    assert answer.headers["content-type"] == "image/png"
    picture = Image.open(io.BytesIO(answer.body))
    ids = np.array(picture).astype(int) @ [1, 256, 65536]
    infos = json.loads(picture.text["segments_info"])
    said = server.masks(PHOTO, "task=panoptic&min_score=0.1").said
    assert len(infos) == len(said["masks"]) > 0
    for info, each in zip(infos, said["masks"], strict=True):
        assert np.array_equal(ids == info["id"], rle_to_mask(each["segmentation"]).numpy())
    assert json.loads(picture.text["model"]) == said["model"]


def test_a_photo_turned_by_its_exif_comes_upright(server: Running) -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(io.BytesIO(PHOTO)).save(file, "JPEG", exif=exif)
    assert server.masks(file.getvalue()).said["size"] == [SIZE[1], SIZE[0]]
