"""Bytes of a photo to upright RGB, as Pillow holds it. No torch in here: it would make every worker slow to start."""

import io
import struct

import numpy as np
from PIL import Image

EXIF_ORIENTATION = 0x0112
UPRIGHT = {  # what undoes each EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000")  # none that runs a program, as EPS does
WHITE = (255, 255, 255)


class BrokenPhoto(ValueError):  # noqa: N818 - the photo is broken, not the program
    """A file that gives no photo; the message is the reason."""


def open_upright(data: bytes, max_pixels: int | None = None) -> Image.Image:
    """The photo as people see it; its `format` is that of the bytes.

    EXIF rotation is applied, transparency is laid on white (what a clear pixel hides is arbitrary), 16 bits of grey are
    scaled to 8. Of several frames the first is taken.

    Errors: `BrokenPhoto` where the bytes are no whole photo or hold more than `max_pixels`.
    """
    if not data:
        raise BrokenPhoto("empty file")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BrokenPhoto("too many pixels") from None
    except (OSError, SyntaxError, ValueError, struct.error):
        raise BrokenPhoto("not a photo") from None
    if max_pixels is not None and image.width * image.height > max_pixels:
        raise BrokenPhoto("too many pixels")
    form = image.format
    turned = upright(image)
    turned.format = form
    return turned


def upright(image: Image.Image) -> Image.Image:
    """A Pillow image as `open_upright` gives the photo of its bytes. Errors: `BrokenPhoto`."""
    try:
        image.load()
    except (OSError, SyntaxError, ValueError, IndexError, struct.error, EOFError) as error:
        raise BrokenPhoto("truncated" if "truncated" in str(error) else "damaged") from None
    return _turn(_rgb(image), _orientation(image))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(EXIF_ORIENTATION, 1))
    except (OSError, SyntaxError, ValueError, KeyError, TypeError, struct.error):
        return 1  # damaged EXIF says nothing of the pixels


def _turn(image: Image.Image, orientation: int) -> Image.Image:
    return image.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else image


def _rgb(image: Image.Image) -> Image.Image:
    """Any mode to RGB. Pillow reads CMYK in JPEG as Adobe writes it (inverted), as every browser does."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise BrokenPhoto("grey beyond 16 bits")
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise BrokenPhoto("grey of unknown range")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        seen = Image.new("RGB", image.size, WHITE)
        opaque = image.convert("RGBA")
        seen.paste(opaque, mask=opaque.getchannel("A"))
        return seen
    try:
        return image.convert("RGB")
    except ValueError:
        raise BrokenPhoto(f"colours of mode {image.mode}") from None
