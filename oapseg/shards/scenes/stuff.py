"""Stuff: textured grounds that fill a plane of pixels."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from PIL import Image

from oapseg.shards.scenes.things import Plane

Colour = Float[np.ndarray, " 3"]  # RGB, 0..1
Painted = Float[np.ndarray, "H W 3"]


def noise(rng: np.random.Generator, size_px: int, cells: tuple[int, int]) -> Plane:
    """Smooth noise in 0..1, from a grid of (columns, rows) random cells."""
    grid = rng.uniform(0, 1, (cells[1] + 1, cells[0] + 1)).astype(np.float32)
    smooth = Image.fromarray(grid).resize((size_px, size_px), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(smooth), 0, 1)


def mix(tone: Plane, a: Colour, b: Colour) -> Painted:
    """Colour a where the tone is 0, b where it is 1."""
    return a + tone[..., None] * (b - a)


def lighter(colour: Colour, by: float) -> Colour:
    return np.clip(colour * by, 0, 1).astype(np.float32)


def grass(rng: np.random.Generator, x: Plane, y: Plane, colour: Colour) -> Painted:
    size = x.shape[0]
    blades = noise(rng, size, (size // 2, size // int(rng.integers(7, 12))))
    clumps = np.clip(noise(rng, size, (9, 9)) + 0.3 * (y / size - 0.5), 0, 1)
    return mix(0.7 * blades + 0.3 * clumps, lighter(colour, 0.45), lighter(colour, 1.35))


def bricks(rng: np.random.Generator, x: Plane, y: Plane, colour: Colour) -> Painted:
    height = rng.uniform(11, 24)
    width = height * rng.uniform(1.8, 2.6)
    tilt = rng.uniform(-0.12, 0.12)
    x, y = x + tilt * y, y - tilt * x
    row = np.floor(y / height)
    column = np.floor(x / width + 0.5 * (row % 2))
    across, down = x / width + 0.5 * (row % 2) - column, y / height - row
    edge = np.minimum(np.minimum(across, 1 - across) * width, np.minimum(down, 1 - down) * height)
    table = rng.uniform(0, 1, (64, 64)).astype(np.float32)
    each = table[row.astype(int) % 64, column.astype(int) % 64]
    painted = mix(0.7 * each + 0.3 * noise(rng, x.shape[0], (60, 60)), lighter(colour, 0.6), lighter(colour, 1.25))
    mortar = np.full(3, rng.choice([0.25, 0.75]), np.float32)
    joint = np.clip(1.8 - edge, 0, 1)
    return painted + joint[..., None] * (mortar - painted)


def water(rng: np.random.Generator, x: Plane, y: Plane, colour: Colour) -> Painted:
    size = x.shape[0]
    period = rng.uniform(9, 18)
    swell = y + 10 * noise(rng, size, (5, 16)) + 3 * np.sin(x / rng.uniform(8, 14))
    waves = 0.5 + 0.5 * np.sin(swell * (2 * np.pi / period))
    glint = np.clip((waves * noise(rng, size, (14, 60)) - 0.5) * 4, 0, 1)
    painted = mix(waves, lighter(colour, 0.65), lighter(colour, 1.1))
    return painted + 0.5 * glint[..., None] * (1 - painted)


def sky(rng: np.random.Generator, x: Plane, y: Plane, colour: Colour) -> Painted:
    size = x.shape[0]
    fall = np.clip(y / size * rng.uniform(0.8, 1.6), 0, 1)
    painted = mix(fall, lighter(colour, 0.75), (0.5 * colour + 0.5).astype(np.float32))
    puffs = 0.65 * noise(rng, size, (4, 7)) + 0.35 * noise(rng, size, (12, 20))
    cloud = np.clip((puffs - rng.uniform(0.45, 0.6)) * 3, 0, 0.85)
    return painted + cloud[..., None] * (np.float32(0.95) - painted)


def sand(rng: np.random.Generator, x: Plane, y: Plane, colour: Colour) -> Painted:
    size = x.shape[0]
    drift = noise(rng, size, (3, 3))
    ripple = 0.5 + 0.5 * np.sin((y + 0.3 * x + 40 * drift) * (2 * np.pi / rng.uniform(14, 26)))
    grain = rng.uniform(0, 1, x.shape).astype(np.float32)
    return mix(0.4 * ripple + 0.35 * grain + 0.25 * drift, lighter(colour, 0.75), lighter(colour, 1.2))


# Each with the hue that it has in nature (0..1 round the circle): most photos keep near it, some do not.
STUFF: dict[str, tuple[Callable[[np.random.Generator, Plane, Plane, Colour], Painted], float]] = {
    "grass": (grass, 0.28),
    "bricks": (bricks, 0.04),
    "water": (water, 0.53),
    "sky": (sky, 0.58),
    "sand": (sand, 0.11),
}
ABOVE = ("sky", "bricks", "grass")  # beyond a horizon
BELOW = ("grass", "sand", "water", "bricks")  # before it
