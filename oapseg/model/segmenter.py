"""The whole segmenter, and its use: photos in, scored masks out."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from oapseg.encode.encoder import Encoder, square
from oapseg.masks import INSTANCE, SEMANTIC, overlap_decay
from oapseg.model.adapter import ViTAdapter
from oapseg.model.heads import ProjectionHead
from oapseg.model.mask_decoder import MaskDecoder, Prediction
from oapseg.model.pixel_decoder import PixelDecoder
from oapseg.params import ModelParams

MIN_MASK_PIXELS = 1  # an empty mask is no mask


class Predicted(NamedTuple):
    """The masks of one photo at its own resolution, best score first."""

    masks: Bool[Tensor, "S H W"]
    scores: Float[Tensor, " S"]  # objectness times mean probability inside the mask
    clusters: Int[Tensor, " S"]  # arg max of the head
    kind: Int[Tensor, " S"]  # 0 instance, 1 semantic


class Segmenter(nn.Module):
    """Multi-scale encoder, pixel decoder, mask decoder, and the head that names a query's cluster."""

    def __init__(self, encoder: Encoder, params: ModelParams) -> None:
        super().__init__()
        width = params.width
        self.backbone = ViTAdapter(encoder, params.interactions, params.heads, params.points, params.stem)
        self.pixels = PixelDecoder(
            encoder.channels, width, params.ffn, params.heads, params.points, params.pixel_layers
        )
        self.decoder = MaskDecoder(
            width, params.ffn, params.heads, params.decoder_layers, params.queries_instance, params.queries_semantic
        )
        self.to_channels = nn.Linear(width, encoder.channels)
        self.head = ProjectionHead(encoder.channels, params.head_hidden, params.bottleneck, params.clusters)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> list[Prediction]:
        """Predictions of every decoder layer, the last one last."""
        return self.decoder(self.pixels(self.backbone(images)))

    def query_logits(self, queries: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch K"]:
        """A query's logits over clusters; one linear layer brings it to the width of pooled features."""
        return self.feature_logits(F.normalize(self.to_channels(queries), dim=-1))

    def feature_logits(self, features: Float[Tensor, "*batch C"]) -> Float[Tensor, "*batch K"]:
        """Logits over clusters of L2-normalised features.

        They enter the head at unit variance. Fed as they are, a pooled feature is some ten times smaller than a query,
        the head's biases outgrow it, and within 60 steps all codes are alike (measured on the embedded sample).
        """
        return self.head(features * features.shape[-1] ** 0.5)

    @torch.no_grad()
    def predict(
        self,
        images: list[UInt8[Tensor, "_H _W 3"]],
        *,
        image_px: int,
        max_masks: int,
        mask_threshold: float,
        decay_overlaps: bool,
    ) -> list[Predicted]:
        """The best `max_masks` masks of each photo, resized back from `image_px` squared to the photo's own size.

        Departs from the paper, which says nothing of scores: with `decay_overlaps` a mask that a better one of its kind
        covers ranks lower (matrix NMS). On the embedded sample that tripled AP50 (3.0 to 8.8) and left recall alone.
        """
        device = self.backbone.encoder.mean.device
        last = self(torch.stack([square(image.to(device), image_px) for image in images]))[-1]
        clusters = self.query_logits(last.queries).argmax(-1)
        found = []
        for image, logits, objectness, names in zip(images, last.mask_logits, last.objectness, clusters, strict=True):
            scores = objectness.sigmoid() * confidence(logits, mask_threshold)
            if decay_overlaps:
                scores = self._decayed(logits.sigmoid() > mask_threshold, scores)
            best = scores.argsort(descending=True, stable=True)[:max_masks]
            masks = _at_size(logits[best], (image.shape[0], image.shape[1])) > mask_threshold
            kept = masks.flatten(1).sum(1) >= MIN_MASK_PIXELS
            best, masks = best[kept], masks[kept]
            found.append(Predicted(masks, scores[best], names[best], self.decoder.kind[best]))
        return found

    def _decayed(self, masks: Bool[Tensor, "Q h w"], scores: Float[Tensor, " Q"]) -> Float[Tensor, " Q"]:
        """Scores after matrix NMS, each kind by itself."""
        decayed = scores.clone()
        for kind in (INSTANCE, SEMANTIC):
            own = self.decoder.kind == kind
            decayed[own] *= overlap_decay(masks[own], scores[own])
        return decayed


def confidence(mask_logits: Float[Tensor, "Q h w"], threshold: float) -> Float[Tensor, " Q"]:
    """Mean probability inside each mask; 0 for an empty one."""
    probability = mask_logits.sigmoid().flatten(1)
    inside = (probability > threshold).float()
    return (probability * inside).sum(1) / inside.sum(1).clamp(min=1)


def _at_size(mask_logits: Float[Tensor, "Q h w"], size: tuple[int, int]) -> Float[Tensor, "Q H W"]:
    """Mask probabilities at a photo's size; logits and not probabilities are resized, so edges stay where they are."""
    if mask_logits.shape[0] == 0:
        return mask_logits.new_zeros(0, *size)
    return F.interpolate(mask_logits[None], size, mode="bilinear", align_corners=False)[0].sigmoid()
