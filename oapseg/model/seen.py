"""What the model sees in one look at a photo or a window of it, and how looks come together."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from oapseg.masks import INSTANCE, iou
from oapseg.model.windows import Box, cut_off, paste

PARTIAL = 0.3  # share of its score that a mask keeps which a window cuts off
SAME = 0.5  # IoU from which masks of two looks can be one


class Seen(NamedTuple):
    """Queries of one photo, from one view or several, on one canvas."""

    logits: Float[Tensor, "Q h w"]
    scores: Float[Tensor, " Q"]
    clusters: Int[Tensor, " Q"]
    kind: Int[Tensor, " Q"]


def placed(seen: Seen, box: Box, cells: int, threshold: float) -> Seen:
    """What a window adds: instances, those that it cuts off at less than half their score.

    A semantic mask is of the whole photo or of nothing.
    """
    seen = Seen(*(field[seen.kind == INSTANCE] for field in seen))
    partial = cut_off(seen.logits.sigmoid() > threshold, box, cells)
    return seen._replace(logits=paste(seen.logits, box, cells), scores=seen.scores * torch.where(partial, PARTIAL, 1.0))


def averaged(looks: list[Seen], threshold: float) -> Seen:
    """Looks at the same thing at other scales or mirrored (and mirrored back) as one, on the first one's canvas.

    A query of one look need not be the same query of another, so masks are matched: two are the same where they are of
    one kind, each the other's best by IoU, and at least `SAME` alike. They get the mean of their logits and of their
    scores, and the cluster of the better one. What one look alone sees stays; to the others' mean it adds a score of 0.
    """
    first, *others = looks
    if not others:
        return first
    sums, scores, clusters, kind = first
    best, times = scores, torch.ones_like(scores)
    for other in others:
        logits = F.interpolate(other.logits[None], sums.shape[1:], mode="bilinear", align_corners=False)[0]
        mean = sums / times[:, None, None]
        alike = iou(mean.sigmoid() > threshold, logits.sigmoid() > threshold)
        alike = alike * (kind[:, None] == other.kind)
        partner = alike.argmax(1)
        here = torch.arange(len(partner), device=partner.device)
        same = (alike.argmax(0)[partner] == here) & (alike.amax(1) >= SAME)
        there = partner[same]
        sums, scores, times, best, clusters = (each.clone() for each in (sums, scores, times, best, clusters))
        sums[same] += logits[there]
        scores[same] += other.scores[there]
        times[same] += 1
        better = other.scores[there] > best[same]
        clusters[same] = torch.where(better, other.clusters[there], clusters[same])
        best[same] = torch.where(better, other.scores[there], best[same])
        alone = torch.ones_like(other.kind, dtype=torch.bool).index_fill_(0, there, False)
        sums = torch.cat([sums, logits[alone]])
        scores, best = torch.cat([scores, other.scores[alone]]), torch.cat([best, other.scores[alone]])
        times = torch.cat([times, torch.ones_like(other.scores[alone])])
        clusters, kind = torch.cat([clusters, other.clusters[alone]]), torch.cat([kind, other.kind[alone]])
    return Seen(sums / times[:, None, None], scores / len(looks), clusters, kind)
