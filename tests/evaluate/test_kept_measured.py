"""What a leaderboard measures and times: the masks that are kept and written, not all that a generator came with."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from train.tiny import tiny_encoder, tiny_params, tiny_shards

from oapseg.encode.load import load_folder
from oapseg.encode.patches import Patches
from oapseg.evaluate import pooling, predict
from oapseg.evaluate.cost import read_cost
from oapseg.evaluate.generators import make_generator, rounded
from oapseg.evaluate.pooling import Job, fingerprint, pool_set
from oapseg.evaluate.predictions import Parts, Predictions
from oapseg.evaluate.probe import Probed, _probe
from oapseg.masks import INSTANCE, SEMANTIC, Masks, resize, rle_to_mask
from oapseg.monitor.label_free import coverage, edge_alignment, photo_edges
from oapseg.params import Params, parse_params
from oapseg.pool.describe import described
from oapseg.pool.generator import Generator
from oapseg.refine import crf
from oapseg.shards.manifest import load_manifest
from oapseg.shards.read import Photos

PHOTOS = 3
TAKES_S = {"generator": 1.0, "crf": 10.0, "writing": 100.0}  # for a photo, for a mask, for a mask


class Strips(Generator):
    """Masks of the first rows and columns, two and more of them; those of columns are semantic, and of level 2."""

    def __init__(self, clock: list[float] | None = None) -> None:
        self.clock = [0.0] if clock is None else clock

    def __call__(self, patches: Patches) -> Masks:
        self.clock[0] += TAKES_S["generator"]
        height, width = patches.grid
        rows = [torch.arange(height)[:, None].expand(patches.grid) < count for count in range(2, height)]
        columns = [torch.arange(width)[None].expand(patches.grid) < count for count in range(2, width)]
        level = torch.tensor([1] * len(rows) + [2] * len(columns))
        found = described(torch.stack(rows + columns), patches, level)
        kind = torch.where(level == 1, INSTANCE, SEMANTIC)
        return Masks(found.masks, found.level, kind, found.features, found.scores)


class Ring(Generator):
    """One cell with all around it but itself."""

    def __call__(self, patches: Patches) -> Masks:
        ring = torch.zeros(1, *patches.grid, dtype=torch.bool)
        ring[0, 2:5, 2:5] = True
        ring[0, 3, 3] = False
        return described(ring, patches)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    tiny_shards(folder, PHOTOS)
    tiny_encoder(folder / "encoder")
    return folder


def changed(**sections: dict[str, Any]) -> Params:
    raw = tiny_params(predict={"image_px": 64, "window_px": 48, "batch": 2, "device": "cpu"}).model_dump(
        mode="json", by_alias=True
    )
    raw["refine"]["crf"] |= {"steps": 2, "bilateral_sigma_px": 8.0}
    for section, values in sections.items():
        raw[section] |= values
    return parse_params(raw)


def pool(folder: Path, out: Path, params: Params, generator: Generator) -> None:
    manifest, encoder = load_manifest(str(folder / "shards")), load_folder(folder / "encoder")
    parts = Parts(str(out), manifest, fingerprint("oap", params, encoder, manifest))
    pool_set(manifest, encoder, [Job("oap", generator, parts, 0, warm=True)], params)


def written(out: Path) -> list[list[dict[str, Any]]]:
    """The results of each photo."""
    return list(Predictions(str(out)).part(0).values())


@pytest.mark.parametrize(
    ("sections", "instances", "semantic"),
    [
        ({}, 6, 6),
        ({"predict": {"max_masks": 2}}, 2, 2),
        ({"refine": {"min_area": 0.5}}, 4, 6),
        ({"refine": {"max_iou": 0.7}}, 3, 6),
        ({"predict": {"level": 1.0}}, 1, 1),
        ({"predict": {"crf": True}}, None, None),
    ],
)
def test_counts_and_coverage_are_of_what_is_written(
    sections: dict[str, Any], instances: int | None, semantic: int | None, folder: Path, tmp_path: Path
) -> None:
    pool(folder, tmp_path / "out", changed(**sections), Strips())
    results, measures = written(tmp_path / "out"), read_cost(str(tmp_path / "out"), [0]).measures
    samples = list(Photos(load_manifest(str(folder / "shards"))))
    assert len(results) == len(samples) == PHOTOS
    for kind, expected in (("instance", instances), ("semantic", semantic)):
        counted = sum(each["kind"] == kind for photo in results for each in photo) / PHOTOS
        assert measures[kind] == counted
        assert expected in (counted, None)
    masks = [torch.cat([_small(each) for each in photo]) for photo in results]
    assert measures["coverage"] == pytest.approx(sum(map(coverage, masks)) / PHOTOS)
    edges = [photo_edges(sample.image, (8, 8)) for sample in samples]
    aligned = [edge_alignment(*each) for each in zip(masks, edges, strict=True)]
    assert measures["edges"] == pytest.approx(sum(aligned) / PHOTOS)


def _small(result: dict[str, Any]) -> torch.Tensor:
    return resize(rle_to_mask(result["segmentation"])[None], 8, 8)


def test_holes_that_are_filled_with_a_crf_are_no_holes_where_it_is_measured(folder: Path, tmp_path: Path) -> None:
    gentle = tiny_params().refine.crf.model_dump() | {"gaussian_weight": 0.1, "bilateral_weight": 0.1}
    for name, refined in (("plain", False), ("refined", True)):
        params = changed(predict={"crf": refined}, refine={"crf": gentle})
        pool(folder, tmp_path / name, params, Ring())
    plain, refined = (read_cost(str(tmp_path / name), [0]).measures for name in ("plain", "refined"))
    assert plain["coverage"] == pytest.approx(8 / 64)
    assert refined["coverage"] == pytest.approx(9 / 64)


@pytest.mark.parametrize("refined", [False, True])
def test_seconds_are_those_of_the_generator_and_of_a_crf_and_not_of_writing(
    refined: bool, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    each, write = crf.CRFOnPhoto.each, predict.mask_to_rle

    def slow_crf(self: crf.CRFOnPhoto, masks: Iterable[torch.Tensor]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for pair in each(self, masks):
            clock[0] += TAKES_S["crf"]
            yield pair

    def slow_writing(mask: torch.Tensor) -> dict[str, Any]:
        clock[0] += TAKES_S["writing"]
        return write(mask)

    monkeypatch.setattr(crf.CRFOnPhoto, "each", slow_crf)
    monkeypatch.setattr(predict, "mask_to_rle", slow_writing)
    monkeypatch.setattr(pooling, "_now", lambda _device: clock[0])
    pool(folder, tmp_path / "out", changed(predict={"crf": refined, "max_masks": 2}), Strips(clock))
    took = TAKES_S["generator"] + (4 * TAKES_S["crf"] if refined else 0)
    assert read_cost(str(tmp_path / "out"), [0]).seconds == PHOTOS * took


class Particular(Generator):
    """Good for photos that lie where their features do, and for grids of one side alone."""

    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, patches: Patches) -> Masks:
        if patches.image is None or patches.image.device != patches.features.device:
            raise RuntimeError("the photo lies elsewhere")
        if patches.grid[0] != self.side:
            raise ValueError(f"a grid of\n{patches.grid[0]}")
        return Strips()(Patches(torch.eye(self.side**2), patches.grid))


def test_a_photo_is_probed_where_its_features_are() -> None:
    arrays = [(torch.eye(9).numpy(), (3, 3), torch.zeros(24, 24, 3, dtype=torch.uint8).numpy(), None)]
    found = _probe(Particular(3), arrays, "meta", 1)
    assert found.failure is None
    assert found.peak_bytes is not None


def test_a_probe_that_fails_on_every_photo_says_why_and_one_that_works_on_some_has_a_figure() -> None:
    arrays = [
        (torch.eye(side**2).numpy(), (side, side), torch.zeros(8, 8, 3, dtype=torch.uint8).numpy(), None)
        for side in (3, 4)
    ]
    assert _probe(Particular(5), arrays, "cpu", 1) == Probed(None, "ValueError: a grid of 3")
    some = _probe(Particular(4), arrays, "cpu", 1)
    assert some.failure is None
    assert some.peak_bytes is not None


@pytest.mark.parametrize(("crop_px", "used"), [(256, 252), (252, 252), (5, 14)])
def test_what_is_encoded_anew_is_so_in_whole_patches_of_the_encoder(crop_px: int, used: int, tmp_path: Path) -> None:
    encoder = load_folder(tiny_encoder(tmp_path, patch_px=14))
    settings = changed().pool.divide_conquer.model_copy(update={"encode": True, "crop_px": crop_px})
    params = changed()
    params = params.model_copy(update={"pool": params.pool.model_copy(update={"divide_conquer": settings})})
    photo = torch.zeros(60, 60, 3, dtype=torch.uint8)
    photo[15:45, 15:45] = 255
    generator = make_generator("divide_conquer", params, encoder)
    found = generator(encoder.patches([photo], 56)[0])
    assert len(found) >= 1
    words = f"divide_conquer: crop_px is {used}, pool.divide_conquer.crop_px of {crop_px} in patches of 14 px"
    assert rounded("divide_conquer", params, encoder) == (words if used != crop_px else None)
    assert rounded("oap", params, encoder) is None
