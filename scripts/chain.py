"""The whole chain on one machine: broker, server, and one edge process for each video.

Used by ``scripts/demo`` and by the end-to-end tests, which kill its parts on the way.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ports import free_port, listens
from secured import secure
from settings_files import DETECTOR, EMBEDDER, Plan, write_settings
from videos import Video


class ChainError(Exception):
    """A part of the chain did not start or ended before its time; the message names its log."""


class Ended(Exception):
    """Somebody asked for the end, by the signal of this ``number``."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


@dataclass
class Part:
    """One process and its log."""

    name: str
    command: list[str]
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self.process.poll() is None

    def stop(self, timeout_s: float = 20.0) -> int:
        """Ask the process to end, wait, insist; its exit code."""
        if self.alive:
            self.process.terminate()
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def tail(self, lines: int = 12) -> str:
        """The end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


@dataclass
class Chain:
    """Everything that runs, and where it writes. Start the parts in the order of the methods."""

    videos: tuple[Video, ...]
    work: Path
    site: Path | None = None
    """The site file; None = one is written."""
    notice: str = ""
    """What every page of the written site says."""
    poses: Path | None = None
    """Calibration of every camera of the written site."""
    detector: Path = DETECTOR
    embedder: Path = EMBEDDER
    tiles: tuple[int, int] = (1, 1)
    edge_options: tuple[str, ...] = ()
    secure: bool = False
    """With certificates, TLS and log-in."""
    broker: Part | None = None
    server: Part | None = None
    edges: dict[str, Part] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        (self.work / "logs").mkdir(exist_ok=True)
        self.cameras = {video.camera: video.view for video in self.videos}
        self.broker_port = free_port()
        self.http_port = free_port()
        self._ended: int | None = None
        plan = Plan(
            self.videos,
            self.work,
            self.site,
            self.notice,
            self.poses,
            self.detector,
            self.embedder,
            self.tiles,
            self.broker_port,
            self.http_port,
        )
        write_settings(plan)
        self.secured = secure(plan, free_port()) if self.secure else None
        self._trust = self.secured.trust() if self.secured else None

    # --- what is where ---------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """The page's address."""
        if self.secured is not None:
            return f"https://localhost:{self.http_port}"
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def journal(self) -> Path:
        """The server's journal."""
        return self.work / "server" / "journal.db"

    def run_directory(self, camera: str) -> Path:
        """Where the edge process of ``camera`` records its run."""
        return self.work / "runs" / camera

    def spool(self, camera: str) -> Path:
        """The spool of the device at ``camera``."""
        return self.work / "edge" / f"{camera}.db"

    # --- start and stop --------------------------------------------------------------------------

    def start_broker(self) -> Part:
        """Start mosquitto and wait until it listens. Also after a kill: same port, same data."""
        program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin")
        if program is None:
            raise ChainError("mosquitto is not installed: run scripts/setup demo")
        self.broker = self._start("broker", [program, "-c", str(self.work / "mosquitto.conf")])
        self._wait(self.broker, lambda: listens(self.broker_port), 60)
        return self.broker

    def start_server(self) -> Part:
        """Start the server and wait until it is ready."""
        command = [sys.executable, "-m", "skyreid.server", "run", str(self.work / "server.toml")]
        self.server = self._start("server", command)
        self._wait(self.server, lambda: self.get("/readyz") is not None, 120)
        return self.server

    def start_edge(self, camera: str, *, record: bool = True) -> Part:
        """Start the device at ``camera``; its recording goes to ``run_directory``."""
        command = [sys.executable, "-m", "skyreid.edge", "run", str(self.work / f"{camera}.toml")]
        if record:
            command += ["--record", str(self.run_directory(camera))]
        self.edges[camera] = self._start(camera, [*command, *self.edge_options])
        return self.edges[camera]

    def stop(self) -> None:
        """End everything, devices first, so that each can still hand over what it has."""
        for part in [*self.edges.values(), self.server, self.broker]:
            if part is not None:
                part.stop()

    def end(self, number: int, _: object = None) -> None:
        """For `signal.signal`: the next look at the chain raises `Ended`.

        An exception out of the handler itself could come between the start of a part and the line
        that remembers it, and leave it running.
        """
        self._ended = number

    def resume(self) -> None:
        """Take back what `end` was told: the end was only that of a live video."""
        self._ended = None

    def kill(self, part: Part) -> None:
        """``kill -9`` a part and wait for it to be gone."""
        part.process.send_signal(signal.SIGKILL)
        part.process.wait()

    def check(self) -> None:
        """Raise ChainError if broker or server died, or an edge process failed; or Ended."""
        if self._ended is not None:
            raise Ended(self._ended)
        for part in (self.broker, self.server):
            if part is not None and not part.alive:
                raise ChainError(f"{part.name} ended, {part.log}:\n{part.tail()}")
        for part in self.edges.values():
            if part.process.poll() not in (None, 0):
                code = part.process.returncode
                raise ChainError(
                    f"{part.name} ended with exit code {code}, {part.log}:\n{part.tail()}"
                )

    # --- looking at it ---------------------------------------------------------------------------

    def get(self, path: str, timeout_s: float = 5.0) -> Any:
        """GET a JSON document of the server's API; None while it does not answer with 200."""
        try:
            asked = urllib.request.Request(self.address + path)
            if self.secured is not None:
                asked.add_header("Authorization", f"Bearer {self.secured.token}")
            with urllib.request.urlopen(asked, timeout=timeout_s, context=self._trust) as answer:
                return json.load(answer)
        except (urllib.error.URLError, OSError, ValueError):
            return None

    # --- inside ----------------------------------------------------------------------------------

    def _start(self, name: str, command: list[str]) -> Part:
        log = self.work / "logs" / f"{name}.log"
        environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            # One thread per process: the cores are shared by all of them.
            "OMP_NUM_THREADS": "1",
        }
        with open(log, "ab") as stream:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                env=environment,
                start_new_session=True,  # Ctrl-C is ours: the parts are stopped in order
            )
        return Part(name, command, log, process)

    def _wait(self, part: Part, ready: Any, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while not ready():
            if self._ended is not None:
                raise Ended(self._ended)
            if not part.alive:
                raise ChainError(f"{part.name} did not start, {part.log}:\n{part.tail()}")
            if time.monotonic() > end:
                raise ChainError(
                    f"{part.name} was not ready after {timeout_s:g} s, {part.log}:\n{part.tail()}"
                )
            time.sleep(0.1)
