"""A scene: stuff in regions, things before it and before one another, light over all."""

import colorsys
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from scipy.ndimage import gaussian_filter, shift

from oapseg.shards.scenes.stuff import ABOVE, BELOW, STUFF, Colour, Painted, lighter, mix, noise
from oapseg.shards.scenes.things import THINGS, Drawn, Plane, Shape

CATEGORIES = tuple(
    {"id": number, "name": name, "isthing": int(name in THINGS)} for number, name in enumerate([*THINGS, *STUFF], 1)
)
Numbers = Int[np.ndarray, "H W"]  # of the segment that a pixel belongs to
CATEGORY_ID = {str(category["name"]): number for number, category in enumerate(CATEGORIES, 1)}

THING_AREA = (0.03, 0.35)  # share of the photo that a thing covers before others hide it
THINGS_AREA = 0.6  # share that all things cover together, at most
HIDDEN_AT_MOST = 0.5  # share of what is seen of a thing that the next one may hide
SMALLEST = 0.005  # share of the photo that every segment keeps
SEEN_AT_LEAST = 0.7  # pixels of a thing in the photo, in squares of its unit
TRIES = 12  # places tried for a thing before it is left out
TURNS = ("beetle", "leaf", "star", "crate")  # lie at any angle; the others stand or swim
REACH = 1.4  # of a thing and its shadow, in its units
SHADOW = 0.12  # how far a shadow falls, in units of the thing
CAMOUFLAGED = 0.4  # share of things in the colour of the ground behind them


class Scene(NamedTuple):
    """`segments[i]` is the category of the pixels whose number is i; every pixel has one."""

    image: UInt8[np.ndarray, "H W 3"]
    numbers: Numbers
    segments: list[int]


@dataclass
class _Canvas:
    """A scene in the making."""

    x: Plane  # pixel centres
    y: Plane
    colours: Painted
    numbers: Numbers
    segments: list[int]


class _Placed(NamedTuple):
    """A thing at its place: all planes are those of its window."""

    window: tuple[slice, slice]
    drawn: Drawn
    dx: Plane  # from its centre, in its units
    dy: Plane


def draw_scene(rng: np.random.Generator, size_px: int) -> Scene:
    """A photo of things on stuff, and what every pixel of it is."""
    y, x = np.mgrid[0:size_px, 0:size_px].astype(np.float32) + np.float32(0.5)
    numbers, names = _regions(rng, x, y)
    colours = np.zeros((size_px, size_px, 3), np.float32)
    for number, name in enumerate(names):
        paint, hue = STUFF[name]
        here = numbers == number
        colours[here] = paint(rng, x, y, _stuff_colour(rng, hue))[here]
    canvas = _Canvas(x, y, colours, numbers, [CATEGORY_ID[name] for name in names])
    light = rng.uniform(0, 2 * np.pi)
    for name, area in _cast(rng):
        shape, unit_area = THINGS[name]
        unit_px = float(np.sqrt(area * size_px**2 / unit_area))
        placed = _place(rng, canvas, shape, unit_px, turns=name in TURNS)
        if placed is not None:
            _paint(rng, canvas, placed, unit_px, light)
            canvas.segments.append(CATEGORY_ID[name])
    return Scene(_photograph(rng, canvas.colours, x, y), numbers, canvas.segments)


def _regions(rng: np.random.Generator, x: Plane, y: Plane) -> tuple[Numbers, list[str]]:
    """Two or three stuffs: a horizon, at times with a third before it, or patches."""
    size = x.shape[0]
    wobble = (noise(rng, size, (5, 5)) - 0.5) * size * 0.25
    if rng.random() < 0.7:
        line = size * rng.uniform(0.25, 0.6) + rng.uniform(-0.2, 0.2) * (x - size / 2) + 0.4 * wobble
        above = str(rng.choice(ABOVE))
        below, third = (str(name) for name in rng.permutation([name for name in BELOW if name != above])[:2])
        numbers = (y > line).astype(np.int64)
        if rng.random() < 0.45:
            centre = rng.uniform(0, size), size * rng.uniform(0.75, 1.0)
            reach = np.hypot((x - centre[0]) * 0.6, y - centre[1]) + wobble
            numbers[(reach < size * rng.uniform(0.25, 0.4)) & (numbers == 1)] = 2
        names = [above, below, third]
    else:
        names = [str(name) for name in rng.permutation(list(STUFF))[: rng.integers(2, 4)]]
        sites = rng.uniform(0, size, (len(names), 2))
        numbers = np.argmin([np.hypot(x + wobble - site[0], y - wobble - site[1]) for site in sites], axis=0)
    shares = np.bincount(numbers.ravel()) / size**2
    numbers[shares[numbers] < 4 * SMALLEST] = int(shares.argmax())
    present, dense = np.unique(numbers, return_inverse=True)
    return dense.reshape(numbers.shape).astype(np.int64), [names[number] for number in present]


def _cast(rng: np.random.Generator) -> list[tuple[str, float]]:
    """The things of a photo, few classes and several of each, far to near, and the share that each covers."""
    kinds = rng.permutation(list(THINGS))[: rng.integers(1, 4)]
    low, high = np.log(THING_AREA)
    areas = np.exp(rng.uniform(low, high - rng.choice([0, 0.8]), rng.integers(2, 9)))
    areas = areas[np.cumsum(areas) <= THINGS_AREA]
    return [(str(rng.choice(kinds)), float(area)) for area in areas]


def _place(rng: np.random.Generator, canvas: _Canvas, shape: Shape, unit_px: float, *, turns: bool) -> _Placed | None:
    """The thing at the first place tried where enough of it is in the photo and of what it hides stays to be seen."""
    size = canvas.x.shape[0]
    before = np.bincount(canvas.numbers.ravel(), minlength=len(canvas.segments))
    spared = np.array([bool(CATEGORIES[category - 1]["isthing"]) for category in canvas.segments]) * (
        1 - HIDDEN_AT_MOST
    )
    least = np.maximum(spared * before, SMALLEST * size**2)
    for _ in range(TRIES):
        centre_x, centre_y = rng.uniform(0.1, 0.9, 2) * size
        window = _window(centre_x, centre_y, REACH * unit_px, size)
        dx, dy = (canvas.x[window] - centre_x) / unit_px, (canvas.y[window] - centre_y) / unit_px
        turn = rng.uniform(0, 2 * np.pi) if turns else rng.normal(0, 0.4)
        flip = rng.choice([-1, 1])
        u, v = flip * (np.cos(turn) * dx + np.sin(turn) * dy), np.cos(turn) * dy - np.sin(turn) * dx
        drawn = shape(rng, u, v)
        mask = drawn.distance < 0
        left = before - np.bincount(canvas.numbers[window][mask], minlength=len(before))
        if mask.sum() > SEEN_AT_LEAST * unit_px**2 and (left > least).all():
            return _Placed(window, drawn, dx, dy)
    return None


def _window(centre_x: float, centre_y: float, reach: float, size: int) -> tuple[slice, slice]:
    """Rows and columns within reach of a centre: nothing of a thing is drawn beyond, shadow included."""
    low_x, low_y = max(0, int(centre_x - reach)), max(0, int(centre_y - reach))
    return slice(low_y, min(size, int(centre_y + reach) + 1)), slice(low_x, min(size, int(centre_x + reach) + 1))


def _paint(rng: np.random.Generator, canvas: _Canvas, placed: _Placed, unit_px: float, light: float) -> None:
    """Shadow, colours and light of a thing; its pixels take the next number."""
    window, drawn, dx, dy = placed
    colours, numbers = canvas.colours[window], canvas.numbers[window]
    mask = drawn.distance < 0
    first, second = _thing_colours(rng, colours[mask].mean(0))
    painted = mix(drawn.tone, first, second) * (1 - 0.7 * drawn.dark[..., None])
    depth = np.clip(-drawn.distance * 4, 0, 1)  # 0 at the outline, 1 well inside
    facing = (np.cos(light) * dx + np.sin(light) * dy) * (1 - 0.6 * depth)
    painted *= (0.72 + 0.28 * depth + 0.3 * facing)[..., None]
    away = round(-SHADOW * unit_px * np.sin(light)), round(-SHADOW * unit_px * np.cos(light))
    shadow = gaussian_filter(shift(mask.astype(np.float32), away, order=0), 0.06 * unit_px + 1)
    colours *= 1 - 0.45 * shadow[..., None]
    opaque = np.clip(0.5 - drawn.distance * unit_px, 0, 1)[..., None]
    colours += opaque * (np.clip(painted, 0, 1) - colours)
    numbers[mask] = len(canvas.segments)


def _hsv(hue: float, saturation: float, value: float) -> Colour:
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value), np.float32)


def _stuff_colour(rng: np.random.Generator, hue: float) -> Colour:
    hue = hue + rng.normal(0, 0.05) if rng.random() < 0.7 else rng.uniform()
    return _hsv(hue, rng.uniform(0.2, 0.65), rng.uniform(0.5, 0.85))


def _thing_colours(rng: np.random.Generator, ground: Colour) -> tuple[Colour, Colour]:
    """The two colours of a thing: independent of its class, at times the ground's, at times far from each other."""
    first = _hsv(rng.uniform(), rng.uniform(0.2, 0.9), rng.uniform(0.35, 0.95))
    second = _hsv(rng.uniform(), rng.uniform(0.1, 0.9), rng.uniform(0.2, 0.95))
    if rng.random() < CAMOUFLAGED:
        first = np.clip(ground + rng.normal(0, 0.04, 3), 0, 1).astype(np.float32)
    if rng.random() < 0.4:
        second = lighter(first, rng.choice([0.5, 1.5]))
    return first, second


def _photograph(rng: np.random.Generator, canvas: Painted, x: Plane, y: Plane) -> UInt8[np.ndarray, "H W 3"]:
    """Uneven light, a lens a little soft, and the noise of a sensor."""
    size = x.shape[0]
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.35)
    across = (np.cos(angle) * (x / size - 0.5) + np.sin(angle) * (y / size - 0.5)) * 2
    corner = np.hypot(x / size - 0.5, y / size - 0.5) ** 2
    lit = canvas * (1 + strength * across - rng.uniform(0, 0.4) * corner)[..., None]
    soft = rng.uniform(0.4, 0.8)
    seen = gaussian_filter(lit, (soft, soft, 0))
    seen += rng.normal(0, rng.uniform(0.008, 0.03), seen.shape)
    return (np.clip(seen, 0, 1) * 255).round().astype(np.uint8)
