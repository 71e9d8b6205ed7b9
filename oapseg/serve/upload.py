"""An upload on its way to a photo: how much of it is read, what its header says, and its pixels."""

import asyncio
import io
import struct
from collections.abc import Callable

from jaxtyping import UInt8
from PIL import Image
from starlette.requests import ClientDisconnect, Request
from torch import Tensor

from oapseg.serve.refused import Refused
from oapseg.shards.decode import decode
from oapseg.shards.upright import FORMATS, BrokenPhoto

REASONS = {"empty file": "empty", "not a photo": "wrong_type", "too many pixels": "too_many_pixels"}


async def read_body(request: Request, max_bytes: int, timeout_s: float, grown: Callable[[int], None]) -> bytes:
    """The body, of which no more is held than is allowed; `grown` hears of each piece and may refuse it.

    Errors: `Refused` where it is too large or too slow, or where who sends it has gone.
    """
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said) > max_bytes:
        raise Refused("too_large", f"upload: {int(said)} bytes; at most {max_bytes} are taken")
    pieces, size = [], 0
    try:
        async with asyncio.timeout(timeout_s):
            async for piece in request.stream():
                size += len(piece)
                if size > max_bytes:
                    raise Refused("too_large", f"upload: more than {max_bytes} bytes")
                grown(len(piece))
                pieces.append(piece)
    except TimeoutError:
        raise Refused("slow_upload", f"upload: not there after {timeout_s:g} s") from None
    except ClientDisconnect:
        raise Refused("gone", "upload: broken off") from None
    return b"".join(pieces)


def check_photo(data: bytes, megapixels: float) -> int:
    """Pixels of a photo by its header; nothing is decoded, so that a bomb does not go off.

    Errors: `Refused` where it is none or holds too many.
    """
    if not data:
        raise Refused("empty", "photo: empty; send its bytes as the body")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Refused("too_many_pixels", f"photo: more than {megapixels:g} megapixels") from None
    except (OSError, SyntaxError, ValueError, struct.error, IndexError, EOFError):
        raise Refused(
            "wrong_type", f"photo: not one of {', '.join(FORMATS)}; send its bytes as the body, in no form"
        ) from None
    if width * height > megapixels * 1_000_000:
        raise Refused("too_many_pixels", f"photo: {width} x {height} px is more than {megapixels:g} megapixels")
    return width * height


def decode_photo(data: bytes, megapixels: float) -> UInt8[Tensor, "H W 3"]:
    """Errors: `Refused` where the photo is truncated or damaged."""
    try:
        return decode(data, round(megapixels * 1_000_000))
    except BrokenPhoto as error:
        reason = str(error)
        known = "truncated" if reason == "truncated" else "damaged"
        raise Refused(REASONS.get(reason, known), f"photo: {reason}") from None
    except Exception as error:  # noqa: BLE001 - whatever a hostile file does to a decoder, the file is at fault
        raise Refused("damaged", f"photo: cannot be decoded ({type(error).__name__})") from None
