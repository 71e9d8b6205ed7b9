"""From labelled shards to predictions that outlive a kill."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluate.squares import labelled_shards, small_params, small_segmenter, thing

from oapseg.encode.patches import Patches
from oapseg.evaluate.ground_truth import load_ground_truth
from oapseg.evaluate.pooling import choice_of
from oapseg.evaluate.predict import (
    DECAY_RULE,
    MODEL_RULE,
    check_side,
    choose_device,
    generator_predictor,
    generator_views,
    model_predictor,
    model_rule,
    model_views,
)
from oapseg.evaluate.predictions import PhotoResults, Predictions, read_makers, write_predictions
from oapseg.masks import Masks, iou, rle_to_mask
from oapseg.model.segmenter import Segmenter
from oapseg.params import Params, load_params
from oapseg.refine.crf import DenseCRF
from oapseg.refine.regions import Choice
from oapseg.shards.manifest import load_manifest
from oapseg.shards.read import Photos, Sample

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools under numpy 2


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled_shards(tmp_path_factory.mktemp("coco"))


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Params:
    return load_params(small_params(tmp_path_factory.mktemp("params")))


@pytest.fixture(scope="module")
def segmenter(params: Params) -> Segmenter:
    return small_segmenter(params)


def doubled(patches: list[Patches]) -> list[Masks]:
    """A generator that finds one square twice, and a speck."""
    square, speck = thing(0, 0), torch.zeros(64, 96, dtype=torch.bool)
    speck[:8, :8] = True
    drawn = torch.stack([square, square, speck])
    none = torch.zeros(3, dtype=torch.long)
    return [Masks(drawn, none, none, torch.zeros(3, 24), torch.ones(3)) for _ in patches]


def bright(patches: list[Patches]) -> list[Masks]:
    """A generator that finds the bright square, and two masks that are worse; all scored 1."""
    found = []
    for each in patches:
        assert each.image is not None
        square = each.image.float().mean(2) > 128
        masks = torch.stack([square, ~square, square])
        kind = torch.tensor([0, 0, 1])
        found.append(Masks(masks, torch.ones(3, dtype=torch.long), kind, torch.zeros(3, 24), torch.ones(3)))
    return found


PART, WHOLE = [17, 8, 31, 32], [0, 0, 96, 64]  # boxes in the photo 101


def alone(*masks: torch.Tensor) -> Masks:
    kind = torch.zeros(len(masks), dtype=torch.long)
    return Masks(
        torch.stack(masks), 1 + torch.arange(len(masks)), kind, torch.zeros(len(masks), 24), torch.ones(len(masks))
    )


def nested(patches: list[Patches]) -> list[Masks]:
    """The bright square, and the whole photo that holds it."""
    squares = [each.image.float().mean(2) > 128 for each in patches if each.image is not None]
    return [alone(square, torch.ones_like(square)) for square in squares]


def rough(patches: list[Patches]) -> list[Masks]:
    """The bright square, four pixels too far to the right."""
    return [alone(each.masks[0].roll(4, 1)) for each in bright(patches)]


def corners(patches: list[Patches]) -> list[Masks]:
    """One pixel."""
    return [alone(torch.arange(96 * 64).view(64, 96) == 0) for _ in patches]


def test_ground_truth_holds_every_labelled_photo(shards: Path) -> None:
    truth = load_ground_truth(load_manifest(str(shards)))
    assert [(image["id"], image["file_name"]) for image in truth["images"]] == [
        (100, "0.jpg"),
        (101, "1.jpg"),
        (102, "2.jpg"),
    ]
    assert [each["image_id"] for each in truth["annotations"]] == [100, 101]
    assert truth["categories"][0]["name"] == "square"


def results(predict: Any, shards: Path) -> list[dict[str, Any]]:
    return [result for photo in predict(list(Photos(load_manifest(str(shards))))) for result in photo.results]


def test_a_generators_masks_come_out_at_the_photos_size_in_its_order_with_features(
    shards: Path, segmenter: Segmenter, params: Params
) -> None:
    predict = generator_predictor(segmenter.backbone.encoder, bright, params.predict)
    found = results(predict, shards)
    assert [(each["image_id"], each["kind"]) for each in found[:3]] == [
        (100, "instance"),
        (100, "instance"),
        (100, "semantic"),
    ]
    assert found[3]["bbox"] == [17, 8, 31, 32]
    assert found[0]["segmentation"]["size"] == [64, 96]
    (photo, *_) = predict(list(Photos(load_manifest(str(shards)))))
    assert photo.features is not None
    assert photo.features.shape == (3, 24)


def test_at_most_the_best_masks_of_each_kind_are_kept_and_regions_tile_the_photo(
    shards: Path, segmenter: Segmenter, params: Params
) -> None:
    few = params.predict.model_copy(update={"max_masks": 2})
    found = [each for each in results(model_predictor(segmenter, few), shards) if each["image_id"] == 101]
    by_kind = {kind: [each["score"] for each in found if each["kind"] == kind] for kind in ("instance", "semantic")}
    assert all(len(scores) <= 2 and scores == sorted(scores, reverse=True) for scores in by_kind.values())
    regions = [rle_to_mask(each["segmentation"]) for each in found if each["kind"] == "region"]
    assert torch.stack(regions).sum(0).eq(1).all()


@pytest.mark.parametrize(("level", "boxes"), [(0.0, [PART]), (1.0, [WHOLE]), (None, [PART, WHOLE])])
def test_a_generators_level_is_a_cut_through_its_masks(
    shards: Path, segmenter: Segmenter, params: Params, level: float | None, boxes: list[list[int]]
) -> None:
    chosen = params.predict.model_copy(update={"level": level})
    found = results(generator_predictor(segmenter.backbone.encoder, nested, chosen), shards)
    assert [each["bbox"] for each in found if each["image_id"] == 101] == boxes


def test_with_a_crf_masks_follow_the_photo_and_regions_still_tile_it(
    shards: Path, segmenter: Segmenter, params: Params
) -> None:
    crf = DenseCRF(**params.refine.crf)
    (square, *_) = results(generator_predictor(segmenter.backbone.encoder, rough, params.predict, crf), shards)
    drawn = thing(0, 0)
    assert iou(rle_to_mask(square["segmentation"])[None], drawn[None]) > 0.95
    found = [
        each for each in results(model_predictor(segmenter, params.predict, crf), shards) if each["image_id"] == 101
    ]
    regions = [rle_to_mask(each["segmentation"]) for each in found if each["kind"] == "region"]
    assert torch.stack(regions).sum(0).eq(1).all()


def test_a_mask_that_the_crf_turns_into_something_else_is_dropped(
    shards: Path, segmenter: Segmenter, params: Params
) -> None:
    nowhere = replace(DenseCRF(**params.refine.crf), gaussian_weight=100.0, gaussian_sigma_px=40.0)
    plain = results(generator_predictor(segmenter.backbone.encoder, corners, params.predict), shards)
    refined = results(generator_predictor(segmenter.backbone.encoder, corners, params.predict, nowhere), shards)
    assert (len(plain), len(refined)) == (3, 0)


def test_small_instances_of_a_generator_and_copies_are_dropped_where_params_ask_for_it(
    shards: Path, segmenter: Segmenter, params: Params
) -> None:
    def kept(choice: Choice | None) -> list[int]:
        predict = generator_predictor(segmenter.backbone.encoder, doubled, params.predict, choice=choice)
        found = [each for each in results(predict, shards) if each["image_id"] == 100]
        return [int(rle_to_mask(each["segmentation"]).sum()) for each in found]

    assert kept(None) == [1024, 1024, 64]
    assert kept(Choice(0.0, 0.9)) == [1024, 64]
    assert kept(Choice(0.05, 1.0)) == [1024, 1024]
    assert choice_of(params) is None
    refine = params.refine.model_copy(update={"max_iou": 0.9})
    assert choice_of(params.model_copy(update={"refine": refine})) == Choice(0.0, 0.9)
    said = generator_views(params.predict, None, Choice(0.01, 0.9))
    assert said.endswith("px; of instances at least 0.01 of the photo, IoU with a better one at most 0.9")


def test_rules_and_views_say_what_was_used(params: Params) -> None:
    assert model_rule(params.predict) == DECAY_RULE
    assert model_rule(params.predict.model_copy(update={"decay_overlaps": False})) == MODEL_RULE
    assert generator_views(params.predict, None) == "the whole photo at 64 px"
    assert model_views(params.predict, None) == "the whole photo at 64 px and 2 x 2 windows of it at 48 px"
    all_of_it = params.predict.model_copy(update={"scales": [96], "flip": True, "level": 0.5})
    crf = replace(DenseCRF(**params.refine.crf), bilateral_sigma_px=67.0)
    for views in (generator_views(all_of_it, crf), model_views(all_of_it, crf)):
        for said in (
            "64, 96 px averaged",
            "mirror images",
            "level 0.5 from 0 (parts) to 1 (wholes)",
            "10 within 67 px",
        ):
            assert said in views


def test_a_scale_that_does_not_suit_the_encoder_is_one_line(segmenter: Segmenter, params: Params) -> None:
    wrong = params.predict.model_copy(update={"scales": [96, 100]})
    with pytest.raises(ValueError, match=r"^predict\.scales\.1: 100 must be a multiple of the encoder's patch, 8 px$"):
        check_side(wrong, segmenter.backbone.encoder)


class Counting:
    """A predictor that counts its photos, and fails at one of them."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.seen, self.fails_at = 0, fails_at

    def __call__(self, samples: list[Sample]) -> list[PhotoResults]:
        self.seen += len(samples)
        if self.fails_at is not None and self.seen >= self.fails_at:
            raise KeyboardInterrupt
        return [
            PhotoResults([{"image_id": sample.labels["image_id"], "score": 1.0}], torch.ones(1, 2))
            for sample in samples
        ]


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_predicting_goes_on_after_a_stop_with_the_parts_that_are_whole(shards: Path, tmp_path: Path) -> None:
    manifest = load_manifest(str(shards))  # two photos, then one

    def write(folder: Path, predict: Counting, fingerprint: str = "a") -> None:
        write_predictions(str(folder), manifest, predict, batch=1, fingerprint=fingerprint, what="test")

    straight, stopped, resumed, other = Counting(), Counting(fails_at=3), Counting(), Counting()
    write(tmp_path / "straight", straight)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "stopped", stopped)
    with pytest.raises(ValueError, match=r"stopped: 1 of 2 parts missing; run the step predict again"):
        Predictions(str(tmp_path / "stopped"))
    write(tmp_path / "stopped", resumed)
    assert (straight.seen, resumed.seen) == (3, 1)
    assert content(tmp_path / "stopped") == content(tmp_path / "straight")
    write(tmp_path / "stopped", other, fingerprint="b")
    assert other.seen == 3


def test_predictions_that_were_never_made_are_one_line(tmp_path: Path) -> None:
    for read in (Predictions, read_makers):
        with pytest.raises(ValueError, match=r"nowhere: no predictions.*; run the step predict first"):
            read(str(tmp_path / "nowhere"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_one_line() -> None:
    with pytest.raises(ValueError, match=r"^predict\.device: cuda is asked for"):
        choose_device("cuda")
