"""Pictures as text that a page carries in itself."""

import base64
import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

QUALITIES = (85, 75, 60, 45, 30)  # of JPEG, tried from the best until the picture fits
LEAST_PX = 24  # a picture is made no smaller


def jpeg_text(pixels: UInt8[np.ndarray, "H W 3"], max_bytes: int, side_px: int | None = None) -> str:
    """JPEG as base64 text, no side longer than `side_px`, of the best quality that fits; halved where none does."""
    picture = Image.fromarray(pixels)
    if side_px is not None:
        picture.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    while True:
        for quality in QUALITIES:
            data = io.BytesIO()
            picture.save(data, "JPEG", quality=quality, optimize=True)
            text = base64.b64encode(data.getvalue()).decode()
            if len(text) <= max_bytes or max(picture.size) <= LEAST_PX:
                return text
        picture = picture.resize((max(picture.width // 2, 1), max(picture.height // 2, 1)), Image.Resampling.LANCZOS)
