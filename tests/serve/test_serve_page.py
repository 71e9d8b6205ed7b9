"""The page in a real browser: a photo chosen, sliders moved, masks named under the pointer, nothing from elsewhere."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from serve.browser import Browser, browser
from serve.serving import Running, running
from use.small import photo_bytes, small_model

from oapseg.masks import rle_to_mask

DONE = "['done', 'error'].includes(document.body.dataset.state)"
ROWS = "[...document.querySelectorAll('#list button')].map(each => each.innerText.replaceAll('\\n', ' '))"
STATUS = "document.getElementById('status').textContent"
INK = (  # pixels of the canvas that a mask covers
    "(() => { const c = document.getElementById('masks'); "
    "return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((v, i) => i % 4 == 3 && v).length })()"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(small_model(tmp_path_factory.mktemp("serve") / "model")) as server:
        yield server


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as page:
        yield page


@pytest.fixture
def page(chromium: Browser, server: Running) -> Browser:
    """The page with a drawn photo and every mask."""
    chromium.open(f"http://127.0.0.1:{server.port}/?sample=1&score=0&all=1")
    chromium.until(DONE)
    return chromium


def slide(page: Browser, field: str, value: float) -> None:
    page.run(
        f"(() => {{ const s = document.getElementById('{field}'); s.value = {value}; "
        "s.dispatchEvent(new Event('input', {bubbles: true})) })()"
    )


def answers(page: Browser) -> int:
    """Requests for masks so far."""
    return sum("/v1/masks" in address for address in page.requests)


def test_a_drawn_photo_shows_its_masks_and_each_is_named_with_its_score(page: Browser, server: Running) -> None:
    sample = server.ask("GET", "/sample/1.jpg").body
    said = server.masks(sample, "min_score=0&side_px=768").said["masks"]
    named = [f"{each['name'] or 'cluster ' + str(each['cluster'])} {each['score']:.2f}" for each in said]
    assert page.run(ROWS) == named
    assert page.run(STATUS) == f"{len(said)} masks of {len(said)} found"
    assert page.run(INK) > 0
    assert page.errors == []


def test_run_lengths_become_the_same_pixels_in_the_browser(page: Browser, server: Running) -> None:
    masks = server.masks(server.ask("GET", "/sample/1.jpg").body, "min_score=0&side_px=768").said["masks"]
    covered = torch.stack([rle_to_mask(each["segmentation"]) for each in masks]).any(0)
    assert page.run(INK) == covered.sum()
    slide(page, "score", masks[0]["score"] - 0.02)  # the slider has steps of 0.01
    shown = page.run("document.querySelectorAll('#list li').length")
    assert 0 < shown < len(masks)
    covered = torch.stack([rle_to_mask(each["segmentation"]) for each in masks[:shown]]).any(0)
    assert page.run(INK) == covered.sum()


@pytest.mark.parametrize("level", [0, 0.5, 1])
def test_the_level_slider_shows_what_the_server_gives_at_that_level_and_asks_nobody(
    page: Browser, server: Running, level: float
) -> None:
    asked = answers(page)
    page.run("document.getElementById('all').click()")
    slide(page, "level", level)
    said = server.masks(server.ask("GET", "/sample/1.jpg").body, f"min_score=0&side_px=768&level={level}").said["masks"]
    assert [row.rsplit(" ", 1)[1] for row in page.run(ROWS)] == [f"{each['score']:.2f}" for each in said]
    page.run("1")
    assert answers(page) == asked == 1


def test_the_pointer_over_a_mask_says_its_name_and_score_and_a_press_keeps_it(page: Browser) -> None:
    page.run(
        "(() => { const c = document.getElementById('masks'), d = c.getContext('2d').getImageData(0, 0, c.width, "
        "c.height).data; const b = c.getBoundingClientRect(); for (let i = 0; i < c.width * c.height; i += 1) "
        "if (d[4 * i + 3]) { const x = i % c.width, y = Math.floor(i / c.width); window.spot = [b.left + (x + .5) / "
        "c.width * b.width, b.top + (y + .5) / c.height * b.height]; if (y > c.height / 3) break } })()"
    )
    x, y = page.run("window.spot")
    page.point(x, y)
    lit = page.run("document.querySelector('#list .lit').innerText").split("\n")
    assert page.run("document.getElementById('tip').textContent") == ", score ".join(lit)
    page.point(x, y, press=True)
    page.point(x, 1)
    assert page.run("document.getElementById('tip').hidden") is False
    assert page.run("document.querySelectorAll('#list [aria-pressed=true]').length") == 1


def test_a_photo_of_one_s_own_is_sent_to_this_server_alone(page: Browser, server: Running, tmp_path: Path) -> None:
    (tmp_path / "own.jpg").write_bytes(photo_bytes(60, 90, 5))
    page.run("document.body.dataset.state = 'waiting'")
    page.choose("#file", tmp_path / "own.jpg")
    page.until(DONE)
    assert page.run("[document.getElementById('masks').height, document.getElementById('masks').width]") == [60, 90]
    home = f"http://127.0.0.1:{server.port}/"
    assert [each for each in page.requests if not each.startswith((home, "data:", f"blob:{home[:-1]}"))] == []
    assert page.errors == []


def drop(page: Browser, data: bytes, name: str) -> None:
    """A file let go over the page, as a person does it: it is dragged over first."""
    page.run(
        "(() => { const dropped = new DataTransfer(), "
        f"bytes = Uint8Array.from(atob('{base64.b64encode(data).decode()}'), each => each.charCodeAt(0)); "
        f"dropped.items.add(new File([bytes], '{name}')); "
        "for (const kind of ['dragover', 'drop']) document.getElementById('stage').dispatchEvent("
        "new DragEvent(kind, {dataTransfer: dropped, bubbles: true, cancelable: true})) })()"
    )


def shows(page: Browser, server: Running, photo: bytes) -> None:
    """The masks of this photo are seen over it."""
    page.until("document.body.dataset.state !== 'busy'")
    said = server.masks(photo, "min_score=0&side_px=768").said
    assert page.run(STATUS) == f"{len(said['masks'])} masks of {len(said['masks'])} found"
    assert page.run("[document.getElementById('masks').height, document.getElementById('masks').width]") == said["size"]
    covered = torch.stack([rle_to_mask(each["segmentation"]) for each in said["masks"]]).any(0)
    assert page.run(INK) == covered.sum() > 0
    assert page.run(
        "['masks', 'photo'].every(id => document.getElementById(id).getBoundingClientRect().width > 0 && "
        "!document.getElementById(id).closest('[hidden]'))"
    )


def test_a_photo_that_is_dropped_shows_its_masks_also_after_a_file_that_is_no_photo(
    chromium: Browser, server: Running
) -> None:
    chromium.open(f"http://127.0.0.1:{server.port}/?score=0&all=1")
    for seed, size in ((5, (60, 90)), (6, (80, 50))):
        photo = photo_bytes(*size, seed)
        drop(chromium, photo, "own.jpg")
        shows(chromium, server, photo)
        drop(chromium, b"no photo", "own.jpg")
        chromium.until("document.body.dataset.state === 'error'")
        assert chromium.run(STATUS).startswith("photo: not one of JPEG")
        assert chromium.run("document.getElementById('masks').hidden")
    assert chromium.errors == []


def test_what_is_no_photo_is_said_in_a_line(page: Browser, tmp_path: Path) -> None:
    (tmp_path / "own.jpg").write_bytes(b"no photo")
    page.choose("#file", tmp_path / "own.jpg")
    page.until("document.body.dataset.state === 'error'")
    assert page.run(STATUS).startswith("photo: not one of JPEG")
    assert page.run("document.getElementById('fit').hidden")
    assert not page.run("document.getElementById('empty').hidden")


@pytest.mark.parametrize("width", [320, 390, 768, 1440])
def test_nothing_is_wider_than_the_screen(chromium: Browser, server: Running, width: int) -> None:
    chromium.open(f"http://127.0.0.1:{server.port}/?sample=2&score=0", width=width)
    chromium.until(DONE)
    assert chromium.run("document.documentElement.scrollWidth") <= width
    chromium.open(f"http://127.0.0.1:{server.port}/docs", width=width)
    assert chromium.run("document.documentElement.scrollWidth") <= width


def test_the_page_has_a_name_for_each_control(page: Browser) -> None:
    unnamed = page.run(
        "JSON.stringify([...document.querySelectorAll('input, button')].filter(each => !(each.labels && "
        "each.labels.length) && !each.getAttribute('aria-label') && !each.innerText && !each.querySelector('img[alt]'))"
        ".map(each => each.outerHTML))"
    )
    assert json.loads(unnamed) == []
