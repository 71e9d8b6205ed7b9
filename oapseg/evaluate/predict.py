"""Masks of a model, or of a generator, for every photo of a set, as COCO results."""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from oapseg import storage
from oapseg.encode.encoder import Encoder
from oapseg.encode.patches import Patches
from oapseg.masks import INSTANCE, SEMANTIC, Masks, best_of_each_kind, boxes_xyxy, mask_to_rle, resize
from oapseg.model.segmenter import Look, Predicted, Segmenter
from oapseg.params import Device, EvaluateParams
from oapseg.shards.read import Photos, Sample

KIND_NAMES = {INSTANCE: "instance", SEMANTIC: "semantic"}
NO_CLUSTER = 0  # category of a mask whose maker knows no clusters


def choose_device(device: Device) -> torch.device:
    """The device that section `evaluate` names.

    Errors: `ValueError` where `cuda` is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("evaluate.device: cuda is asked for and no CUDA device is here; allowed are auto and cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def check_side(params: EvaluateParams, encoder: Encoder) -> None:
    """Errors: `ValueError` where a side of section `evaluate` does not suit the encoder."""
    for key in ("image_px", "window_px"):
        if getattr(params, key) % encoder.patch_px:
            raise ValueError(
                f"evaluate.{key}: {getattr(params, key)} must be a multiple of the encoder's patch, "
                f"{encoder.patch_px} px"
            )


def predict_model(
    segmenter: Segmenter, photos: Photos | list[Sample], params: EvaluateParams
) -> Iterator[dict[str, Any]]:
    """COCO results of the model, photo by photo, best score first; the category is the cluster."""
    device = segmenter.backbone.encoder.mean.device
    look = Look(
        image_px=params.image_px,
        windows=params.windows,
        window_px=params.window_px,
        max_masks=params.max_dets,
        mask_threshold=params.mask_threshold,
        decay_overlaps=params.decay_overlaps,
    )

    def predict(images: list[Tensor]) -> list[Predicted]:
        with torch.autocast(device.type, torch.bfloat16, enabled=params.precision == "bf16"):
            return segmenter.predict(images, look)

    return _predict(predict, photos, params.batch, "model")


def predict_generator(
    encoder: Encoder,
    pool: Callable[[list[Patches]], list[Masks]],
    photos: Photos | list[Sample],
    params: EvaluateParams,
) -> Iterator[dict[str, Any]]:
    """COCO results of a generator (its `batch`) on the plain encoder's patches, by score, equal ones in its order."""

    def predict(images: list[Tensor]) -> list[Predicted]:
        pooled = pool(encoder.patches(images, params.image_px))
        predicted = []
        for image, masks in zip(images, pooled, strict=True):
            masks = masks.select(best_of_each_kind(masks.scores, masks.kind, params.max_dets))
            whole = resize(masks.masks, image.shape[0], image.shape[1])
            predicted.append(Predicted(whole, masks.scores, torch.full_like(masks.kind, NO_CLUSTER), masks.kind))
        return predicted

    return _predict(predict, photos, params.batch, "generator")


def coco_results(image_id: int, predicted: Predicted) -> list[dict[str, Any]]:
    """Masks of one photo as COCO results; masks without a pixel are left out."""
    boxes = boxes_xyxy(predicted.masks)
    return [
        {
            "image_id": image_id,
            "category_id": int(predicted.clusters[index]),
            "segmentation": mask_to_rle(mask),
            "bbox": [left, top, right - left, bottom - top],
            "score": float(predicted.scores[index]),
            "kind": KIND_NAMES[int(predicted.kind[index])],
        }
        for index, (mask, (left, top, right, bottom)) in enumerate(zip(predicted.masks, boxes.tolist(), strict=True))
        if right > left
    ]


def write_results(path: Path, results: Iterable[dict[str, Any]]) -> None:
    """A COCO result file, one mask a line, whole or not at all; only one photo's masks are in memory at a time."""
    with storage.atomic_file(path) as file:
        separator = "[\n"
        for result in results:
            file.write(f"{separator}{json.dumps(result, allow_nan=False)}".encode())
            separator = ",\n"
        file.write(b"[]\n" if separator == "[\n" else b"\n]\n")


def _predict(
    predict: Callable[[list[Tensor]], list[Predicted]], photos: Photos | list[Sample], batch: int, what: str
) -> Iterator[dict[str, Any]]:
    stream = iter(photos)
    batches = range(0, len(photos), batch)
    for _ in track(batches, description=f"masks of the {what}", console=Console(stderr=True)):
        samples = list(islice(stream, batch))
        for sample, predicted in zip(samples, predict([sample.image for sample in samples]), strict=True):
            yield from coco_results(sample.labels["image_id"], Predicted(*(field.cpu() for field in predicted)))
