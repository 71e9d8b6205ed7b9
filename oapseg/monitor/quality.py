"""Masks, matches and head of a training, measured every so many steps: no label, and no change to the training."""

import math
import zlib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from oapseg.masks import INSTANCE, SEMANTIC, Masks
from oapseg.monitor.label_free import agreement, coverage, edge_alignment, level_agreement, photo_edges
from oapseg.monitor.pictures import sheet

KINDS = {"instance": INSTANCE, "semantic": SEMANTIC}
QUANTILES = (10, 50, 90)  # of the masks' area, percent
FADING = 0.2  # weight of a new measurement in the use of the clusters so far
DEAD = 0.1  # of an even share: a cluster used less is dead
MOST_MASKS = 100  # of a photo that are remembered
FINGERPRINT_STEP = 8  # every so many pixels of the whole view tell one photo from another

Measures = dict[str, float]


class Observer:
    """Measures what a step made, and remembers a few photos' masks and how the clusters were used.

    The memory is of at most `photos` photos, those with the smallest fingerprints, so that the same ones are met in
    every epoch whatever the size of the set. `every` 0 measures nothing.
    """

    def __init__(self, *, every: int, photos: int, levels: int) -> None:
        self.every, self.photos, self.levels = every, photos, levels
        self.memory: dict[int, UInt8[np.ndarray, "S bytes"]] = {}
        self.used: Float[Tensor, " K"] | None = None
        self._agreed: list[float] = []  # since the last measurement
        self._seen: tuple[Sequence[UInt8[Tensor, "3 H W"]], Sequence[Masks]] | None = None  # at that measurement

    def due(self, step: int) -> bool:
        """Whether this step is measured."""
        return self.every > 0 and step % self.every == 0

    def remember(self, wholes: Sequence[UInt8[Tensor, "3 H W"]], masks: Sequence[Masks]) -> None:
        """Compare the masks of photos that are met again with what they were, and keep the new ones. For every step."""
        if self.every == 0 or self.photos == 0:
            return
        for whole, found in zip(wholes, masks, strict=True):
            name = fingerprint(whole)
            if name not in self.memory and len(self.memory) >= self.photos:
                largest = max(self.memory)
                if name > largest:
                    continue
                del self.memory[largest]
            now = _packed(found)
            if name in self.memory:
                agreed = agreement(_unpacked(self.memory[name]), _unpacked(now))
                self._agreed += [] if math.isnan(agreed) else [agreed]
            self.memory[name] = now

    def measure(
        self,
        wholes: UInt8[Tensor, "B 3 H W"],
        masks: Sequence[Masks],
        codes: Float[Tensor, "M K"],
        logits: Float[Tensor, "M K"],
        centre: Float[Tensor, " K"],
    ) -> Measures:
        """Measures of a step; of those that there is nothing to measure on, none."""
        self._seen = (wholes.unbind(), masks)
        measures = mask_measures(wholes, masks, self.levels) | self.measure_head(codes, logits, centre)
        if self._agreed:
            measures["stability"] = sum(self._agreed) / len(self._agreed)
            self._agreed = []
        return _finite(measures)

    def measure_head(
        self, codes: Float[Tensor, "M K"], logits: Float[Tensor, "M K"], centre: Float[Tensor, " K"]
    ) -> Measures:
        """What of it is told of the teacher's outputs alone, of a training that makes no masks too."""
        return _finite(centre_measures(logits, centre) | self._cluster_measures(codes))

    def picture(self) -> bytes | None:
        """The photos and masks of the newest measurement, as a PNG; None before the first."""
        return None if self._seen is None else sheet(*self._seen)

    def _cluster_measures(self, codes: Float[Tensor, "M K"]) -> Measures:
        """How masks spread over clusters: of this step's, and dead ones by all so far."""
        if len(codes) == 0:
            return {}
        mean = codes.mean(0)
        self.used = mean.clone() if self.used is None else self.used.to(mean.device).lerp(mean, FADING)
        even = math.log(max(codes.shape[1], 2))
        entropy = -(mean * mean.clamp(min=1e-12).log()).sum()
        of_each = -(codes * codes.clamp(min=1e-12).log()).sum(-1).mean()
        return {
            "cluster_use": float(entropy) / even,
            "teacher_sharpness": 1 - float(of_each) / even,
            "dead_clusters": float((self.used < DEAD / len(self.used)).float().mean()),
            "largest_cluster": float(mean.max()),
        }

    def state(self) -> dict[str, Tensor]:
        """All that is remembered."""
        tensors = {"agreed": torch.tensor(self._agreed, dtype=torch.float64)}
        if self.used is not None:
            tensors["used"] = self.used.cpu()
        if self.memory:
            tensors["photos"] = torch.tensor(list(self.memory), dtype=torch.int64)
            tensors["masks"] = torch.tensor([len(packed) for packed in self.memory.values()], dtype=torch.int64)
            tensors["packed"] = torch.from_numpy(np.concatenate(list(self.memory.values())))
        return tensors

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what was remembered; of nothing, forget."""
        self.memory, self._agreed = {}, tensors["agreed"].tolist() if "agreed" in tensors else []
        self.used = tensors.get("used")
        if "photos" in tensors:
            parts = tensors["packed"].split(tensors["masks"].tolist())
            self.memory = {name: part.numpy() for name, part in zip(tensors["photos"].tolist(), parts, strict=True)}


def mask_measures(wholes: UInt8[Tensor, "B 3 H W"], masks: Sequence[Masks], levels: int) -> Measures:
    """Masks of a batch: how many of each level and kind, how large, and how they lie on the photos."""
    measures: Measures = {}
    for kind_name, kind in KINDS.items():
        counts = torch.zeros(levels + 1)
        for found in masks:
            of_kind = found.level[found.kind == kind].cpu().clamp(max=levels)
            counts += torch.bincount(of_kind, minlength=levels + 1)
        for level in range(1, levels + 1):
            measures[f"masks_{kind_name}_{level}"] = float(counts[level]) / len(masks)
    areas = torch.cat([found.masks.flatten(1).float().mean(1) for found in masks])
    if len(areas):
        points = torch.tensor([quantile / 100 for quantile in QUANTILES], device=areas.device)
        for quantile, value in zip(QUANTILES, torch.quantile(areas, points).tolist(), strict=True):
            measures[f"area_p{quantile}"] = value
    grid = (masks[0].masks.shape[1], masks[0].masks.shape[2])
    edges = [photo_edges(whole.permute(1, 2, 0), grid) for whole in wholes]
    measures["coverage"] = _mean([coverage(found.masks) for found in masks])
    measures["edge_alignment"] = _mean(
        [edge_alignment(found.masks, edge) for found, edge in zip(masks, edges, strict=True)]
    )
    measures["level_agreement"] = _mean([level_agreement(found) for found in masks])
    return measures


def pair_measures(mask_logits: Float[Tensor, "M h w"], targets: Float[Tensor, "M h w"]) -> Measures:
    """How well matched queries draw the masks that they are matched with; means over the pairs, none without one."""
    if len(mask_logits) == 0:
        return {}
    drawn, wanted = (mask_logits > 0).flatten(1), (targets > 0.5).flatten(1)
    shared, either = (drawn & wanted).sum(1), (drawn | wanted).sum(1)
    both = drawn.sum(1) + wanted.sum(1)
    return {
        "teacher_student_iou": float((shared / either.clamp(min=1)).mean()),
        "teacher_student_dice": float((2 * shared / both.clamp(min=1)).mean()),
    }


def centre_measures(logits: Float[Tensor, "M K"], centre: Float[Tensor, " K"]) -> Measures:
    """The centre's norm, and how far it is from what it is to follow."""
    measures = {"centre_norm": float(centre.norm())}
    if len(logits):
        mean = logits.float().mean(0)
        measures["centre_lag"] = float((mean - centre).norm() / mean.norm().clamp(min=1e-12))
    return measures


def fingerprint(whole: UInt8[Tensor, "3 H W"]) -> int:
    """A number that tells a photo from others by its whole view."""
    return zlib.crc32(whole[:, ::FINGERPRINT_STEP, ::FINGERPRINT_STEP].cpu().contiguous().numpy().tobytes())


def _packed(found: Masks) -> UInt8[np.ndarray, "S bytes"]:
    """The largest masks, a bit a cell."""
    masks = found.masks
    if len(masks) > MOST_MASKS:
        masks = masks[masks.flatten(1).sum(1).argsort(descending=True, stable=True)[:MOST_MASKS]]
    return np.packbits(masks.flatten(1).cpu().numpy(), axis=1)


def _unpacked(packed: UInt8[np.ndarray, "S bytes"]) -> Bool[Tensor, "S 1 bits"]:
    return torch.from_numpy(np.unpackbits(packed, axis=1).astype(bool))[:, None]


def _finite(measures: Measures) -> Measures:
    """Those that are numbers: a history is JSON, which has no other."""
    return {name: value for name, value in measures.items() if math.isfinite(value)}


def _mean(values: list[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
