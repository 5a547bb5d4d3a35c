"""How MAVLink comes to this machine: datagrams to a UDP port, or bytes over a serial line."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import termios
import time
import tty
from typing import Protocol

from skyreid.contract.errors import SettingsError

_SO_TIMESTAMPNS = 35
"""Linux: the kernel says when a datagram came, which waits until a frame asks."""
_READ_BYTES = 1 << 16
_DATAGRAMS_MAX = 2000
"""Read for one frame at most: a flood must not stop the pictures."""
_AGAIN_S = 1.0
"""A line that is gone is opened again no more often."""


class Link(Protocol):
    """A way for messages to come, and to answer."""

    whole: bool
    """Whether no message goes from one piece of `read` into the next."""

    def read(self) -> list[tuple[int, bytes]]:
        """What has come since the last time: when, UTC in nanoseconds, and its bytes."""
        ...

    def send(self, data: bytes) -> None:
        """To whoever spoke last; lost where that is nobody."""
        ...

    def close(self) -> None:
        """Give it back."""
        ...


class UdpLink:
    """A UDP port of this machine."""

    whole = True

    def __init__(self, host: str, port: int) -> None:
        """Open it.

        Raises:
            SettingsError: it cannot be had.
        """
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._peer: tuple[str, int] | None = None
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise SettingsError(
                f"telemetry.source udp://{host}:{port}: {error.strerror}"
            ) from error
        self.port: int = self._socket.getsockname()[1]

    def read(self) -> list[tuple[int, bytes]]:
        """See `Link`."""
        came: list[tuple[int, bytes]] = []
        for _ in range(_DATAGRAMS_MAX):
            try:
                data, beside, _, peer = self._socket.recvmsg(_READ_BYTES, 64)
            except BlockingIOError:
                break
            except OSError:  # word that nobody takes our answers
                continue
            arrived_ns = time.time_ns()
            for level, kind, value in beside:
                if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS) and len(value) == 16:
                    seconds, rest = struct.unpack("qq", value)
                    arrived_ns = seconds * 1_000_000_000 + rest
            self._peer = peer
            came.append((arrived_ns, data))
        return came

    def send(self, data: bytes) -> None:
        """See `Link`."""
        if self._peer is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto(data, self._peer)

    def close(self) -> None:
        """See `Link`."""
        self._socket.close()


class SerialLink:
    """A serial line, raw, eight bits. One that is unplugged is opened again when it is back."""

    whole = False

    def __init__(self, path: str, baud: int) -> None:
        """Open it.

        Raises:
            SettingsError: it is not there, no line, or has no such speed.
        """
        self._path, self._speed = path, getattr(termios, f"B{baud}", None)
        if self._speed is None:
            raise SettingsError(f"telemetry.source serial:{path}:{baud}: no speed of a line")
        self._tried_s = 0.0
        self._line: int | None = None
        try:
            self._open()
        except (OSError, termios.error) as error:
            self.close()
            said = getattr(error, "strerror", None) or error.args[-1]
            raise SettingsError(f"telemetry.source serial:{path}:{baud}: {said}") from error

    def _open(self) -> None:
        self._tried_s = time.monotonic()
        self._line = os.open(self._path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(self._line, termios.TCSANOW)
        flags = termios.tcgetattr(self._line)
        flags[2] |= termios.CLOCAL | termios.CREAD
        flags[4] = flags[5] = self._speed
        termios.tcsetattr(self._line, termios.TCSANOW, flags)

    def read(self) -> list[tuple[int, bytes]]:
        """See `Link`."""
        if self._line is None:
            if time.monotonic() - self._tried_s < _AGAIN_S:
                return []
            try:
                self._open()
            except (OSError, termios.error):
                self.close()
                return []
        assert self._line is not None
        try:
            data = os.read(self._line, _READ_BYTES)
        except BlockingIOError:
            return []
        except OSError:  # unplugged
            self.close()
            return []
        return [(time.time_ns(), data)] if data else []

    def send(self, data: bytes) -> None:
        """See `Link`."""
        if self._line is not None:
            with contextlib.suppress(OSError):
                os.write(self._line, data)

    def close(self) -> None:
        """See `Link`."""
        if self._line is not None:
            with contextlib.suppress(OSError):
                os.close(self._line)
        self._line = None
