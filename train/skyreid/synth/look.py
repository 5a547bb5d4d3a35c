"""How a camera delivers what it sees: light of the hour, colour cast, blur, noise."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from skyreid.contract.sighting import View
from skyreid.synth.native import compiled
from skyreid.synth.options import Hour
from skyreid.synth.raster import Light
from skyreid.synth.rig import view_of
from skyreid.synth.shading import Bytes, Picture
from skyreid.synth.surfaces import Floats

NIGHT_CAMERAS = (4, 9, 13)
STREET_LAMPS = Light(225, 35, (0.42, 0.34, 0.20), (0.15, 0.17, 0.24))
SUNLIGHT = np.array([2.0, 1.9, 1.7])
SKYLIGHT = np.array([0.55, 0.6, 0.7])

_BRIGHTEST = 6.0  # linear radiance that the tone curve still tells apart
_CURVE_SIZE = 4096
_TILE_PX = 256


@dataclass(frozen=True)
class CameraLook:
    """One camera's rendition.

    `white_balance` are factors of R, G, B; `noise` is a deviation in 8-bit steps; `blur_px` a
    Gaussian's deviation; `night` raises the exposure, though not to that of the day.
    """

    white_balance: tuple[float, float, float]
    exposure: float
    gamma: float
    saturation: float
    noise: float
    blur_px: float
    jpeg_quality: int
    night: bool = False


def camera_look(camera: int, seed: int, night: bool) -> CameraLook:
    """The fixed character of a camera, by seed."""
    rng = np.random.default_rng([seed, camera, 1000])
    cast = 1 + rng.normal(0, 0.06, 3) * [1, 0.4, 1]
    sharpest, softest = (0.35, 0.7) if view_of(camera) is View.AERIAL else (0.3, 0.8)
    return CameraLook(
        white_balance=(float(cast[0]), float(cast[1]), float(cast[2])),
        exposure=float(rng.uniform(0.75, 1.25)),
        gamma=float(rng.uniform(0.88, 1.14)),
        saturation=float(rng.uniform(0.6, 1.02)),
        noise=float(rng.uniform(2, 7) + 5 * night),
        blur_px=float(rng.uniform(sharpest, softest)),
        jpeg_quality=int(rng.integers(55, 92)),
        night=night,
    )


def daylight(rng: np.random.Generator) -> Light:
    """Sun and sky of a random hour and weather: overcast, hazy or clear."""
    sun = SUNLIGHT * rng.choice([0.25, 0.8, 1.1])
    sky = SKYLIGHT * rng.uniform(0.8, 1.2)
    return make_light(rng.uniform(20, 340), rng.uniform(28, 65), sun, sky)


def dusk(rng: np.random.Generator) -> Light:
    """A low, weak and warm sun under a blue sky; shadows five times as long as people."""
    sun = SUNLIGHT * [0.5, 0.34, 0.18] * rng.choice([0.3, 1.0])
    sky = SKYLIGHT * [0.42, 0.46, 0.62]
    return make_light(rng.uniform(0, 360), rng.uniform(10, 16), sun, sky)


def light_of(hour: Hour, rng: np.random.Generator) -> Light:
    """Sun and sky, or street lamps."""
    if hour == "night":
        return STREET_LAMPS
    return dusk(rng) if hour == "dusk" else daylight(rng)


def another_hour(light: Light, rng: np.random.Generator) -> Light:
    """The same place at another hour and in other weather."""
    sun = np.array(light.sun) * rng.choice([0.15, 0.5, 1.0])
    sky = np.array(light.sky) * rng.uniform(0.85, 1.2)
    return make_light(rng.uniform(0, 360), rng.uniform(25, 70), sun, sky)


def make_light(azimuth_deg: float, elevation_deg: float, sun: Floats, sky: Floats) -> Light:
    """A light from arrays [3] of linear colour."""
    r, g, b = (float(value) for value in sun)
    sky_r, sky_g, sky_b = (float(value) for value in sky)
    return Light(float(azimuth_deg), float(elevation_deg), (r, g, b), (sky_r, sky_g, sky_b))


def jittered(look: CameraLook, rng: np.random.Generator, amount: float) -> CameraLook:
    """The camera at another hour: white balance and exposure wander."""
    cast = np.array(look.white_balance) * (1 + amount * rng.normal(0, 0.025, 3))
    return replace(
        look,
        white_balance=(float(cast[0]), float(cast[1]), float(cast[2])),
        exposure=look.exposure * float(np.exp(amount * rng.normal(0, 0.12))),
    )


@lru_cache(maxsize=64)
def _tone_curve(gamma: float) -> Picture:
    """Film curve and display gamma as a table over linear radiance 0 to `_BRIGHTEST`."""
    x = np.linspace(0, _BRIGHTEST, _CURVE_SIZE)
    toned = np.clip(x / (1 + 0.22 * x) * 1.12, 0, 1) ** (gamma / 2.2)
    return 255 * toned.astype(np.float32)


def develop(
    radiance: Picture,
    look: CameraLook,
    rng: np.random.Generator,
    motion_px: float = 0.0,
    motion_rad: float = 0.0,
) -> Bytes:
    """Linear radiance float32 [H, W, 3] to the delivered picture uint8 [H, W, 3], RGB.

    `motion_px` is the length of a motion blur in the direction `motion_rad` of the picture.
    """
    gain = np.array(look.white_balance) * look.exposure * (1.5 if look.night else 1.0)
    steps = (gain * (_CURVE_SIZE - 1) / _BRIGHTEST).astype(np.float32)
    mix = ((1 - look.saturation) / 3 + look.saturation * np.eye(3)).astype(np.float32)
    picture = np.empty_like(radiance)
    apply_curve(radiance, steps, _tone_curve(look.gamma), mix, picture)
    if look.blur_px > 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), look.blur_px)
    if motion_px > 1.2:
        picture = cv2.filter2D(picture, -1, _motion_kernel(motion_px, motion_rad))
    height, width = picture.shape[:2]
    # A large picture repeats a tile of noise at a random place, which nobody sees.
    tile = rng.standard_normal((min(height, _TILE_PX), min(width, _TILE_PX)), np.float32)
    down, right = (int(q) for q in rng.integers(0, _TILE_PX, 2))
    result = np.empty((height, width, 3), np.uint8)
    add_grain(picture, tile, down, right, np.float32(look.noise), result)
    return result


@compiled
def apply_curve(
    radiance: Picture, steps: Picture, curve: Picture, mix: Picture, out: Picture
) -> None:
    """Radiance to 0..255 through the curve, then mix the channels with `mix` [3, 3]."""
    last = curve.shape[0] - 1
    for y in range(radiance.shape[0]):
        for x in range(radiance.shape[1]):
            r = curve[min(last, int(radiance[y, x, 0] * steps[0]))]
            g = curve[min(last, int(radiance[y, x, 1] * steps[1]))]
            b = curve[min(last, int(radiance[y, x, 2] * steps[2]))]
            for k in range(3):
                out[y, x, k] = mix[k, 0] * r + mix[k, 1] * g + mix[k, 2] * b


@compiled
def add_grain(
    picture: Picture, tile: Picture, down: int, right: int, strength: np.float32, out: Bytes
) -> None:
    """Add grey noise and round to uint8."""
    rows, columns = tile.shape
    for y in range(picture.shape[0]):
        row = (y + down) % rows
        for x in range(picture.shape[1]):
            grain = tile[row, (x + right) % columns] * strength + np.float32(0.5)
            for k in range(3):
                out[y, x, k] = np.uint8(min(255.0, max(0.0, picture[y, x, k] + grain)))


def _motion_kernel(length_px: float, direction_rad: float) -> Picture:
    size = int(np.ceil(length_px)) | 1
    kernel = np.zeros((size, size), np.float32)
    middle = size // 2
    step = np.array([np.cos(direction_rad), np.sin(direction_rad)]) * middle
    ends = [tuple(round(float(middle + sign * q)) for q in step) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], (1.0,))
    blur: Picture = kernel / kernel.sum()
    return blur
