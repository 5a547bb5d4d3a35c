"""What a drone says about itself beside its video, and how wrong it is.

`cam{n}.ts` holds the pictures of `cam{n}.mp4` and, per frame, a KLV packet of MISB ST 0601. The
errors are drawn once per camera (bias, lag) and per packet (noise, loss); LEVELS is the only place
that fixes them, and what was drawn is written beside the clip.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from skyreid.contract.camera import CameraModel, CameraPoses
from skyreid.contract.klv import encode
from skyreid.contract.rotation import turn
from skyreid.contract.sighting import View
from skyreid.contract.site import Origin
from skyreid.contract.telemetry import packet_of

ORIGIN = Origin(latitude_deg=46.5, longitude_deg=8.0, ellipsoid_height_m=500.0)
"""Where on the earth the plaza is said to be."""
START_NS = 1_767_261_600_000_000_000
"""Capture time of the first frame: 2026-01-01 10:00:00 UTC."""
TELEMETRY_JSON = "telemetry.json"

_MILLISECONDS = Fraction(1, 1000)


@dataclass(frozen=True, kw_only=True)
class TelemetryErrors:
    """Standard deviations of normal errors, except where it says otherwise."""

    position_bias_m: float = 0.0  # east and north, constant over a clip
    position_noise_m: float = 0.0  # east, north and up, of each packet
    height_bias_m: float = 0.0  # up, constant: a take-off height or geoid that is a little wrong
    attitude_bias_deg: float = 0.0  # heading, pitch and roll, constant: compass and mounting
    attitude_noise_deg: float = 0.0  # of each packet
    lag_ms: tuple[float, float] = (0.0, 0.0)  # uniform: the pose is older than its time stamp
    loss: float = 0.0  # share of the packets that never arrive


LEVELS: dict[str, TelemetryErrors] = {
    "exact": TelemetryErrors(),
    "rtk": TelemetryErrors(
        position_bias_m=0.03,
        position_noise_m=0.02,
        height_bias_m=0.1,
        attitude_bias_deg=0.5,
        attitude_noise_deg=0.1,
        lag_ms=(50, 100),
        loss=0.005,
    ),
    "gnss": TelemetryErrors(
        position_bias_m=1.0,
        position_noise_m=0.1,
        height_bias_m=1.5,
        attitude_bias_deg=1.0,
        attitude_noise_deg=0.2,
        lag_ms=(100, 250),
        loss=0.02,
    ),
    "poor": TelemetryErrors(
        position_bias_m=2.5,
        position_noise_m=0.3,
        height_bias_m=4.0,
        attitude_bias_deg=2.0,
        attitude_noise_deg=0.4,
        lag_ms=(200, 400),
        loss=0.1,
    ),
}


@dataclass(frozen=True)
class Drawn:
    """The constant errors of one camera."""

    position_m: tuple[float, float, float]  # east, north, up
    attitude_deg: tuple[float, float, float]  # about the camera's x, y and z axis
    lag_ms: float


def write_telemetry(folder: Path, poses: Mapping[str, CameraPoses], level: str, seed: int) -> None:
    """Write `cam{n}.ts` beside every aerial `cam{n}.mp4` of `folder`, and `telemetry.json`.

    Args:
        folder: of a finished clip.
        poses: the true poses by camera name; ground cameras have no telemetry.
        level: a key of LEVELS.
        seed: of the errors.
    """
    errors = LEVELS[level]
    drawn: dict[str, Any] = {}
    for camera, truth in poses.items():
        if truth.view is not View.AERIAL:
            continue
        constant, packets = draw_packets(truth, level, [seed, int(camera.removeprefix("cam"))])
        _mux(folder / f"{camera}.mp4", folder / f"{camera}.ts", packets, truth.fps)
        drawn[camera] = {**dataclasses.asdict(constant), "packets": len(packets)}
    about = {
        "level": level,
        "errors": dataclasses.asdict(errors),
        "origin": ORIGIN.model_dump(),
        "start_ns": START_NS,
        "drawn": drawn,
    }
    (folder / TELEMETRY_JSON).write_text(json.dumps(about, indent=1) + "\n")


def draw_packets(
    truth: CameraPoses, level: str, seed: Sequence[int]
) -> tuple[Drawn, dict[int, bytes]]:
    """The constant errors of a flight, and its packets by the index of the frame they came with.

    Args:
        truth: the true poses, one a frame.
        level: a key of LEVELS.
        seed: of the errors.
    """
    errors, rng = LEVELS[level], np.random.default_rng([*seed, 77])
    constant = _draw(errors, rng)
    return constant, _packets(truth, errors, constant, rng)


def _draw(errors: TelemetryErrors, rng: np.random.Generator) -> Drawn:
    east, north, up, x, y, z = rng.normal(size=6).tolist()
    bias = errors.position_bias_m
    tilt = errors.attitude_bias_deg
    return Drawn(
        (bias * east, bias * north, errors.height_bias_m * up),
        (tilt * x, tilt * y, tilt * z),
        float(rng.uniform(*errors.lag_ms)),
    )


def _packets(
    truth: CameraPoses, errors: TelemetryErrors, constant: Drawn, rng: np.random.Generator
) -> dict[int, bytes]:
    """By the index of the frame, those that arrive."""
    packets: dict[int, bytes] = {}
    for index in range(len(truth.frames)):
        time_s = index / truth.fps
        noise = rng.normal(size=6)
        lost = rng.random() < errors.loss
        if lost:
            continue
        old = pose_at(truth, max(0.0, time_s - constant.lag_ms / 1000))
        place = old.position + constant.position_m + errors.position_noise_m * noise[:3]
        angles = np.radians(constant.attitude_deg + errors.attitude_noise_deg * noise[3:])
        rotation = turn(angles) @ old.rotation
        said = CameraModel(old.matrix, rotation, -rotation @ place, old.width_px, old.height_px)
        forward = rotation[2]
        # A gimbal under a hovering drone: the nose follows the heading of the picture.
        heading = float(np.degrees(np.arctan2(forward[0], forward[1])))
        time_ns = START_NS + round(time_s * 1e9)
        packets[index] = encode(packet_of(said, ORIGIN, time_ns, heading_deg=heading))
    return packets


def pose_at(truth: CameraPoses, time_s: float) -> CameraModel:
    """Between the poses of two frames: a lag is no number of frames."""
    at = time_s * truth.fps
    first = min(int(at), len(truth.models) - 1)
    second = min(first + 1, len(truth.models) - 1)
    return truth.models[first].toward(truth.models[second], at - first)


def _mux(video: Path, out: Path, packets: Mapping[int, bytes], fps: float) -> None:
    """Copy the pictures of `video` into an MPEG-TS and put the packets beside them."""
    import av

    with av.open(str(video)) as source, av.open(str(out), "w", format="mpegts") as target:
        pictures = source.streams.video[0]
        copied = target.add_stream_from_template(pictures)
        data = target.add_data_stream("klv")
        data.time_base = _MILLISECONDS
        index = 0
        for packet in source.demux(pictures):
            if packet.dts is None:  # the demuxer's flush
                continue
            if index in packets:
                said = av.Packet(packets[index])
                said.stream = data
                said.pts = said.dts = round(1000 * index / fps)
                said.time_base = _MILLISECONDS
                target.mux(said)
            packet.stream = copied
            target.mux(packet)
            index += 1
