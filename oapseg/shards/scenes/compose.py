"""A scene: stuff in regions, things before it and before one another, light over all."""

import colorsys
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from oapseg.shards.scenes.stuff import ABOVE, BELOW, STUFF, Colour, Painted, lighter, mix, noise
from oapseg.shards.scenes.things import THINGS, Plane

CATEGORIES = tuple(
    {"id": number, "name": name, "isthing": int(name in THINGS)} for number, name in enumerate([*THINGS, *STUFF], 1)
)
CATEGORY_ID = {str(category["name"]): number for number, category in enumerate(CATEGORIES, 1)}

THING_AREA = (0.03, 0.35)  # share of the photo that a thing covers before others hide it
THINGS_AREA = 0.6  # share that all things cover together, at most
HIDDEN_AT_MOST = 0.5  # share of a thing that later ones may hide
TRIES = 12  # places tried for a thing before it is left out
CAMOUFLAGED = 0.4  # share of things in the colour of the ground behind them


class Scene(NamedTuple):
    """`segments[i]` is the category of the pixels whose number is i; every pixel has one."""

    image: NDArray[np.uint8]  # H W 3
    numbers: NDArray[np.int64]  # H W
    segments: list[int]


def draw_scene(rng: np.random.Generator, size_px: int) -> Scene:
    """A photo of things on stuff, and what every pixel of it is."""
    y, x = np.mgrid[0:size_px, 0:size_px].astype(np.float32) + np.float32(0.5)
    numbers, names = _regions(rng, x, y)
    canvas = np.zeros((size_px, size_px, 3), np.float32)
    for number, name in enumerate(names):
        paint, hue = STUFF[name]
        canvas[numbers == number] = paint(rng, x, y, _stuff_colour(rng, hue))[numbers == number]
    segments = [CATEGORY_ID[name] for name in names]
    light = rng.uniform(0, 2 * np.pi)
    for name, area in _cast(rng):
        _add_thing(rng, name, area * size_px**2, light, x, y, canvas, numbers, segments)
    return Scene(_photograph(rng, canvas, x, y), numbers, segments)


def _regions(rng: np.random.Generator, x: Plane, y: Plane) -> tuple[NDArray[np.int64], list[str]]:
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
    present, dense = np.unique(numbers, return_inverse=True)
    return dense.reshape(numbers.shape).astype(np.int64), [names[number] for number in present]


def _cast(rng: np.random.Generator) -> list[tuple[str, float]]:
    """The things of a photo, few classes and several of each, far to near, and the share that each covers."""
    kinds = rng.permutation(list(THINGS))[: rng.integers(1, 4)]
    low, high = np.log(THING_AREA)
    areas = np.exp(rng.uniform(low, high - rng.choice([0, 0.8]), rng.integers(2, 9)))
    areas = areas[np.cumsum(areas) <= THINGS_AREA]
    return [(str(rng.choice(kinds)), float(area)) for area in areas]


def _add_thing(
    rng: np.random.Generator,
    name: str,
    area_px: float,
    light: float,
    x: Plane,
    y: Plane,
    canvas: Painted,
    numbers: NDArray[np.int64],
    segments: list[int],
) -> None:
    """Draw one thing at the first place tried that hides no other too much; `segments` grows by it."""
    size = x.shape[0]
    shape, unit_area = THINGS[name]
    unit = float(np.sqrt(area_px / unit_area))
    before = np.bincount(numbers.ravel(), minlength=len(segments))
    things = np.array([bool(CATEGORIES[category - 1]["isthing"]) for category in segments])
    for _ in range(TRIES):
        centre = rng.uniform(0.1, 0.9, 2) * size
        turn = rng.normal(0, 0.5) + rng.choice([0, np.pi]) * (name in ("beetle", "leaf", "star"))
        flip = rng.choice([-1, 1])
        dx, dy = (x - centre[0]) / unit, (y - centre[1]) / unit
        u, v = flip * (np.cos(turn) * dx + np.sin(turn) * dy), np.cos(turn) * dy - np.sin(turn) * dx
        drawn = shape(rng, u.astype(np.float32), v.astype(np.float32))
        mask = drawn.distance < 0
        hidden = np.bincount(numbers[mask], minlength=len(segments))
        if mask.sum() < 0.6 * area_px or (hidden > HIDDEN_AT_MOST * before)[things].any():
            continue
        if (hidden == before).any():
            continue  # a segment that nobody sees has no label
        break
    else:
        return
    ground = canvas[mask].mean(0)
    first, second = _thing_colours(rng, ground)
    painted = mix(drawn.tone, first, second) * (1 - 0.7 * drawn.dark[..., None])
    depth = np.clip(-drawn.distance * 4, 0, 1)  # 0 at the outline, 1 well inside
    facing = (np.cos(light) * dx + np.sin(light) * dy) * (1 - 0.6 * depth)
    painted *= (0.72 + 0.28 * depth + 0.3 * facing)[..., None]
    shadow = gaussian_filter(np.roll(mask, _shift(light, unit), (0, 1)).astype(np.float32), 0.06 * unit + 1)
    canvas *= 1 - 0.45 * shadow[..., None]
    opaque = np.clip(0.5 - drawn.distance * unit, 0, 1)[..., None]
    canvas += opaque * (np.clip(painted, 0, 1) - canvas)
    numbers[mask] = len(segments)
    segments.append(CATEGORY_ID[name])


def _shift(light: float, unit: float) -> tuple[int, int]:
    """Rows and columns by which a shadow falls away from the light."""
    return round(-0.12 * unit * np.sin(light)), round(-0.12 * unit * np.cos(light))


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


def _photograph(rng: np.random.Generator, canvas: Painted, x: Plane, y: Plane) -> NDArray[np.uint8]:
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
