"""A drone's transport stream whose pictures say their own number, who sends it, and who watches."""

from __future__ import annotations

import signal
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from cameras import Watch
from flights import FPS, flight, model_at
from numpy.typing import NDArray

from skyreid.edge.people.ground import MIDDLE_M
from skyreid.edge.telemetry.klv_feed import KlvFeed
from skyreid.edge.telemetry.options import TelemetryOptions
from skyreid.edge.telemetry.poses import TelemetryPoses
from skyreid.edge.video.kind import Access, Login
from skyreid.edge.video.source import Limits
from skyreid.synth.telemetry import ORIGIN, draw_packets, write_telemetry

SECONDS = 30
_X265 = "keyint=8:min-keyint=8:scenecut=0:bframes=0:pools=1:frame-threads=1:log-level=none"
WIDTH, HEIGHT, BITS = 160, 96, 8


def picture(number: int) -> NDArray[np.uint8]:
    """Grey, with a light or dark block for each bit of its number."""
    out = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    for bit in range(BITS):
        out[8:88, 8 + 18 * bit : 22 + 18 * bit] = 230 if number >> bit & 1 else 20
    return out


def write_stream(folder: Path, codec: str = "libx264") -> Path:
    """``cam2.ts``: these pictures, a key frame each second, and KLV of a flight, exact.

    Beside it both alone, ``cam2.mp4`` and ``cam2.klv``: of each packet time (ns, 8 bytes), size (4)
    and bytes.
    """
    poses = flight(SECONDS)
    with av.open(str(folder / "cam2.mp4"), "w") as out:
        stream = out.add_stream(codec, rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.options = {"bf": "0", "preset": "ultrafast", "g": "8", "sc_threshold": "0"}
        if codec == "libx265":
            stream.options = {"preset": "ultrafast", "x265-params": _X265}
        for index in range(len(poses.frames)):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    write_telemetry(folder, {"cam2": poses}, "exact", 1)
    packets = draw_packets(poses, "exact", [1])[1]
    rows = [struct.pack(">QI", k * 10**9 // FPS, len(data)) + data for k, data in packets.items()]
    (folder / "cam2.klv").write_bytes(b"".join(rows))
    return folder / "cam2.ts"


class Sender:
    """``ts_sender.py`` in a process of its own."""

    def __init__(
        self, clip: Path, sink: str, environment: dict[str, str], *, loss: float = 0.0
    ) -> None:
        self._command = [str(clip), sink, str(loss)]
        self._environment = environment
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        script = Path(__file__).with_name("ts_sender.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), *self._command], env=self._environment
        )

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class DroneWatch(Watch):  # type: ignore[misc]  # a module beside it, on pytest's path
    """Notes of each frame its number, whether it is that picture, and how far its pose is off."""

    def __init__(
        self,
        url: str,
        *,
        limits: Limits | None = None,
        access: Access | None = None,
        login: Login | None = None,
    ) -> None:
        self.numbers: list[int] = []
        self.torn: list[int] = []
        self.off_m: list[float | None] = []
        options = TelemetryOptions(source="klv", quality="exact")
        self._poses = TelemetryPoses(KlvFeed(ORIGIN), options, plane_m=MIDDLE_M)
        super().__init__(url, limits=limits, access=access, login=login)

    def _read(self) -> None:
        try:
            for frame in self.source.frames(self.stop):
                seen, pose = frame.rgb().astype(int), self._poses.at(frame)
                blocks = [seen[16:80, 15 + 18 * bit].mean() > 125 for bit in range(BITS)]
                number = sum(1 << bit for bit, light in enumerate(blocks) if light)
                off = None
                if pose is not None:
                    away = model_at(number / FPS).position - pose.model.position
                    off = float(np.linalg.norm(away[:2]))
                if np.abs(seen - picture(number)).mean() > 6:
                    self.torn.append(number)
                self.off_m.append(off)
                self.frames.append(frame)
                self.numbers.append(number)
                frame.release()
        except BaseException as error:
            self.error = error

    @property
    def placed(self) -> bool:
        """Whether the last frames have the poses of their own moments, to 60 ms of the flight."""
        last = self.off_m[-6:]
        return len(last) == 6 and all(off is not None and off < 0.25 for off in last)
