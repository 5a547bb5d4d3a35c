"""The device as a service: says that it is up and gets further; installs its systemd unit.

systemd restarts a device that says nothing for WatchdogSec. It is told "alive" while the sender
goes round and the camera's side gets further *or waits for a retry that is scheduled*: an unplugged
camera must not restart the delivery of what is spooled, a hang must. Where there is no systemd (a
container), the time of a file says the same: ``SKYREID_ALIVE=/dev/shm/alive``.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files as resources
from pathlib import Path

from skyreid.contract import files
from skyreid.contract.errors import InputError
from skyreid.edge.video.source import State

log = logging.getLogger(__name__)

WAITING_MAX_S = 3600.0
"""While a retry is scheduled; the slowest comes after 30 minutes, give or take 30 %."""
STILL_MAX_S = 120.0
"""Without a frame or a change of state while none is: connecting and stalls end sooner."""
_WAITING = ("backoff", "refused")
_PERIOD_S = 10.0

UNIT = "skyreid-edge@.service"
USERS = "skyreid-edge.conf"
_PLACES = {UNIT: Path("etc/systemd/system"), USERS: Path("etc/sysusers.d")}


class Watch:
    """Tells whoever started this process that it gets further, for as long as it does."""

    def __init__(
        self, *, period_s: float = _PERIOD_S, now: Callable[[], float] = time.monotonic
    ) -> None:
        """Set up; where nobody listens, nothing is done.

        Args:
            period_s: between two looks.
            now: seconds that never go back.
        """
        self._period_s, self._now = period_s, now
        self._socket = os.environ.get("NOTIFY_SOCKET", "")
        self._file = os.environ.get("SKYREID_ALIVE", "")
        self._ended = threading.Event()
        self._rounds = self._frames = -1
        self._state, self._moved_s = "", now()

    def state(self, word: str, why: str) -> None:
        """Take a change of the source's state; any thread."""
        self._state, self._moved_s = word, self._now()
        self._say(f"STATUS={word} {why}".replace("\n", " "))

    def telling(self, tell: Callable[[State, str], None]) -> Callable[[State, str], None]:
        """`tell`, with `state` before it."""

        def both(state: State, why: str) -> None:
            self.state(state.value, why)
            tell(state, why)

        return both

    def alive(self, rounds: int, frames: int) -> bool:
        """Whether there was progress since the last look, on both sides.

        Args:
            rounds: of the sender, as counted until now.
            frames: the same.
        """
        sender = rounds != self._rounds
        if frames != self._frames:
            self._moved_s = self._now()
        self._rounds, self._frames = rounds, frames
        allowed_s = WAITING_MAX_S if self._state in _WAITING else STILL_MAX_S
        return sender and self._now() - self._moved_s <= allowed_s

    @contextmanager
    def over(self, progress: Callable[[], tuple[int, int]]) -> Iterator[None]:
        """Watch while the block runs; `progress` gives what `alive` takes."""
        if self._socket or self._file:
            self._say("READY=1")
            threading.Thread(target=self._go, args=(progress,), name="watch", daemon=True).start()
        try:
            yield
        finally:
            self._ended.set()
            self._say("STOPPING=1")

    def _go(self, progress: Callable[[], tuple[int, int]]) -> None:
        while not self._ended.is_set():
            if self.alive(*progress()):
                self._say("WATCHDOG=1")
                if self._file:
                    with suppress(OSError):
                        Path(self._file).touch()
            self._ended.wait(self._period_s)

    def _say(self, text: str) -> None:
        """One datagram to systemd, see sd_notify(3); it is nobody's failure if it is gone."""
        if not self._socket:
            return
        place = "\0" + self._socket[1:] if self._socket.startswith("@") else self._socket
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            out.sendto(text.encode(), place)


def install(root: Path, program: Path | None = None) -> list[Path]:
    """Write the unit and its user below `root`; systemd is told by whoever installs.

    Args:
        root: ``/``, or the root of an image that is being made.
        program: the command; None = the one of this environment.

    Returns:
        The files that were written.

    Raises:
        InputError: the command is none that a service can see, or a file cannot be written.
    """
    command = Path(sys.prefix) / "bin" / "skyreid-edge" if program is None else program
    if not command.is_absolute() or any(c.isspace() or c in "%\"'\\" for c in str(command)):
        raise InputError(f"--program {command}: an absolute path without spaces, quotes or %")
    if command.parts[1] in ("home", "root", "tmp"):
        raise InputError(
            f"{command} is in /{command.parts[1]}, which a service does not see: install skyreid "
            "in a virtual environment elsewhere, /opt/skyreid say, or name it with --program"
        )
    written = []
    for name, place in _PLACES.items():
        text = (resources("skyreid.edge") / "units" / name).read_text()
        path = root / place / name
        files.write(path, text.replace("@PROGRAM@", str(command)).encode())
        path.chmod(0o644)
        written.append(path)
    return written


def remove(root: Path) -> list[Path]:
    """Take away what `install` wrote; settings and spools stay.

    Raises:
        InputError: a file cannot be removed.
    """
    gone = []
    for name, place in _PLACES.items():
        path = root / place / name
        try:
            path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise InputError(f"cannot remove {path}: {error.strerror}") from error
        gone.append(path)
    return gone
