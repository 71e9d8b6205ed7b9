"""MaskCut: several objects of a photo by normalised cuts, each found one hidden from the next (CutLER)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from oapseg.encode.patches import Patches
from oapseg.masks import Masks, iou, resize
from oapseg.params import Section
from oapseg.pool.describe import described, grouped
from oapseg.pool.generator import Generator, full_precision
from oapseg.pool.spectral import Solver, fiedler
from oapseg.pool.tokencut import foreground, patch_graph
from oapseg.refine.crf import DenseCRF
from oapseg.refine.regions import fill_holes

Settings = Mapping[str, Any] | Section  # a section of params.yaml inside another
CHANGED = 0.5  # a mask whose IoU with itself before the CRF is less is dropped (released code)


@dataclass(frozen=True)
class MaskCut(Generator):
    """Up to `num_masks` disjoint masks a photo, with the fields of section `pool.maskcut`, in the order found.

    A found mask's patches have no neighbour in the next graph. `compared`: a mask is a copy where it overlaps `every`
    earlier one so far (any of them), after which the cuts end, since the next would be the same; or, as the released
    code has it, the `previous` one, where a dropped mask counts as empty, so that the same cut comes back as a mask
    after it. What an earlier mask has is taken out of a later one, as in the released code.

    With `crf`, the fields of section `refine.crf`, masks are refined on the photo's pixels, their holes filled, those
    that changed much dropped; they come at the photo's size. `solver` is as in `TokenCut`: the released code's
    LAPACK takes seconds for each mask of a photo of 3,136 patches.
    """

    tau: float
    eps: float
    num_masks: int
    corners: int
    max_iou: float
    min_area: float
    compared: Literal["every", "previous"]
    solver: Solver
    crf: Settings | None

    def __call__(self, patches: Patches) -> Masks:
        return self.batch([patches])[0]

    def batch(self, patches: list[Patches]) -> list[Masks]:
        """Masks of each photo; on a GPU the photos of one grid are solved together."""
        found: list[Masks] = []
        for features in grouped(patches):
            photos = patches[len(found) : len(found) + len(features)]
            with full_precision(features.device):
                masks = self._cut(features, photos[0].grid)
            found += [described(self._refined(*each), each[0]) for each in zip(photos, masks, strict=True)]
        return found

    def _cut(self, features: Float[Tensor, "B N C"], grid: tuple[int, int]) -> list[Bool[Tensor, "S h w"]]:
        """The masks of each photo, of all photos round by round."""
        weights = patch_graph(features, self.tau, self.eps, "binary")
        found: list[list[Tensor]] = [[] for _ in features]
        searched = list(range(len(features)))
        for _ in range(self.num_masks):
            cuts = fiedler(weights if len(searched) == len(weights) else weights[searched], self.solver)
            for photo, value, vector in zip(tuple(searched), *cuts, strict=True):
                mask = foreground(float(value), vector, grid, self.corners)
                if self._superfluous(mask, found[photo]):
                    if self.compared == "every":
                        searched.remove(photo)
                        continue
                    mask = torch.zeros_like(mask)
                found[photo].append(mask)
                weights[photo, mask.flatten()] = self.eps
                weights[photo, :, mask.flatten()] = self.eps
            if not searched:
                break
        return [_disjoint(torch.stack(masks)) for masks in found]

    def _superfluous(self, mask: Bool[Tensor, "h w"], earlier: list[Bool[Tensor, "h w"]]) -> bool:
        """Whether a mask after the first is a copy or small."""
        rivals = earlier if self.compared == "every" else earlier[-1:]
        copy = any(bool(iou(mask[None], rival[None]) > self.max_iou) for rival in rivals)
        return copy or (bool(earlier) and int(mask.sum()) <= self.min_area * mask.numel())

    def _refined(self, photo: Patches, masks: Bool[Tensor, "S h w"]) -> Bool[Tensor, "T H W"]:
        """Masks after the CRF, holes filled, without those that it changed much; as they are without a CRF."""
        if self.crf is None:
            return masks
        if photo.image is None:
            raise ValueError("pool.maskcut.crf: the CRF looks at the photo, which these patches come without")
        refined = fill_holes(DenseCRF(**self.crf).masks(photo.image, masks))
        before = resize(masks, *refined.shape[1:])
        same = [bool(iou(old[None], new[None]) >= CHANGED) for old, new in zip(before, refined, strict=True)]
        return refined[torch.tensor(same, dtype=torch.bool, device=refined.device)]


def _disjoint(masks: Bool[Tensor, "S h w"]) -> Bool[Tensor, "T h w"]:
    """Masks less those before them, without what is left empty."""
    masks = masks & (masks.cumsum(0) == 1)
    return masks[masks.flatten(1).any(1)]
