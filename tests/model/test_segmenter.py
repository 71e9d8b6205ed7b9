"""The assembled segmenter: shapes at every patch size, what zero injection promises, what a prediction is."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from oapseg.encode.encoder import own_encoder, square
from oapseg.masks import INSTANCE, SEMANTIC
from oapseg.model import predicted as predicted_module
from oapseg.model.adapter import ViTAdapter
from oapseg.model.mask_decoder import closed_cells
from oapseg.model.segmenter import Look, Segmenter, confidence
from oapseg.params import ModelParams
from oapseg.refine.levels import APART

TINY = ModelParams(
    interactions=2,
    stem=16,
    width=32,
    ffn=32,
    heads=2,
    points=2,
    pixel_layers=1,
    decoder_layers=3,
    queries_instance=6,
    queries_semantic=3,
    clusters=8,
    head_hidden=16,
    bottleneck=8,
)


def tiny_segmenter(patch_px: int = 8) -> Segmenter:
    torch.manual_seed(0)
    encoder = own_encoder(width=32, depth=3, heads=2, patch_px=patch_px, image_px=8 * patch_px)
    return Segmenter(encoder, TINY).eval()


@torch.no_grad()
@pytest.mark.parametrize(("patch_px", "side"), [(8, 64), (14, 112), (16, 96)])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_keys_at_the_start_are_those_of_the_plain_encoder_to_the_bit(
    patch_px: int, side: int, precision: torch.dtype
) -> None:
    segmenter = tiny_segmenter(patch_px)
    encoder, images = segmenter.backbone.encoder, torch.rand(2, 3, side, side)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        keys, grid = segmenter.backbone.keys(images)
        plain = encoder.keys(encoder.run(encoder.embed(images), 0, encoder.num_blocks - 1))
    assert grid == (side // patch_px, side // patch_px)
    assert torch.equal(keys, plain)


def test_keys_move_once_the_injectors_scale_does() -> None:
    segmenter = tiny_segmenter()
    images = torch.rand(1, 3, 64, 64)
    before, _ = segmenter.backbone.keys(images)
    for injector in segmenter.backbone.injectors:
        injector.scale.data.fill_(0.5)
    assert not torch.equal(segmenter.backbone.keys(images)[0], before)


@torch.no_grad()
@pytest.mark.parametrize(("patch_px", "height", "width"), [(8, 64, 96), (14, 112, 56), (16, 96, 64)])
def test_every_layer_predicts_masks_at_a_quarter_of_the_photo(patch_px: int, height: int, width: int) -> None:
    predictions = tiny_segmenter(patch_px)(torch.rand(2, 3, height, width))
    assert len(predictions) == 1 + TINY.decoder_layers
    for prediction in predictions:
        assert prediction.mask_logits.shape == (2, 9, height // 4, width // 4)
        assert prediction.objectness.shape == (2, 9)
        assert prediction.queries.shape == (2, 9, 32)


def test_every_parameter_takes_part() -> None:
    segmenter = tiny_segmenter().train()
    predictions = segmenter(torch.rand(2, 3, 64, 64))
    logits = segmenter.query_logits(predictions[-1].queries)
    total = logits.square().sum() + sum(p.mask_logits.square().sum() + p.objectness.square().sum() for p in predictions)
    total.backward()
    idle = {name for name, parameter in segmenter.named_parameters() if parameter.grad is None}
    assert idle == {"backbone.encoder.vit.norm.weight", "backbone.encoder.vit.norm.bias"}


@torch.no_grad()
def test_one_photo_is_predicted_the_same_in_any_batch() -> None:
    segmenter, images = tiny_segmenter(), torch.rand(3, 3, 64, 64)
    together = segmenter(images)[-1].mask_logits[1]
    assert torch.allclose(segmenter(images[1:2])[-1].mask_logits[0], together, atol=1e-4)


def test_an_empty_mask_attends_everywhere_and_another_only_to_itself() -> None:
    logits = torch.full((1, 2, 4, 4), -5.0)
    logits[0, 1, :2] = 5.0
    closed = closed_cells(logits, (4, 4))
    assert not closed[0, 0].any()
    assert closed[0, 1].view(4, 4)[2:].all()
    assert not closed[0, 1].view(4, 4)[:2].any()


LOOK = Look(
    image_px=64,
    windows=2,
    window_px=48,
    max_masks=5,
    mask_threshold=0.5,
    decay_overlaps=True,
    scales=[],
    flip=False,
    level=None,
)


@pytest.mark.parametrize("windows", [1, 2, 3])
def test_predicted_masks_have_the_photos_own_size_best_first(windows: int) -> None:
    photos = [torch.randint(0, 256, size, dtype=torch.uint8) for size in ((50, 70, 3), (90, 40, 3))]
    found = tiny_segmenter().predict(photos, replace(LOOK, windows=windows))
    for photo, predicted in zip(photos, found, strict=True):
        masks = [predicted.mask(index) for index in range(len(predicted.scores))]
        assert all(mask.shape == photo.shape[:2] for mask in masks)
        assert (predicted.scores.diff() <= 0).all()
        assert ((predicted.clusters >= 0) & (predicted.clusters < TINY.clusters)).all()
        assert all((predicted.kind == kind).sum() <= LOOK.max_masks for kind in (INSTANCE, SEMANTIC))


def test_windows_add_instances_and_take_nothing_of_the_whole_photo() -> None:
    segmenter, photo = tiny_segmenter(), torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8)
    all_masks = replace(LOOK, max_masks=1000, decay_overlaps=False)
    (whole,) = segmenter.predict([photo], replace(all_masks, windows=1))
    (both,) = segmenter.predict([photo], all_masks)
    assert (both.kind == SEMANTIC).sum() == (whole.kind == SEMANTIC).sum()
    for mask, score in zip(whole.soft, whole.scores, strict=True):
        same = torch.isclose(both.soft, mask, atol=1e-5).flatten(1).all(1) & torch.isclose(both.scores, score)
        assert same.any()


@torch.no_grad()
def test_without_further_looks_the_masks_are_bit_for_bit_those_of_the_queries_themselves() -> None:
    segmenter, photo = tiny_segmenter(), torch.randint(0, 256, (70, 50, 3), dtype=torch.uint8)
    (found,) = segmenter.predict([photo], replace(LOOK, windows=1, decay_overlaps=False, max_masks=1000))
    last = segmenter(square(photo, 64)[None])[-1]
    scores = last.objectness[0].sigmoid() * confidence(last.mask_logits[0], 0.5)
    best = scores.argsort(descending=True, stable=True)
    assert torch.equal(found.scores, scores[best])
    assert torch.equal(found.soft, last.mask_logits[0, best])


def test_a_mirrored_photo_has_mirrored_masks_where_mirror_images_are_looked_at() -> None:
    segmenter, photo = tiny_segmenter(), torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8)
    look = replace(LOOK, windows=1, flip=True, max_masks=1000)
    (one,), (other,) = segmenter.predict([photo], look), segmenter.predict([photo.flip(1)], look)
    assert torch.allclose(one.scores, other.scores, atol=1e-5)
    for mask, score in zip(one.soft.flip(-1), one.scores, strict=True):
        same = torch.isclose(other.soft, mask, atol=1e-3).flatten(1).all(1) & torch.isclose(other.scores, score)
        assert same.any()


@pytest.mark.parametrize("options", [{"scales": [48, 80]}, {"flip": True}, {"scales": [96], "flip": True}])
def test_further_looks_give_masks_on_the_canvas_of_the_first(options: dict[str, Any]) -> None:
    photos = [torch.randint(0, 256, size, dtype=torch.uint8) for size in ((1, 500, 3), (90, 40, 3))]
    for photo, found in zip(photos, tiny_segmenter().predict(photos, replace(LOOK, **options)), strict=True):
        assert found.soft.shape[1:] == (16, 16)
        assert found.mask(0).shape == photo.shape[:2]
        assert (found.scores.diff() <= 0).all()


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_masks_of_a_level_hardly_overlap(level: float) -> None:
    photo = torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8)
    segmenter = tiny_segmenter()
    (every,), (found,) = (segmenter.predict([photo], replace(LOOK, level=each)) for each in (None, level))
    assert 0 < len(found.scores) <= len(every.scores)
    for kind in found.kind.unique():
        masks = (found.soft[found.kind == kind].sigmoid() > 0.5).flatten(1).float()
        shared = masks @ masks.T
        smaller = torch.minimum(shared.diagonal()[:, None], shared.diagonal())
        assert (shared / smaller).fill_diagonal_(0).max() <= APART


def test_regions_cover_the_photo_once_each_place_by_the_cluster_that_has_most_of_it() -> None:
    photo = torch.randint(0, 256, (90, 40, 3), dtype=torch.uint8)
    (predicted,) = tiny_segmenter().predict([photo], LOOK)
    regions = dict(predicted.regions())
    assert torch.stack(list(regions.values())).sum(0).eq(1).all()
    whole = F.interpolate(predicted.belonging[None], (90, 40), mode="bilinear", align_corners=False)[0]
    winner = predicted.belonging_to[whole.argmax(0)]
    differs = sum(int((mask & (winner != cluster)).sum()) for cluster, mask in regions.items())
    assert differs <= 2  # near-ties that two orders of rounding decide apart


@pytest.mark.parametrize("values", [1, 500, 10**9])
def test_strips_are_the_rows_of_the_whole(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicted_module, "STRIP_VALUES", values)
    soft = torch.rand(3, 7, 5)
    strips = torch.cat(list(predicted_module._strips(soft, (31, 18))), 1)
    whole = F.interpolate(soft[None], (31, 18), mode="bilinear", align_corners=False)[0]
    assert torch.allclose(strips, whole, atol=1e-6)


def test_confidence_is_the_mean_probability_inside_the_mask() -> None:
    logits = torch.tensor([[[10.0, -10.0], [0.0, -10.0]], [[-5.0, -5.0], [-5.0, -5.0]]])
    inside = torch.sigmoid(torch.tensor(10.0))
    assert torch.allclose(confidence(logits, 0.5), torch.tensor([inside, 0.0]))


def test_more_interactions_than_blocks_are_refused() -> None:
    encoder = own_encoder(width=32, depth=1, heads=2, patch_px=8, image_px=64)
    with pytest.raises(ValueError, match=r"model.interactions: 2 is more than the encoder's 1 blocks"):
        ViTAdapter(encoder, 2, 2, 2, 16)
