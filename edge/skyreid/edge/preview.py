"""What the device sees and makes of it, in a browser on this machine or as one picture: to aim by.

The same sighter as that of a run looks at the frames. Nothing is spooled, sent or kept.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skyreid.contract import files
from skyreid.contract.camera import CameraModel
from skyreid.contract.errors import InputError, SettingsError
from skyreid.contract.geodesy import to_site
from skyreid.edge import app
from skyreid.edge.calibrate import write_pose
from skyreid.edge.ending import GRACE_S, stopped_by_signals
from skyreid.edge.flow import Stop
from skyreid.edge.sighter import Detector, Identity, Sighter
from skyreid.edge.video.frame import Frame

if TYPE_CHECKING:
    from skyreid.bundle.detections import Detections

UInt8 = NDArray[np.uint8]
Float64 = NDArray[np.float64]

_PAGE = b"""<!doctype html><html lang="en"><meta charset="utf-8"><title>skyreid preview</title>
<style>body{margin:0;background:#0e1013;color:#d9dee6;font:14px system-ui,sans-serif}
img{display:block;max-width:100vw;max-height:92vh;margin:auto}p{margin:8px 16px}
b.k{color:#46d26e}b.l{color:#f5be3c}b.u{color:#f05a46}b.f{color:#999}</style>
<img src="/stream" alt="The camera's picture with what is found in it">
<p><b class="k">kept</b> for the person's embedding, with its quality; <b class="l">not kept</b>,
and why; <b class="u">not believed yet</b>; <b class="f">found only</b>. Nothing is stored or
sent.</p>"""
_BOUNDARY = b"frame"


@dataclass(frozen=True)
class _Look:
    """One frame, drawn."""

    picture: UInt8
    captured_at_ns: int
    model: CameraModel | None
    """Where the camera was."""


class _Noted:
    """A detector that remembers what it found last."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.boxes: list[list[float]] = []

    def detect(self, frame: Frame) -> Detections:
        """See `sighter.Detector`."""
        found = self._detector.detect(frame)
        self.boxes = [[float(v) for v in box] for box in found.boxes]
        return found


class _Screen:
    """The latest picture, for everybody who watches."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._jpeg = b""
        self._number = 0
        self.closed = False

    def show(self, jpeg: bytes) -> None:
        """Replace it."""
        with self._change:
            self._jpeg, self._number = jpeg, self._number + 1
            self._change.notify_all()

    def close(self) -> None:
        """There will be no other."""
        with self._change:
            self.closed = True
            self._change.notify_all()

    def wait(self, after: int) -> tuple[int, bytes]:
        """A later picture than number ``after``; the same one when there is none for a second."""
        with self._change:
            self._change.wait_for(lambda: self._number > after or self.closed, 1.0)
            return self._number, self._jpeg


def preview(
    plan: app.Plan,
    *,
    port: int,
    still: Path | None,
    after_s: float,
    landmarks: Sequence[tuple[float, float]] = (),
) -> int:
    """Show the camera until SIGINT or SIGTERM, or write one picture; returns the exit code.

    Args:
        plan: of the device.
        port: on loopback; 0 = any.
        still: PNG to write instead of showing.
        after_s: seconds of the video before it.
        landmarks: latitude and longitude in degrees each, drawn on the picture's ground.

    Raises:
        InputError: the video or the port cannot be used.
        SettingsError: landmarks of a site that is not tied to the earth.
        PlatformError: GStreamer or a plugin is missing.
    """
    points = _on_the_ground(plan, landmarks)
    stop = Stop()
    with stopped_by_signals(stop, within_s=GRACE_S):
        if still is not None:
            return _write(plan, still, after_s, stop.asked, points)
        return _serve(plan, port, stop.asked)


def _on_the_ground(plan: app.Plan, landmarks: Sequence[tuple[float, float]]) -> list[Float64]:
    """Points [3] of the site, at the height that the ground is taken to have."""
    origin = plan.site.origin
    if not landmarks:
        return []
    if origin is None:
        raise SettingsError(
            f"a landmark is a place on the earth: site {plan.site.id} has no [origin]"
        )
    level_m = origin.ellipsoid_height_m
    places = [to_site(origin, latitude, longitude, level_m) for latitude, longitude in landmarks]
    points = np.array([[place[0], place[1], 0.0] for place in places])
    if plan.terrain is not None:
        points[:, 2] = np.nan_to_num(plan.terrain.up(points[:, 0], points[:, 1]))
    return list(points)


def _write(
    plan: app.Plan, still: Path, after_s: float, stop: threading.Event, points: Sequence[Float64]
) -> int:
    if still.suffix.lower() != ".png":
        raise InputError(f"--still {still}: a PNG is written, name it .png")
    first_ns, shown_s, last = None, 0.0, None
    with closing(_looks(plan, stop, points)) as looks:
        for look in looks:
            first_ns = look.captured_at_ns if first_ns is None else first_ns
            last, shown_s = look, (look.captured_at_ns - first_ns) / 1e9
            if shown_s >= after_s:
                break
    if last is None:
        raise InputError(f"{plan.source.name} gave no frame")
    if shown_s < after_s:
        sys.stderr.write(f"the video ended after {shown_s:.1f} s: this is its last picture\n")
    files.write(still, _encoded(last.picture, ".png"))
    sys.stdout.write(f"{still}\n")
    telemetry = plan.settings.telemetry
    if last.model is not None and telemetry.source:
        said = last.model.displaced(-np.array(telemetry.displacement))
        sys.stdout.write(f"{write_pose(still, plan.camera.id, plan.view, said)}\n")
    return 0


def _serve(plan: app.Plan, port: int, stop: threading.Event) -> int:
    screen = _Screen()
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), _handler(screen))
    except OSError as error:
        raise InputError(f"--port {port}: {error.strerror}; choose another, 0 is any") from error
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="preview", daemon=True).start()
    sys.stdout.write(f"http://127.0.0.1:{server.server_address[1]}  (Ctrl-C ends it)\n")
    sys.stdout.flush()
    try:
        while not stop.is_set():  # a file is shown again and again
            began, first_ns = time.monotonic(), 0
            with closing(_looks(plan, stop)) as looks:
                for look in looks:
                    first_ns = first_ns or look.captured_at_ns
                    if not plan.source.live:
                        ahead_s = (look.captured_at_ns - first_ns) / 1e9
                        stop.wait(max(began + ahead_s - time.monotonic(), 0.0))
                    screen.show(_encoded(look.picture, ".jpg"))
    finally:
        screen.close()
        server.shutdown()
        server.server_close()
    return 0


def _looks(
    plan: app.Plan, stop: threading.Event, points: Sequence[Float64] = ()
) -> Generator[_Look, None, None]:
    """The camera's frames as the device looks at them, drawn."""
    from skyreid.edge.people.sketch import sketch

    start_ns = plan.settings.camera.file_start_ns or time.time_ns()
    noted = _Noted(plan.detector)
    sighter = app.sighter_of(replace(plan, detector=noted), _nobody(plan), start_ns)
    source = app.source_of(plan, start_ns)
    told, first_ns, due_ns = 0, 0, 0
    period_ns = int(1e9 / plan.settings.camera.fps_max) if plan.settings.camera.fps_max else 0
    with closing(source.frames(stop)) as frames:
        for frame in frames:
            try:
                first_ns = first_ns or frame.captured_at_ns
                if frame.captured_at_ns < due_ns - period_ns // 10:
                    continue
                due_ns = frame.captured_at_ns + period_ns
                picture = frame.rgb()
                told += len(sighter.look(frame).rows)
            finally:
                frame.release()
            model = None if sighter.follower.pose is None else sighter.follower.pose.model
            drawn = sketch(
                picture,
                detections=noted.boxes,
                tracks=sighter.follower.tracks,
                judged=sighter.follower.judged,
                model=model,
                up=None if plan.terrain is None else plan.terrain.up,
                line=_line(plan, frame, sighter, told, placed=model is not None),
                landmarks=points,
            )
            yield _Look(drawn, frame.captured_at_ns, model)


def _line(plan: app.Plan, frame: Frame, sighter: Sighter, told: int, *, placed: bool) -> str:
    followed = sum(t.confirmed and t.detected for t in sighter.follower.tracks)
    return (
        f"{plan.camera.id} ({plan.view.word})  {frame.width}x{frame.height}  frame {frame.number}  "
        f"{followed} people followed  {told} sightings"
        + ("" if placed else "  no pose that fits: place unknown")
    )


def _nobody(plan: app.Plan) -> Identity:
    """What sightings of a preview would have in common; nobody gets any."""
    return Identity(
        plan.site.id,
        plan.settings.device.id,
        "0-preview",
        plan.camera.id,
        plan.view,
        plan.embedder.model,
    )


def _encoded(picture: UInt8, kind: str) -> bytes:
    import cv2

    done, data = cv2.imencode(kind, np.ascontiguousarray(picture[..., ::-1]))
    if not done:
        raise InputError(f"a frame of {picture.shape[1]}x{picture.shape[0]} cannot be encoded")
    return bytes(data)


def _handler(screen: _Screen) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 20

        def do_GET(self) -> None:
            host = self.headers.get("Host", "").rsplit(":", 1)[0]
            if host not in ("127.0.0.1", "localhost"):  # another site's name for this machine
                self.send_error(403)
            elif self.path == "/":
                self._send("text/html; charset=utf-8", _PAGE)
            elif self.path == "/still.jpg":
                self._send("image/jpeg", screen.wait(0)[1])
            elif self.path == "/stream":
                self._stream()
            else:
                self.send_error(404)

        def _send(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Cross-Origin-Resource-Policy", "same-origin")
            self.end_headers()
            self.wfile.write(body)

        def _stream(self) -> None:
            self.send_response(200)
            kind = f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}"
            self.send_header("Content-Type", kind)
            self.send_header("Cache-Control", "no-store")
            self.send_header("Cross-Origin-Resource-Policy", "same-origin")
            self.end_headers()
            number = 0
            try:
                while not screen.closed:
                    number, jpeg = screen.wait(number)
                    if jpeg:
                        head = b"--%s\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
                        self.wfile.write(head % (_BOUNDARY, len(jpeg)) + jpeg + b"\r\n")
            except OSError:  # whoever watched has gone
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            """Requests are not logged."""

    return Handler
