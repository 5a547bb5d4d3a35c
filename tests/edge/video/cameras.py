"""What the tests of live sources share: a server of cameras that can be killed, and who watches."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

from skyreid.edge.video.clock import LiveClock
from skyreid.edge.video.frame import Frame
from skyreid.edge.video.kind import Access, Login
from skyreid.edge.video.pipeline import build, parse_source
from skyreid.edge.video.platform import probe
from skyreid.edge.video.source import GstSource, Limits, State


class RtspServer:
    """``rtsp_server.py`` in a process of its own."""

    def __init__(self, port: int, environment: dict[str, str], *options: str) -> None:
        self.port, self._environment, self._options = port, environment, options
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        script = Path(__file__).with_name("rtsp_server.py")
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(self.port), *self._options],
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def url(self, path: str, scheme: str = "rtsp") -> str:
        return f"{scheme}://127.0.0.1:{self.port}/{path}"

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


class Watch:
    """Reads a live source in a thread, notes its states and how a corner of its frames looks."""

    def __init__(
        self,
        url: str,
        *,
        limits: Limits | None = None,
        access: Access | None = None,
        login: Login | None = None,
    ) -> None:
        access = access or Access()
        source = parse_source(url, login=login)
        self.states: list[tuple[State, str]] = []
        self.frames: list[Frame] = []
        self.corners: list[tuple[int, ...]] = []
        self.stop = threading.Event()
        self.source = GstSource(
            build(source, probe(), transport=access.transport),
            source,
            LiveClock(),
            limits=limits or Limits(stall_s=20.0, backoff_s=(0.1, 0.5)),
            access=access,
            on_state=lambda state, why: self.states.append((state, why)),
        )
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        try:
            for frame in self.source.frames(self.stop):
                self.corners.append(tuple(int(v) for v in frame.rgb()[:20, :10].mean((0, 1))))
                self.frames.append(frame)
                frame.release()
        except BaseException as error:
            self.error = error

    def names(self) -> list[str]:
        return [state.value for state, _ in self.states]

    def said(self, state: State) -> list[str]:
        """Why the source was in a state, each time."""
        return [why for at, why in self.states if at is state]

    def close(self) -> None:
        self.stop.set()
        self.thread.join(60)
        assert not self.thread.is_alive()
