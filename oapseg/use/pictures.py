"""A photo under the segments that were found in it, and the segments alone, with their names where they lie."""

import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from oapseg.evaluate.counts import VOID
from oapseg.masks import INSTANCE, iou
from oapseg.model.predicted import Predicted
from oapseg.report.gallery import Entry, thumbnail
from oapseg.report.masks_command import JPEG_QUALITY
from oapseg.report.overlay import CONTOUR, FILL, captioned, colours, inner_edge
from oapseg.report.photos import RANKED_SHOWN
from oapseg.use.tasks import Names, Segments

CONTOURS_A_SIDE = 450  # a contour is the longest side over this, at least 1 px
ALIKE = 0.5  # IoU with a better mask above which a mask is not drawn
LABELS_A_SIDE = 36  # a label's height is the longest side over this, at least 11 px
COARSE = 4  # a label's place is looked for on each fourth row and column
LEAST_LABELLED = 0.6  # of a label's height: radius of the largest circle in a segment that has room for a label
EMPTY = 236  # grey of what belongs to no segment, where segments are shown alone


class Drawn(NamedTuple):
    """Segments as they are painted: their places in a map of the picture's size, and a colour and a label for each."""

    segments: Int[np.ndarray, "h w"]
    tones: Int[Tensor, "S 3"]
    labels: Sequence[str]


def drawn_instances(predicted: Predicted, names: Names, min_score: float, size: tuple[int, int]) -> Drawn:
    """The best masks that are unlike each other, small ones on top: all of them at once could not be told apart."""
    kept = ((predicted.kind == INSTANCE) & (predicted.scores >= min_score)).nonzero().flatten().tolist()
    small = predicted._replace(size=size)
    alike = iou(*[predicted.soft[kept] > predicted.threshold] * 2) > ALIKE  # on the grid, where a look costs little
    shown: dict[int, Bool[Tensor, "h w"]] = {}
    for number, place in enumerate(kept):
        if len(shown) < RANKED_SHOWN and not any(alike[number, kept.index(other)] for other in shown):
            shown[place] = small.mask(place).cpu()
    segments = np.full(size, VOID, dtype=np.int32)
    for number, mask in sorted(enumerate(shown.values()), key=lambda each: -int(each[1].sum())):
        segments[mask.numpy()] = number
    labels = [_label(int(predicted.clusters[place]), names, float(predicted.scores[place])) for place in shown]
    return Drawn(segments, colours(len(labels)), labels)


def drawn_segments(found: Segments, names: Names, size: tuple[int, int], *, by_cluster: bool) -> Drawn:
    """Segments of a photo, coloured by their clusters, so that one has one colour in all photos, or each its own."""
    height, width = found.segments.shape
    rows = (np.arange(size[0]) * height + height // 2) // size[0]
    columns = (np.arange(size[1]) * width + width // 2) // size[1]
    tones = colours(len(names) if by_cluster else len(found.infos))
    if by_cluster:
        tones = tones[[info["cluster"] for info in found.infos]]
    labels = [_label(info["cluster"], names, info.get("score")) for info in found.infos]
    return Drawn(found.segments[rows[:, None], columns], tones, labels)


def panels(photo: UInt8[Tensor, "h w 3"], drawn: Drawn, what: str) -> list[tuple[str, UInt8[Tensor, "h w 3"]]]:
    """The photo, the photo under its segments, the segments alone; each with a caption."""
    segments = torch.from_numpy(drawn.segments).long()
    tones = torch.cat([drawn.tones.float(), torch.full((1, 3), float(EMPTY))])[segments]  # void is the last
    edge = _edges(segments)
    share = torch.where(edge, CONTOUR, torch.where(segments == VOID, 0.0, FILL))
    over = torch.lerp(photo.float(), tones, share[..., None]).round().to(torch.uint8)
    alone = torch.where(edge[..., None], tones * 0.6, tones).round().to(torch.uint8)
    return [("photo", photo), (what, _labelled(over, drawn)), ("segments alone", alone)]


def picture(three: list[tuple[str, UInt8[Tensor, "h w 3"]]]) -> bytes:
    """Panels side by side as JPEG."""
    data = io.BytesIO()
    Image.fromarray(captioned(three).numpy()).save(data, "JPEG", quality=JPEG_QUALITY)
    return data.getvalue()


def entry(
    name: str, link: str, size: tuple[int, int], three: list[tuple[str, UInt8[Tensor, "h w 3"]]], max_bytes: int
) -> Entry:
    """A photo of the gallery; its pictures take `max_bytes` together, as base64."""
    shown = [(caption, thumbnail(each, max_bytes // len(three))) for caption, each in three]
    return Entry(name, link, f"{size[1]} x {size[0]} px", shown)


def _label(cluster: int, names: Names, score: float | None) -> str:
    name = names.get(cluster) or f"#{cluster}"
    return name if score is None else f"{name}  {score:.2f}"  # a narrow space is lost between outlines


def _edges(segments: Int[Tensor, "h w"]) -> Tensor:
    """Where a segment ends inside the picture."""
    thickness = max(1, round(max(segments.shape) / CONTOURS_A_SIDE))
    edge = torch.zeros(segments.shape, dtype=torch.bool)
    for place in segments.unique().tolist():
        if place != VOID:
            edge |= inner_edge(segments == place, thickness)
    return edge


def _labelled(picture: UInt8[Tensor, "h w 3"], drawn: Drawn) -> UInt8[Tensor, "h w 3"]:
    """Each label in the middle of the widest place of its segment, where there is room."""
    sheet = Image.fromarray(picture.numpy())
    height_px = max(11, max(sheet.size) // LABELS_A_SIDE)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(height_px)
    for place, label in enumerate(drawn.labels):
        inside = np.pad(drawn.segments[::COARSE, ::COARSE] == place, 1)
        depth = distance_transform_edt(inside)[1:-1, 1:-1]
        row, column = (COARSE * int(each) for each in np.unravel_index(int(depth.argmax()), depth.shape))
        if COARSE * depth.max() >= LEAST_LABELLED * height_px:
            half = pen.textlength(label, font=font) / 2 + 2
            x = min(max(float(column), half), max(sheet.width - half, half))
            pen.text((x, float(row)), label, fill="white", font=font, anchor="mm", stroke_width=2, stroke_fill="black")
    return torch.from_numpy(np.array(sheet))


def as_json(shown: Entry) -> dict[str, Any]:
    return {"name": shown.name, "link": shown.link, "summary": shown.summary, "pictures": shown.pictures}


def from_json(said: dict[str, Any]) -> Entry:
    return Entry(said["name"], said["link"], said["summary"], [(caption, jpeg) for caption, jpeg in said["pictures"]])
