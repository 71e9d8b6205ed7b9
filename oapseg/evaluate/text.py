"""Regions named by a CLIP: each cut out of its photo, embedded, and taken for the class whose name is nearest to it.

As ACSeg cuts its concepts out (section 4.1): the region's box resized to the network's view, pixels outside the region
set to the mean after normalisation. ACSeg's own text classifier averages MaskCLIP's features of pixels instead.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from oapseg.evaluate.clip import Clip, load_clip
from oapseg.evaluate.predictions import Predictions
from oapseg.masks import boxes_xyxy, rle_to_mask
from oapseg.params import EvaluateParams
from oapseg.shards.manifest import Manifest
from oapseg.shards.read import Photos


def nearest_names(clip: Clip, views: Sequence[Float[Tensor, "3 h w"]], batch: int) -> Int[np.ndarray, " S"]:
    """The place of the nearest name, of each region as `cut` makes it; `batch` of them are embedded at a time."""
    with torch.inference_mode():
        seen = [clip.see(torch.stack(list(views[at : at + batch]))) for at in range(0, len(views), batch)]
    named = [(F.normalize(part.float(), dim=-1) @ clip.classes.T).argmax(1) for part in seen]
    return torch.cat(named).numpy() if named else np.zeros(0, dtype=np.int64)


def cut(clip: Clip, image: UInt8[Tensor, "H W 3"], mask: Bool[Tensor, "H W"]) -> Float[Tensor, "3 h w"]:
    """A region as the network sees it."""
    left, top, right, bottom = boxes_xyxy(mask[None])[0].tolist()
    pixels = image[top:bottom, left:right].permute(2, 0, 1).float() / 255
    inside = mask[top:bottom, left:right].float()
    view = F.interpolate(pixels[None], clip.size, mode="bicubic", antialias=True)[0].clamp(0, 1)
    return (view - clip.mean) / clip.std * F.interpolate(inside[None, None], clip.size, mode="nearest")[0]


def name_by_text(
    manifest: Manifest,
    predictions: Predictions,
    places: Int[np.ndarray, " S"],
    names: Sequence[str],
    params: EvaluateParams,
) -> tuple[Int[np.ndarray, " S"], str]:
    """The place of the name of each region, which is the mask at `places` of all; and how that was done, in words."""
    clip = load_clip(params.text, names)
    crops = _crops(manifest, predictions, places, clip)
    named = [nearest_names(clip, views, params.text.batch) for views in crops]
    how = f"name nearest to the cut-out region by {clip.said}"
    return np.concatenate([np.zeros(0, dtype=np.int64), *named]), how


def _crops(
    manifest: Manifest, predictions: Predictions, places: Int[np.ndarray, " S"], clip: Clip
) -> Iterator[list[Tensor]]:
    """The regions of each photo cut out; one photo is in memory at a time."""
    photos, wanted, place = iter(Photos(manifest)), set(places.tolist()), 0
    for number, count in enumerate(manifest.shard_sizes):
        found = predictions.part(number)
        for _ in range(count):
            sample = next(photos)
            results = found.get(sample.labels["image_id"], [])
            chosen = [each for at, each in enumerate(results, place) if at in wanted]
            yield [cut(clip, sample.image, rle_to_mask(each["segmentation"])) for each in chosen]
            place += len(results)
