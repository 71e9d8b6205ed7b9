"""What the model saw in a photo, as a request asks for it: COCO masks as JSON, or disjoint segments as one PNG."""

import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import takewhile
from typing import Annotated, Any, Literal, NamedTuple

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import BaseModel, ConfigDict, Field

from oapseg.masks import INSTANCE, best_of_each_kind, boxes_xyxy, mask_to_rle
from oapseg.model.predicted import Predicted
from oapseg.refine.levels import spans
from oapseg.use.tasks import Layout, Segments, panoptic, rgb_of_ids, semantic

Task = Literal["instance", "semantic", "panoptic"]
Span = tuple[float, float]  # of levels, without the end
LEAST_SIDE_PX = 16


class MaskQuery(BaseModel):
    """What a request may ask of the masks of its photo."""

    model_config = ConfigDict(extra="forbid")

    task: Annotated[
        Task | None,
        Field(
            description="instance: scored masks that may overlap; semantic: where each cluster is; panoptic: both, "
            "disjoint. Default: instance, and panoptic for a PNG"
        ),
    ] = None
    level: Annotated[
        float | None,
        Field(ge=0, le=1, description="granularity from 0 (parts) to 1 (wholes); default: all of them"),
    ] = None
    min_score: Annotated[
        float | None, Field(ge=0, le=1, description="smallest score of a mask; default: the server's")
    ] = None
    max_masks: Annotated[
        int | None, Field(ge=1, description="instance masks at most, the best; default and limit: the model's")
    ] = None
    side_px: Annotated[
        int | None,
        Field(ge=LEAST_SIDE_PX, description="longest side of the masks, pixels; default and limit: the photo's"),
    ] = None


class Named(NamedTuple):
    """Whose masks they are, as every answer says it."""

    name: str
    version: str | None
    sha256: str
    clusters: dict[int, str | None]

    def said(self) -> dict[str, Any]:
        return {"name": self.name, "version": self.version, "sha256": self.sha256}


class Asked(NamedTuple):
    """A query with every default filled in."""

    task: Task
    level: float | None
    min_score: float
    max_masks: int | None
    side_px: int | None
    layout: Layout  # of disjoint segments

    @classmethod
    def of(cls, query: MaskQuery, *, png: bool, min_score: float, layout: Layout) -> "Asked":
        return cls(
            query.task or ("panoptic" if png else "instance"),
            query.level,
            min_score if query.min_score is None else query.min_score,
            query.max_masks,
            query.side_px,
            layout,
        )


Abandoned = Callable[[], bool]  # whether nobody waits for the answer any more


def answer(seen: Predicted, asked: Asked, named: Named, abandoned: Abandoned = lambda: False) -> dict[str, Any]:
    """The whole answer; one mask at the photo's size is in memory at a time."""
    photo, seen = seen.size, _sized(seen, asked.side_px)
    found = _instances if asked.task == "instance" else _segments
    return {
        "model": named.said(),
        "task": asked.task,
        "photo_size": list(photo),
        "size": list(seen.size),
        "masks": list(takewhile(lambda _: not abandoned(), found(seen, asked, named))),
    }


def panoptic_png(seen: Predicted, asked: Asked, named: Named, _: Abandoned = lambda: False) -> bytes:
    """Segments as COCO's panoptic PNG, ids as colours; its text chunk `segments_info` says what each is."""
    segments, infos = _disjoint(_sized(seen, asked.side_px), asked, named)
    text = PngInfo()
    text.add_text("segments_info", json.dumps(infos))
    text.add_text("model", json.dumps(named.said()))
    file = io.BytesIO()
    Image.fromarray(rgb_of_ids(segments + 1)).save(file, "PNG", pnginfo=text, compress_level=1)
    return file.getvalue()


def chosen(seen: Predicted, asked: Asked) -> list[tuple[int, Span | None]]:
    """Instance masks that are asked for, best first, each with the levels that it is at; None, in no hierarchy.

    The same as `Look(max_masks=..., level=...)` gives, without another look: granularity is chosen among the best
    masks, and what scores too low is left out afterwards.
    """
    best = best_of_each_kind(seen.scores, seen.kind, asked.max_masks or len(seen.scores))
    best = best[seen.kind[best] == INSTANCE]
    found = spans(seen.soft[best] > seen.threshold, torch.zeros_like(best), seen.kind[best], seen.scores[best])
    here = seen.scores[best] >= asked.min_score
    if asked.level is not None:
        here &= found.at(asked.level)
    levels = zip(found.begin.tolist(), found.end.tolist(), strict=True)
    each = zip(best.tolist(), levels, found.generation.tolist(), here.tolist(), strict=True)
    return [(index, span if generation else None) for index, span, generation, shown in each if shown]


def _instances(seen: Predicted, asked: Asked, named: Named) -> Iterator[dict[str, Any]]:
    """Masks at the answer's size; those without a pixel there are left out."""
    for index, span in chosen(seen, asked):
        mask, cluster = seen.mask(index).cpu(), int(seen.clusters[index])
        if mask.any():
            left, top, right, bottom = boxes_xyxy(mask[None])[0].tolist()
            yield {
                "category_id": cluster,
                "cluster": cluster,
                "name": named.clusters.get(cluster),
                "score": float(seen.scores[index]),
                "levels": span and [span[0], None if span[1] == math.inf else span[1]],
                "area": int(mask.sum()),
                "bbox": [left, top, right - left, bottom - top],
                "segmentation": mask_to_rle(mask),
            }


def _segments(seen: Predicted, asked: Asked, named: Named) -> Iterator[dict[str, Any]]:
    segments, infos = _disjoint(seen, asked, named)
    for place, info in enumerate(infos):
        yield info | {"segmentation": mask_to_rle(torch.from_numpy(segments == place))}


def _disjoint(seen: Predicted, asked: Asked, named: Named) -> Segments:
    """Clusters alone, or with the instances that are asked for before them."""
    if asked.task == "semantic":
        return semantic(seen, named.clusters)
    kept = [index for index, _ in chosen(seen, asked)]
    shown = seen._replace(
        soft=seen.soft[kept], scores=seen.scores[kept], clusters=seen.clusters[kept], kind=seen.kind[kept]
    )
    return panoptic(shown, named.clusters, replace(asked.layout, min_score=asked.min_score))


def _sized(seen: Predicted, side_px: int | None) -> Predicted:
    """Masks come at this size, the photo's or less."""
    height, width = seen.size
    scale = 1.0 if side_px is None else min(1.0, side_px / max(height, width))
    return seen._replace(size=(max(1, round(height * scale)), max(1, round(width * scale))))
