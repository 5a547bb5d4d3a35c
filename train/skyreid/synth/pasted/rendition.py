"""What cameras, coders and the net's own scaling do to a whole picture."""

from __future__ import annotations

import cv2
import numpy as np

from skyreid.synth.shading import Bytes, Picture


def degraded(rng: np.random.Generator, picture: Bytes) -> Bytes:
    """The picture uint8 [H, W, 3] through a worse chain: grey, another gamma, small, JPEG."""
    out = picture
    if rng.random() < 0.15:
        out = np.asarray(cv2.cvtColor(cv2.cvtColor(out, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB))
    if rng.random() < 0.2:
        steps = np.arange(256, dtype=np.float32) / 255
        curve = np.asarray(255 * steps ** rng.uniform(0.6, 1.6), np.uint8)
        out = np.asarray(cv2.LUT(out, curve), np.uint8)
    if rng.random() < 0.3:
        height, width = out.shape[:2]
        scale = rng.uniform(0.35, 0.9)
        small = cv2.resize(out, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        out = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))
    if rng.random() < 0.5:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 90))]
        _, data = cv2.imencode(".jpg", out, quality)
        out = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.asarray(out, np.uint8)


def muted(rng: np.random.Generator, cutout: Picture) -> Picture:
    """A cut-out, premultiplied float32 [H, W, 4], as streets dress: mostly dark and plain.

    Also its own light: contrast, a lit and a shaded side, mottled as under a tree.
    """
    height, width = cutout.shape[:2]
    saturation = rng.uniform(0, 0.6) if rng.random() < 0.65 else rng.uniform(0.6, 1.1)
    gain = float(np.exp(rng.normal(-0.25, 0.4)))
    contrast = float(np.exp(rng.normal(0, 0.25))) if rng.random() < 0.5 else 1.0
    red, green, blue, alpha = cv2.mean(cutout)
    middle = gain * (red + green + blue) / 3 / max(alpha, 1e-3)  # of what is opaque, 0 to 1
    # Linear in colour and alpha, so all of it is one matrix.
    mix = np.zeros((4, 4))
    mix[:3, :3] = gain * contrast * (saturation * np.eye(3) + (1 - saturation) / 3)
    mix[:3, 3] = middle * (1 - contrast)
    mix[3, 3] = 1
    out: Picture = cv2.transform(cutout, mix)
    if rng.random() < 0.3:
        across = np.linspace(-1, 1, width, dtype=np.float32) * np.float32(rng.normal(0, 18) / 255)
        out[..., :3] += (out[..., 3] * across)[..., None]
    if rng.random() < 0.4:
        cells = rng.standard_normal((max(2, height // 12), max(2, width // 8))).astype(np.float32)
        mottle = cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR)
        strength = np.float32(rng.uniform(2, 14) / 255)
        out[..., :3] += (out[..., 3] * mottle * strength)[..., None]
    return out
