"""Random colour changes of a batch of photos, on the device that holds them."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

LUMA = (0.299, 0.587, 0.114)  # Rec. 601


def jitter_colour(images: Float[Tensor, "B 3 H W"], generator: Generator) -> Float[Tensor, "B 3 H W"]:
    """DINO's colour changes: brightness, contrast, saturation and hue with probability 0.8, grey with 0.2."""
    count, device = images.shape[0], images.device

    def draw(low: float, high: float) -> Tensor:
        return torch.empty(count, 1, 1, 1, device=device).uniform_(low, high, generator=generator)

    def chance(probability: float) -> Tensor:
        return torch.rand(count, 1, 1, 1, device=device, generator=generator) < probability

    luma = images.new_tensor(LUMA).view(1, 3, 1, 1)
    changed = images * draw(0.6, 1.4)
    middle = (changed * luma).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    changed = torch.lerp(middle.expand_as(changed), changed, draw(0.6, 1.4))
    grey = (changed * luma).sum(1, keepdim=True).expand_as(changed)
    changed = torch.lerp(grey, changed, draw(0.8, 1.2))
    changed = torch.einsum("bij,bjhw->bihw", _hue_rotation(draw(-0.1, 0.1).flatten()), changed).clamp(0, 1)
    images = torch.where(chance(0.8), changed, images)
    grey = (images * luma).sum(1, keepdim=True).expand_as(images)
    return torch.where(chance(0.2), grey, images)


def blur(images: Float[Tensor, "B 3 H W"], probability: float, generator: Generator) -> Float[Tensor, "B 3 H W"]:
    """Gaussian blur of 0.1 to 2 px at 224 px, scaled to the side, with the given probability."""
    count, device = images.shape[0], images.device
    scale = images.shape[-1] / 224
    sigma = torch.empty(count, device=device).uniform_(0.1 * scale, 2.0 * scale, generator=generator)
    reach = max(1, round(4 * scale))
    offsets = torch.arange(-reach, reach + 1, device=device).float()
    kernel = torch.softmax(-(offsets**2) / (2 * sigma[:, None] ** 2), 1)
    flat = images.transpose(0, 1)  # images become groups of a grouped convolution
    flat = F.conv2d(F.pad(flat, (reach, reach, 0, 0), mode="replicate"), kernel[:, None, None, :], groups=count)
    flat = F.conv2d(F.pad(flat, (0, 0, reach, reach), mode="replicate"), kernel[:, None, :, None], groups=count)
    applied = torch.rand(count, 1, 1, 1, device=device, generator=generator) < probability
    return torch.where(applied, flat.transpose(0, 1), images)


def solarize(images: Float[Tensor, "B 3 H W"], probability: float, generator: Generator) -> Float[Tensor, "B 3 H W"]:
    """Values above one half inverted, with the given probability (DINO's second global view)."""
    applied = torch.rand(images.shape[0], 1, 1, 1, device=images.device, generator=generator) < probability
    return torch.where(applied & (images >= 0.5), 1 - images, images)


def _hue_rotation(turns: Float[Tensor, " B"]) -> Float[Tensor, "B 3 3"]:
    """Rotation of RGB about the grey axis by a share of a turn (Rodrigues)."""
    angle = turns * 2 * math.pi
    cos, third = torch.cos(angle)[:, None, None], 1 / 3
    sin = torch.sin(angle)[:, None, None] * math.sqrt(third)
    eye = torch.eye(3, device=turns.device)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=turns.device)
    return cos * eye + sin * cross + (1 - cos) * third
