"""Ports of the loopback for programs that are started here."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """A TCP port on loopback that nobody uses now.

    Below those that systems give to whoever connects (32768 and up on Linux, 49152 by RFC 6335):
    of those, a port that is free now is soon the other end of somebody's connection, even of the
    one that asks whether anybody listens there.
    """
    for port in random.SystemRandom().sample(range(20_000, 32_768), 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("of 100 ports of the loopback between 20000 and 32767 none is free")


def listens(port: int) -> bool:
    """Whether somebody accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(("127.0.0.1", port)) == 0
