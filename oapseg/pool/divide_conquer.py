"""Divide-and-conquer: a photo's objects, and their parts by merging patches inside each (UnSAM, Wang et al. 2024)."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from oapseg.encode.patches import Patches
from oapseg.masks import Masks, boxes_xyxy, iou, resize
from oapseg.pool.describe import described
from oapseg.pool.generator import Generator, check_patches
from oapseg.pool.graph import grid_edges
from oapseg.pool.maskcut import MaskCut, Settings

Divider = Callable[[Patches], Masks]
Encode = Callable[[list[UInt8[Tensor, "_H _W 3"]], int], list[Patches]]  # photos and a side in pixels: Encoder.patches


@dataclass(frozen=True)
class DivideConquer(Generator):
    """Whole objects (level 1) and their parts (a level a threshold), with the fields of section `pool.divide_conquer`.

    Divide: the masks of `divider`, a trained model's say, with a score of at least `confidence`; without one, those of
    MaskCut with the fields `maskcut`. Conquer, in the box of each: the two neighbouring regions that are most alike
    become one, until none are alike by `thresholds[0]`, then by the next. A region of at least `min_patches` is a part
    where more than `inside` of it lies in the object. Of parts with an IoU above `max_iou`, the larger stays; a copy of
    the object goes too, which the released code lists once more.

    With an `encode` and the photo, a box is encoded anew at `crop_px`, as in the paper, and masks come at the photo's
    size. Departs from the paper otherwise: the box's patches are those of the whole photo, which costs no pass through
    an encoder but knows nothing finer than the grid, on which the masks then come. The authors' refinement by a
    supervised network (CascadePSP) is left out. `nms_window`: the released code compares a part only with the next four
    by area (5); 0 compares all.
    """

    confidence: float
    maskcut: Settings
    crop_px: int
    thresholds: Sequence[float]
    min_patches: int
    inside: float
    max_iou: float
    nms_window: int
    divider: Divider | None = None
    encode: Encode | Literal[False] = False

    def __call__(self, patches: Patches) -> Masks:
        return self.batch([patches])[0]

    def batch(self, patches: list[Patches]) -> list[Masks]:
        """Masks of each photo; only MaskCut works on several at once."""
        check_patches(patches)
        if self.divider is None:
            divided = MaskCut(**self.maskcut).batch(patches)
        else:
            divided = [self.divider(photo) for photo in patches]
        return [self._conquer(*each) for each in zip(patches, divided, strict=True)]

    def _conquer(self, photo: Patches, divided: Masks) -> Masks:
        """Objects and parts of one photo."""
        objects = divided.masks[divided.scores >= self.confidence]
        size = tuple(photo.image.shape[:2]) if self.encode and photo.image is not None else photo.grid
        objects = objects if objects.shape[1:] == size else resize(objects, *size)
        objects = objects[objects.flatten(1).any(1)]
        masks, levels = [objects], [objects.new_ones(len(objects), dtype=torch.long)]
        for mask, box in zip(objects, boxes_xyxy(objects).tolist(), strict=True):
            parts, level = self._parts(photo, mask, box)
            masks.append(parts)
            levels.append(level)
        return described(torch.cat(masks), photo, torch.cat(levels))

    def _parts(
        self, photo: Patches, mask: Bool[Tensor, "H W"], box: list[int]
    ) -> tuple[Bool[Tensor, "S H W"], Int[Tensor, " S"]]:
        """Parts of one object, larger first, and the level that made each."""
        left, top, right, bottom = box
        if self.encode and photo.image is not None:
            [crop] = self.encode([photo.image[top:bottom, left:right]], self.crop_px)
        else:
            features = photo.features.detach().unflatten(0, photo.grid)[top:bottom, left:right]
            crop = Patches(features.flatten(0, 1), (bottom - top, right - left))
        regions = merge_neighbours(crop.features.float().cpu().numpy(), crop.grid, self.thresholds)
        found, levels = [mask.new_zeros(0, bottom - top, right - left)], []
        for level, of_patch in enumerate(torch.from_numpy(np.stack(regions)).to(mask.device), start=2):
            size = torch.bincount(of_patch)
            kept = (size >= self.min_patches).nonzero()[:, 0]
            parts = (of_patch == kept[:, None]).unflatten(1, crop.grid)
            parts = parts if parts.shape[1:] == found[0].shape[1:] else resize(parts, bottom - top, right - left)
            found.append(parts)
            levels += [level] * len(parts)
        parts, level_of = torch.cat(found), torch.tensor(levels, dtype=torch.long, device=mask.device)
        area = parts.flatten(1).sum(1)
        covered = (parts & mask[top:bottom, left:right]).flatten(1).sum(1)
        copy = iou(parts, mask[None, top:bottom, left:right])[:, 0] > self.max_iou
        kept = ((covered > self.inside * area) & ~copy).nonzero()[:, 0]
        kept = kept[area[kept].argsort(descending=True, stable=True)]
        kept = kept[drop_alike(parts[kept], self.max_iou, self.nms_window)]
        placed = mask.new_zeros(len(kept), *mask.shape)
        placed[:, top:bottom, left:right] = parts[kept]
        return placed, level_of[kept]


def drop_alike(masks: Bool[Tensor, "S h w"], max_iou: float, window: int) -> Int[Tensor, " T"]:
    """Positions of masks without those above `max_iou` with one kept of the `window - 1` before them; 0: of all."""
    alike = (iou(masks, masks) > max_iou).tolist()
    kept: list[int] = []
    for index in range(len(masks)):
        first = index - window + 1 if window else 0
        if not any(alike[index][earlier] for earlier in kept if earlier >= first):
            kept.append(index)
    return torch.tensor(kept, dtype=torch.long, device=masks.device)


def merge_neighbours(
    features: Float[np.ndarray, "N C"], grid: tuple[int, int], thresholds: Sequence[float]
) -> list[Int[np.ndarray, " N"]]:
    """The region of each patch at each threshold: the neighbours most alike merge while their cosine reaches it.

    A region's feature is the mean of its patches'. Of equally alike pairs, those of smaller numbers merge first; a
    merged region has the next free number. Regions are numbered anew from 0 by their first patches.
    """
    count = len(features)
    total = np.concatenate([features, np.zeros_like(features)]).astype(np.float64)  # of patches, then of merged regions
    unit = total.copy()
    unit[:count] /= np.linalg.norm(unit[:count], axis=1, keepdims=True).clip(1e-12)
    near: list[set[int]] = [set() for _ in range(2 * count)]
    edges = grid_edges(*grid).numpy()
    for a, b in edges.tolist():
        near[a].add(b)
        near[b].add(a)
    cosine = np.einsum("ec,ec->e", unit[edges[:, 0]], unit[edges[:, 1]])
    heap = [(-value, a, b) for value, (a, b) in zip(cosine.tolist(), edges.tolist(), strict=True)]
    heapq.heapify(heap)
    parent = np.arange(2 * count)
    result = []
    for threshold in thresholds:
        while heap and -heap[0][0] >= threshold:
            _, a, b = heapq.heappop(heap)
            if parent[a] != a or parent[b] != b:  # merged with others since
                continue
            parent[a] = parent[b] = count
            total[count] = total[a] + total[b]
            unit[count] = total[count] / max(float(np.linalg.norm(total[count])), 1e-12)
            near[count] = (near[a] | near[b]) - {a, b}
            around = sorted(near[count])
            for other, value in zip(around, (unit[around] @ unit[count]).tolist(), strict=True):
                near[other] -= {a, b}
                near[other].add(count)
                heapq.heappush(heap, (-value, other, count))
            count += 1
        result.append(_first_numbers(parent[:count], len(features)))
    return result


def _first_numbers(parent: Int[np.ndarray, " V"], num_patches: int) -> Int[np.ndarray, " N"]:
    """The root of each patch, numbered in the order of the regions' first patches; a parent's number is larger."""
    root = parent.copy()
    for node in range(len(root) - 1, -1, -1):
        root[node] = root[root[node]]
    _, first, region = np.unique(root[:num_patches], return_index=True, return_inverse=True)
    return first.argsort().argsort()[region]
