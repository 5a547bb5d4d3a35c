"""Flights of a drone that nobody rendered: poses by formula, and a transport stream of them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from skyreid.contract.camera import CameraModel, CameraPoses
from skyreid.contract.sighting import Clock, View
from skyreid.edge.video.frame import Frame
from skyreid.synth.options import FlightPath
from skyreid.synth.rig import flown, model_of, station
from skyreid.synth.telemetry import ORIGIN, write_telemetry

FPS = 8
SIZE = (640, 360)
SITE = f"""
id = "s"
[origin]
latitude_deg = {ORIGIN.latitude_deg}
longitude_deg = {ORIGIN.longitude_deg}
ellipsoid_height_m = {ORIGIN.ellipsoid_height_m}
[[camera]]
id = "cam2"
view = "aerial"
"""
START_NS = 1_800_000_000_000_000_000


def frame_at(time_s: float) -> Frame:
    """Of a camera without telemetry beside its video."""
    return Frame(1, START_NS + round(time_s * 1e9), Clock.FILE, 0, *SIZE)


def model_at(time_s: float, path: FlightPath = "orbit") -> CameraModel:
    """A drone at 22 m that looks 50 degrees down, at a moment of its flight."""
    return model_of(flown(station(2), 2, 7, time_s, path), *SIZE)


def flight(seconds: float, path: FlightPath = "orbit") -> CameraPoses:
    count = round(seconds * FPS)
    models = tuple(model_at(index / FPS, path) for index in range(count))
    return CameraPoses(View.AERIAL, FPS, tuple(range(1, count + 1)), models)


def write_stream(folder: Path, poses: CameraPoses, level: str, seed: int) -> Path:
    """``cam2.ts``: pictures of tiles, and telemetry with the errors of a level."""
    video = folder / "cam2.mp4"
    if not video.exists():
        with av.open(str(video), "w") as out:
            stream = out.add_stream("libx264", rate=FPS)
            stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
            stream.options = {"bf": "0", "preset": "ultrafast"}
            rows, columns = np.indices((SIZE[1], SIZE[0]))
            tiles = (60 + 120 * ((rows // 4 + columns // 4) % 2)).astype(np.uint8)
            picture = np.repeat(tiles[..., None], 3, 2)
            for index in range(len(poses.frames)):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, FPS)
                out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
    write_telemetry(folder, {"cam2": poses}, level, seed)
    return folder / "cam2.ts"


def untimed(path: Path) -> None:
    """Take the time off a stream's telemetry, as asynchronous KLV has none."""
    data = bytearray(path.read_bytes())
    for at in range(0, len(data), 188):
        payload = at + 4 + (1 + data[at + 4] if data[at + 3] & 0x20 else 0)
        begins = data[at + 1] & 0x40 and data[payload : payload + 3] == b"\0\0\1"
        if begins and data[payload + 3] in (0xBD, 0xFC):
            size = data[payload + 8]
            data[payload + 7] &= 0x3F
            data[payload + 9 : payload + 9 + size] = b"\xff" * size  # stuffing
    path.write_bytes(data)


def away(path: Path, after_s: float, gap_s: int) -> None:
    """Let a stream's own time, of pictures, telemetry and clock, skip so much from a moment on."""
    data = bytearray(path.read_bytes())
    first: int | None = None
    for at in range(0, len(data), 188):
        payload = at + 4
        if data[at + 3] & 0x20:
            payload += 1 + data[at + 4]
            if data[at + 4] and data[at + 5] & 0x10:  # the clock: 33 bits, those above the others
                ticks = int.from_bytes(data[at + 6 : at + 11], "big") >> 7
                first = ticks if first is None else first
                if ticks - first >= after_s * 90000:
                    rest = int.from_bytes(data[at + 6 : at + 11], "big") & 0x7F
                    later = (ticks + gap_s * 90000) << 7 | rest
                    data[at + 6 : at + 11] = later.to_bytes(5, "big")
        if not data[at + 1] & 0x40 or data[payload : payload + 3] != b"\0\0\1":
            continue
        for field in range(data[payload + 7] >> 6 & 1 if data[payload + 7] >> 7 else -1, -1, -1):
            here = payload + 9 + 5 * field
            a, b, c, d, e = data[here : here + 5]
            ticks = (a >> 1 & 7) << 30 | b << 22 | (c >> 1) << 15 | d << 7 | e >> 1
            assert first is not None
            if ticks - first >= after_s * 90000:
                t = ticks + gap_s * 90000
                data[here] = a & 0xF1 | (t >> 30 & 7) << 1
                data[here + 1], data[here + 2] = t >> 22 & 255, (t >> 15 & 127) << 1 | 1
                data[here + 3], data[here + 4] = t >> 7 & 255, (t & 127) << 1 | 1
    path.write_bytes(data)
