"""A worse camera over pictures that are already resized: light, grey, infrared, blur, noise, codec.

The rendered cameras are clean and in colour; real ones are often neither. What a street camera does
to a crop is done to it here in the order in which a camera does it: exposure, the sensor's colours,
defocus and motion, noise, resolution, then JPEG or H.264 at the rates that cameras use.

H.264 is the real encoder: a picture is the second frame of a video, predicted from one that has
moved a little. Each picture is a video of its own, so that none depends on who is made beside it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from skyreid.train.options import Options

UInt8 = NDArray[np.uint8]
Floats = NDArray[np.float32]
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
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
    """Of a whole batch: half of its pictures go through H.264, at rate factors of 24 to 38."""

    @property
    def idle(self) -> bool:
        """Whether nothing ever happens."""
        return not any(self.model_dump().values())


@dataclass(frozen=True)
class Place:
    """Where a whole batch was taken: by grey cameras, through cameras that send H.264."""

    grey: bool
    h264: bool


def place_of(sensor: Sensor, rng: np.random.Generator) -> Place:
    """Draw where a batch is taken."""
    grey, h264 = rng.random(2).tolist()
    return Place(grey < sensor.grey_batch, h264 < sensor.h264)


def sensed(picture: UInt8, sensor: Sensor, rng: np.random.Generator, place: Place) -> UInt8:
    """A picture [H, W, 3] RGB as a worse camera at `place` would have given it; a new array."""
    made = picture.astype(np.float32)
    if rng.random() < sensor.exposure:
        made = _exposed(made, rng)
    if place.grey or rng.random() < sensor.grey:
        made = _grey(made, rng)
    if rng.random() < sensor.defocus:
        made = np.asarray(cv2.GaussianBlur(made, (0, 0), rng.uniform(0.6, 2)), np.float32)
    if rng.random() < sensor.motion:
        made = _moved(made, rng)
    if rng.random() < sensor.noise:
        made = _noisy(made, rng)
    if rng.random() < sensor.coarse:
        made = _coarse(made, rng)
    one: UInt8 = np.clip(made + 0.5, 0, 255).astype(np.uint8)
    if rng.random() < sensor.jpeg:
        one = _jpeg(one, rng)
    if place.h264 and rng.random() < 0.5:
        one = _h264(one, rng)
    return one


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


def _h264(picture: UInt8, rng: np.random.Generator) -> UInt8:
    """A picture as the second frame of a video; sides that are no multiples of 16 are padded."""
    import av

    height, width = picture.shape[:2]
    pad = ((0, -height % 16), (0, -width % 16), (0, 0))
    frame = np.pad(picture, pad, mode="edge")
    before = np.roll(frame, tuple(rng.integers(-2, 3, 2).tolist()), (0, 1))
    video = io.BytesIO()
    with av.open(video, "w", format="h264") as target:
        stream = target.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = frame.shape[1], frame.shape[0], "yuv420p"
        stream.codec_context.thread_count = 1
        crf = str(int(rng.integers(*_CRF)))
        stream.options = {"crf": crf, "preset": "ultrafast", "bf": "0", "sc_threshold": "0"}
        for shown in (before, frame):
            target.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        target.mux(stream.encode(None))
    video.seek(0)
    with av.open(video, "r", format="h264") as source:
        frames = list(source.decode(source.streams.video[0]))
    return np.asarray(frames[-1].to_ndarray(format="rgb24")[:height, :width], np.uint8)
