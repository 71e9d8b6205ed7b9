"""The page of a folder of photos."""

import base64
import io
from html.parser import HTMLParser

import torch
from PIL import Image

from oapseg.report.gallery import Entry, render_gallery, thumbnail


class References(HTMLParser):
    """Everything that a page would load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name == "src"]


def noise(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (height, width, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def test_the_page_loads_nothing_from_outside_and_runs_no_script() -> None:
    entry = Entry("a.jpg", "overlays/a.jpg", "30 x 20 px", [("photo", thumbnail(noise(20, 30), 9999))])
    page = References(render_gallery("Masks", ["one photo"], [entry, entry]))
    assert len(page.sources) == 2
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.sources)
    assert not {"script", "link"} & set(page.tags)


def test_names_cannot_break_the_page() -> None:
    page = render_gallery("<b>", ["&"], [Entry('<i>"x".jpg', 'overlays/<i> "x".jpg', "", [])])
    assert "<i>" not in page
    assert 'href="overlays/%3Ci%3E%20%22x%22.jpg"' in page


def test_a_thumbnail_fits_the_bytes_where_a_lower_quality_makes_it_fit() -> None:
    best = thumbnail(noise(300, 300), 10**9)
    limit = len(best) * 3 // 4
    assert len(thumbnail(noise(300, 300), limit)) <= limit
    assert Image.open(io.BytesIO(base64.b64decode(best))).size == (300, 300)


def test_a_thumbnail_of_a_large_photo_is_small() -> None:
    picture = Image.open(io.BytesIO(base64.b64decode(thumbnail(noise(900, 1800), 10**9))))
    assert picture.size == (400, 200)
