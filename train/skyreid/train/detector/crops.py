"""Training pictures: random windows of frames, resized, mirrored and recoloured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, Strict, model_validator

from skyreid.train.detector.clips import People, UInt8
from skyreid.train.options import Options

Sample = tuple[UInt8, NDArray[np.float32], NDArray[np.bool_]]
"""A training picture uint8 [h, w, 3] RGB; boxes float32 [K, 4] x0, y0, x1, y1 in its pixels, inside
it; and bool [K], whom of them the detector is neither taught to find nor to leave out."""

Source = Callable[[np.random.Generator], Sample]
"""Where training pictures come from: what it returns follows from the generator alone."""


class CropRules(Options):
    """How a window of a frame is cut and changed."""

    height_px: int = Field(320, gt=0, multiple_of=16)
    width_px: int = Field(320, gt=0, multiple_of=16)
    scale: Annotated[
        tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]], Strict(False)
    ] = (0.7, 1.4)
    """The frame is resized by a factor from this range (log-uniform) before the window is cut."""
    on_person: float = Field(0.7, ge=0, le=1)
    """Chance that the window is laid over a person instead of anywhere."""
    hidden_below: float = Field(0.3, ge=0, le=1)
    """People with less visibility are neither positive nor negative."""
    cut_below: float = Field(0.3, ge=0, le=1)
    """Likewise people of whom the window keeps less than this part."""

    @model_validator(mode="after")
    def _scales_are_a_range(self) -> CropRules:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale = {list(self.scale)} names the larger factor first")
        if self.scale[1] > min(self.height_px, self.width_px):
            raise ValueError(f"scale = {list(self.scale)} leaves a window less than one pixel")
        return self


def windows(frames: Sequence[tuple[UInt8, People]], rules: CropRules) -> Source:
    """Windows of frames that lie in memory, every frame as likely as any other.

    Args:
        frames: uint8 [H, W, 3] RGB with their people; not empty.
        rules: how a window is cut and changed.
    """

    def draw(random: np.random.Generator) -> Sample:
        frame, people = frames[int(random.integers(len(frames)))]
        return cut(frame, people, rules, random)

    return draw


def cut(frame: UInt8, people: People, rules: CropRules, random: np.random.Generator) -> Sample:
    """One training picture."""
    height, width = frame.shape[:2]
    scale = float(np.exp(random.uniform(*np.log(rules.scale))))
    window_h = min(height, round(rules.height_px / scale))
    window_w = min(width, round(rules.width_px / scale))
    if len(people.boxes) and random.random() < rules.on_person:
        x0, y0, x1, y1 = people.boxes[random.integers(len(people.boxes))]
        centre_x, centre_y = (x0 + x1) / 2, (y0 + y1) / 2
        left = centre_x - random.uniform(0.1, 0.9) * window_w
        top = centre_y - random.uniform(0.1, 0.9) * window_h
    else:
        left, top = random.uniform(0, width - window_w), random.uniform(0, height - window_h)
    x, y = (
        int(np.clip(left, 0, width - window_w)),
        int(np.clip(top, 0, height - window_h)),
    )
    picture = cv2.resize(
        frame[y : y + window_h, x : x + window_w],
        (rules.width_px, rules.height_px),
        interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
    )
    sides = np.array([rules.width_px / window_w, rules.height_px / window_h] * 2, np.float32)
    whole = (people.boxes - np.array([x, y, x, y], np.float32)) * sides
    limit = np.array([rules.width_px, rules.height_px] * 2, np.float32)
    boxes = np.clip(whole, 0, limit)
    kept = _area(boxes) / np.maximum(_area(whole), 1e-6)
    inside = kept > 0
    ignored = (people.visibility < rules.hidden_below) | (kept < rules.cut_below)
    boxes, ignored = boxes[inside], ignored[inside]
    if random.random() < 0.5:
        picture = picture[:, ::-1]
        boxes = boxes[:, [2, 1, 0, 3]] * [-1, 1, -1, 1] + [rules.width_px, 0, rules.width_px, 0]
    return recolour(picture, random), boxes.astype(np.float32), ignored


def recolour(picture: UInt8, random: np.random.Generator) -> UInt8:
    """Exposure, contrast, white balance, saturation, blur and noise as cameras differ in them.

    Everything that is linear in the colour is one 3 x 4 matrix, so that a picture costs one pass.
    """
    gain = np.exp(random.normal(0, 0.2) + random.normal(0, 0.06, 3))
    contrast, saturation = np.exp(random.normal(0, 0.18)), random.uniform(0.5, 1.3)
    mix = contrast * (saturation * np.eye(3) + (1 - saturation) / 3) * gain[None, :]
    middle = float((picture.mean((0, 1)) * gain).mean())
    shift = np.full((3, 1), middle * (1 - contrast))
    out: UInt8 = cv2.transform(picture, np.hstack([mix, shift]))
    if random.random() < 0.3:
        out = cv2.GaussianBlur(out, (0, 0), random.uniform(0.4, 1.0))
    if random.random() < 0.4:
        noise = random.standard_normal(out.shape[:2], np.float32) * random.uniform(1, 8)
        out = cv2.add(out, cv2.merge([noise.astype(np.float32)] * 3), dtype=cv2.CV_8U)
    return out


def _area(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    area: NDArray[np.float32] = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return area
