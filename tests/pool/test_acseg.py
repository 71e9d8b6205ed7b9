"""The generator ACSeg: what it makes of a concept generator's weights, and of their absence."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from planted_objects import planted
from scipy import ndimage
from smooth_field import smooth_patches

from oapseg.encode.patches import Patches
from oapseg.masks import INSTANCE, SEMANTIC
from oapseg.pool.acseg import ACSeg
from oapseg.pool.concept_generator import ConceptGenerator, Size, load_generator, save_generator
from oapseg.pool.modularity import assignment, modularity_loss

SIZE = Size(channels=16, prototypes=5, updates=2, heads=2, ffn=16)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("acg") / "acg.safetensors"
    save_generator(ConceptGenerator(SIZE), path)
    return str(path)


def test_weights_come_back_from_their_file_with_their_sizes(weights: str) -> None:
    torch.manual_seed(0)
    written, read = ConceptGenerator(SIZE), load_generator(weights)
    assert read.size == SIZE
    assert all(torch.equal(a, b) for a, b in zip(written.parameters(), read.parameters(), strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_semantic_masks_are_the_nearest_concepts_and_instances_their_parts(weights: str, seed: int) -> None:
    photo = smooth_patches(9, 11, 16, noise=0.4, seed=seed)
    masks = ACSeg(weights, phi=3)(photo)
    concepts = load_generator(weights)(photo.features[None])[0].detach()
    nearest = F.cosine_similarity(photo.features[:, None], concepts[None], dim=2).argmax(1).view(9, 11)
    semantic = masks.select(masks.kind == SEMANTIC)
    assert torch.equal(semantic.masks, torch.stack([nearest == index for index in nearest.unique()]))
    expected = []
    for region in semantic.masks.numpy():
        labels, count = ndimage.label(region)
        expected += [part for label in range(1, count + 1) if (part := labels == label).sum() >= 3]
    np.testing.assert_array_equal(masks.masks[masks.kind == INSTANCE].numpy(), np.array(expected))


def test_after_a_few_steps_on_the_loss_no_concept_spans_two_planted_regions() -> None:
    """In a photo that was not trained on, of the same three directions."""
    tops = [4, 3, 5, 4, 5]
    boxes = [[(0, 0, top, 12), (top, 0, 6 + index, 12)] for index, top in enumerate(tops, start=1)]
    photos = [planted(12, 12, own, channels=16, noise=0.02, seed=7) for own in boxes]
    features = torch.stack([photo.features for photo, _ in photos])
    torch.manual_seed(1)  # a prototype that is at right angles to all patches never learns (Eq. 9)
    generator = ConceptGenerator(SIZE)
    optimizer = torch.optim.AdamW(generator.parameters(), lr=1e-2)
    for _ in range(60):
        loss = modularity_loss(features[1:], assignment(features[1:], generator(features[1:])))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    nearest = assignment(features[:1], generator(features[:1]))[0].argmax(1).view(12, 12)
    truth = photos[0][1]
    concepts = [set(nearest[region].tolist()) for region in (*truth, ~truth.any(0))]
    assert sum(map(len, concepts)) == len(set.union(*concepts))


def test_photos_of_any_grid_in_a_batch_give_what_they_give_alone(weights: str) -> None:
    generator = ACSeg(weights, phi=3)
    photos = [smooth_patches(9, 11, 16, noise=0.4, seed=0), smooth_patches(5, 4, 16, noise=0.4, seed=1)]
    for alone, together in zip(map(generator, photos), generator.batch(photos), strict=True):
        assert torch.equal(alone.masks, together.masks)
        assert torch.equal(alone.kind, together.kind)


@pytest.mark.parametrize("grid", [(1, 1), (1, 30), (30, 1)])
def test_thin_grids_and_a_constant_photo_are_parted_whole(weights: str, grid: tuple[int, int]) -> None:
    for features in (torch.ones(grid[0] * grid[1], 16), torch.randn(grid[0] * grid[1], 16)):
        masks = ACSeg(weights, phi=1)(Patches(F.normalize(features, dim=1), grid))
        for kind in (INSTANCE, SEMANTIC):
            assert (masks.masks[masks.kind == kind].sum(0) == 1).all()


def test_features_that_are_not_finite_name_the_photo(weights: str) -> None:
    photos = [smooth_patches(4, 4, 16, noise=0.1, seed=seed) for seed in range(2)]
    photos[1].features[3, 1] = float("nan")
    with pytest.raises(ValueError, match="image 1 of the batch: features are not finite"):
        ACSeg(weights, phi=1).batch(photos)


def test_without_weights_the_line_says_what_to_run(tmp_path: Path) -> None:
    photo = smooth_patches(4, 4, 16, noise=0.1, seed=0)
    with pytest.raises(ValueError, match=r"pool.acseg.weights: no file .*absent; .*`python -m components acg --shards"):
        ACSeg(str(tmp_path / "absent"), phi=1)(photo)


def test_weights_of_another_encoder_or_of_something_else_are_one_line(weights: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is of an encoder of 16 channels, these features have 8"):
        ACSeg(weights, phi=1)(smooth_patches(4, 4, 8, noise=0.1, seed=0))
    for content in (b"", b"weights of something else", Path(weights).read_bytes()[:-10]):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(ValueError, match="other: no weights of a concept generator"):
            ACSeg(str(tmp_path / "other"), phi=1)(smooth_patches(4, 4, 16, noise=0.1, seed=0))


@pytest.mark.gpu
def test_cuda_and_cpu_give_the_same_masks(weights: str) -> None:
    photo = smooth_patches(9, 11, 16, noise=0.4, seed=0)
    there = ACSeg(weights, phi=3)(Patches(photo.features.cuda(), photo.grid))
    assert there.masks.is_cuda
    assert torch.equal(there.masks.cpu(), ACSeg(weights, phi=3)(photo).masks)
