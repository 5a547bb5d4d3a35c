"""What a start costs with many tracklets ever, above one with none: CPU time, anonymous memory."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from skyreid.contract.errors import InputError
from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import Lane
from skyreid.contract.sighting_wire import encode_sighting
from skyreid.server.bench.chain import LIMIT_S, cpu_s
from skyreid.server.bench.load import BOOT, CAMERA, DEVICE, DIM, MODEL, SITE, somebody
from skyreid.server.matching import identity
from skyreid.server.matching.identity import Applied, Decision
from skyreid.server.store.gallery import Gallery, gallery_of
from skyreid.server.store.journal import Journal
from skyreid.server.store.records import Arrived
from skyreid.server.store.snapshots import Held

A_TURN = 10_000
"""Sightings between two snapshots, as in a server."""
SETTINGS = """
site = "site.toml"
[mqtt]
url = "mqtt://127.0.0.1:1"
[journal]
path = "{name}.sqlite"
[http]
port = 0
address_file = "address.txt"
"""


def start_cost(folder: Path, tracklets: int) -> tuple[float, float]:
    """CPU seconds until it serves, and bytes of anonymous memory a tracklet (Linux).

    Everybody was seen a day ago, alone, once; the server before ended by itself.
    """
    (folder / "site.toml").write_text(
        f'id = "{SITE}"\n[[camera]]\nid = "{CAMERA}"\nview = "ground"\n'
    )
    for name in ("none", "all"):
        (folder / f"{name}.toml").write_text(SETTINGS.format(name=name))
    _fill(folder / "all.sqlite", tracklets)
    _start(folder, "none")  # files of the machine are in its cache then
    _start(folder, "all")
    (none_s, none_bytes), (all_s, all_bytes) = _start(folder, "none"), _start(folder, "all")
    return all_s - none_s, (all_bytes - none_bytes) / tracklets


def _fill(path: Path, tracklets: int) -> None:
    journal = Journal(path, SITE, pictures_max_bytes=1)
    gallery = Gallery(gallery_of(path))
    state, now_ns = journal.start().state, time.time_ns()
    rng = np.random.default_rng(0)
    day_ago_ns = now_ns - 86_400 * 10**9
    for start in range(0, tracklets, A_TURN):
        rows, made = [], []
        for number in range(start + 1, min(start + A_TURN, tracklets) + 1):
            look = rng.normal(size=DIM).astype(np.float32)
            s = somebody(number, number, 0, look / np.linalg.norm(look), day_ago_ns, placed=True)
            body = encode_sighting(s)
            rows.append(Arrived(DEVICE, BOOT, int(Lane.LIVE), MODEL.key, DIM, now_ns, s, body))
            key = TrackKey(DEVICE, BOOT, CAMERA, number)
            decision = Decision("assign", day_ago_ns + 10**9, key.identity_id(), (key,))
            state, events = identity.apply(state, decision)
            made.append(Applied(decision, events))
        journal.store(rows)
        gallery.take(rows)
        held = Held((), (), 600.0, journal.last[0])
        journal.decide(made, now_ns, None, (state, held))
        state = journal.brought(state, held)
        journal.taken([row.id for row in journal.outbox(0, tracklets)])
        gallery.flush(journal.last[0])
    journal.close()


def _start(folder: Path, name: str) -> tuple[float, int]:
    """One start until it serves: CPU seconds, bytes of anonymous memory."""
    address = folder / "address.txt"
    with open(folder / "log", "ab") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "skyreid.server", "run", f"{name}.toml"],
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        end_s = time.monotonic() + LIMIT_S
        while not address.is_file():
            if server.poll() is not None or time.monotonic() > end_s:
                raise InputError(f"bench: the server did not start: {folder / 'log'}")
            time.sleep(0.05)
        spent_s, anonymous = cpu_s(server.pid), anonymous_bytes(server.pid)
    finally:
        server.terminate()
        server.wait()
    return spent_s, anonymous


def anonymous_bytes(pid: int) -> int:
    """Anonymous memory of a process (Linux)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise InputError("bench: this kernel does not say what memory is anonymous")
