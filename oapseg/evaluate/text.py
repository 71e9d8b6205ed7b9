"""Regions named by a CLIP: each cut out of its photo, embedded, and taken for the class whose name is nearest to it.

As ACSeg cuts its concepts out (section 4.1): the region's box resized to the network's view, pixels outside the region
set to the mean after normalisation. ACSeg's own text classifier averages MaskCLIP's features of pixels instead.
"""

import pickle
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from oapseg import storage
from oapseg.evaluate.predictions import Predictions
from oapseg.masks import boxes_xyxy, rle_to_mask
from oapseg.params import EvaluateParams, TextParams
from oapseg.shards.manifest import Manifest
from oapseg.shards.read import Photos

ENDINGS = re.compile(r"(-(other|merged|stuff|things|tile|wood|concrete))+$")  # of COCO's names


class TextClassifier:
    """Names of classes as directions of a CLIP's space.

    Errors: `ValueError` where open_clip or the weights are missing, or do not go with the model.
    """

    def __init__(self, params: TextParams, names: Sequence[str]) -> None:
        try:
            import open_clip
        except ImportError:
            raise ValueError("evaluate.text: needs open_clip; run `pip install open_clip_torch`") from None
        if params.weights is None or not Path(params.weights).is_file():
            raise ValueError(f"evaluate.text.weights: {params.weights}: no such file; null turns it off")
        if params.model not in open_clip.list_models():
            raise ValueError(
                f"evaluate.text.model: open_clip has no {params.model!r}; `open_clip.list_models()` has all"
            )
        self.device = torch.device("cuda" if params.device != "cpu" and torch.cuda.is_available() else "cpu")
        try:
            model = open_clip.create_model(params.model, pretrained=params.weights, device=self.device)
        except (RuntimeError, LookupError, ValueError, AssertionError, EOFError, pickle.UnpicklingError) as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"evaluate.text.weights: {params.weights}: no weights of {params.model} ({reason})"
            ) from None
        self.model: Any = model.eval()
        size = model.visual.image_size
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        self.mean, self.std = (
            torch.tensor(model.visual.preprocess_cfg[key], device=self.device)[:, None, None] for key in ("mean", "std")
        )
        self.batch = params.batch
        tokenizer = open_clip.get_tokenizer(params.model)
        with torch.inference_mode():
            embedded = [
                self._unit(model.encode_text(tokenizer([each.format(readable(name)) for each in params.templates])))
                for name in names
            ]
        self.classes: Float[Tensor, "M D"] = self._unit(torch.stack([each.mean(0) for each in embedded]))

    def __call__(self, crops: Sequence[Float[Tensor, "3 h w"]]) -> Int[np.ndarray, " S"]:
        """The place of the nearest name, of each region as `cut` makes it."""
        with torch.inference_mode():
            parts = [
                (self._unit(self.model.encode_image(torch.stack(list(crops[at : at + self.batch])))) @ self.classes.T)
                .argmax(1)
                .cpu()
                for at in range(0, len(crops), self.batch)
            ]
        return torch.cat(parts).numpy() if parts else np.zeros(0, dtype=np.int64)

    def cut(self, image: UInt8[Tensor, "H W 3"], mask: Bool[Tensor, "H W"]) -> Float[Tensor, "3 h w"]:
        """A region as the network sees it."""
        left, top, right, bottom = boxes_xyxy(mask[None])[0].tolist()
        pixels = image[top:bottom, left:right].permute(2, 0, 1).to(self.device).float() / 255
        inside = mask[top:bottom, left:right].to(self.device).float()
        view = F.interpolate(pixels[None], self.size, mode="bicubic", antialias=True)[0].clamp(0, 1)
        return (view - self.mean) / self.std * F.interpolate(inside[None, None], self.size, mode="nearest")[0]

    @staticmethod
    def _unit(features: Float[Tensor, "S D"]) -> Float[Tensor, "S D"]:
        return F.normalize(features.float(), dim=-1)


def readable(name: str) -> str:
    """A class's name as a prompt says it: `wall-other-merged` is a wall."""
    return ENDINGS.sub("", name).replace("_", " ").replace("-", " ")


def name_by_text(
    manifest: Manifest,
    predictions: Predictions,
    places: Int[np.ndarray, " S"],
    names: Sequence[str],
    params: EvaluateParams,
) -> tuple[Int[np.ndarray, " S"], str]:
    """The place of the name of each region, which is the mask at `places` of all; and how that was done, in words."""
    classifier = TextClassifier(params.text, names)
    named = [classifier(crops) for crops in _crops(manifest, predictions, places, classifier)]
    weights = storage.sha256(str(params.text.weights))[:12]
    templates = ", ".join(params.text.templates)
    how = f"name nearest to the cut-out region by CLIP {params.text.model} (weights {weights}), prompts: {templates}"
    return np.concatenate([np.zeros(0, dtype=np.int64), *named]), how


def _crops(
    manifest: Manifest, predictions: Predictions, places: Int[np.ndarray, " S"], classifier: TextClassifier
) -> Iterator[list[Tensor]]:
    """The regions of each photo cut out; one photo is in memory at a time."""
    photos, wanted, place = iter(Photos(manifest)), set(places.tolist()), 0
    for number, count in enumerate(manifest.shard_sizes):
        found = predictions.part(number)
        for _ in range(count):
            sample = next(photos)
            results = found.get(sample.labels["image_id"], [])
            chosen = [each for at, each in enumerate(results, place) if at in wanted]
            yield [classifier.cut(sample.image, rle_to_mask(each["segmentation"])) for each in chosen]
            place += len(results)
