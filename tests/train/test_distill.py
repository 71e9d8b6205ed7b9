"""Self-distillation: codes, centre, and what Eq. 1 is at its smallest."""

import torch

from oapseg.train.distill import Centre, cross_entropy, teacher_codes
from oapseg.train.distributed import place


def test_codes_are_distributions_that_a_lower_temperature_sharpens() -> None:
    logits = torch.randn(5, 7)
    warm, cold = (teacher_codes(logits, torch.zeros(7), temperature) for temperature in (1.0, 0.1))
    assert torch.allclose(cold.sum(1), torch.ones(5))
    assert (cold.max(1).values > warm.max(1).values).all()


def test_the_centre_takes_from_the_cluster_that_all_choose() -> None:
    logits = torch.tensor([[3.0, 2.9, 0.0]]).expand(4, -1)
    assert teacher_codes(logits, torch.tensor([3.0, 0.0, 0.0]), 0.1).argmax(1).tolist() == [1] * 4


def test_the_centre_follows_the_mean_of_the_outputs() -> None:
    centre, logits = Centre(3), torch.randn(6, 3)
    centre.update(logits, 0.9, place("cpu", "fp32", "pretrain"))
    assert torch.allclose(centre.value, 0.1 * logits.mean(0), atol=1e-6)


def test_no_output_leaves_the_centre_as_it_is() -> None:
    centre = Centre(3)
    centre.update(torch.zeros(0, 3), 0.9, place("cpu", "fp32", "pretrain"))
    assert torch.equal(centre.value, torch.zeros(3))


def test_cross_entropy_is_smallest_where_student_and_teacher_agree() -> None:
    codes = teacher_codes(torch.randn(4, 6), torch.zeros(6), 1.0)
    agreed = cross_entropy(codes, codes.log(), 1.0)
    entropy = -(codes * codes.log()).sum(1)
    assert torch.allclose(agreed, entropy, atol=1e-6)
    assert (cross_entropy(codes, torch.randn(4, 6), 1.0) > agreed).all()
