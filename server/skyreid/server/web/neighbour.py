"""Whose process is at the other end of a connection within this machine (proc(5), ``net/tcp``).

A loopback address says only that the last hop is here. A proxy's last hop is, whoever is before it;
but it runs as a user of its own.
"""

from __future__ import annotations

import os
import struct
from ipaddress import ip_address
from pathlib import Path

Address = tuple[str, int]
_OPEN = frozenset(("01", "04", "05", "08", "09", "0B"))
"""States of a connection that a process still has; of the others the table knows no user."""


def user_of(there: Address, here: Address, proc: Path = Path("/proc/net")) -> int | None:
    """Numeric user of the process at ``there`` that is connected to ``here``; None: cannot tell."""
    for table in ("tcp", "tcp6"):  # the process there may have a socket of either
        ends = _written(there, table), _written(here, table)
        try:
            with open(proc / table, encoding="ascii") as rows:
                for row in rows:
                    found = row.split()
                    if (found[1], found[2]) == ends and found[3] in _OPEN:
                        return int(found[7])
        except (OSError, ValueError, IndexError):
            continue
    return None


def is_ours(user: int | None) -> bool:
    """Whether a user is this server's own, or root."""
    return user is not None and user in (0, os.geteuid())


def _written(address: Address, table: str) -> str:
    """As the table has it: words of 32 bits in this machine's order, then the port."""
    host = ip_address(address[0])
    raw = (getattr(host, "ipv4_mapped", None) or host).packed
    if table == "tcp6" and len(raw) == 4:
        raw = bytes(10) + b"\xff\xff" + raw
    words = struct.unpack(f"={len(raw) // 4}I", raw)
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"
