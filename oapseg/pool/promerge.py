"""ProMerge: masks prompted on a grid of points, pruned by a voted background, then merged (Li and Shin 2024)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from oapseg.encode.patches import Patches
from oapseg.masks import Masks, area
from oapseg.pool import prompts
from oapseg.pool.describe import described, grouped
from oapseg.pool.generator import Generator, full_precision
from oapseg.pool.maskcut import Settings
from oapseg.refine.crf import DenseCRF

BACKGROUND_SIDES = 2  # of the photo that a mask of the background covers, each to a half at least


@dataclass(frozen=True)
class ProMerge(Generator):
    """Algorithm 1 of the paper's appendix with the fields of section `pool.promerge`; the largest masks come first.

    `merge` decides when a mask joins another: by the `paper`, where their features' cosine exceeds `tau_f_merge` or the
    other holds more than `tau_ioa_merge` of it; as `released`, where the other holds more than `tau_ioa_alone` of it,
    or more than `tau_ioa_merge` at a cosine of at least `tau_f_merge`. A photo without a mask of the background has no
    background, and nothing is filtered; a photo that is all background has no mask.

    `released` by default: on the 60 photos of the sample's val, 224 px, starter encoder, class-agnostic masks have AP50
    14.2, AR100 19.0 by it and 11.8, 13.2 by `paper`; on 255 photos of COCO val2017 0.68, 2.14 and 0.66, 1.23 (percent).
    With the paper's thresholds on the sample, stride 2: 2.2, 5.2 and 1.7, 1.2.

    With `crf`, the fields of section `refine.crf`, masks are refined on the photo's pixels and come at its size.
    """

    stride: int
    tau_b: float
    split: bool
    phi: int
    tau_ioa_bg: float
    tau_f_bg: float
    merge: Literal["paper", "released"]
    tau_ioa_merge: float
    tau_f_merge: float
    tau_ioa_alone: float
    crf: Settings | None

    def __call__(self, patches: Patches) -> Masks:
        """Errors: `ValueError` where features are not finite, or `crf` is set and the patches come without a photo."""
        features = next(grouped([patches]))[0]
        with full_precision(features.device):
            masks = self._merged(features, patches.grid)
        return described(self._refined(masks, patches), patches)

    def _merged(self, features: Float[Tensor, "N C"], grid: tuple[int, int]) -> Bool[Tensor, "S h w"]:
        prompted = prompts.prompt(features, grid, self.stride, self.tau_b)
        of_background = prompts.is_background(prompted, BACKGROUND_SIDES)
        background = prompts.vote(prompted[of_background])
        masks = prompted[~of_background]
        masks = prompts.split(masks, self.phi) if self.split else masks[area(masks) >= self.phi]
        similar = prompts.mean_features(masks, features) @ prompts.mean_features(background[None], features)[0]
        kept = prompts.cascade(masks, background, self.tau_ioa_bg, skip=background.any() & (similar >= self.tau_f_bg))
        return prompts.merge(masks[kept], features, self._joins)

    def _joins(self, shared: np.ndarray, similarity: np.ndarray) -> np.ndarray:
        """Which masks the new one joins, from the share of it that each holds and the cosine of their features."""
        if self.merge == "paper":
            joined = (similarity > self.tau_f_merge) | (shared > self.tau_ioa_merge)
        else:
            near = (shared > self.tau_ioa_merge) & (similarity >= self.tau_f_merge)
            joined = (shared > self.tau_ioa_alone) | near
        return np.asarray(joined)

    def _refined(self, masks: Bool[Tensor, "S h w"], patches: Patches) -> Bool[Tensor, "T H W"]:
        """Masks after the CRF, without those that it emptied; as they are without a CRF."""
        if self.crf is None:
            return masks
        if patches.image is None:
            raise ValueError("pool.promerge.crf: the CRF looks at the photo, which these patches come without")
        refined = DenseCRF(**self.crf).masks(patches.image, masks)
        return refined[area(refined) > 0]
