"""Augmentation of pictures that are already resized, each by itself.

What happens to a picture follows from the run's seed, the number of its batch and its place in it:
whoever makes it, alone or among others, makes the same bytes. One affine resampling does shift,
scale, rotation and flip; one matrix does all that is done to colours. Random erasing: Zhong et al.,
AAAI 2020 (arXiv:1708.04896). What is off draws nothing and costs nothing.

The published augmentation of the aerial-ground methods is `Strength` with `pad`, `flip`, a black
border, `erase_tries`, `erase_area` and `erase_fill` set as `PUBLISHED` has them and the rest zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, Strict

from skyreid.train.data import augmix
from skyreid.train.data.sensor import Place, Sensor, place_of, sensed
from skyreid.train.options import Options

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]

_ALL = 1 << 31  # in the place of a row: what happens to a batch as a whole

Colour = Annotated[tuple[float, float, float], Strict(False)]


class Strength(Options):
    """How far each change of a picture may go; zero everywhere leaves it alone."""

    flip: float = Field(0.5, ge=0, le=1)
    """Probability of a mirror image."""
    shift: float = Field(0.06, ge=0, le=0.5)
    """Largest shift either way, as a share of the height or width."""
    scale: float = Field(0.12, ge=0, lt=1)
    """Largest relative change of size, either way."""
    rotate_deg: float = Field(5.0, ge=0, le=180)
    """Largest rotation, either way."""
    brightness: float = Field(0.2, ge=0, lt=1)
    """Largest relative gain of all channels, either way."""
    contrast: float = Field(0.2, ge=0, lt=1)
    """Largest relative change about the picture's mean, either way."""
    saturation: float = Field(0.2, ge=0, le=1)
    """Largest relative change about the grey picture, either way."""
    tint: float = Field(0.06, ge=0, lt=1)
    """Largest relative gain of each channel, either way: a camera's own look."""
    coarse: float = Field(0.15, ge=0, le=1)
    """Probability of half the resolution, as a small aerial crop has."""
    erase: float = Field(0.5, ge=0, le=1)
    """Probability of an erased rectangle."""
    erase_area: float = Field(0.25, ge=0.02, lt=1)
    """Largest share of the picture a rectangle takes."""
    erase_tries: int = Field(1, ge=1)
    """Above 1: rectangles of whole pixels are drawn until one fits, or none; 10 as published."""
    erase_fill: Colour | Literal["mean", "noise"] = "mean"
    """Colour of a rectangle, RGB 0 to 255; the input's mean; or a normal deviate for each
    normalised value, as CLIP-ReID has it."""
    pad: int = Field(0, ge=0)
    """Pixels of border before a random crop of the picture's own size; 10 as published."""
    black_border: bool = False
    """What comes in from outside is black, as published, instead of the input's mean."""
    augmix: float = Field(0.0, ge=0, le=1)
    """Probability of a mixture with changed copies, see `augmix.mix`."""
    sensor: Sensor = Sensor()
    """A worse camera, after the colours and before everything that moves a pixel."""


PUBLISHED = Strength(
    flip=0.5,
    shift=0.0,
    scale=0.0,
    rotate_deg=0.0,
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    tint=0.0,
    coarse=0.0,
    erase=0.5,
    erase_area=0.33,
    pad=10,
    black_border=True,
    erase_tries=10,
    erase_fill=(123.675, 116.28, 103.53),
)
"""Of VDT, ViSA, SeCap, DTST and, but for the rotation or AugMix of some data sets, GSAlign."""


class Augmentation(Options):
    """How the pictures of a run are changed, and by which chance."""

    strength: Strength
    """How far."""
    mean: Colour
    """Of the input, 0 to 255, by channel; see `InputSpec`."""
    std: Colour
    """Of the input, as `mean`."""
    seed: int
    """Of the run."""

    def batch(self, images: UInt8, number: int, first: int, index: Sequence[int]) -> Float32:
        """Some rows of a batch, normalised float32 [B, 3, H, W].

        Args:
            images: RGB uint8 [N, H, W, 3], of the whole run.
            number: of the batch, from 0.
            first: place in the batch of the first of these rows.
            index: of each row's picture in `images`.
        """
        rows = np.empty((len(index), 3, *images.shape[1:3]), np.float32)
        self.fill(rows, images, number, first, index)
        return rows

    def fill(
        self, rows: Float32, images: UInt8, number: int, first: int, index: Sequence[int]
    ) -> None:
        """As `batch`, into `rows`."""
        place = place_of(self.strength.sensor, np.random.default_rng([self.seed, number, _ALL]))
        for row, picture in enumerate(index):
            rng = np.random.default_rng([self.seed, number, first + row])
            self._change(images[picture], rng, place, rows[row])

    def _change(self, image: UInt8, rng: np.random.Generator, place: Place, out: Float32) -> None:
        """One picture, uint8 [H, W, 3] of a batch from `place`, into `out` float32 [3, H, W]."""
        strength = self.strength
        border = (0.0, 0.0, 0.0) if strength.black_border else self.mean
        pixels = image.astype(np.float32)
        if strength.pad:
            pixels = _recropped(pixels, border, strength.pad, rng)
        if any((strength.saturation, strength.contrast, strength.brightness, strength.tint)):
            pixels = _coloured(pixels, strength, rng)
        if not strength.sensor.idle:  # after the tint, so that what is grey stays grey
            taken = np.rint(pixels).astype(np.uint8)
            pixels = sensed(taken, strength.sensor, rng, place).astype(np.float32)
        mirrored = bool(strength.flip) and rng.random() < strength.flip
        if any((strength.rotate_deg, strength.scale, strength.shift)):
            pixels = _moved(pixels, border, mirrored, strength, rng)
        elif mirrored:
            pixels = pixels[:, ::-1]
        if strength.augmix and rng.random() < strength.augmix:
            pixels = augmix.mix(np.clip(np.rint(pixels), 0, 255), rng)
        if strength.coarse and rng.random() < strength.coarse:
            pixels = _halved(pixels)
        for channel, (centre, spread) in enumerate(zip(self.mean, self.std, strict=True)):
            np.subtract(pixels[..., channel], np.float32(centre), out=out[channel])
            out[channel] /= np.float32(spread)
        if strength.erase and rng.random() < strength.erase:
            self._erase(out, rng)

    def _erase(self, normal: Float32, rng: np.random.Generator) -> None:
        """Fill a rectangle of a normalised picture [3, H, W], where one fits."""
        strength, (_, height, width) = self.strength, normal.shape
        find = _fitting_hole if strength.erase_tries > 1 else _hole
        hole = find(height, width, strength, rng)
        if hole is None:
            return
        part = normal[:, hole[0], hole[1]]
        if strength.erase_fill == "noise":
            part[:] = rng.standard_normal(part.shape, np.float32)
        elif strength.erase_fill == "mean":
            part[:] = 0
        else:
            fill = np.subtract(strength.erase_fill, self.mean) / np.asarray(self.std)
            part[:] = fill.astype(np.float32)[:, None, None]


def _around_1(reach: float, rng: np.random.Generator, count: int = 1) -> NDArray[np.float64]:
    """Float64 [count], uniform in 1 - reach to 1 + reach."""
    return 1 + reach * (2 * rng.random(count) - 1)


def _recropped(pixels: Float32, border: Colour, pad: int, rng: np.random.Generator) -> Float32:
    """A crop of the same size at a random place of the picture with a border of `pad` pixels."""
    height, width, _ = pixels.shape
    top, left = rng.integers(2 * pad + 1, size=2).tolist()
    bordered: Float32 = cv2.copyMakeBorder(
        pixels, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=border
    )
    return bordered[top : top + height, left : left + width]


def _coloured(pixels: Float32, strength: Strength, rng: np.random.Generator) -> Float32:
    """Saturation about each pixel's grey, contrast about the picture's mean, then a gain."""
    (saturation,) = _around_1(strength.saturation, rng)
    (contrast,) = _around_1(strength.contrast, rng)
    gain = _around_1(strength.brightness, rng) * _around_1(strength.tint, rng, 3)
    centre = float(pixels.mean(dtype=np.float64))  # which saturation leaves as it is
    mixed = saturation * np.eye(3) + (1 - saturation) / 3
    rows = gain[:, None] * np.column_stack([contrast * mixed, np.full(3, (1 - contrast) * centre)])
    changed: Float32 = cv2.transform(pixels, rows.astype(np.float32))
    return np.clip(changed, 0, 255, out=changed)


def _moved(
    pixels: Float32, border: Colour, mirrored: bool, strength: Strength, rng: np.random.Generator
) -> Float32:
    """Turned, scaled, shifted and, where `mirrored`, a mirror image; sampled bilinearly."""
    height, width, _ = pixels.shape
    angle = math.radians(strength.rotate_deg * (2 * rng.random() - 1))
    (zoom,) = _around_1(strength.scale, rng)
    shift = strength.shift * (2 * rng.random(2) - 1) * (width, height)
    cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])
    if mirrored:
        turn[:, 0] *= -1
    middle = np.array([width - 1, height - 1]) / 2
    # From a place of the new picture, in pixels, to that of the old one it shows.
    places = np.column_stack([turn, middle + shift - turn @ middle])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved: Float32 = cv2.warpAffine(
        pixels, places, (width, height), flags=flags, borderValue=border
    )
    return moved


def _halved(pixels: Float32) -> Float32:
    """What is left of half the resolution."""
    height, width, _ = pixels.shape
    half = (max(1, width // 2), max(1, height // 2))
    small = cv2.resize(np.ascontiguousarray(pixels), half, interpolation=cv2.INTER_AREA)
    again: Float32 = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return again


def _hole(
    height: int, width: int, strength: Strength, rng: np.random.Generator
) -> tuple[slice, slice] | None:
    """Rows and columns whose upper left corners lie in a rectangle of aspect 0.3 to 3.3."""
    area, aspect, *corner = rng.random(4).tolist()
    area = 0.02 + (strength.erase_area - 0.02) * area
    aspect = math.exp(1.2 * (2 * aspect - 1))
    tall = min(math.sqrt(area * aspect) * height, height)
    wide = min(math.sqrt(area / aspect) * width, width)
    top, left = corner[0] * (height - tall), corner[1] * (width - wide)
    return (
        slice(math.ceil(top), math.ceil(top + tall)),
        slice(math.ceil(left), math.ceil(left + wide)),
    )


def _fitting_hole(
    height: int, width: int, strength: Strength, rng: np.random.Generator
) -> tuple[slice, slice] | None:
    """A rectangle of whole pixels that is smaller than the picture, drawn until it is.

    Where none of `erase_tries` fits there is none, as in the published erasing.
    """
    for _ in range(strength.erase_tries):
        draws = rng.random(4).tolist()
        area = (0.02 + (strength.erase_area - 0.02) * draws[0]) * height * width
        aspect = 0.3 * (3.3 / 0.3) ** draws[1]
        tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if tall < height and wide < width:
            top = int(draws[2] * (height - tall + 1))
            left = int(draws[3] * (width - wide + 1))
            return slice(top, top + tall), slice(left, left + wide)
    return None
