"""A trained model as people use it: photos of any kind in, masks at the photos' own size out."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor

from oapseg import storage
from oapseg.checkpoint.cluster_names import parse_names
from oapseg.checkpoint.export import CARD, CLUSTERS, CONFIG, PARAMS, Files, build
from oapseg.masks import Masks
from oapseg.model.predicted import Predicted
from oapseg.model.segmenter import Look, Segmenter
from oapseg.params import default_params_path, load_params
from oapseg.shards.decode import decode

Photo = str | Path | Image.Image | np.ndarray | Tensor


@dataclass(frozen=True)
class Model:
    """`model(images)` gives masks; `names` are the clusters', None where nobody has named one.

    `look` is how it looked at photos when it was measured; `dataclasses.replace(model, look=...)` looks otherwise.
    """

    location: str
    segmenter: Segmenter
    look: Look
    names: dict[int, str | None]
    card: str | None  # none of a model that is not registered
    params_yaml: str  # of its training

    def __call__(self, images: Sequence[Photo], *, min_score: float = 0.0, batch: int = 8) -> list[Masks]:
        """Masks of each photo at its own size, best first, on the CPU, for scores of `min_score` and more.

        Photos are paths, `s3://` URLs, Pillow images, or arrays and tensors of bytes (H W 3, 3 H W or H W). A mask's
        `features` are one-hot over the clusters, `clusters` gives their numbers; `level` is 0. A mask takes a byte a
        pixel: for many large photos `predict` holds one mask at a time.

        Errors: `ValueError` naming the photo that is none.
        """
        return [masks_of(each, min_score, len(self.names)) for each in self.predict(images, batch=batch)]

    def predict(self, images: Sequence[Photo], *, batch: int = 8) -> Iterator[Predicted]:
        """What is seen in each photo, on a grid, with `mask(index)` at the photo's size; `batch` photos at a time."""
        for photos in in_batches(images, batch):
            yield from self.segmenter.predict(photos, self.look)


def in_batches(images: Sequence[Photo], batch: int) -> Iterator[list[UInt8[Tensor, "_H _W 3"]]]:
    """Photos as bytes, so many at a time. Errors: `ValueError` naming the photo that is none."""
    if isinstance(images, str | Path | Image.Image):
        raise ValueError(f"images: give a list of photos; is one {type(images).__name__}")
    for start in range(0, len(images), batch):
        yield [photo_tensor(image, start + place) for place, image in enumerate(images[start : start + batch])]


def masks_of(seen: Predicted, min_score: float, num_clusters: int) -> Masks:
    """What was seen in a photo, for scores of `min_score` and more, on the CPU."""
    kept = (seen.scores >= min_score).nonzero().flatten().tolist()
    masks = [seen.mask(index).cpu() for index in kept]
    return Masks(
        torch.stack(masks) if masks else torch.zeros(0, *seen.size, dtype=torch.bool),
        torch.zeros(len(kept), dtype=torch.long),
        seen.kind[kept].cpu(),
        F.one_hot(seen.clusters[kept].cpu(), num_clusters).float(),
        seen.scores[kept].float().cpu(),
    )


def clusters(masks: Masks) -> Int[Tensor, " S"]:
    """The cluster of each mask that a model gave."""
    return masks.features.argmax(1)


def model_of(files: Files, device: torch.device | str, location: str) -> Model:
    """The model of a folder's files. It looks as when it was measured, otherwise as the shipped `params.yaml` says.

    Errors: `ValueError` where it looks in a way that this version does not know, or as `export.build`.
    """
    config = json.loads(files[CONFIG])
    named = parse_names(files[CLUSTERS], f"{location}/{CLUSTERS}")
    look = look_of(load_params(default_params_path()).predict)
    try:
        look = replace(look, **config.get("look", {"image_px": config["image_px"]}))
    except TypeError as error:
        raise ValueError(f"model: {location}/{CONFIG}: look: this version does not know it ({error})") from None
    card = files[CARD].decode() if CARD in files else None
    return Model(location, build(files, device, location), look, named, card, files[PARAMS].decode())


def look_of(params: Any) -> Look:
    """How section `predict` has a model look."""
    return Look(**{name: params[name] for name in Look.__dataclass_fields__})


def photo_tensor(image: Photo, place: int = 0) -> UInt8[Tensor, "H W 3"]:
    """A photo of any kind as bytes, upright; `place` names one that has no name of its own.

    Errors: `ValueError` naming the photo and what is wrong.
    """
    if isinstance(image, str | Path):
        try:
            return decode(storage.read_bytes(image))
        except ValueError as error:
            raise ValueError(f"{image}: {error}") from None
    if isinstance(image, Image.Image):
        return torch.from_numpy(np.array(image.convert("RGB")))
    pixels = torch.as_tensor(image).cpu()
    if pixels.dtype == torch.uint8 and pixels.numel():
        if pixels.ndim == 2:
            return pixels[..., None].expand(-1, -1, 3).contiguous()
        if pixels.ndim == 3 and pixels.shape[-1] == 3:
            return pixels.contiguous()
        if pixels.ndim == 3 and pixels.shape[0] == 3:
            return pixels.permute(1, 2, 0).contiguous()
    raise ValueError(
        f"images[{place}]: must be uint8 of shape H W 3, 3 H W or H W, is {pixels.dtype} of {tuple(pixels.shape)}"
    )
