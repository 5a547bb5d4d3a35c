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


def muted(rng: np.random.Generator, colours: Picture) -> Picture:
    """One cut-out's colours float32 [H, W, 3], 0 to 255, as streets dress: mostly dark and plain.

    Also its own light: contrast, a lit and a shaded side, mottled as under a tree.
    """
    height, width = colours.shape[:2]
    saturation = rng.uniform(0, 0.6) if rng.random() < 0.65 else rng.uniform(0.6, 1.1)
    grey = colours.mean(2, keepdims=True)
    out = (grey + (colours - grey) * saturation) * np.exp(rng.normal(-0.25, 0.4))
    if rng.random() < 0.5:
        middle = out.mean()
        out = (out - middle) * np.exp(rng.normal(0, 0.25)) + middle
    if rng.random() < 0.3:
        out = out + (np.linspace(-1, 1, width) * rng.normal(0, 18))[None, :, None]
    if rng.random() < 0.4:
        cells = rng.standard_normal((max(2, height // 12), max(2, width // 8))).astype(np.float32)
        mottle = cv2.resize(cells, (width, height), interpolation=cv2.INTER_LINEAR)
        out = out + mottle[..., None] * rng.uniform(2, 14)
    within: Picture = np.clip(out, 0, 255).astype(np.float32)
    return within
