"""Things: each class a family of shapes with its texture, in coordinates of its own (up to about 1, v down)."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

Plane = Float[np.ndarray, "H W"]


class Drawn(NamedTuple):
    """A thing on the plane: signed distance to its outline (inside below 0), mix of its two colours, dark details."""

    distance: Plane
    tone: Plane
    dark: Plane


Shape = Callable[[np.random.Generator, Plane, Plane], Drawn]


def ellipse(u: Plane, v: Plane, a: float, b: float) -> Plane:
    """Signed distance, to first order at the outline."""
    return (np.hypot(u / a, v / b) - 1) * min(a, b)


def box(u: Plane, v: Plane, a: float, b: float, radius: float = 0.0) -> Plane:
    x, y = np.abs(u) - (a - radius), np.abs(v) - (b - radius)
    return np.hypot(np.maximum(x, 0), np.maximum(y, 0)) + np.minimum(np.maximum(x, y), 0) - radius


def limb(u: Plane, v: Plane, start: tuple[float, float], end: tuple[float, float], radius: float) -> Plane:
    """A capsule from `start` to `end`."""
    x, y = end[0] - start[0], end[1] - start[1]
    along = np.clip(((u - start[0]) * x + (v - start[1]) * y) / (x * x + y * y), 0, 1)
    return np.hypot(u - start[0] - along * x, v - start[1] - along * y) - radius


def triangle(u: Plane, v: Plane, *corners: tuple[float, float]) -> Plane:
    """A triangle with corners in clockwise order on the screen; exact along its edges."""
    edges = zip(corners, corners[1:] + corners[:1], strict=True)
    sides = [
        ((u - a[0]) * (b[1] - a[1]) - (v - a[1]) * (b[0] - a[0])) / np.hypot(b[0] - a[0], b[1] - a[1]) for a, b in edges
    ]
    return np.maximum.reduce(sides)


def union(*distances: Plane) -> Plane:
    return np.minimum.reduce(distances)


def inside(distance: Plane, softness: float = 0.03) -> Plane:
    """1 within, 0 outside, with a soft edge."""
    return np.clip(0.5 - distance / softness, 0, 1)


def spots(u: Plane, v: Plane, period: float) -> Plane:
    row = np.floor(v / period)
    x, y = u / period + 0.5 * (row % 2), v / period
    return inside((np.hypot(x - np.floor(x) - 0.5, y - row - 0.5) - 0.3) * period)


def stripes(at: Plane, period: float) -> Plane:
    return np.clip(0.5 + 2 * np.sin(at * (2 * np.pi / period)), 0, 1)


def ripples(rng: np.random.Generator, u: Plane, v: Plane, period: float) -> Plane:
    """Smooth noise in 0..1: waves in random directions."""
    total = np.zeros_like(u)
    for angle, phase in zip(rng.uniform(0, np.pi, 4), rng.uniform(0, 2 * np.pi, 4), strict=True):
        total += np.sin((np.cos(angle) * u + np.sin(angle) * v) * (2 * np.pi / period) + phase)
    return np.clip(0.5 + total / 4, 0, 1)


def beetle(rng: np.random.Generator, u: Plane, v: Plane) -> Drawn:
    body = ellipse(u + 0.1, v, rng.uniform(0.52, 0.66), rng.uniform(0.36, 0.5))
    head = ellipse(u - 0.6, v, 0.24, 0.2)
    lean = rng.uniform(-0.2, 0.2)
    legs = [
        limb(u, v, (x, 0.0), (x + 0.9 * x + lean * rng.uniform(0.5, 1), side * rng.uniform(0.7, 0.9)), 0.055)
        for x in (-0.4, 0.0, 0.35)
        for side in (-1, 1)
    ]
    seam = np.abs(v) - 0.025
    return Drawn(union(body, head, *legs), spots(u, v, rng.uniform(0.26, 0.4)), np.maximum(inside(-body), inside(seam)))


def fish(rng: np.random.Generator, u: Plane, v: Plane) -> Drawn:
    v = v + rng.uniform(-0.25, 0.25) * u * u
    body = ellipse(u - 0.15, v, 0.72, rng.uniform(0.3, 0.44))
    spread = rng.uniform(0.35, 0.55)
    tail = triangle(u, v, (-0.4, 0.0), (-1.0, spread), (-1.0, -spread))
    fin = triangle(u, v, (0.4, -0.2), (-0.25, -0.2), (-0.2, -rng.uniform(0.5, 0.65)))
    eye = ellipse(u - 0.6, v + 0.07, 0.07, 0.07)
    return Drawn(union(body, tail, fin), stripes(u + 0.3 * np.abs(v), rng.uniform(0.22, 0.36)), inside(eye))


def mushroom(rng: np.random.Generator, u: Plane, v: Plane) -> Drawn:
    cap = np.maximum(ellipse(u, v - 0.02, 0.9, rng.uniform(0.6, 0.85)), v - 0.02)
    foot = box(u - rng.uniform(-0.1, 0.1) * v, v - 0.4, rng.uniform(0.17, 0.28), 0.5, 0.1)
    tone = np.where(cap < 0, spots(u, v, rng.uniform(0.3, 0.42)), 1.0)
    gills = 0.4 * stripes(u, 0.12) * inside(cap * -1)
    return Drawn(union(cap, foot), tone, gills)


def wheel(rng: np.random.Generator, u: Plane, v: Plane) -> Drawn:
    radius = np.hypot(u, v)
    rim = np.abs(radius - 0.72) - rng.uniform(0.16, 0.24)
    turns = np.arange(3) * np.pi / 3 + rng.uniform(0, np.pi)
    spokes = [limb(u, v, (-0.7 * np.cos(a), -0.7 * np.sin(a)), (0.7 * np.cos(a), 0.7 * np.sin(a)), 0.06) for a in turns]
    hub = ellipse(u, v, 0.17, 0.17)
    return Drawn(union(rim, hub, *spokes), stripes(radius, rng.uniform(0.13, 0.2)), inside(hub))


def star(rng: np.random.Generator, u: Plane, v: Plane) -> Drawn:
    arms = int(rng.integers(5, 8))
    angle, radius = np.arctan2(v, u), np.hypot(u, v)
    turn = np.abs((angle * arms / (2 * np.pi)) % 1 - 0.5) * 2  # 1 in the direction of an arm
    outline = rng.uniform(0.36, 0.48) + 0.6 * turn ** rng.uniform(1.2, 2.0)
    tone = np.clip(radius / 0.9, 0, 1) * 0.6 + 0.4 * ripples(rng, u, v, 0.35)
    return Drawn(((radius - outline) * 0.7), tone, inside(np.abs(radius - 0.2) - 0.04))


def crate(rng: np.random.Generator, u: Plane, v: Plane) -> Drawn:
    a, b = rng.uniform(0.65, 0.9), rng.uniform(0.5, 0.8)
    period = rng.uniform(0.25, 0.4)
    outer = box(u, v, a, b, 0.06)
    tone = (np.floor(u / period) + np.floor(v / period)) % 2
    frame = inside(-(outer + 0.12))
    return Drawn(outer, tone * (1 - frame), 0.7 * np.maximum(frame, inside(np.abs(u / a - v / b) - 0.1)))


def pony(rng: np.random.Generator, u: Plane, v: Plane) -> Drawn:
    body = box(u, v + 0.1, 0.52, rng.uniform(0.2, 0.3), 0.18)
    rise = rng.uniform(0.55, 0.8)
    neck = limb(u, v, (0.4, -0.15), (0.65, -rise), 0.12)
    head = ellipse(u - 0.75, v + rise, 0.24, 0.13)
    tail = limb(u, v, (-0.5, -0.2), (-0.8, rng.uniform(0.0, 0.4)), 0.05)
    legs = [limb(u, v, (x, 0.1), (x + rng.uniform(-0.15, 0.15), 0.8), 0.075) for x in (-0.4, -0.2, 0.2, 0.42)]
    tone = np.clip((ripples(rng, u, v, rng.uniform(0.35, 0.55)) - 0.5) * 8 + 0.5, 0, 1)
    return Drawn(union(body, neck, head, tail, *legs), tone, inside(0.7 - v))


def leaf(rng: np.random.Generator, u: Plane, v: Plane) -> Drawn:
    v = v + rng.uniform(-0.3, 0.3) * u * u
    reach = rng.uniform(0.5, 0.9)  # how far apart the centres of its two arcs lie
    radius = np.hypot(reach, 0.8)
    blade = np.maximum(np.hypot(u - 0.15, v - reach), np.hypot(u - 0.15, v + reach)) - radius
    stalk = limb(u, v, (-0.6, 0.0), (-1.0, rng.uniform(-0.1, 0.1)), 0.05)
    veins = stripes(u - 0.8 * np.abs(v), rng.uniform(0.2, 0.3))
    tone = 0.6 * veins + 0.4 * np.clip(0.5 + 0.6 * u, 0, 1)
    return Drawn(union(blade, stalk), tone, inside(np.abs(v) - 0.03))


# Each with the area that it covers on average, in squares of its unit.
THINGS: dict[str, tuple[Shape, float]] = {
    "beetle": (beetle, 1.2),
    "fish": (fish, 1.2),
    "mushroom": (mushroom, 1.4),
    "wheel": (wheel, 2.0),
    "star": (star, 1.2),
    "crate": (crate, 2.0),
    "pony": (pony, 1.2),
    "leaf": (leaf, 0.9),
}
