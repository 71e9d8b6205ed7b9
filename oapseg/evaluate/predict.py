"""Masks of a model, or of a generator, for photos, as COCO results."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from oapseg.encode.encoder import Encoder
from oapseg.encode.patches import Patches
from oapseg.evaluate.predictions import PhotoResults, Predict
from oapseg.masks import INSTANCE, SEMANTIC, Masks, best_of_each_kind, boxes_xyxy, mask_to_rle
from oapseg.model.predicted import Predicted
from oapseg.model.segmenter import Look, Segmenter
from oapseg.params import Device, PredictParams
from oapseg.shards.read import Sample

KIND_NAMES = {INSTANCE: "instance", SEMANTIC: "semantic"}
REGION = "region"  # where a cluster is, in a map of the whole photo
NO_CLUSTER = 0  # category of a mask whose maker knows no clusters


MODEL_RULE = "objectness x mean mask probability inside the mask"
DECAY_RULE = f"{MODEL_RULE}, less where a better mask of its kind overlaps (matrix NMS, linear)"
MODEL_REGIONS = "at each place, the cluster with the largest sum of score x mask probability"
EQUAL_RULE = "ones: every mask 1.0, ties in the generator's order"
GENERATOR_REGIONS = (
    "semantic masks in the generator's order, the first at a place wins; clusters by k-means of features"
)


Pool = Callable[[list[Patches]], list[Masks]]  # a generator's `batch`


def choose_device(device: Device) -> torch.device:
    """The device that section `predict` names.

    Errors: `ValueError` where `cuda` is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("predict.device: cuda is asked for and no CUDA device is here; allowed are auto and cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def check_side(params: PredictParams, encoder: Encoder) -> None:
    """Errors: `ValueError` where a side of section `predict` does not suit the encoder."""
    for key in ("image_px", "window_px"):
        if getattr(params, key) % encoder.patch_px:
            raise ValueError(
                f"predict.{key}: {getattr(params, key)} must be a multiple of the encoder's patch, "
                f"{encoder.patch_px} px"
            )


def model_rule(params: PredictParams) -> str:
    """How a model's masks are ranked, in words."""
    rule = DECAY_RULE if params.decay_overlaps else MODEL_RULE
    if params.windows > 1:
        rule += f"; the whole photo and {params.windows} x {params.windows} windows of it"
    return rule


def model_predictor(segmenter: Segmenter, params: PredictParams) -> Predict:
    """Photos to the model's results, best score first; the category is the cluster.

    After the masks come the `region` results: which cluster each place of the photo belongs to, without overlap.
    """
    device = segmenter.backbone.encoder.mean.device
    look = Look(
        image_px=params.image_px,
        windows=params.windows,
        window_px=params.window_px,
        max_masks=params.max_masks,
        mask_threshold=params.mask_threshold,
        decay_overlaps=params.decay_overlaps,
    )

    def predict(samples: list[Sample]) -> list[PhotoResults]:
        with torch.autocast(device.type, torch.bfloat16, enabled=params.precision == "bf16"):
            predicted = segmenter.predict([sample.image for sample in samples], look)
        return [
            PhotoResults(coco_results(sample.labels["image_id"], each))
            for sample, each in zip(samples, predicted, strict=True)
        ]

    return predict


def generator_predictor(encoder: Encoder, pool: Pool, params: PredictParams) -> Predict:
    """Photos to a generator's results on the plain encoder's patches, by score, equal ones in its order."""

    def predict(samples: list[Sample]) -> list[PhotoResults]:
        pooled = pool(encoder.patches([sample.image for sample in samples], params.image_px))
        found = []
        for sample, masks in zip(samples, pooled, strict=True):
            masks = masks.select(best_of_each_kind(masks.scores, masks.kind, params.max_masks))
            results = _mask_results(sample.labels["image_id"], _pooled(masks, sample.image))
            found.append(PhotoResults(list(results.values()), masks.features[list(results)].cpu()))
        return found

    return predict


def coco_results(image_id: int, predicted: Predicted) -> list[dict[str, Any]]:
    """Masks and regions of one photo as COCO results."""
    regions = [_result(image_id, cluster, mask, 1.0, REGION) for cluster, mask in predicted.regions()]
    return [*_mask_results(image_id, predicted).values(), *regions]


def _mask_results(image_id: int, predicted: Predicted) -> dict[int, dict[str, Any]]:
    """Results by the masks' index; those without a pixel at the photo's size are left out."""
    results = {}
    for index in range(len(predicted.scores)):
        mask = predicted.mask(index)
        if mask.any():
            kind = KIND_NAMES[int(predicted.kind[index])]
            results[index] = _result(
                image_id, int(predicted.clusters[index]), mask, float(predicted.scores[index]), kind
            )
    return results


def _result(image_id: int, cluster: int, mask: Tensor, score: float, kind: str) -> dict[str, Any]:
    left, top, right, bottom = boxes_xyxy(mask[None])[0].tolist()
    return {
        "image_id": image_id,
        "category_id": cluster,
        "segmentation": mask_to_rle(mask),
        "bbox": [left, top, right - left, bottom - top],
        "score": score,
        "kind": kind,
    }


def _pooled(masks: Masks, image: UInt8[Tensor, "H W 3"]) -> Predicted:
    """A generator's masks as what is seen in a photo; its clusters, if any, come from the masks' features later."""
    soft = masks.masks.float()
    return Predicted(
        soft=soft,
        threshold=0.5,
        size=(image.shape[0], image.shape[1]),
        scores=masks.scores,
        clusters=torch.full_like(masks.kind, NO_CLUSTER),
        kind=masks.kind,
        belonging=soft[:0],
        belonging_to=masks.kind[:0],
    )
