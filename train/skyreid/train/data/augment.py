"""Augmentation of a whole batch at once, on pictures that are already resized.

One affine resampling does flip, shift, scale and rotation; colour and erasing are arithmetic on
the batch. Random erasing: Zhong et al., AAAI 2020 (arXiv:1708.04896).

The published augmentation of the aerial-ground methods is `Strength` with `pad`, `flip`, a black
border, `erase_tries`, `erase_area` and `erase_fill` set as `PUBLISHED` has them and the rest zero.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, Strict
from torch import Tensor
from torch.nn import functional as F

from skyreid.train.data import augmix
from skyreid.train.data.sensor import Sensor, sensed
from skyreid.train.options import Options

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


def augment(
    images: Tensor, mean: Tensor, std: Tensor, strength: Strength, rng: torch.Generator
) -> Tensor:
    """Uint8 [B, H, W, 3] to normalised float32 [B, 3, H, W], changed at random.

    Args:
        images: RGB.
        mean: float32 [3] in units of 0..255.
        std: float32 [3] in units of 0..255.
        strength: how far.
        rng: where chance comes from.
    """
    batch, height, width, _ = images.shape
    pixels = images.permute(0, 3, 1, 2).to(torch.float32)
    if strength.pad:
        outside = torch.zeros(3) if strength.black_border else mean
        pixels = _recropped(pixels, outside, strength.pad, rng)
    pixels = _colour(pixels, strength, rng)
    if not strength.sensor.idle:  # after the tint, so that what is grey stays grey
        seed = int(torch.randint(1 << 31, (1,), generator=rng))
        taken = pixels.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        seen = sensed(taken, strength.sensor, np.random.default_rng(seed))
        pixels = torch.from_numpy(seen).permute(0, 3, 1, 2).to(torch.float32)
    centre, spread = mean[:, None, None], std[:, None, None]
    normal = (pixels - centre) / spread
    grid = F.affine_grid(
        _affine(batch, height, width, strength, rng), [batch, 3, height, width], align_corners=False
    )
    # Sampling pads with zeros: after normalisation that is the mean colour.
    border = -centre / spread if strength.black_border else torch.zeros(3, 1, 1)
    normal = F.grid_sample(normal - border, grid, mode="bilinear", align_corners=False) + border
    if strength.augmix:
        pixels = (normal * spread + centre).round().clamp(0, 255)
        normal = (augmix.mix(pixels, strength.augmix, rng) - centre) / spread
    normal = torch.where(_chance(batch, strength.coarse, rng), _halved(normal), normal)
    if strength.erase_tries > 1:
        holes = _fitting_holes(batch, height, width, strength, rng)
    else:
        holes = _holes(batch, height, width, strength, rng)
    if strength.erase_fill == "mean":
        return normal.masked_fill(holes, 0.0)
    if strength.erase_fill == "noise":
        return torch.where(holes, torch.randn(normal.shape, generator=rng), normal)
    fill = (torch.tensor(strength.erase_fill) - mean) / std
    return torch.where(holes, fill[:, None, None], normal)


def _spread(count: int, reach: float, rng: torch.Generator, channels: int = 1) -> Tensor:
    """[count, channels, 1, 1] uniform in 1 - reach to 1 + reach."""
    return 1 + reach * (2 * torch.rand(count, channels, 1, 1, generator=rng) - 1)


def _chance(count: int, probability: float, rng: torch.Generator) -> Tensor:
    return torch.rand(count, 1, 1, 1, generator=rng) < probability


def _colour(pixels: Tensor, strength: Strength, rng: torch.Generator) -> Tensor:
    batch = pixels.shape[0]
    grey = pixels.mean(1, keepdim=True)
    pixels = grey + (pixels - grey) * _spread(batch, strength.saturation, rng)
    centre = pixels.mean((1, 2, 3), keepdim=True)
    pixels = centre + (pixels - centre) * _spread(batch, strength.contrast, rng)
    gain = _spread(batch, strength.brightness, rng) * _spread(batch, strength.tint, rng, 3)
    return (pixels * gain).clamp(0, 255)


def _affine(
    batch: int, height: int, width: int, strength: Strength, rng: torch.Generator
) -> Tensor:
    """[B, 2, 3] in the normalised coordinates of affine_grid."""
    angle = torch.deg2rad(strength.rotate_deg * (2 * torch.rand(batch, generator=rng) - 1))
    zoom = _spread(batch, strength.scale, rng)[:, 0, 0, 0]
    mirror = 1 - 2 * _chance(batch, strength.flip, rng)[:, 0, 0, 0].to(torch.float32)
    shift = 2 * strength.shift * (2 * torch.rand(batch, 2, generator=rng) - 1)
    aspect = height / width  # a rotation in pixels is a shear in normalised coordinates
    cos, sin = zoom * torch.cos(angle), zoom * torch.sin(angle)
    rows = [
        torch.stack([mirror * cos, -sin * aspect, shift[:, 0]], 1),
        torch.stack([mirror * sin / aspect, cos, shift[:, 1]], 1),
    ]
    return torch.stack(rows, 1)


def _recropped(pixels: Tensor, outside: Tensor, pad: int, rng: torch.Generator) -> Tensor:
    """A crop of the same size at a random place of the picture with a border of `pad` pixels."""
    batch, _, height, width = pixels.shape
    bordered = outside[:, None, None].repeat(batch, 1, height + 2 * pad, width + 2 * pad)
    bordered[:, :, pad : pad + height, pad : pad + width] = pixels
    places = torch.randint(2 * pad + 1, (batch, 2), generator=rng).tolist()
    crops = [
        one[:, top : top + height, left : left + width]
        for one, (top, left) in zip(bordered, places, strict=True)
    ]
    return torch.stack(crops)


def _halved(normal: Tensor) -> Tensor:
    small = F.avg_pool2d(normal, 2)
    return F.interpolate(small, size=normal.shape[2:], mode="bilinear", align_corners=False)


def _holes(batch: int, height: int, width: int, strength: Strength, rng: torch.Generator) -> Tensor:
    """Bool [B, 1, H, W]: one rectangle in a share of the pictures, aspect 0.3 to 3.3."""
    area = 0.02 + (strength.erase_area - 0.02) * torch.rand(batch, generator=rng)
    aspect = torch.exp(1.2 * (2 * torch.rand(batch, generator=rng) - 1))
    tall = (torch.sqrt(area * aspect) * height).clamp(max=height)
    wide = (torch.sqrt(area / aspect) * width).clamp(max=width)
    top = torch.rand(batch, generator=rng) * (height - tall)
    left = torch.rand(batch, generator=rng) * (width - wide)
    y = torch.arange(height)[None, :]
    x = torch.arange(width)[None, :]
    rows = (y >= top[:, None]) & (y < (top + tall)[:, None])  # [B, H]
    columns = (x >= left[:, None]) & (x < (left + wide)[:, None])  # [B, W]
    hole = (rows[:, :, None] & columns[:, None, :])[:, None]  # [B, 1, H, W]
    return hole & _chance(batch, strength.erase, rng)


def _fitting_holes(
    batch: int, height: int, width: int, strength: Strength, rng: torch.Generator
) -> Tensor:
    """Bool [B, 1, H, W]: one rectangle smaller than the picture, drawn until it is.

    Where none of `erase_tries` fits the picture stays whole, as in the published erasing.
    """
    holes = torch.zeros(batch, 1, height, width, dtype=torch.bool)
    erased = torch.rand(batch, generator=rng) < strength.erase
    for index in torch.nonzero(erased)[:, 0].tolist():
        for _ in range(strength.erase_tries):
            draws = torch.rand(4, generator=rng, dtype=torch.float64).tolist()
            area = (0.02 + (strength.erase_area - 0.02) * draws[0]) * height * width
            aspect = 0.3 * (3.3 / 0.3) ** draws[1]
            tall, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if tall < height and wide < width:
                top = int(draws[2] * (height - tall + 1))
                left = int(draws[3] * (width - wide + 1))
                holes[index, :, top : top + tall, left : left + wide] = True
                break
    return holes
