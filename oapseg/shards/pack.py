"""One photo and its labels as the two files of a sample; runs in the writer's processes, so without torch."""

import io
import json
from typing import NamedTuple

from PIL import Image

from oapseg.shards.annotations import pack_annotations
from oapseg.shards.listing import Item
from oapseg.shards.upright import BrokenPhoto, open_upright

JPEG_QUALITY = 95


class Packed(NamedTuple):
    """The files of a sample, or why there are none. Encoded bytes: pixels never travel between processes."""

    name: str
    jpg: bytes = b""
    json: bytes = b""
    broken: str | None = None


def pack(item: Item, kind: str, image_id: int, max_pixels: int) -> Packed:
    """Check a photo by decoding it, and encode its labels."""
    try:
        data = item.read()
        image = open_upright(data, max_pixels)
        labels = {**item.labels, "source": kind, "name": item.name, "image_id": image_id}
        stated = (labels.get("width", image.width), labels.get("height", image.height))
        if stated != image.size:
            said = f"{stated[0]} x {stated[1]} px, the photo has {image.width} x {image.height}"
            raise BrokenPhoto(f"{item.stated_in or 'labels'}: image {image_id} of {said}")
        labels["width"], labels["height"] = image.size
        for file in item.label_files:
            labels |= file.read(file.paths, file.categories, labels, image.size)
        if "instances" in labels:
            labels["instances"] = pack_annotations(labels["instances"], image.height, image.width, item.stated_in)
    except BrokenPhoto as error:
        return Packed(item.name, broken=str(error))
    except KeyError as error:
        return Packed(item.name, broken=f"labels without {error}")
    except OSError as error:
        return Packed(item.name, broken=f"cannot be read ({error.strerror or type(error).__name__})")
    jpg = data if image.format in ("JPEG", "MPO") else _jpeg(image)
    return Packed(item.name, jpg, json.dumps(labels, sort_keys=True, separators=(",", ":")).encode())


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return file.getvalue()
