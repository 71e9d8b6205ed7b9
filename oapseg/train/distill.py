"""Self-distillation: the student's softmax learns the teacher's, centred and sharpened (Eq. 1)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from oapseg.train.distributed import Placement


class Centre(nn.Module):
    """Running mean of the teacher's outputs; subtracting it keeps one cluster from taking all."""

    value: Float[Tensor, " K"]

    def __init__(self, clusters: int) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(clusters))

    @torch.no_grad()
    def update(self, logits: Float[Tensor, "M K"], momentum: float, placement: Placement) -> None:
        """Move towards the mean of `logits` over all ranks, each row counted once whatever rank it is on."""
        total = torch.cat([logits.float().sum(0), logits.new_full((1,), len(logits), dtype=torch.float32)])
        total = placement.mean(total)
        if total[-1] > 0:
            self.value.lerp_(total[:-1] / total[-1], 1 - momentum)


def teacher_codes(
    logits: Float[Tensor, "M K"], centre: Float[Tensor, " K"], temperature: float
) -> Float[Tensor, "M K"]:
    """The teacher's assignment to clusters: centred, then sharpened."""
    return F.softmax((logits.float() - centre) / temperature, dim=-1)


def cluster_health(codes: Float[Tensor, "M K"]) -> dict[str, float]:
    """Entropy in nats of the mean code (low: few clusters take all) and of a code by itself (high: none is chosen)."""
    if len(codes) == 0:
        return {"cluster_entropy": 0.0, "code_entropy": 0.0}
    mean = codes.mean(0)
    entropies = -(codes * codes.clamp(min=1e-12).log()).sum(-1)
    return {
        "cluster_entropy": float(-(mean * mean.clamp(min=1e-12).log()).sum()),
        "code_entropy": float(entropies.mean()),
    }


def cross_entropy(
    codes: Float[Tensor, "M K"], student_logits: Float[Tensor, "M K"], temperature: float
) -> Float[Tensor, " M"]:
    """SD of Eq. 1, one value a row."""
    return -(codes * F.log_softmax(student_logits.float() / temperature, dim=-1)).sum(-1)
