"""A page as a browser takes it apart: tags closed in order, and where its parts come from."""

import re
from html.parser import HTMLParser

VOID = {"meta", "img", "br", "input", "line", "circle"}
REFERRING = {"src", "href", "srcset", "data", "action", "poster", "xlink:href"}


class Page(HTMLParser):
    """Fails on a tag that is closed out of order; gathers attributes and what stands between script tags."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.scripts = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]
        assert tag in VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"]:
            self.scripts += data


def read_page(text: str) -> Page:
    page = Page()
    page.feed(text)
    page.close()
    return page


def from_outside(text: str) -> list[str]:
    """What a page asks for beside itself: sources that are no data, addresses, scripts that fetch."""
    page = read_page(text)
    asked = [value for name, value in page.attributes if name in REFERRING and not value.startswith("data:")]
    asked += re.findall(r"https?:|//[a-z]+[.]|@import|url[(]|<link|<iframe", re.sub("base64,[A-Za-z0-9+/=]*", "", text))
    return asked + re.findall(r"fetch[(]|XMLHttpRequest|import[(]|sendBeacon|WebSocket", page.scripts)
