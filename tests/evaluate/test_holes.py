"""Holes of any generator's instance masks, filled where `refine.fill_holes` asks for it."""

import torch
import torch.nn.functional as F

from oapseg.encode.patches import Patches
from oapseg.evaluate.pooling import choice_of
from oapseg.evaluate.predict import generator_results, generator_views
from oapseg.masks import Masks, rle_to_mask
from oapseg.params import Params, load_params
from oapseg.pool.tokencut import TokenCut
from oapseg.shards.read import Sample

PARAMS = load_params("params.yaml")
SIDE = 16


def ring() -> Patches:
    """A ring of its own kind around patches that are like the background."""
    inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inside[3:12, 4:13] = True
    inside[6:9, 7:10] = False
    kinds = torch.eye(8)[inside.flatten().long()]
    noise = 0.02 * torch.randn(SIDE**2, 8, generator=torch.Generator().manual_seed(0))
    return Patches(F.normalize(kinds + noise, dim=1), (SIDE, SIDE))


def refining(**changes: object) -> Params:
    return PARAMS.model_copy(update={"refine": PARAMS.refine.model_copy(update=changes)})


def areas(masks: Masks, params: Params) -> list[int]:
    """Of what is written of a photo as large as the grid."""
    sample = Sample("a", torch.zeros(SIDE, SIDE, 3, dtype=torch.uint8), {"image_id": 1})
    found = generator_results(sample, masks, params.predict, choice=choice_of(params)).results
    return [int(rle_to_mask(each["segmentation"]).sum()) for each in found]


def test_a_ring_becomes_a_disc() -> None:
    masks = TokenCut(**PARAMS.pool.tokencut)(ring())
    assert areas(masks, PARAMS) == [72]
    assert areas(masks, refining(fill_holes=True)) == [81]


def test_holes_are_filled_before_areas_and_copies_are_looked_at_and_semantic_masks_keep_theirs() -> None:
    [masks] = TokenCut(**PARAMS.pool.tokencut)(ring()).masks
    disc = masks.clone()
    disc[6:9, 7:10] = True
    drawn = torch.stack([masks, disc, masks])
    kind = torch.tensor([0, 0, 1])
    found = Masks(drawn, kind, kind, torch.zeros(3, 8), torch.ones(3))
    assert areas(found, PARAMS) == [72, 81, 72]
    assert areas(found, refining(fill_holes=True, min_area=80 / SIDE**2)) == [81, 81, 72]
    assert areas(found, refining(fill_holes=True, max_iou=0.9)) == [81, 72]
    assert areas(found, refining(max_iou=0.9)) == [72, 81, 72]


def test_what_is_said_of_it_names_what_is_on() -> None:
    def said(**changes: object) -> str:
        params = refining(**changes)
        return generator_views(params.predict, None, choice_of(params))

    assert said() == "the whole photo at 224 px"
    assert said(fill_holes=True) == "the whole photo at 224 px; holes of instances filled"
    both = said(fill_holes=True, min_area=0.01)
    assert both.endswith(
        "holes of instances filled; of instances at least 0.01 of the photo, IoU with a better one at most 1"
    )
