"""The modularity loss against networkx on hard groups, and against the paper's sums on soft ones."""

import networkx
import pytest
import torch
import torch.nn.functional as F
from jaxtyping import Float
from smooth_field import smooth_field
from torch import Tensor

from oapseg.pool.modularity import assignment, modularity_loss


def modularity_of_networkx(features: Float[Tensor, "N C"], group: list[int]) -> float:
    """A loop counts once in A but twice in networkx's degree, so its weight there is half."""
    affinity = (features @ features.T).clamp(min=0).double()
    graph = networkx.Graph()
    for i in range(len(features)):
        for j in range(i + 1):
            graph.add_edge(i, j, weight=float(affinity[i, j]) * (0.5 if i == j else 1))
    members: dict[int, set[int]] = {}
    for node, own in enumerate(group):
        members.setdefault(own, set()).add(node)
    return float(networkx.community.modularity(graph, members.values(), weight="weight"))


def loss_of_the_paper(features: Float[Tensor, "N C"], strength: Float[Tensor, "N K"]) -> Float[Tensor, ""]:
    """Eq. 7-10 pair by pair in float64, differentiable in the strength."""
    affinity = (features @ features.T).clamp(min=0).double()
    degree = affinity.sum(1)
    total = degree.sum()
    positive = strength.double().clamp(min=0)
    pairs = []
    for i in range(len(features)):
        for j in range(len(features)):
            together = torch.stack([positive[i, c] * positive[j, c] for c in range(strength.shape[1])]).max()
            pairs.append((affinity[i, j] - degree[i] * degree[j] / total) * together)
    return -torch.stack(pairs).sum() / total


@pytest.mark.parametrize("seed", range(4))
def test_on_hard_groups_it_is_minus_the_modularity_of_networkx(seed: int) -> None:
    features = smooth_field(5, 6, 8, noise=0.5, seed=seed)
    group = torch.randint(0, 4, (30,), generator=torch.Generator().manual_seed(seed))
    loss = modularity_loss(features[None], F.one_hot(group, 4)[None].float())
    assert float(loss) == pytest.approx(-modularity_of_networkx(features, group.tolist()), abs=1e-6)


def test_on_soft_groups_value_and_gradient_are_those_of_the_paper() -> None:
    features = smooth_field(4, 5, 8, noise=0.5, seed=0)
    strength = torch.randn(20, 3, generator=torch.Generator().manual_seed(1)).requires_grad_()
    ours = modularity_loss(features[None], strength[None])
    (gradient,) = torch.autograd.grad(ours, strength)
    theirs = loss_of_the_paper(features, strength)
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), abs=1e-6)
    torch.testing.assert_close(gradient, torch.autograd.grad(theirs, strength)[0].float(), atol=1e-6, rtol=1e-4)


def test_each_photo_of_a_batch_counts_the_same_whatever_the_size_of_its_affinities() -> None:
    photos = [smooth_field(4, 4, 8, noise=noise, seed=seed) for seed, noise in enumerate((0.1, 1.5))]
    strength = [torch.rand(16, 3, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    alone = [float(modularity_loss(photo[None], own[None])) for photo, own in zip(photos, strength, strict=True)]
    together = float(modularity_loss(torch.stack(photos), torch.stack(strength)))
    assert together == pytest.approx(sum(alone) / 2, abs=1e-6)


def test_one_group_for_all_has_no_modularity_and_neither_has_a_constant_photo() -> None:
    features = smooth_field(4, 4, 8, noise=0.5, seed=0)[None]
    assert float(modularity_loss(features, torch.ones(1, 16, 3))) == pytest.approx(0, abs=1e-6)
    constant = F.normalize(torch.ones(1, 16, 8), dim=2)
    assert float(modularity_loss(constant, torch.rand(1, 16, 3))) == pytest.approx(0, abs=1e-5)


def test_assignment_is_the_cosine_whatever_the_lengths() -> None:
    random = torch.Generator().manual_seed(0)
    features, concepts = torch.randn(2, 6, 8, generator=random), 7 * torch.randn(2, 3, 8, generator=random)
    expected = F.cosine_similarity(features[:, :, None], concepts[:, None], dim=3)
    torch.testing.assert_close(assignment(features, concepts), expected)
