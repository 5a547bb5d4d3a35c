"""Augmentation of a whole batch at once, on pictures that are already resized.

One affine resampling does flip, shift, scale and rotation; colour and erasing are arithmetic on
the batch. Random erasing: Zhong et al., AAAI 2020 (arXiv:1708.04896).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How far each change may go; zero everywhere leaves pictures alone."""

    flip: float = 0.5  # probability of a mirror image
    shift: float = 0.06  # of the height or width, either way
    scale: float = 0.12  # relative, either way
    rotate_deg: float = 5.0  # either way
    brightness: float = 0.2  # relative gain of all channels, either way
    contrast: float = 0.2  # relative, about the picture's mean, either way
    saturation: float = 0.2  # relative, about the grey picture, either way
    tint: float = 0.06  # relative gain of each channel, either way: a camera's own look
    coarse: float = 0.15  # probability of half the resolution, as a small aerial crop has
    erase: float = 0.5  # probability of one erased rectangle
    erase_area: float = 0.25  # largest share of the picture


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
    pixels = _colour(pixels, strength, rng)
    normal = (pixels - mean[:, None, None]) / std[:, None, None]
    # Padding of zeros after normalisation is the mean colour.
    grid = F.affine_grid(
        _affine(batch, height, width, strength, rng), [batch, 3, height, width], align_corners=False
    )
    normal = F.grid_sample(normal, grid, mode="bilinear", align_corners=False)
    normal = torch.where(_chance(batch, strength.coarse, rng), _halved(normal), normal)
    return normal.masked_fill(_holes(batch, height, width, strength, rng), 0.0)


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
