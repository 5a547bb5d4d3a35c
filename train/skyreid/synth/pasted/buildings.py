"""What stands behind people, drawn flat: fronts of houses, shops, walls, rooms.

Every function draws into a rectangle x, y, width, height (pixels) of a picture uint8 [H, W, 3].
"""

from __future__ import annotations

import cv2
import numpy as np

from skyreid.synth.pasted.textures import bright, darker, dull
from skyreid.synth.shading import Bytes

WORDS = tuple(
    "OPEN CAFE BANK SALE 50% EXIT BUS P TAXI HOTEL MARKET 24h STOP Shop PHARMACY No7 "
    "RESTAURANT books ZONE A12 METRO kiosk FILM Bistro 118 WC Info GARAGE".split()
)


def front(
    rng: np.random.Generator, picture: Bytes, x: int, y: int, width: int, height: int
) -> None:
    """A house: wall, rows of windows, ledges, pilasters, at the bottom doors or a shop."""
    wall = dull(rng)
    cv2.rectangle(picture, (x, y), (x + width, y + height), wall, -1)
    if rng.random() < 0.35:
        _courses(rng, picture, x, y, width, height)
    ground_floor = int(height * rng.uniform(0.15, 0.4)) if rng.random() < 0.7 else 0
    windows(rng, picture, x, y, width, height - ground_floor)
    if rng.random() < 0.5:
        _pilasters(rng, picture, x, y, width, height)
    if ground_floor:
        _shops(rng, picture, x, y + height - ground_floor, width, ground_floor)


def windows(
    rng: np.random.Generator, picture: Bytes, x: int, y: int, width: int, height: int
) -> None:
    """A regular grid of windows or doors with frames, bars, curtains and reflections."""
    cell_w, cell_h = rng.uniform(14, 90), rng.uniform(20, 130)
    part_w, part_h = rng.uniform(0.35, 0.85), rng.uniform(0.4, 0.9)
    glass, frame, sill = dull(rng), dull(rng), dull(rng)
    thick = int(rng.integers(1, 4))
    bars, framed = int(rng.integers(0, 3)), rng.random() < 0.6
    for row in range(min(12, max(1, int(height / cell_h)))):
        for column in range(min(16, max(1, int(width / cell_w)))):
            left, top = int(x + (column + 0.12) * cell_w), int(y + (row + 0.1) * cell_h)
            right, low = int(left + part_w * cell_w), int(top + part_h * cell_h)
            pane = darker(glass, float(np.exp(rng.normal(0, 0.25))))
            cv2.rectangle(picture, (left, top), (right, low), pane, -1)
            if rng.random() < 0.3:  # a blind or a curtain, or what is reflected
                cut = int(top + rng.uniform(0.2, 0.9) * (low - top))
                cv2.rectangle(picture, (left, top), (right, cut), dull(rng), -1)
            for bar in range(bars):
                at = left + (right - left) * (bar + 1) // (bars + 1)
                cv2.line(picture, (at, top), (at, low), frame, 1)
            if framed:
                cv2.rectangle(picture, (left, top), (right, low), frame, thick)
                cv2.line(picture, (left - 2, low + 1), (right + 2, low + 1), sill, thick)


def board(
    rng: np.random.Generator, picture: Bytes, x: int, y: int, width: int, height: int
) -> None:
    """A sign with a word, a poster with shapes, or an empty board; some on legs."""
    cv2.rectangle(picture, (x, y), (x + width, y + height), bright(rng), -1)
    if rng.random() < 0.6:
        text(rng, picture, x + 3, y + height * 2 // 3, max(6, height // 2))
    else:
        for _ in range(int(rng.integers(0, 5))):
            centre = (
                int(x + rng.uniform(0.1, 0.9) * width),
                int(y + rng.uniform(0.1, 0.9) * height),
            )
            axes = (
                int(rng.uniform(0.05, 0.4) * width) + 1,
                int(rng.uniform(0.05, 0.4) * height) + 1,
            )
            cv2.ellipse(picture, centre, axes, rng.uniform(0, 180), 0, 360, bright(rng), -1)
    if rng.random() < 0.5:
        cv2.rectangle(picture, (x, y), (x + width, y + height), dull(rng), int(rng.integers(1, 4)))
    if rng.random() < 0.5:
        legs = (0.5,) if rng.random() < 0.5 else (0.15, 0.85)
        for leg in legs:
            at, low = int(x + leg * width), int(y + height + rng.uniform(15, 150))
            cv2.line(picture, (at, y + height), (at, low), dull(rng), int(rng.integers(2, 6)))


def text(rng: np.random.Generator, picture: Bytes, x: int, y: int, height: int) -> None:
    """A word, its baseline at y."""
    word, font = WORDS[rng.integers(len(WORDS))], int(rng.integers(0, 4))
    thick = int(rng.integers(1, max(2, height // 6 + 1)))
    cv2.putText(picture, word, (x, y), font, height / 22, bright(rng), thick, cv2.LINE_AA)


def room(rng: np.random.Generator, picture: Bytes) -> None:
    """Indoors, the whole picture: walls, a floor with tiles, doors, shelves, lights, a counter."""
    height, width = picture.shape[:2]
    floor = int(height * rng.uniform(0.3, 0.75))
    picture[:floor], picture[floor:] = dull(rng), dull(rng)
    corner = int(rng.uniform(0, width))
    cv2.rectangle(picture, (corner, 0), (width, floor), dull(rng), -1)
    lit = np.linspace(-1, 1, width, dtype=np.float32)[None, :, None] * np.float32(rng.normal(0, 20))
    picture[:] = cv2.add(picture, np.repeat(lit, height, 0).repeat(3, 2), dtype=cv2.CV_8U)
    kind = rng.choice(["tiles", "boards", "carpet"])
    if kind == "tiles":
        _tiles(rng, picture, floor)
    elif kind == "boards":
        _boards(rng, picture, floor)
    for _ in range(int(rng.integers(0, 4))):  # lamps and windows, seen in the floor
        _shine(rng, picture, int(rng.uniform(floor, height)))
    for _ in range(int(rng.integers(1, 5))):
        left, wide = int(rng.uniform(-0.1, 0.9) * width), int(rng.uniform(20, 150))
        tall = int(rng.uniform(0.3, 1.0) * floor)
        if rng.random() < 0.5:
            windows(rng, picture, left, floor - tall, wide, tall)
        else:
            cv2.rectangle(picture, (left, floor - tall), (left + wide, floor), dull(rng), -1)
            cv2.rectangle(picture, (left, floor - tall), (left + wide, floor), dull(rng), 2)
    for _ in range(int(rng.integers(0, 4))):  # tables and counters
        left, top = int(rng.uniform(-0.1, 0.9) * width), int(rng.uniform(floor * 0.8, height))
        wide, tall = int(rng.uniform(30, 200)), int(rng.uniform(20, 120))
        cv2.rectangle(picture, (left, top), (left + wide, top + tall), dull(rng), -1)
        cv2.rectangle(picture, (left, top), (left + wide, top + tall // 5 + 1), dull(rng), -1)


def _tiles(rng: np.random.Generator, picture: Bytes, floor: int) -> None:
    """Joints that meet behind the wall, and such that run along it."""
    height, width = picture.shape[:2]
    line, meet = dull(rng), int(rng.uniform(0, width))
    for at in range(-width, 2 * width, int(rng.uniform(18, 90))):
        cv2.line(picture, (meet + (at - meet) // 4, floor), (at, height), line, 1, cv2.LINE_AA)
    row, gap = float(floor), rng.uniform(3, 12)
    while row < height:
        cv2.line(picture, (0, int(row)), (width, int(row)), line, 1)
        row, gap = row + gap, gap * 1.35


def _boards(rng: np.random.Generator, picture: Bytes, floor: int) -> None:
    """Wood: boards that meet behind the wall, each a little lighter or darker."""
    height, width = picture.shape[:2]
    wood = (rng.uniform(60, 190), rng.uniform(40, 130), rng.uniform(25, 100))
    meet, wide = rng.uniform(0, width), int(rng.uniform(10, 60))
    for at in range(-width, 2 * width, wide):
        far = [meet + (x - meet) / 4 for x in (at, at + wide)]
        corners = np.array([(far[0], floor), (far[1], floor), (at + wide, height), (at, height)])
        shade = darker(wood, float(np.exp(rng.normal(0, 0.12))))
        cv2.fillConvexPoly(picture, corners.astype(np.int32), shade, cv2.LINE_AA)


def _shine(rng: np.random.Generator, picture: Bytes, row: int) -> None:
    """Light that a floor throws back."""
    height, width = picture.shape[:2]
    glow = np.zeros((height, width), np.float32)
    axes = (int(rng.uniform(8, 60)), int(rng.uniform(8, 60)))
    middle = (int(rng.uniform(0, width)), row)
    cv2.ellipse(glow, middle, axes, rng.uniform(-20, 20), 0, 360, (1.0,), -1)
    glow = cv2.GaussianBlur(glow, (0, 0), float(rng.uniform(3, 15))) * np.float32(
        rng.uniform(15, 110)
    )
    picture[:] = cv2.add(picture, cv2.merge([glow] * 3), dtype=cv2.CV_8U)


def _courses(rng: np.random.Generator, picture: Bytes, x: int, y: int, w: int, h: int) -> None:
    """Bricks or slabs."""
    tall = int(rng.uniform(5, 24))
    wide, joint = int(tall * rng.uniform(1.2, 4)), dull(rng)
    for index, row in enumerate(range(y, y + h, tall)):
        cv2.line(picture, (x, row), (x + w, row), joint, 1)
        for at in range(x + (index % 2) * wide // 2, x + w, wide):
            cv2.line(picture, (at, row), (at, min(row + tall, y + h)), joint, 1)


def _pilasters(rng: np.random.Generator, picture: Bytes, x: int, y: int, w: int, h: int) -> None:
    """Tall strips with a light and a dark edge, some with a head or a foot: as slim as people."""
    step, wide = rng.uniform(25, 120), int(rng.uniform(4, 30))
    colour = dull(rng)
    low = y + int(h * rng.uniform(0.6, 1.0))
    for at in np.arange(x, x + w, step).astype(int).tolist():
        cv2.rectangle(picture, (at, y), (at + wide, low), colour, -1)
        cv2.line(picture, (at, y), (at, low), darker(colour, 1.3), 1)
        cv2.line(picture, (at + wide, y), (at + wide, low), darker(colour, 0.6), 1 + wide // 12)


def _shops(rng: np.random.Generator, picture: Bytes, x: int, y: int, w: int, h: int) -> None:
    """A row of doors and shop windows below a band with letters."""
    band = max(2, int(h * rng.uniform(0.1, 0.3)))
    cv2.rectangle(picture, (x, y), (x + w, y + band), bright(rng), -1)
    if rng.random() < 0.7:
        text(rng, picture, int(x + rng.uniform(0, 0.6) * w), y + band - 1, max(5, band * 2 // 3))
    at = x
    while at < x + w:
        wide = int(rng.uniform(0.3, 1.8) * h) + 4
        low = y + h - int(rng.uniform(0, 0.12) * h)
        cv2.rectangle(picture, (at + 2, y + band), (at + wide - 2, low), darker(dull(rng), 0.6), -1)
        if rng.random() < 0.4:  # goods, a dummy, a poster
            centre = (at + wide // 2, int(y + band + rng.uniform(0.3, 0.8) * (h - band)))
            cv2.ellipse(
                picture, centre, (max(1, wide // 6), max(1, h // 4)), 0, 0, 360, dull(rng), -1
            )
        at += wide
