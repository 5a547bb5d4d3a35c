"""What stands in the street, drawn flat: vehicles, trees, posts, railings, signs, bicycles.

Every function draws at a foot point x, y (pixels) of a picture uint8 [H, W, 3], `size` being the
height that a person would have there.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from skyreid.synth.pasted.buildings import board, text
from skyreid.synth.pasted.textures import bright, darker, dull, leaf
from skyreid.synth.shading import Bytes

Draw = Callable[[np.random.Generator, Bytes, int, int, float], None]
_TYRE = (22.0, 22.0, 24.0)


def saloon(rng: np.random.Generator, picture: Bytes, x: int, y: int, size: float) -> None:
    """A car from the side."""
    length, height = size * rng.uniform(2.0, 2.8), size * rng.uniform(0.75, 0.95)
    flip = rng.random() < 0.5
    paint = bright(rng) if rng.random() < 0.4 else dull(rng)
    glass = darker(dull(rng), 0.5)

    def at(along: float, up: float) -> tuple[int, int]:
        return int(x + (1 - along if flip else along) * length), int(y - up * height)

    body = [(0, 0.2), (0, 0.5), (0.16, 0.6), (0.3, 0.97), (0.7, 1), (0.9, 0.6), (1, 0.5), (1, 0.2)]
    _polygon(picture, [at(*point) for point in body], paint)
    _polygon(picture, [at(0.23, 0.6), at(0.33, 0.9), at(0.49, 0.92), at(0.49, 0.6)], glass)
    _polygon(picture, [at(0.52, 0.6), at(0.52, 0.92), at(0.68, 0.92), at(0.82, 0.6)], glass)
    cv2.line(picture, at(0.5, 0.6), at(0.5, 0.25), darker(paint, 0.6), 1)
    _on_wheels(picture, [at(0.2, 0.2), at(0.8, 0.2)], 0.2 * height)
    _shadow_below(picture, at(0.5, 0.0), int(length / 2), max(1, int(0.06 * height)))


def front_of_car(rng: np.random.Generator, picture: Bytes, x: int, y: int, size: float) -> None:
    """A car or van from the front or behind: pane, lamps, plate."""
    width, height = size * rng.uniform(0.95, 1.15), size * rng.uniform(0.8, 1.4)
    paint = bright(rng) if rng.random() < 0.4 else dull(rng)

    def at(along: float, up: float) -> tuple[int, int]:
        return int(x + along * width), int(y - up * height)

    _polygon(
        picture, [at(0, 0.1), at(0, 0.55), at(0.14, 1), at(0.86, 1), at(1, 0.55), at(1, 0.1)], paint
    )
    _polygon(
        picture,
        [at(0.1, 0.58), at(0.2, 0.93), at(0.8, 0.93), at(0.9, 0.58)],
        darker(dull(rng), 0.5),
    )
    lamp = bright(rng)
    for left in (0.04, 0.76):
        cv2.rectangle(picture, at(left, 0.48), at(left + 0.2, 0.36), lamp, -1)
    cv2.rectangle(picture, at(0.35, 0.3), at(0.65, 0.2), (225.0, 225.0, 215.0), -1)
    for left in (0.03, 0.8):
        cv2.rectangle(picture, at(left, 0.12), at(left + 0.17, 0.0), _TYRE, -1)


def bus(rng: np.random.Generator, picture: Bytes, x: int, y: int, size: float) -> None:
    """The side of a bus or a tram: a row of tall panes and doors, dark gaps, a stripe, letters."""
    length, height = size * rng.uniform(3.5, 7), size * rng.uniform(1.5, 1.9)
    paint, stripe = bright(rng), bright(rng)
    top = int(y - height)
    cv2.rectangle(picture, (x, top), (int(x + length), int(y - 0.1 * height)), paint, -1)
    high, low = int(y - rng.uniform(0.85, 0.92) * height), int(y - rng.uniform(0.4, 0.55) * height)
    wide, glass = size * rng.uniform(0.4, 0.9), darker(dull(rng), 0.5)
    for index in range(int(length / wide)):
        left = int(x + index * wide + 0.06 * wide)
        door = rng.random() < 0.25
        end = int(y - 0.12 * height) if door else low
        pane = darker(glass, float(np.exp(rng.normal(0, 0.2))))
        cv2.rectangle(picture, (left, high), (int(left + 0.86 * wide), end), pane, -1)
        if door:
            middle = int(left + 0.43 * wide)
            cv2.line(picture, (middle, high), (middle, end), paint, 2)
    line = int(y - rng.uniform(0.2, 0.35) * height)
    cv2.rectangle(
        picture, (x, line), (int(x + length), line + max(1, int(0.05 * height))), stripe, -1
    )
    if rng.random() < 0.5:
        text(rng, picture, int(x + 0.3 * length), int(y - 0.2 * height), max(6, int(0.15 * height)))
    _on_wheels(
        picture, [(int(x + q * length), int(y - 0.1 * height)) for q in (0.2, 0.8)], 0.13 * height
    )


def trunk(rng: np.random.Generator, picture: Bytes, x: int, y: int, size: float) -> None:
    """A tree: trunk, and a crown that may lie outside the picture."""
    tall, thick = size * rng.uniform(1.0, 2.5), size * rng.uniform(0.06, 0.3)
    bark = darker(dull(rng), rng.uniform(0.3, 0.8))
    lean = rng.normal(0, 0.06) * tall
    shape = [
        (x, y),
        (x + thick, y),
        (x + lean + 0.7 * thick, y - tall),
        (x + lean + 0.2 * thick, y - tall),
    ]
    _polygon(picture, [(int(a), int(b)) for a, b in shape], bark)
    cv2.line(
        picture,
        (int(x + 0.8 * thick), y),
        (int(x + lean + 0.6 * thick), int(y - tall)),
        darker(bark, 0.6),
        max(1, int(thick / 4)),
    )
    foliage(rng, picture, int(x + lean), int(y - tall - 0.3 * size), size * rng.uniform(0.7, 1.8))


def foliage(rng: np.random.Generator, picture: Bytes, x: int, y: int, size: float) -> None:
    """A crown or a bush around a point: many leaves or clumps, light ones above dark ones."""
    base, spread = leaf(rng), size * rng.uniform(0.3, 0.6)
    clumps = int(rng.integers(40, 160))
    radius = size * rng.uniform(0.02, 0.12)
    for index in range(clumps):
        shade = (0.45 + 0.9 * index / clumps) * float(np.exp(rng.normal(0, 0.15)))
        at = (int(x + rng.normal(0, spread)), int(y + rng.normal(0, 0.8 * spread)))
        axes = (int(radius * rng.uniform(0.4, 1.4)) + 1, int(radius * rng.uniform(0.4, 1.4)) + 1)
        cv2.ellipse(picture, at, axes, rng.uniform(0, 180), 0, 360, darker(base, shade), -1)


def post(rng: np.random.Generator, picture: Bytes, x: int, y: int, size: float) -> None:
    """A post, bin, hydrant, column or machine: upright, about as tall as a person or longer."""
    tall = size * float(np.exp(rng.uniform(np.log(0.35), np.log(3))))
    thick = max(2, int(size * float(np.exp(rng.uniform(np.log(0.03), np.log(0.4))))))
    colour = dull(rng) if rng.random() < 0.7 else bright(rng)
    top = int(y - tall)
    cv2.rectangle(picture, (x, top), (x + thick, y), colour, -1)
    cv2.rectangle(
        picture, (x + thick - max(1, thick // 4), top), (x + thick, y), darker(colour, 0.6), -1
    )
    middle = (x + thick // 2, top)
    end = rng.random()
    if end < 0.3:
        cv2.circle(
            picture, middle, int(thick * rng.uniform(0.5, 1.1)) + 1, dull(rng), -1, cv2.LINE_AA
        )
    elif end < 0.45:
        half = int(size * rng.uniform(0.08, 0.3)) + 2
        board(rng, picture, middle[0] - half, top - half, 2 * half, 2 * half)
    for _ in range(int(rng.integers(0, 4))):  # rings and bands
        row = int(y - rng.uniform(0, 1) * tall)
        cv2.rectangle(picture, (x, row), (x + thick, row + max(1, thick // 3)), bright(rng), -1)


def railing(rng: np.random.Generator, picture: Bytes, x: int, y: int, size: float) -> None:
    """A fence, a railing or a row of bollards."""
    count, step = int(rng.integers(6, 40)), max(2.0, size * rng.uniform(0.06, 0.35))
    tall, colour, thick = int(size * rng.uniform(0.3, 0.8)), dull(rng), int(rng.integers(1, 4))
    drop = rng.normal(0, 0.08)
    for index in range(count):
        at, foot = int(x + index * step), int(y + index * step * drop)
        cv2.line(picture, (at, foot - tall), (at, foot), colour, thick)
    end = (int(x + count * step), int(y + count * step * drop))
    for up in (tall, tall // 8):
        cv2.line(picture, (x, y - up), (end[0], end[1] - up), colour, thick + 1)


def bicycle(rng: np.random.Generator, picture: Bytes, x: int, y: int, size: float) -> None:
    """A parked bicycle from the side, or a row of them."""
    wheel = max(3, int(0.19 * size))
    for index in range(int(rng.choice([1, 1, 1, 4]))):
        left, hub, paint = x + int(index * 0.5 * size), y - wheel, bright(rng)
        for at in (left, left + int(2.8 * wheel)):
            cv2.circle(picture, (at, hub), wheel, _TYRE, max(1, wheel // 8), cv2.LINE_AA)
        right = left + int(2.8 * wheel)
        seat, bar, crank = (
            (left + int(0.8 * wheel), hub - int(1.3 * wheel)),
            (right - wheel // 2, hub - int(1.5 * wheel)),
            (left + int(1.2 * wheel), hub),
        )
        for a, b in (
            (left_hub := (left, hub), seat),
            (seat, crank),
            (crank, bar),
            (bar, (right, hub)),
            (left_hub, crank),
            (seat, bar),
        ):
            cv2.line(picture, a, b, paint, max(1, wheel // 9), cv2.LINE_AA)


def sign(rng: np.random.Generator, picture: Bytes, x: int, y: int, size: float) -> None:
    """A board at any height above the foot point."""
    wide, tall = int(size * rng.uniform(0.15, 1.2)) + 3, int(size * rng.uniform(0.2, 1.0)) + 3
    board(rng, picture, x, int(y - size * rng.uniform(0.2, 1.8)) - tall, wide, tall)


def lump(rng: np.random.Generator, picture: Bytes, x: int, y: int, size: float) -> None:
    """Two or three blobs on top of each other in the proportions of anything."""
    top = float(y)
    for _ in range(int(rng.integers(1, 4))):
        half_w, half_h = size * rng.uniform(0.05, 0.4), size * rng.uniform(0.08, 0.45)
        centre = (int(x + rng.normal(0, 0.05) * size), int(top - half_h))
        colour = dull(rng) if rng.random() < 0.7 else bright(rng)
        if rng.random() < 0.5:
            cv2.ellipse(
                picture,
                centre,
                (int(half_w) + 1, int(half_h) + 1),
                rng.normal(0, 8),
                0,
                360,
                colour,
                -1,
                cv2.LINE_AA,
            )
        else:
            corner = (int(centre[0] + half_w), int(centre[1] + half_h))
            cv2.rectangle(
                picture, (int(centre[0] - half_w), int(centre[1] - half_h)), corner, colour, -1
            )
        top -= 2 * half_h * rng.uniform(0.6, 1)


OBJECTS: tuple[Draw, ...] = (
    saloon, saloon, front_of_car, bus, trunk, trunk, foliage, post, post, post, railing, bicycle,
    sign, sign, lump, lump,
)  # fmt: skip
"""What a scene draws from; a name that stands twice is drawn twice as often."""


def _polygon(
    picture: Bytes, points: list[tuple[int, int]], colour: tuple[float, float, float]
) -> None:
    cv2.fillPoly(picture, [np.array(points, np.int32)], colour, cv2.LINE_AA)


def _on_wheels(picture: Bytes, hubs: list[tuple[int, int]], radius: float) -> None:
    for hub in hubs:
        cv2.circle(picture, hub, int(radius) + 1, _TYRE, -1, cv2.LINE_AA)
        cv2.circle(picture, hub, int(radius * 0.55) + 1, (135.0, 135.0, 138.0), -1, cv2.LINE_AA)


def _shadow_below(picture: Bytes, middle: tuple[int, int], half_w: int, half_h: int) -> None:
    cv2.ellipse(picture, middle, (half_w, half_h), 0, 0, 360, (30.0, 30.0, 32.0), -1)
