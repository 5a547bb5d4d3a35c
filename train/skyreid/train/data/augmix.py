"""AugMix on a batch: pictures mixed with changed copies of themselves.

Hendrycks et al., "AugMix: A Simple Data Processing Method to Improve Robustness and Uncertainty",
ICLR 2020 (arXiv:1912.02781), as the re-identification framework runs it that GSAlign stands on:
three chains of one operation at severity 1, Dirichlet and Beta weights of coefficient .1, no
consistency loss. The operations and their ranges are the paper's.

What differs: all geometry samples bilinearly, where the framework's rotation takes the nearest.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

CHAINS = 3
SEVERITY = 1  # of 10
COEFFICIENT = 0.1  # of the Dirichlet and of the Beta distribution
OPERATIONS = (
    "autocontrast",
    "equalize",
    "posterize",
    "rotate",
    "solarize",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
)


def mix(pixels: Tensor, probability: float, rng: torch.Generator) -> Tensor:
    """Float32 [B, 3, H, W] in whole numbers 0 to 255; the same, a share of them mixed.

    Args:
        pixels: RGB.
        probability: of each picture to be mixed.
        rng: where chance comes from.
    """
    chosen = torch.nonzero(torch.rand(len(pixels), generator=rng) < probability)[:, 0]
    mixed = pixels.clone()
    for index in chosen.tolist():
        original = pixels[index]
        weights = _dirichlet(CHAINS, rng)
        share = float(_dirichlet(2, rng)[0])  # a Beta of two equal coefficients
        blend = torch.zeros_like(original)
        for weight in weights.tolist():
            name = OPERATIONS[int(torch.randint(len(OPERATIONS), (1,), generator=rng))]
            level = SEVERITY * (0.1 + 0.9 * float(torch.rand(1, generator=rng)))
            sign = 1 - 2 * int(torch.randint(2, (1,), generator=rng))
            blend += weight * changed(original, name, level, sign)
        mixed[index] = ((1 - share) * original + share * blend).floor()
    return mixed


def _dirichlet(count: int, rng: torch.Generator) -> Tensor:
    """Weights float64 [count] of sum 1, of the symmetric Dirichlet of COEFFICIENT.

    Gamma draws divided by their sum, in logarithms since they underflow at a small coefficient;
    torch's own distributions take no generator.
    """
    logs = torch.tensor([_log_gamma_variate(rng) for _ in range(count)], dtype=torch.float64)
    return torch.softmax(logs, 0)


def _log_gamma_variate(rng: torch.Generator) -> float:
    """Logarithm of a Gamma(a) draw, a = COEFFICIENT, after Marsaglia and Tsang (2000).

    Gamma(a + 1) by their rejection, times U^(1/a), which makes it Gamma(a) for a below 1.
    """
    d = COEFFICIENT + 1 - 1 / 3
    c = 1 / math.sqrt(9 * d)
    while True:
        x = float(torch.randn(1, generator=rng, dtype=torch.float64))
        v = (1 + c * x) ** 3
        u = 1 - float(torch.rand(1, generator=rng, dtype=torch.float64))  # never 0
        if v > 0 and math.log(u) < 0.5 * x * x + d - d * v + d * math.log(v):
            boost = 1 - float(torch.rand(1, generator=rng, dtype=torch.float64))
            return math.log(d * v) + math.log(boost) / COEFFICIENT


def changed(picture: Tensor, name: str, level: float, sign: int) -> Tensor:
    """One operation on one picture.

    Args:
        picture: float32 [3, H, W] in whole numbers 0 to 255.
        name: one of OPERATIONS.
        level: how far, 0 to 10.
        sign: 1 or -1, which way a geometric operation goes.
    """
    _, height, width = picture.shape
    match name:
        case "autocontrast":
            low, high = picture.amin((1, 2), True), picture.amax((1, 2), True)
            stretched = ((picture - low) * (255 / (high - low).clamp(min=1))).floor()
            return torch.where(high > low, stretched, picture).clamp(0, 255)
        case "equalize":
            return torch.stack([_equalized(channel) for channel in picture])
        case "posterize":
            step = 2.0 ** (4 + int(level * 4 / 10))  # 4 - int(..) of 8 bits are kept
            return (picture / step).floor() * step
        case "solarize":
            threshold = 256 - int(level * 256 / 10)
            return torch.where(picture < threshold, picture, 255 - picture)
        case "rotate":
            angle = math.radians(sign * int(level * 30 / 10))
            cos, sin = math.cos(angle), math.sin(angle)
            aspect = height / width
            return _moved(picture, [[cos, -sin * aspect, 0.0], [sin / aspect, cos, 0.0]])
        case "shear_x":  # in pixels x' = x + s y, with y from the picture's upper edge
            shear = sign * level * 0.3 / 10 * height / width
            return _moved(picture, [[1.0, shear, shear], [0.0, 1.0, 0.0]])
        case "shear_y":
            shear = sign * level * 0.3 / 10 * width / height
            return _moved(picture, [[1.0, 0.0, 0.0], [shear, 1.0, shear]])
        case "translate_x":
            return _moved(picture, [[1.0, 0.0, 2 * _pixels(sign, level, width)], [0.0, 1.0, 0.0]])
        case "translate_y":
            return _moved(picture, [[1.0, 0.0, 0.0], [0.0, 1.0, 2 * _pixels(sign, level, height)]])
    raise ValueError(f"no operation is called {name!r}")


def _pixels(sign: int, level: float, size: int) -> float:
    """A shift of whole pixels as a share of `size`; at most a third of it at level 10."""
    return sign * int(level * (size / 3) / 10) / size


def _equalized(channel: Tensor) -> Tensor:
    """[H, W] with a flat histogram, in whole numbers as imaging libraries do it."""
    counts = torch.bincount(channel.flatten().to(torch.int64), minlength=256)
    filled = counts[counts > 0]
    step = int(filled[:-1].sum()) // 255
    if step == 0:
        return channel
    before = counts.cumsum(0) - counts
    table = ((before + step // 2) // step).clamp(max=255)
    return table[channel.to(torch.int64)].to(channel.dtype)


def _moved(picture: Tensor, rows: list[list[float]]) -> Tensor:
    """Sampled where an affine map in coordinates -1 to 1 points to; black comes from outside."""
    theta = torch.tensor([rows], dtype=picture.dtype)
    grid = F.affine_grid(theta, [1, *picture.shape], align_corners=False)
    return F.grid_sample(picture[None], grid, align_corners=False)[0].round()
