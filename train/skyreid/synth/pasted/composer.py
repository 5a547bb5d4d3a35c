"""Training pictures with their boxes, as many as are asked for, out of a stock.

A picture is a function of the stock, the composer's seed and the generator it is given, of nothing
else: who trains again from the same seeds sees the same pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from skyreid.synth.pasted.canvas import Canvas, Pasted, cast_shadow, contact_shadow
from skyreid.synth.pasted.clutter import clutter
from skyreid.synth.pasted.rendition import degraded, muted
from skyreid.synth.pasted.scaling import Scalable, premultiplied, scalable
from skyreid.synth.pasted.stock import Stock
from skyreid.synth.shading import Bytes, Picture

Boxes = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
Labelled = tuple[Bytes, Boxes, Flags]
"""Picture uint8 [S, S, 3] RGB; boxes [K, 4] x0, y0, x1, y1 clipped to it; ignored [K]."""

LEAST_PX = 16
"""Lower people are neither positive nor negative."""
HIDDEN_BELOW = 0.3
CUT_BELOW = 0.3
_HEIGHTS_PX = (20.0, 330.0)
_DECOY_HEIGHTS_PX = (14.0, 300.0)
_TURNED_FROM_PX = 80.0
_GROUP_SIZES = (0, 1, 1, 2, 2, 3, 4, 6, 9)
_CROWD = 0.12  # of the pictures: many small people
_CLOSE_UP = 0.3  # of the others: somebody of a third of the picture's height to beyond it
_CLOSE_UP_HEIGHTS = (0.35, 1.8)  # of the picture's
_LARGE = 0.45  # of the picture's height: from here on the head mostly stays in it


class Composer:
    """Pastes the people of a stock onto clutter and onto real frames that show nobody."""

    def __init__(self, stock: Stock, *, side_px: int, seed: int, grounds: int = 300) -> None:
        """Set up.

        Args:
            stock: what is pasted.
            side_px: sides of the pictures.
            seed: of the clutter.
            grounds: how many pictures of clutter are drawn; they are drawn when first used.
        """
        self._side, self._seed = side_px, seed
        self._clutter: list[Bytes | None] = [None] * grounds
        self._cast = [(scalable(c.rgba), c.body) for c in stock.people if c.body is not None]
        self._things = [scalable(cutout.rgba) for cutout in stock.things]
        self._frames = stock.empty

    def on_clutter(self, rng: np.random.Generator) -> Labelled:
        """People on procedural clutter."""
        ground = self._window(rng, self._some_clutter(rng), 0.5, 1.4)
        return _degraded(rng, self._peopled(rng, ground))

    def on_empty(self, rng: np.random.Generator) -> Labelled:
        """People on a real frame; on clutter if the stock has no frames."""
        if not self._frames:
            return self.on_clutter(rng)
        ground = self._window(rng, self._some_empty(rng), 0.35, 1.6)
        return _degraded(rng, self._peopled(rng, ground))

    def empty(self, rng: np.random.Generator) -> Labelled:
        """Nobody: a real frame as it is, or clutter with things on it."""
        if self._frames and rng.random() < 0.7:
            picture = self._window(rng, self._some_empty(rng), 0.35, 1.6)
            return _degraded(rng, (picture, *_nobody()))
        canvas = Canvas(self._window(rng, self._some_clutter(rng), 0.5, 1.4))
        self._decoys(rng, canvas, int(rng.integers(0, 9)))
        return _degraded(rng, (canvas.finished(), *_nobody()))

    def among(self, rng: np.random.Generator, labelled: Labelled) -> Labelled:
        """A few pasted people and things more in a picture that has people already."""
        picture, boxes, ignored = labelled
        canvas = Canvas(picture)
        self._decoys(rng, canvas, int(rng.integers(0, 3)))
        people = self._people(rng, canvas, int(rng.integers(0, 4)))
        more, out = _labels(canvas, people)
        hidden = [canvas.covered(box) > 0.6 for box in boxes]
        return (
            canvas.finished(),
            np.concatenate([boxes, more]),
            np.concatenate([ignored | np.array(hidden, bool), out]),
        )

    def _peopled(self, rng: np.random.Generator, ground: Bytes) -> Labelled:
        canvas = Canvas(ground)
        self._decoys(rng, canvas, int(rng.integers(0, 6)))
        crowd = rng.random() < _CROWD
        count = int(rng.integers(8, 26)) if crowd else int(rng.choice(_GROUP_SIZES))
        people = self._people(rng, canvas, count, crowd=crowd)
        self._decoys(rng, canvas, int(rng.choice([0, 0, 1, 2])))  # these may hide people
        return canvas.finished(), *_labels(canvas, people)

    def _people(
        self, rng: np.random.Generator, canvas: Canvas, count: int, *, crowd: bool = False
    ) -> list[Pasted]:
        """Groups of like size, the larger lower and in front; some anywhere in any size."""
        side = self._side
        low, high = (18.0, 90.0) if crowd else _HEIGHTS_PX
        base = _log_uniform(rng, low, high)
        alike = [base * float(np.exp(rng.normal(0, 0.18))) for _ in range(count)]
        heights = [h if rng.random() < 0.8 else _log_uniform(rng, low, high) for h in alike]
        if count and not crowd and rng.random() < _CLOSE_UP:
            heights[0] = _log_uniform(rng, *_CLOSE_UP_HEIGHTS) * side
        foot_line, gather_x = rng.uniform(0.25, 1.1) * side, rng.uniform(0, side)
        fall = rng.uniform(0.1, 0.9)
        pasted = []
        for number, height in enumerate(sorted(heights), 1):
            whom = self._cast[int(rng.integers(len(self._cast)))]
            middle = (
                gather_x + rng.normal(0, 0.25) * height
                if rng.random() < 0.4
                else rng.uniform(-0.05, 1.05) * side
            )
            if height > _LARGE * side:
                foot = height * rng.uniform(0.85, 1.0) + rng.uniform(0, 0.6) * side
            elif rng.random() < 0.75:
                foot = foot_line + (height - base) * fall + rng.normal(0, 6)
            else:
                foot = rng.uniform(0.1, 1.15) * side
            person = _paste_person(rng, canvas, *whom, height, (middle, foot), number)
            if person is not None:
                pasted.append(person)
        return pasted

    def _decoys(self, rng: np.random.Generator, canvas: Canvas, count: int) -> None:
        """What is no person, pasted exactly as people are."""
        side = self._side
        for _ in range(count):
            height = _log_uniform(rng, *_DECOY_HEIGHTS_PX)
            kind = rng.random()
            if kind < 0.4 and self._things:
                decoy = _sized(rng, self._things[int(rng.integers(len(self._things)))], height)
            elif kind < 0.6:
                # A person upside down or lying is none that could be standing there; a small one
                # might be somebody seen from above.
                height = max(height, _TURNED_FROM_PX)
                person, _ = self._cast[int(rng.integers(len(self._cast)))]
                turn = cv2.ROTATE_180 if rng.random() < 0.5 else cv2.ROTATE_90_CLOCKWISE
                decoy = np.asarray(cv2.rotate(_sized(rng, person, height), turn), np.float32)
            else:
                decoy = self._patch(rng, height)
            x, y = (int(rng.uniform(-0.3, 1) * side) for _ in range(2))
            canvas.paste(muted(rng, decoy), x, y)

    def _patch(self, rng: np.random.Generator, height: float) -> Picture:
        """A piece of another ground, cut to a bar, an ellipse or a polygon; premultiplied."""
        tall = int(max(6, height))
        wide = int(np.clip(tall * _log_uniform(rng, 0.12, 2), 4, 400))
        source = self._some_empty(rng) if rng.random() < 0.4 else self._some_clutter(rng)
        colours = self._window(rng, source, 0.35, 1.6, (wide, tall))
        alpha = np.zeros((tall, wide), np.uint8)
        shape = rng.random()
        if shape < 0.4:
            alpha[:] = 255
        elif shape < 0.7:
            axes = (max(1, wide // 2 - 1), max(1, tall // 2 - 1))
            cv2.ellipse(alpha, (wide // 2, tall // 2), axes, 0, 0, 360, (255,), -1, cv2.LINE_AA)
        else:
            corners = (rng.random((6, 2)) * [wide, tall]).astype(np.int32)
            cv2.fillPoly(alpha, [cv2.convexHull(corners)], (255,), cv2.LINE_AA)
        return premultiplied(np.dstack([colours, alpha])).astype(np.float32)

    def _some_clutter(self, rng: np.random.Generator) -> Bytes:
        index = int(rng.integers(len(self._clutter)))
        drawn = self._clutter[index]
        if drawn is None:
            drawn = clutter(np.random.default_rng([self._seed, index, 33]))
            self._clutter[index] = drawn
        return drawn

    def _some_empty(self, rng: np.random.Generator) -> Bytes:
        if not self._frames:
            return self._some_clutter(rng)
        return self._frames[int(rng.integers(len(self._frames)))]

    def _window(
        self,
        rng: np.random.Generator,
        picture: Bytes,
        low: float,
        high: float,
        size: tuple[int, int] | None = None,
    ) -> Bytes:
        """A square window of a picture, perhaps mirrored.

        Resized by a factor from a range to the composer's size, or to another width and height. A
        picture that is too small for its factor goes on as its mirror image, twice its size at
        most: or no small picture would ever be seen from farther away.
        """
        most = 2 * min(picture.shape[:2]) - 1
        cut = int(min(self._side / _log_uniform(rng, low, high), most))
        below, beside = (max(0, cut - extent) for extent in picture.shape[:2])
        if below or beside:
            border = cv2.BORDER_REFLECT_101
            picture = np.asarray(cv2.copyMakeBorder(picture, 0, below, 0, beside, border), np.uint8)
        height, width = picture.shape[:2]
        y, x = (int(rng.integers(0, extent - cut + 1)) for extent in (height, width))
        size = size or (self._side, self._side)
        how = cv2.INTER_AREA if cut > max(size) else cv2.INTER_LINEAR
        out = cv2.resize(picture[y : y + cut, x : x + cut], size, interpolation=how)
        return np.asarray(cv2.flip(out, 1) if rng.random() < 0.5 else out, np.uint8)


def _paste_person(
    rng: np.random.Generator,
    canvas: Canvas,
    person: Scalable,
    body: tuple[int, int, int, int],
    height: float,
    at: tuple[float, float],
    number: int,
) -> Pasted | None:
    """Paste with the middle of the feet `at` column and row; None if it fell beside the picture."""
    left, top, right, bottom = body
    own_h, own_w = person.size
    cutout = _sized(rng, person, height * max(own_h, own_w) / (bottom - top))
    if rng.random() < 0.5:
        cutout = np.asarray(cv2.flip(cutout, 1), np.float32)
        left, right = own_w - right, own_w - left
    sx, sy = cutout.shape[1] / own_w, cutout.shape[0] / own_h
    x = int(at[0] - sx * (left + right) / 2)
    y = int(at[1] - sy * bottom)
    sun = rng.random()
    if sun < 0.2:
        shadow, column = cast_shadow(rng, cutout[..., 3] / np.float32(255))
        canvas.darken(shadow, x - column, y + cutout.shape[0] - 1 - int(0.01 * height))
    if sun < 0.45:
        shadow = contact_shadow(rng, int(sx * (right - left)))
        canvas.darken(shadow, int(at[0]) - shadow.shape[1] // 2, int(at[1]) - shadow.shape[0] // 2)
    pixels = canvas.paste(muted(rng, cutout), x, y, number)
    if pixels == 0:
        return None
    return Pasted(number, (x + sx * left, y + sy * top, x + sx * right, y + sy * bottom), pixels)


def _sized(rng: np.random.Generator, cutout: Scalable, longest: float) -> Picture:
    """A cut-out whose longer side has so many pixels, a little wider or slimmer; premultiplied."""
    height, width = cutout.size
    scale = longest / max(height, width)
    wide = scale * float(np.exp(rng.normal(0, 0.06)))
    return cutout.at(max(3, round(height * scale)), max(3, round(width * wide)))


def _labels(canvas: Canvas, people: Sequence[Pasted]) -> tuple[Boxes, Flags]:
    """Boxes clipped to the picture, and who is too hidden, too cut or too small to ask for."""
    height, width = canvas.owner.shape
    boxes, ignored = [], []
    for person in people:
        x0, y0, x1, y1 = person.body
        box = [max(0.0, x0), max(0.0, y0), min(float(width), x1), min(float(height), y1)]
        kept = max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1]) / ((x1 - x0) * (y1 - y0))
        if kept < 0.02:
            continue
        hidden = canvas.visibility(person) < HIDDEN_BELOW
        boxes.append(box)
        ignored.append(hidden or kept < CUT_BELOW or y1 - y0 < LEAST_PX)
    return np.array(boxes, np.float32).reshape(-1, 4), np.array(ignored, bool)


def _nobody() -> tuple[Boxes, Flags]:
    return np.zeros((0, 4), np.float32), np.zeros(0, bool)


def _degraded(rng: np.random.Generator, labelled: Labelled) -> Labelled:
    picture, boxes, ignored = labelled
    return degraded(rng, picture), boxes, ignored


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
