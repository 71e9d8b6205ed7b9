"""Masks of a model, or of a generator, for photos, as COCO results."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from oapseg.checkpoint.model import look_of
from oapseg.encode.averaged import averaged_patches
from oapseg.encode.encoder import Encoder
from oapseg.encode.patches import Patches
from oapseg.evaluate.predictions import PhotoResults, Predict
from oapseg.evaluate.refined import Placed, masks_and_regions
from oapseg.masks import INSTANCE, SEMANTIC, Masks, best_of_each_kind, boxes_xyxy, mask_to_rle
from oapseg.model.predicted import Predicted
from oapseg.model.segmenter import Segmenter
from oapseg.params import Device, PredictParams
from oapseg.refine.crf import CRFOnPhoto, DenseCRF
from oapseg.refine.levels import at_level
from oapseg.refine.regions import Choice
from oapseg.shards.read import Sample

KIND_NAMES = {INSTANCE: "instance", SEMANTIC: "semantic"}
REGION = "region"  # where a cluster is, in a map of the whole photo
NO_CLUSTER = 0  # category of a mask whose maker knows no clusters


MODEL_RULE = "objectness x mean mask probability inside the mask"
DECAY_RULE = f"{MODEL_RULE}, less where a better mask of its kind overlaps (matrix NMS, linear)"
MODEL_REGIONS = "at each place, the cluster with the largest sum of score x mask probability"
EQUAL_RULE = "ones: every mask 1.0, ties in the generator's order"
CRF_RULE = (
    "dense CRF at the photo's size, {0.steps} steps (near: {0.gaussian_weight:g} within {0.gaussian_sigma_px:g} px; "
    "near and alike: {0.bilateral_weight:g} within {0.bilateral_sigma_px:g} px, {0.bilateral_sigma_colour:g} of 255), "
    "holes of instances filled, masks that it changes by more than half dropped"
)
HOLES_RULE = "holes of instances filled"
CHOICE_RULE = "of instances at least {0.min_area:g} of the photo, IoU with a better one at most {0.max_iou:g}"
GENERATOR_REGIONS = "semantic masks in the generator's order, the first at a place wins"


Pool = Callable[[list[Patches]], list[Masks]]  # a generator's `batch`
Watch = Callable[[Iterator[Placed]], Iterator[Placed]]


def choose_device(device: Device, section: str = "predict") -> torch.device:
    """The device that a section names.

    Errors: `ValueError` where `cuda` is asked for and there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"{section}.device: cuda is asked for and no CUDA device is here; allowed are auto and cpu")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def check_side(params: PredictParams, encoder: Encoder, section: str = "predict") -> None:
    """Errors: `ValueError` where a side of the section does not suit the encoder."""
    sides = {"image_px": params.image_px, "window_px": params.window_px}
    sides |= {f"scales.{place}": side for place, side in enumerate(params.scales)}
    for key, side in sides.items():
        if side % encoder.patch_px:
            raise ValueError(
                f"{section}.{key}: {side} must be a multiple of the encoder's patch, {encoder.patch_px} px"
            )


def model_rule(params: PredictParams) -> str:
    """How a model's masks are ranked, in words."""
    return DECAY_RULE if params.decay_overlaps else MODEL_RULE


def model_views(params: PredictParams, crf: DenseCRF | None) -> str:
    """What a model looked at and what was done with it, in words."""
    windows = f" and {params.windows} x {params.windows} windows of it at {params.window_px} px"
    return _views(params, windows if params.windows > 1 else "", "masks of", crf)


def generator_views(params: PredictParams, crf: DenseCRF | None, choice: Choice | None = None) -> str:
    """What a generator's features are of and what was done with its masks, in words."""
    said = _views(params, "", "features of", crf)
    return said if choice is None else f"{said}; {choice_rule(choice)}"


def choice_rule(choice: Choice) -> str:
    """Which instance masks of a generator are kept, and whether with holes, in words."""
    said = [HOLES_RULE] if choice.fill_holes else []
    if choice.min_area > 0 or choice.max_iou < 1:
        said.append(CHOICE_RULE.format(choice))
    return "; ".join(said)


def _views(params: PredictParams, windows: str, what: str, crf: DenseCRF | None) -> str:
    said = [f"the whole photo at {params.image_px} px{windows}"]
    if params.scales:
        said.append(f"{what} views of {', '.join(map(str, [params.image_px, *params.scales]))} px averaged")
    if params.flip:
        said.append(f"{what} mirror images averaged in")
    if params.level is not None:
        said.append(f"level {params.level:g} from 0 (parts) to 1 (wholes)")
    if crf is not None:
        said.append(CRF_RULE.format(crf))
    return "; ".join(said)


def model_predictor(segmenter: Segmenter, params: PredictParams, crf: DenseCRF | None = None) -> Predict:
    """Photos to the model's results, best score first; the category is the cluster.

    After the masks come the `region` results: which cluster each place of the photo belongs to, without overlap.
    """
    device = segmenter.backbone.encoder.mean.device
    look = look_of(params)

    def predict(samples: list[Sample]) -> list[PhotoResults]:
        with torch.autocast(device.type, torch.bfloat16, enabled=params.precision == "bf16"):
            predicted = segmenter.predict([sample.image for sample in samples], look)
        return [
            PhotoResults(coco_results(sample.labels["image_id"], each, _field(crf, sample, device)))
            for sample, each in zip(samples, predicted, strict=True)
        ]

    return predict


def generator_predictor(
    encoder: Encoder, pool: Pool, params: PredictParams, crf: DenseCRF | None = None, choice: Choice | None = None
) -> Predict:
    """Photos to a generator's results on the plain encoder's patches, by score, equal ones in its order."""

    def predict(samples: list[Sample]) -> list[PhotoResults]:
        pooled = pool(sample_patches(encoder, samples, params))
        return [generator_results(*each, params, crf, choice) for each in zip(samples, pooled, strict=True)]

    return predict


def sample_patches(encoder: Encoder, samples: Sequence[Sample], params: PredictParams) -> list[Patches]:
    """Patches of photos as the section has them seen, each with the number of its things where it has labels."""
    images = [sample.image for sample in samples]
    patches = averaged_patches(encoder, images, params.image_px, params.scales, params.flip)
    return [each._replace(num_things=num_things(sample)) for each, sample in zip(patches, samples, strict=True)]


def num_things(sample: Sample) -> int | None:
    """How many things a photo's labels have, crowds not counted."""
    labels = sample.labels.get("instances")
    return None if labels is None else sum(not each.get("iscrowd", 0) for each in labels)


def generator_results(
    sample: Sample, masks: Masks, params: PredictParams, crf: DenseCRF | None = None, choice: Choice | None = None
) -> PhotoResults:
    """A generator's masks of one photo as results at the photo's size, by score, equal ones in its order."""
    kept, results = written_masks(sample, masks, params, crf, choice)
    return PhotoResults(results, kept.features.cpu())


def written_masks(
    sample: Sample, masks: Masks, params: PredictParams, crf: DenseCRF | None = None, choice: Choice | None = None
) -> tuple[Masks, list[dict[str, Any]]]:
    """Those of a generator's masks that become results, before a CRF and on its grid, and the result of each."""
    return kept_results(sample, kept_masks(masks, params, choice), crf)


def kept_masks(masks: Masks, params: PredictParams, choice: Choice | None = None) -> Masks:
    """Those of a generator's masks that are kept: instances of the level are chosen before those left are counted."""
    if params.level is not None:
        masks = masks.select(at_level(masks.masks, masks.level, masks.kind, masks.scores, params.level))
    if choice is not None:
        masks = choice(masks)
    return masks.select(best_of_each_kind(masks.scores, masks.kind, params.max_masks))


def kept_results(
    sample: Sample, kept: Masks, crf: DenseCRF | None = None, watch: Watch = iter
) -> tuple[Masks, list[dict[str, Any]]]:
    """As `written_masks`, of masks that are kept; `watch` sees them come at the photo's size, refined."""
    predicted = _pooled(kept, sample.image)
    placed = watch(_placed(sample, predicted, crf, kept.masks.device))
    results = _mask_results(sample.labels["image_id"], predicted, placed)
    index = torch.tensor(list(results), dtype=torch.long, device=kept.masks.device)
    return kept.select(index), list(results.values())


def _placed(sample: Sample, predicted: Predicted, crf: DenseCRF | None, device: torch.device) -> Iterator[Placed]:
    """The masks at the photo's size; nothing is done before the first is asked for."""
    placed, _ = masks_and_regions(predicted, _field(crf, sample, device))
    yield from placed


def _field(crf: DenseCRF | None, sample: Sample, device: torch.device) -> CRFOnPhoto | None:
    return crf.on(sample.image.to(device)) if crf is not None else None


def coco_results(image_id: int, predicted: Predicted, field: CRFOnPhoto | None = None) -> list[dict[str, Any]]:
    """Masks and regions of one photo as COCO results, refined where there is a field."""
    placed, regions = masks_and_regions(predicted, field)
    masks = _mask_results(image_id, predicted, placed)
    return [*masks.values(), *(_result(image_id, cluster, mask, 1.0, REGION) for cluster, mask in regions)]


def _mask_results(image_id: int, predicted: Predicted, placed: Iterator[Placed]) -> dict[int, dict[str, Any]]:
    """Results by the masks' index; those without a pixel at the photo's size are left out."""
    return {
        index: _result(
            image_id,
            int(predicted.clusters[index]),
            mask,
            float(predicted.scores[index]),
            KIND_NAMES[int(predicted.kind[index])],
        )
        for index, mask in placed
        if mask.any()
    }


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
