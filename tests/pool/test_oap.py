"""What holds for the masks of Online Agglomerative Pooling, whatever the photo."""

from dataclasses import replace
from itertools import product
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from smooth_field import smooth_patches

from oapseg.encode.patches import Patches
from oapseg.masks import INSTANCE, SEMANTIC, Masks
from oapseg.params import default_params_path, load_params
from oapseg.pool import GENERATORS
from oapseg.pool.oap import OAP

PAPER = OAP(tau=[0.8, 0.7, 0.6, 0.5, 0.4], sigma=0.07, omega_f=0.6, phi=5, vote="mean", rounds=1, chunk=64)


@st.composite
def photos(draw: st.DrawFn) -> Patches:
    height, width, seed = draw(st.integers(1, 12)), draw(st.integers(1, 12)), draw(st.integers(0, 10_000))
    return smooth_patches(height, width, 16, noise=draw(st.sampled_from([0.05, 0.3, 0.8])), seed=seed)


SETTINGS = product([1, 5], ["sum", "mean"], [1, "stable"])
generators = st.sampled_from([replace(PAPER, phi=phi, vote=vote, rounds=rounds) for phi, vote, rounds in SETTINGS])
quick = settings(deadline=None, max_examples=40)


def of(masks: Masks, kind: int) -> Masks:
    return masks.select(masks.kind == kind)


def as_set(masks: Masks) -> set[tuple[int, int, bytes]]:
    rows = zip(masks.level.tolist(), masks.kind.tolist(), masks.masks, strict=True)
    return {(level, kind, mask.contiguous().numpy().tobytes()) for level, kind, mask in rows}


@quick
@given(photos(), generators)
def test_instance_regions_of_a_level_are_connected(photo: Patches, oap: OAP) -> None:
    for mask in of(oap(photo), INSTANCE).masks:
        assert ndimage.label(mask.numpy())[1] == 1


@quick
@given(photos(), generators)
def test_regions_partition_the_grid_and_each_level_joins_those_before(photo: Patches, oap: OAP) -> None:
    finer = torch.arange(len(photo.features))
    for layer in oap.layers([photo]):
        for regions, parts in ((layer.instance, finer), (layer.semantic, layer.instance.node[0])):
            assert torch.bincount(regions.node[0]).tolist() == regions.area.tolist()
            part_and_whole = torch.unique(torch.stack([parts, regions.node[0]]), dim=1)
            assert part_and_whole.shape[1] == int(parts.max()) + 1
        finer = layer.instance.node[0]


@quick
@given(photos(), generators)
def test_kept_instance_masks_are_disjoint_or_nested(photo: Patches, oap: OAP) -> None:
    flat = of(oap(photo), INSTANCE).masks.flatten(1).float()
    shared, area = flat @ flat.T, flat.sum(1)
    assert ((shared == 0) | (shared == torch.minimum(area[:, None], area[None]))).all()


@quick
@given(photos(), generators)
def test_an_instance_mask_lives_until_its_parent_comes(photo: Patches, oap: OAP) -> None:
    masks = of(oap(photo), INSTANCE)
    layers = oap.layers([photo])
    for mask, level in zip(masks.masks, masks.level.tolist(), strict=True):
        holds = (mask & ~masks.masks).flatten(1).sum(1) == 0
        larger = masks.masks.flatten(1).sum(1) > mask.sum()
        parents = masks.level[holds & larger].tolist()
        lifetime = [
            number
            for number, layer in enumerate(layers, start=1)
            if len(torch.unique(inside := layer.instance.node[0][mask.flatten()])) == 1
            and layer.instance.area[inside[0]] == mask.sum()
        ]
        assert lifetime == list(range(level, min(parents, default=len(layers) + 1)))


@quick
@given(photos(), generators)
def test_no_mask_is_small_or_twice_there(photo: Patches, oap: OAP) -> None:
    masks = oap(photo)
    assert not len(masks) or int(masks.masks.flatten(1).sum(1).min()) >= oap.phi
    for kind in (INSTANCE, SEMANTIC):
        flat = of(masks, kind).masks.flatten(1)
        assert len(torch.unique(flat, dim=0)) == len(flat)


@quick
@given(photos(), generators)
def test_features_have_unit_length_and_scores_are_one(photo: Patches, oap: OAP) -> None:
    masks = oap(photo)
    torch.testing.assert_close(masks.features.norm(dim=1), torch.ones(len(masks)))
    assert (masks.scores == 1).all()


@quick
@given(photos(), st.sampled_from(["horizontal", "vertical", "transpose"]), st.sampled_from([1, "stable"]))
def test_pooling_commutes_with_a_flip_and_a_transpose(photo: Patches, turn: str, rounds: Literal[1, "stable"]) -> None:
    oap = replace(PAPER, rounds=rounds)

    def turned(grid: torch.Tensor) -> torch.Tensor:
        return {"horizontal": grid.flip(-1), "vertical": grid.flip(-2), "transpose": grid.mT}[turn]

    channels_first = photo.features.T.unflatten(1, photo.grid)
    other = turned(channels_first)
    patches = Patches(other.flatten(1).T.contiguous(), (other.shape[1], other.shape[2]))
    masks, expected = oap(patches), oap(photo)
    expected = Masks(turned(expected.masks), *expected[1:])
    assert as_set(masks) == as_set(expected)


@quick
@given(st.permutations(range(4)))
def test_a_batch_gives_each_photo_what_it_gets_alone(order: list[int]) -> None:
    batch = [smooth_patches(9, 7, 16, noise=0.4, seed=seed) for seed in order]
    for seed, masks in zip(order, PAPER.batch(batch), strict=True):
        alone = PAPER(smooth_patches(9, 7, 16, noise=0.4, seed=seed))
        assert as_set(masks) == as_set(alone)
        torch.testing.assert_close(masks.features, alone.features, atol=1e-6, rtol=0)


def test_after_stable_rounds_no_edge_exceeds_the_threshold() -> None:
    oap = replace(PAPER, tau=[0.6], rounds="stable")
    photo = smooth_patches(12, 12, 16, noise=0.5, seed=3)
    regions = oap.layers([photo])[0].instance
    again = replace(oap, tau=[0.6, 0.6]).layers([photo])[1].instance
    assert torch.equal(regions.node, again.node)


def test_a_threshold_that_is_met_exactly_does_not_merge() -> None:
    constant = Patches(torch.tensor([[1.0, 0.0]]).repeat(12, 1), (3, 4))
    assert len(replace(PAPER, tau=[1.0])(constant)) == 0
    assert len(replace(PAPER, tau=[0.999])(constant)) == 2


@pytest.mark.parametrize("grid", [(6, 6), (1, 9), (9, 1)])
def test_a_photo_without_structure_is_one_instance_and_one_semantic_mask(grid: tuple[int, int]) -> None:
    constant = F.normalize(torch.ones(grid[0] * grid[1], 8), dim=1)
    masks = PAPER(Patches(constant, grid))
    assert masks.kind.tolist() == [INSTANCE, SEMANTIC]
    assert masks.level.tolist() == [1, 1]
    assert masks.masks.all()


def test_a_row_of_patches_is_cut_where_its_features_change() -> None:
    row = torch.tensor([[1.0, 0.0]] * 6 + [[-1.0, 0.0]] * 5)
    instances = of(PAPER(Patches(row, (1, 11))), INSTANCE)
    assert {tuple(mask.flatten().tolist()) for mask in instances.masks} == {
        (True,) * 6 + (False,) * 5,
        (False,) * 6 + (True,) * 5,
    }


def test_two_apart_regions_of_one_kind_are_one_semantic_mask() -> None:
    row = torch.tensor([[1.0, 0.0]] * 5 + [[-1.0, 0.0]] * 5 + [[1.0, 0.0]] * 5)
    masks = PAPER(Patches(row, (1, 15)))
    both = torch.tensor([[True] * 5 + [False] * 5 + [True] * 5])
    assert len(of(masks, INSTANCE)) == 3
    assert any(torch.equal(mask, both) for mask in of(masks, SEMANTIC).masks)


def test_fewer_patches_than_the_smallest_mask_give_no_mask() -> None:
    masks = PAPER(Patches(F.normalize(torch.ones(4, 8), dim=1), (2, 2)))
    assert len(masks) == 0
    assert masks.masks.shape == (0, 2, 2)
    assert masks.features.shape == (0, 8)


def test_no_photo_gives_no_masks() -> None:
    assert PAPER.batch([]) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_name_the_photo(value: float) -> None:
    batch = [smooth_patches(4, 4, 8, noise=0.1, seed=seed) for seed in range(3)]
    batch[1].features[5, 2] = value
    with pytest.raises(ValueError, match="image 1 of the batch: features are not finite"):
        PAPER.batch(batch)


def test_photos_of_two_grids_in_a_batch_name_the_photo() -> None:
    batch = [smooth_patches(4, 4, 8, noise=0.1, seed=0), smooth_patches(4, 5, 8, noise=0.1, seed=0)]
    with pytest.raises(ValueError, match=r"image 1 of the batch: 20 patches on a grid of \(4, 5\)"):
        PAPER.batch(batch)


def test_precision_of_the_surrounding_training_does_not_matter() -> None:
    photo = smooth_patches(10, 10, 16, noise=0.4, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = PAPER(photo)
    assert mixed.features.dtype == torch.float32
    assert as_set(mixed) == as_set(PAPER(photo))


def test_every_generator_is_built_from_its_section_of_the_parameters() -> None:
    pool = load_params(default_params_path()).pool
    for name, generator in GENERATORS.items():
        generator(**pool[name])


@pytest.mark.gpu
def test_cuda_and_cpu_give_the_same_masks() -> None:
    batch = [smooth_patches(28, 28, 64, noise=0.4, seed=seed) for seed in range(4)]
    there = PAPER.batch([Patches(photo.features.cuda(), photo.grid) for photo in batch])
    for here, masks in zip(PAPER.batch(batch), there, strict=True):
        assert as_set(masks.to("cpu")) == as_set(here)
