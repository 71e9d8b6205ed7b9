"""Files as cameras, scanners and accidents make them, all of one picture: red, blue on the right, white in a corner."""

import io
import zlib
from collections.abc import Callable

import numpy as np
from PIL import Image

SIZE = (48, 32)  # width, height


def picture() -> Image.Image:
    pixels = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    pixels[:, :24] = (220, 20, 20)
    pixels[:, 24:] = (20, 20, 220)
    pixels[:12, :12] = 255
    return Image.fromarray(pixels)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def rotated_by_exif(orientation: int, undo: Image.Transpose) -> bytes:
    """Stored turned, with the EXIF entry that tells how to turn it back."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture().transpose(undo), "JPEG", quality=95, subsampling=0, exif=exif)


def sixteen_bit_grey() -> bytes:
    grey = np.asarray(picture().convert("L")).astype(np.uint16) * 257
    return encoded(Image.fromarray(grey), "PNG")


def clear_left_half() -> bytes:
    image = picture().convert("RGBA")
    alpha = np.full((SIZE[1], SIZE[0]), 255, np.uint8)
    alpha[:, :24] = 0
    image.putalpha(Image.fromarray(alpha))
    return encoded(image, "PNG")


COLOUR: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: encoded(picture(), "JPEG", quality=95, subsampling=0),
    "cmyk jpeg": lambda: encoded(picture().convert("CMYK"), "JPEG", quality=95, subsampling=0),
    "cmyk tiff": lambda: encoded(picture().convert("CMYK"), "TIFF"),
    "palette": lambda: encoded(picture().quantize(8), "PNG"),
    "palette with alpha": lambda: encoded(picture().convert("RGBA").quantize(8), "PNG"),
    "opaque alpha": lambda: encoded(picture().convert("RGBA"), "PNG"),
    "webp": lambda: encoded(picture(), "WEBP", lossless=True),
    "gif": lambda: encoded(picture().quantize(8), "GIF"),
    "bmp": lambda: encoded(picture(), "BMP"),
    **{
        f"exif {orientation}": (lambda orientation=orientation, undo=undo: rotated_by_exif(orientation, undo))
        for orientation, undo in {
            2: Image.Transpose.FLIP_LEFT_RIGHT,
            3: Image.Transpose.ROTATE_180,
            4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE,
            6: Image.Transpose.ROTATE_90,
            7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270,
        }.items()
    },
}
GREY: dict[str, Callable[[], bytes]] = {
    "grey jpeg": lambda: encoded(picture().convert("L"), "JPEG", quality=95),
    "grey png": lambda: encoded(picture().convert("L"), "PNG"),
    "16-bit grey png": sixteen_bit_grey,
    "grey with alpha": lambda: encoded(picture().convert("LA"), "PNG"),
}


def noisy_jpeg(seed: int = 0, size: tuple[int, int] = SIZE) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return encoded(Image.fromarray(pixels), "JPEG", quality=90)


def bomb() -> bytes:
    """A PNG of a few hundred bytes that claims 400 million pixels."""
    small = bytearray(encoded(Image.new("L", (1, 1)), "PNG"))
    small[16:24] = (20_000).to_bytes(4, "big") * 2
    small[29:33] = zlib.crc32(bytes(small[12:29])).to_bytes(4, "big")
    return bytes(small)


BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty file"),
    "text": (b"this is no photo", "not a photo"),
    "truncated jpeg": (noisy_jpeg()[:-400], "truncated"),
    "truncated png": (encoded(picture(), "PNG")[:80], "truncated"),
    "header only": (noisy_jpeg()[:20], "not a photo"),
    "bomb": (bomb(), "too many pixels"),
}
