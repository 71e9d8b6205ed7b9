"""The dense CRF against one that looks at every pair of pixels, and its behaviour on photos without content."""

from dataclasses import replace

import pytest
import torch
from brute_force import mean_field
from torch import Tensor

from oapseg.masks import iou
from oapseg.params import default_params_path, load_params
from oapseg.refine import crf, lattice
from oapseg.refine.crf import DenseCRF
from oapseg.refine.lattice import Lattice

CRF = DenseCRF(**load_params(default_params_path()).refine.crf)


def disc(height: int, width: int, radius: float, row: float = 0.5, column: float = 0.5) -> Tensor:
    rows, columns = torch.arange(height)[:, None] - row * height, torch.arange(width) - column * width
    return rows**2 + columns**2 < radius**2


def scene(height: int = 40, width: int = 56) -> tuple[Tensor, Tensor]:
    """A textured disc on textured ground, and where the disc is."""
    generator = torch.Generator().manual_seed(0)
    inside = disc(height, width, 14)
    colour = torch.where(inside[..., None], torch.tensor([170.0, 90, 60]), torch.tensor([60.0, 110, 150]))
    noise = 8 * torch.randn(height, width, 3, generator=generator)
    return (colour + noise).clamp(0, 255).to(torch.uint8), inside


def certain(masks: Tensor) -> Tensor:
    """Probabilities of labels that exclude each other and leave no pixel out."""
    return masks * (CRF.certainty - 0.1) + 0.1


def test_labels_agree_with_those_of_all_pairs_of_pixels() -> None:
    image, inside = scene()
    rough = disc(40, 56, 11, 0.45, 0.55)
    corner = disc(40, 56, 9, 0.1, 0.1)
    probabilities = certain(torch.stack([rough, ~rough & ~corner, corner & ~rough]))
    ours, theirs = CRF(image, probabilities), mean_field(image, probabilities, CRF)
    assert (ours.argmax(0) == theirs.argmax(0)).float().mean() >= 0.995
    assert (ours - theirs).abs().mean() < 0.01
    assert iou((ours[0] > 0.5)[None], inside[None]) > iou(rough[None], inside[None])


@pytest.mark.parametrize("weights", [{"bilateral_weight": 0.0}, {"gaussian_weight": 3.0, "gaussian_sigma_px": 1.0}])
def test_the_spatial_kernel_is_exact_but_for_its_tails(weights: dict[str, float]) -> None:
    image, _ = scene(20, 30)
    spatial = replace(CRF, **(weights | {"bilateral_weight": 0.0}))
    probabilities = certain(torch.stack([disc(20, 30, 7), ~disc(20, 30, 7)]))
    assert torch.allclose(spatial(image, probabilities).double(), mean_field(image, probabilities, spatial), atol=2e-3)


def test_probabilities_of_a_pixel_sum_to_one() -> None:
    image, inside = scene()
    found = CRF(image, torch.stack([inside, ~inside]).float())
    assert torch.allclose(found.sum(0), torch.ones(inside.shape), atol=1e-5)


def test_a_mask_alone_is_the_first_of_two_labels() -> None:
    image, _ = scene()
    rough = disc(40, 56, 11, 0.45, 0.55)
    sure = torch.where(torch.stack([rough, ~rough]), CRF.certainty, 1 - CRF.certainty)
    assert ((CRF(image, sure)[0] > 0.5) != CRF.masks(image, rough[None])[0]).float().mean() < 1e-3


def test_each_mask_is_refined_as_if_it_were_the_only_one(monkeypatch: pytest.MonkeyPatch) -> None:
    image, _ = scene()
    masks = torch.stack([disc(40, 56, 11), disc(40, 56, 8, 0.2, 0.2), disc(40, 56, 12, 0.8, 0.7)])
    together = CRF.masks(image, masks)
    monkeypatch.setattr("oapseg.refine.crf.VALUES", 1)
    assert torch.equal(CRF.masks(image, masks), together)


def test_masks_of_a_patch_grid_come_back_at_the_photos_size() -> None:
    image, inside = scene()
    coarse = disc(10, 14, 3.2)
    (refined,) = CRF.masks(image, coarse[None])
    assert refined.shape == inside.shape
    assert iou(refined[None], inside[None]) > 0.9
    assert CRF.masks(image, coarse[None][:0]).shape == (0, 40, 56)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (24, 24)])
@pytest.mark.parametrize("content", ["black", "noise"])
def test_photos_without_content_have_defined_results(size: tuple[int, int], content: str) -> None:
    image = torch.zeros(*size, 3, dtype=torch.uint8)
    if content == "noise":
        image = torch.randint(0, 256, image.shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    everything = torch.ones(1, *size, dtype=torch.bool)
    assert CRF.masks(image, everything).all()
    assert not CRF.masks(image, ~everything).any()


def test_a_photo_too_large_for_a_field_is_refined_smaller_and_comes_back_at_its_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image, truth = scene(160, 224)
    rough = disc(160, 224, 17)
    share = torch.stack([rough, ~rough]).float() * 0.4 + 0.3
    masks, labels = CRF.masks(image, rough[None]), CRF(image, share)
    monkeypatch.setattr(crf, "LARGEST", 160 * 224 // 4)
    assert CRF.on(image).grid == (80, 112)
    smaller = CRF.masks(image, rough[None])
    assert smaller.shape == masks.shape
    assert iou(smaller, masks) > 0.9
    again = CRF(image, share)
    torch.testing.assert_close(again.sum(0), torch.ones(160, 224))
    assert (again.argmax(0) == labels.argmax(0)).float().mean() > 0.98
    assert iou(masks, truth[None]) > 0.9


def test_probabilities_of_another_size_and_those_that_are_no_numbers_are_refused() -> None:
    image, inside = scene()
    with pytest.raises(ValueError, match=r"probabilities of \(8, 9\) px for a photo of \(40, 56\) px"):
        CRF(image, torch.ones(2, 8, 9))
    with pytest.raises(ValueError, match="not finite"):
        CRF(image, inside[None] / torch.zeros(1))


@pytest.mark.gpu
def test_cuda_and_cpu_give_the_same_labels_and_masks() -> None:
    image, _ = scene(96, 112)
    rough = disc(96, 112, 12, 0.45, 0.55)
    probabilities = certain(torch.stack([rough, ~rough]))
    there = CRF(image.cuda(), probabilities.cuda())
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), CRF(image, probabilities), atol=2e-3, rtol=0)
    masks = CRF.masks(image.cuda(), rough[None].cuda())
    assert (masks.cpu() != CRF.masks(image, rough[None])).float().mean() < 1e-3


def test_weighted_means_of_the_lattice_are_those_of_the_gaussian() -> None:
    generator = torch.Generator().manual_seed(0)
    points = 3 * torch.rand(2000, 5, generator=generator)
    values = torch.stack([torch.ones(2000), (points[:, 0] > 1.5).float()], 1)
    exact = torch.exp(-0.5 * torch.cdist(points, points) ** 2) @ values
    ours = Lattice(points)(values)
    assert (ours[:, 1] / ours[:, 0] - exact[:, 1] / exact[:, 0]).abs().mean() < 0.02


@pytest.mark.parametrize("dims", [1, 2, 5])
def test_points_are_the_weighted_mean_of_the_corners_of_their_simplex(dims: int) -> None:
    points = 20 * torch.rand(500, dims, generator=torch.Generator().manual_seed(dims))
    found = Lattice(points)
    weights = torch.cat([strip.weights for strip in found.strips])
    assert weights.min() > -1e-5
    assert torch.allclose(weights.sum(1), torch.ones(500), atol=1e-5)
    alone = found.strips[0].corners[:1].sort(1).values
    assert (alone.diff() != 0).all()


def test_strips_of_points_give_what_all_points_give_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    points, values = 5 * torch.rand(300, 5), torch.rand(300, 3)
    whole = Lattice(points)(values)
    monkeypatch.setattr(lattice, "STRIP_POINTS", 70)
    assert torch.allclose(Lattice(points)(values), whole, rtol=1e-4)


def test_deviations_too_small_for_a_photo_are_one_line() -> None:
    with pytest.raises(ValueError, match=r"refine\.crf: .* larger ones are allowed"):
        Lattice(torch.tensor([[0.0] * 5, [1e5] * 5]))
