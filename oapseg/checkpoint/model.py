"""A trained model as people use it: photos of any kind in, masks at the photos' own size out."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

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
from oapseg.refine.levels import spans
from oapseg.shards.decode import decode
from oapseg.shards.upright import upright

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

    def __call__(
        self, images: Sequence[Photo], *, level: float | None = None, min_score: float = 0.0, batch: int = 8
    ) -> list[Masks]:
        """Masks of each photo at its own size, best first, on the CPU, for scores of `min_score` and more.

        `level` is a granularity from 0, parts, to 1, wholes, as of `oapseg predict --level`; without one it is as the
        model was measured (`look.level`), as a rule all of them.

        Photos are paths, `s3://` URLs, Pillow images, or arrays and tensors of bytes (H W 3, 3 H W or H W). A mask's
        `features` are one-hot over the clusters, `clusters` gives their numbers; its `level` is its generation among
        the photo's masks of its kind, from 1, a mask without parts, upwards; 0 of one that a better one stands for. A
        mask takes a byte a pixel: for many large photos `predict` holds one mask at a time.

        Errors: `ValueError` naming the photo that is none, or what is out of range; `OSError` where a file cannot be
        read.
        """
        chosen = Chosen.of(self.look, level, min_score, len(self.names))
        return [chosen.masks(each) for each in self._seen(images, chosen.look, batch)]

    def predict(self, images: Sequence[Photo], *, batch: int = 8) -> Iterator[Predicted]:
        """What is seen in each photo, on a grid, with `mask(index)` at the photo's size; `batch` photos at a time."""
        return self._seen(images, self.look, batch)

    def _seen(self, images: Sequence[Photo], look: Look, batch: int) -> Iterator[Predicted]:
        for photos in in_batches(images, batch):
            yield from self.segmenter.predict(photos, look)


class Chosen(NamedTuple):
    """Which of a model's masks a call gives. It looks at all levels, so that each mask has its place among them."""

    look: Look
    level: float | None
    min_score: float
    num_clusters: int

    @classmethod
    def of(cls, look: Look, level: float | None, min_score: float, num_clusters: int) -> "Chosen":
        """Errors: `ValueError` naming what is out of range."""
        for name, value in (("level", level), ("min_score", min_score)):
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name}: must be from 0 to 1, is {value:g}")
        return cls(replace(look, level=None), look.level if level is None else level, min_score, num_clusters)

    def masks(self, seen: Predicted) -> Masks:
        """Of what was seen in a photo, at its own size, on the CPU."""
        found = spans(seen.soft > seen.threshold, torch.zeros_like(seen.kind), seen.kind, seen.scores)
        here = seen.scores >= self.min_score
        if self.level is not None:
            here &= found.at(self.level)
        kept = here.nonzero().flatten().tolist()
        masks = [seen.mask(index).cpu() for index in kept]
        return Masks(
            torch.stack(masks) if masks else torch.zeros(0, *seen.size, dtype=torch.bool),
            found.generation[kept].cpu(),
            seen.kind[kept].cpu(),
            F.one_hot(seen.clusters[kept].cpu(), self.num_clusters).float(),
            seen.scores[kept].float().cpu(),
        )


def in_batches(images: Any, batch: int) -> Iterator[list[UInt8[Tensor, "_H _W 3"]]]:
    """Photos as bytes, so many at a time. Errors: as `photo_tensor`, or `ValueError` where it is no list of them."""
    stacked = isinstance(images, np.ndarray | Tensor) and images.ndim == 4
    if not stacked and (isinstance(images, str | bytes) or not isinstance(images, Sequence)):
        raise ValueError(f"images: give a list of photos; is one {type(images).__name__}")
    for start in range(0, len(images), batch):
        yield [photo_tensor(image, start + place) for place, image in enumerate(images[start : start + batch])]


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


def photo_tensor(image: object, place: int = 0) -> UInt8[Tensor, "H W 3"]:
    """A `Photo` as bytes, upright; `place` names one that has no name of its own.

    Errors: `ValueError` naming the photo and what is wrong; `OSError` where a file cannot be read.
    """
    if isinstance(image, str | Path):
        try:
            return decode(storage.read_bytes(image))
        except ValueError as error:
            raise ValueError(f"{image}: {error}") from None
    if isinstance(image, Image.Image):
        try:
            image = np.array(upright(image))
        except ValueError as error:
            raise ValueError(f"images[{place}]: {error}") from None
    if not isinstance(image, np.ndarray | Tensor):
        raise ValueError(
            f"images[{place}]: must be a path, a URL, a Pillow image, an array or a tensor, is {type(image).__name__}"
        )
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        image = torch.from_numpy(np.array(image, order="C"))  # torch takes no steps backwards, as of bgr[..., ::-1]
    if isinstance(image, Tensor) and image.dtype == torch.uint8 and image.numel():
        pixels = image.cpu()
        if pixels.ndim == 2:
            return pixels[..., None].expand(-1, -1, 3).contiguous()
        if pixels.ndim == 3 and pixels.shape[-1] == 3:
            return pixels.contiguous()
        if pixels.ndim == 3 and pixels.shape[0] == 3:
            return pixels.permute(1, 2, 0).contiguous()
    raise ValueError(
        f"images[{place}]: must be uint8 of shape H W 3, 3 H W or H W, is {image.dtype} of {tuple(image.shape)}"
    )
