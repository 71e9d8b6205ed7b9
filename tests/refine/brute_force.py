"""The dense CRF with every pair of pixels, in float64: oracle of `oapseg.refine.crf`."""

import torch
from torch import Tensor

from oapseg.refine.crf import DenseCRF


def kernels(image: Tensor, crf: DenseCRF) -> Tensor:
    """The weighted sum of both kernels, each between its row sums' square roots, as one matrix."""
    rows, columns = torch.meshgrid(*(torch.arange(side) for side in image.shape[:2]), indexing="ij")
    place = torch.stack([rows, columns], -1).flatten(0, 1).double()
    colour = image.flatten(0, 1).double() / crf.bilateral_sigma_colour
    near = place / crf.gaussian_sigma_px
    alike = torch.cat([place / crf.bilateral_sigma_px, colour], 1)
    total = torch.zeros(len(place), len(place), dtype=torch.float64)
    for weight, features in ((crf.gaussian_weight, near), (crf.bilateral_weight, alike)):
        kernel = torch.exp(-0.5 * torch.cdist(features, features) ** 2)
        root = kernel.sum(1).rsqrt()
        total += weight * root[:, None] * kernel * root
    return total


def mean_field(image: Tensor, probabilities: Tensor, crf: DenseCRF) -> Tensor:
    both, unary = kernels(image, crf), probabilities.double().log().flatten(1)
    labels = unary.softmax(0)
    for _ in range(crf.steps):
        labels = (unary + labels @ both).softmax(0)
    return labels.view_as(probabilities)
