"""A folder of photos with their masks as one self-contained HTML page."""

import base64
import io
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

STYLES = (Path(__file__).with_name("page.css"), Path(__file__).with_name("gallery.css"))
SIDE_PX = 400  # longest side of a picture on the page
QUALITIES = (80, 65, 50, 35)  # of JPEG, tried from the best until the picture fits


@dataclass(frozen=True)
class Entry:
    """One photo of the gallery."""

    name: str
    link: str  # the large picture, relative to the page
    summary: str  # a few words on its masks
    pictures: list[tuple[str, str]]  # caption and JPEG as base64 text


def render_gallery(title: str, summary: list[str], entries: list[Entry]) -> str:
    """The whole page: a title, a few lines, the photos in order. No scripts, nothing from outside."""
    lines = "".join(f'<p class="soft">{escape(line)}</p>' for line in summary)
    styles = "".join(path.read_text() for path in STYLES)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>\n<style>\n{styles}</style></head>\n<body>\n"
        f"<h1>{escape(title)}</h1>{lines}\n<main>\n" + "\n".join(_article(entry) for entry in entries)
    ) + "\n</main>\n</body></html>\n"


def thumbnail(picture: UInt8[Tensor, "H W 3"], max_bytes: int) -> str:
    """JPEG as base64 text of the best quality that fits into `max_bytes`, or else of the lowest."""
    small = Image.fromarray(picture.numpy())
    small.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    for quality in QUALITIES:
        data = io.BytesIO()
        small.save(data, "JPEG", quality=quality, optimize=True)
        text = base64.b64encode(data.getvalue()).decode()
        if len(text) <= max_bytes:
            break
    return text


def _article(entry: Entry) -> str:
    figures = "".join(
        f'<figure><img loading="lazy" decoding="async" src="data:image/jpeg;base64,{jpeg}" '
        f'alt="{escape(entry.name)}, {escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'
        for caption, jpeg in entry.pictures
    )
    return (
        f'<article><header><b><a href="{quote(entry.link)}">{escape(entry.name)}</a></b>'
        f'<span class="soft">{escape(entry.summary)}</span></header><div class="three">{figures}</div></article>'
    )
