"""How far an exported graph agrees with PyTorch at fp32, query by query."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from oapseg.checkpoint.model import Model
from oapseg.model.seen import Seen
from oapseg.model.segmenter import look_at
from oapseg.params.use import ExportBoundParams
from oapseg.use.onnx_model import OnnxModel


@dataclass(frozen=True)
class Parity:
    """Over all queries of all views of the photos; IoU of masks on the grid, two empty ones being alike."""

    photos: int
    views: int
    queries: int
    iou_mean: float
    iou_p01: float  # 1 % quantile
    score_mean: float  # of the difference's size
    score_p99: float
    score_max: float
    clusters_unlike: float  # share of the queries whose cluster differs

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def failures(self, bound: ExportBoundParams) -> list[str]:
        """What is beyond the bound, in words. Values that are no numbers are."""
        found = []
        if not self.iou_mean >= bound.min_iou:
            found.append(f"mean mask IoU {self.iou_mean:.5f} is below min_iou {bound.min_iou:g}")
        if not self.score_p99 <= bound.max_score:
            found.append(
                f"score difference {self.score_p99:.5f} (99 % quantile) is above max_score {bound.max_score:g}"
            )
        if not self.clusters_unlike <= bound.max_clusters:
            found.append(
                f"share of other clusters {self.clusters_unlike:.4f} is above max_clusters {bound.max_clusters:g}"
            )
        return found


@torch.no_grad()
def measure_parity(model: Model, exported: OnnxModel, images: Iterable[UInt8[Tensor, "_H _W 3"]]) -> Parity:
    """Every view that the model's look asks for, through both."""
    cut_at = model.look.mask_threshold
    overlaps, scores, unlike = [], [], []
    num_photos = 0

    def see(views: Float[Tensor, "B 3 side side"]) -> list[Seen]:
        ours = model.segmenter.see(views, model.look)
        for one, other in zip(ours, exported.see(views), strict=True):
            a, b = (each.logits.sigmoid().flatten(1) > cut_at for each in (one, other))
            union = (a | b).sum(1)
            overlaps.append(torch.where(union > 0, (a & b).sum(1) / union.clamp(min=1), 1.0))
            scores.append((one.scores - other.scores).abs())
            unlike.append((one.clusters != other.clusters).float())
        return ours

    for image in images:
        num_photos += 1
        look_at([image], model.look, see)
    iou, score = torch.cat(overlaps).double().numpy(), torch.cat(scores).double().numpy()
    return Parity(
        photos=num_photos,
        views=len(overlaps),
        queries=iou.size,
        iou_mean=float(iou.mean()),
        iou_p01=float(np.quantile(iou, 0.01)),
        score_mean=float(score.mean()),
        score_p99=float(np.quantile(score, 0.99)),
        score_max=float(score.max()),
        clusters_unlike=float(torch.cat(unlike).mean()),
    )
