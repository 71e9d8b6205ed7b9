"""Dense conditional random field over the pixels of a photo (Krahenbuhl and Koltun 2011)."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from oapseg.masks import resize
from oapseg.refine.lattice import Lattice

LEAST_PROBABILITY = 1e-5  # of a label; a zero could never be outvoted
REACH = 4  # standard deviations after which the spatial Gaussian ends: 3e-4 of its peak
VALUES = 1 << 24  # of masks that are refined together
LARGEST = 1 << 22  # pixels of a field: about 1.2 GB for a photo, 4 GB for pure noise


@dataclass(frozen=True)
class DenseCRF:
    """Mean field of a fully connected CRF with two Gaussian kernels and the Potts model, the fields of `refine.crf`.

    Pixels that are near, and pixels that are near and of like colour, want the same label. Both kernels are normalised
    symmetrically: the row sums of K become D in D^-1/2 K D^-1/2. A pixel counts among its own neighbours, as in the
    authors' code. The spatial kernel is a separable convolution, exact but for its tails; the bilateral one runs on a
    permutohedral lattice. `certainty` is the probability of a mask's own label where `masks` begins (MaskCut 0.731). A
    photo of more than `LARGEST` pixels is refined smaller, distances as in the photo, and the outcome brought back.
    """

    steps: int
    gaussian_weight: float
    gaussian_sigma_px: float
    bilateral_weight: float
    bilateral_sigma_px: float
    bilateral_sigma_colour: float
    certainty: float

    def __call__(
        self, image: UInt8[Tensor, "H W 3"], probabilities: Float[Tensor, "L _H _W"]
    ) -> Float[Tensor, "L H W"]:
        """Probabilities of L labels after `steps` of mean field; those of a pixel sum to 1.

        Errors: `ValueError` where the probabilities are not of the image's size, or are not finite.
        """
        field = self.on(image)
        if probabilities.shape[1:] != field.size:
            raise ValueError(f"probabilities of {tuple(probabilities.shape[1:])} px for a photo of {field.size} px")
        if field.grid == field.size:
            return field.labels(probabilities)
        labels = field.labels(F.interpolate(probabilities[None], field.grid, mode="area")[0])
        return F.interpolate(labels[None], field.size, mode="bilinear", align_corners=False)[0]

    def masks(self, image: UInt8[Tensor, "H W 3"], masks: Bool[Tensor, "S h w"]) -> Bool[Tensor, "S H W"]:
        """Each mask alone against the background, brought to the photo's size before."""
        refined = [after for _, after in self.on(image).each(masks)] if len(masks) else []
        return torch.stack([masks.new_zeros(image.shape[:2]), *refined])[1:]

    def on(self, image: UInt8[Tensor, "H W 3"]) -> "CRFOnPhoto":
        """The field of one photo, for several uses: half of the time of refining one mask goes into laying it out."""
        return CRFOnPhoto(self, image)


class CRFOnPhoto:
    """A dense CRF laid out over a photo of `size` on a `grid`, its pixels or fewer."""

    @torch.no_grad()
    def __init__(self, crf: DenseCRF, image: UInt8[Tensor, "H W 3"]) -> None:
        self.crf = crf
        self.size = image.shape[0], image.shape[1]
        shrunk = min(1.0, math.sqrt(LARGEST / math.prod(self.size)))
        self.grid = max(1, math.floor(self.size[0] * shrunk)), max(1, math.floor(self.size[1] * shrunk))
        self.near_sigma = crf.gaussian_sigma_px * shrunk
        colours = image.float()
        if self.grid != self.size:
            colours = F.interpolate(colours.permute(2, 0, 1)[None], self.grid, mode="area")[0].permute(1, 2, 0)
        self.kernels = []
        if crf.gaussian_weight:
            self.kernels.append((crf.gaussian_weight, self._near))
        if crf.bilateral_weight:
            axes = [torch.arange(side, device=image.device) / shrunk for side in self.grid]
            place = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1) / crf.bilateral_sigma_px
            self.lattice = Lattice(torch.cat([place, colours / crf.bilateral_sigma_colour], -1).flatten(0, 1))
            self.kernels.append((crf.bilateral_weight, self._alike))
        ones = torch.ones(1, *self.grid, device=image.device)
        self.norms = [kernel(ones).clamp(min=torch.finfo(torch.float32).tiny).rsqrt() for _, kernel in self.kernels]
        self.of_ones = self._message(ones)

    @torch.no_grad()
    def labels(self, probabilities: Float[Tensor, "L h w"]) -> Float[Tensor, "L h w"]:
        """As `DenseCRF.__call__`, on the field's grid."""
        if not probabilities.isfinite().all():
            raise ValueError("probabilities are not finite (NaN or infinite)")
        unary = probabilities.float().clamp(min=LEAST_PROBABILITY).log()
        labels = unary.softmax(0)
        for _ in range(self.crf.steps):
            labels = self._message(labels).add_(unary).softmax(0)
        return labels

    @torch.no_grad()
    def each(self, masks: Iterable[Bool[Tensor, "h w"]]) -> Iterator[tuple[Bool[Tensor, "H W"], Bool[Tensor, "H W"]]]:
        """Each mask alone against the background: at the photo's size before, and refined.

        Masks are taken from `masks` some at a time, so that few are large at once. Of two labels one says all: the
        message of the second is that of ones less the first's.
        """
        sure = math.log(self.crf.certainty / (1 - self.crf.certainty))
        coming = iter(masks)
        while some := list(islice(coming, max(1, VALUES // math.prod(self.size)))):
            before = torch.cat([_sized(mask[None], self.size) for mask in some])
            logits = unary = torch.where(_sized(before, self.grid), sure, -sure)
            for _ in range(self.crf.steps):
                logits = self._message(logits.sigmoid()).mul_(2).sub_(self.of_ones).add_(unary)
            yield from zip(before, _sized(logits > 0, self.size), strict=True)

    def _message(self, values: Float[Tensor, "L H W"]) -> Float[Tensor, "L H W"]:
        """The weighted sum of both normalised kernels, some labels at a time."""
        total = torch.zeros_like(values)
        together = max(1, VALUES // math.prod(self.grid))
        for into, some in zip(total.split(together), values.split(together), strict=True):
            for (weight, kernel), norm in zip(self.kernels, self.norms, strict=True):
                into += kernel(some * norm).mul_(weight * norm)
        return total

    def _near(self, values: Float[Tensor, "L H W"]) -> Float[Tensor, "L H W"]:
        """The spatial kernel; there is nothing outside the photo."""
        sigma = self.near_sigma
        reach = math.ceil(REACH * sigma)
        offsets = torch.arange(-reach, reach + 1, device=values.device)
        kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
        each = kernel.expand(
            len(values), 1, 1, -1
        )  # labels as channels: on a CPU six times as fast as labels as photos
        down = F.conv2d(values[None], each.mT, padding=(reach, 0), groups=len(values))
        return F.conv2d(down, each, padding=(0, reach), groups=len(values))[0]

    def _alike(self, values: Float[Tensor, "L H W"]) -> Float[Tensor, "L H W"]:
        """The bilateral kernel."""
        return self.lattice(values.flatten(1).T.contiguous()).T.view(values.shape)


def _sized(masks: Bool[Tensor, "S h w"], size: tuple[int, int]) -> Bool[Tensor, "S H W"]:
    return masks if masks.shape[1:] == size else resize(masks, *size)
