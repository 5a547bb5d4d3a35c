"""A worse camera over pictures that are already resized: light, grey, infrared, blur, noise, codec.

The rendered cameras are clean and in colour; real ones are often neither. What a street camera does
to a crop is done to it here in the order in which a camera does it: exposure, the sensor's colours,
defocus and motion, noise, resolution, then JPEG or H.264 at the rates that cameras use.

H.264 is the real encoder: the pictures of a batch are tiled into one frame, whose macroblocks none
of them shares with its neighbour, and a second frame that has moved a little is predicted from it.
"""

from __future__ import annotations

import io

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from skyreid.train.options import Options

UInt8 = NDArray[np.uint8]
Floats = NDArray[np.float32]
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_COLUMNS = 8
_CRF = (24, 38)
_JPEG = (18, 75)


class Sensor(Options):
    """How often each happens to a picture, as probabilities; all zero is no worse camera."""

    exposure: float = Field(0.0, ge=0, le=1)
    """Another gain and gamma: dusk, glare, shade."""
    grey: float = Field(0.0, ge=0, le=1)
    """A grey camera, half of them infrared, where cloth has another brightness than by daylight."""
    grey_batch: float = Field(0.0, ge=0, le=1)
    """Of a whole batch: all its pictures are grey, as those of a site of grey cameras are."""
    defocus: float = Field(0.0, ge=0, le=1)
    """A Gaussian of .6 to 2 pixels."""
    motion: float = Field(0.0, ge=0, le=1)
    """A line of 3 to 9 pixels in any direction."""
    noise: float = Field(0.0, ge=0, le=1)
    """Of 3 to 18 steps, as by night."""
    coarse: float = Field(0.0, ge=0, le=1)
    """A quarter to nine tenths of the resolution."""
    jpeg: float = Field(0.0, ge=0, le=1)
    """Quality 18 to 75."""
    h264: float = Field(0.0, ge=0, le=1)
    """Of a whole batch: half of its pictures go through H.264 at a rate factor of 24 to 38."""

    @property
    def idle(self) -> bool:
        """Whether nothing ever happens."""
        return not any(self.model_dump().values())


def sensed(pictures: UInt8, sensor: Sensor, rng: np.random.Generator) -> UInt8:
    """Pictures [B, H, W, 3] RGB as worse cameras would have given them; a new array."""
    count = len(pictures)
    batch_is_grey = rng.random() < sensor.grey_batch
    made = np.empty_like(pictures)
    for index in range(count):
        picture = pictures[index].astype(np.float32)
        if rng.random() < sensor.exposure:
            picture = _exposed(picture, rng)
        if batch_is_grey or rng.random() < sensor.grey:
            picture = _grey(picture, rng)
        if rng.random() < sensor.defocus:
            picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.6, 2)), np.float32)
        if rng.random() < sensor.motion:
            picture = _moved(picture, rng)
        if rng.random() < sensor.noise:
            picture = _noisy(picture, rng)
        if rng.random() < sensor.coarse:
            picture = _coarse(picture, rng)
        one = np.clip(picture + 0.5, 0, 255).astype(np.uint8)
        if rng.random() < sensor.jpeg:
            one = _jpeg(one, rng)
        made[index] = one
    if rng.random() < sensor.h264:
        chosen = np.flatnonzero(rng.random(count) < 0.5)
        if chosen.size:
            made[chosen] = _h264(made[chosen], rng)
    return made


def _exposed(picture: Floats, rng: np.random.Generator) -> Floats:
    gamma, gain = float(np.exp(rng.normal(0, 0.35))), float(np.exp(rng.normal(-0.05, 0.2)))
    bright = 255 * np.clip(picture * (gain / 255), 0, 1) ** gamma
    return np.asarray(bright, np.float32)


def _grey(picture: Floats, rng: np.random.Generator) -> Floats:
    weights = _LUMA
    if rng.random() < 0.5:  # infrared: dyes that look dark reflect it, each in another way
        drawn = rng.uniform(0, 1, 3)
        weights = (drawn / drawn.sum()).astype(np.float32)
        picture = np.asarray(255 * (picture / 255) ** rng.uniform(0.5, 1.0), np.float32)
    seen = picture @ weights
    return np.repeat(seen[..., None], 3, axis=2).astype(np.float32)


def _moved(picture: Floats, rng: np.random.Generator) -> Floats:
    size = int(rng.integers(1, 5)) * 2 + 1
    kernel = np.zeros((size, size), np.float32)
    angle, middle = rng.uniform(0, np.pi), size // 2
    across, down = round(np.cos(angle) * middle), round(np.sin(angle) * middle)
    ends = ((middle - across, middle - down), (middle + across, middle + down))
    cv2.line(kernel, *ends, (1.0,))
    return np.asarray(cv2.filter2D(picture, -1, kernel / kernel.sum()), np.float32)


def _noisy(picture: Floats, rng: np.random.Generator) -> Floats:
    height, width = picture.shape[:2]
    grey = rng.standard_normal((height, width, 1), np.float32)
    if np.ptp(picture, axis=2).max() > 1:  # a camera in colour has noise in its colours too
        grey = grey + 0.5 * rng.standard_normal((height, width, 3), np.float32)
    return picture + np.float32(rng.uniform(3, 18)) * grey


def _coarse(picture: Floats, rng: np.random.Generator) -> Floats:
    height, width = picture.shape[:2]
    share = float(np.exp(rng.uniform(np.log(0.25), np.log(0.9))))
    size = (max(4, round(width * share)), max(8, round(height * share)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return np.asarray(
        cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32
    )


def _jpeg(picture: UInt8, rng: np.random.Generator) -> UInt8:
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*_JPEG))]
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), quality)
    read = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert read is not None  # it was written the line before
    return np.asarray(read[..., ::-1], np.uint8)


def _h264(pictures: UInt8, rng: np.random.Generator) -> UInt8:
    """The pictures as the second frame of a video; sides that are no multiples of 16 are padded."""
    import av

    count, height, width = pictures.shape[:3]
    tall, wide = -(-height // 16) * 16, -(-width // 16) * 16
    pad = ((0, 0), (0, tall - height), (0, wide - width), (0, 0))
    rows = -(-count // _COLUMNS)
    tiles = np.zeros((rows * _COLUMNS, tall, wide, 3), np.uint8)
    tiles[:count] = np.pad(pictures, pad, mode="edge")
    sheet = tiles.reshape(rows, _COLUMNS, tall, wide, 3).swapaxes(1, 2)
    sheet = np.ascontiguousarray(sheet.reshape(rows * tall, _COLUMNS * wide, 3))
    before = np.roll(sheet, tuple(rng.integers(-2, 3, 2).tolist()), (0, 1))
    video = io.BytesIO()
    with av.open(video, "w", format="h264") as target:
        stream = target.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = sheet.shape[1], sheet.shape[0], "yuv420p"
        stream.codec_context.thread_count = 1
        crf = str(int(rng.integers(*_CRF)))
        stream.options = {"crf": crf, "preset": "ultrafast", "bf": "0", "sc_threshold": "0"}
        for frame in (before, sheet):
            target.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        target.mux(stream.encode(None))
    video.seek(0)
    with av.open(video, "r", format="h264") as source:
        frames = list(source.decode(source.streams.video[0]))
    seen = frames[-1].to_ndarray(format="rgb24")
    tiles = seen.reshape(rows, tall, _COLUMNS, wide, 3).swapaxes(1, 2)
    return np.asarray(tiles.reshape(-1, tall, wide, 3)[:count, :height, :width], np.uint8)
