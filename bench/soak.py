"""Does a server stay as it is? A site whose days are minutes: memory, files, and CPU a sighting.

::

    python bench/soak.py WORK --minutes 90 --people-per-min 60 --json OUT.json

mosquitto, ``skyreid-server run`` and one page, made-up people in real time. What is kept for hours
or days by default is kept for ``--kept-min`` minutes here, so that whatever is to be forgotten is
forgotten many times over, and returns are on. Once a minute it is noted what the server's process
has; after the first third (a window and everything kept have filled by then) it should have no more
at the end. Prints one JSON object; exit code 2 where sightings were lost, 1 where the server died.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skyreid.contract import topics
from skyreid.contract.receipt import batch_properties
from skyreid.contract.sighting import Lane, Sighting, SightingBatch
from skyreid.contract.sighting_wire import encode_batch
from skyreid.server.bench.chain import Chain, cpu_s, send, wait
from skyreid.server.bench.load import BOOT, MODEL, SITE
from skyreid.server.bench.world import WINDOW_S, World
from skyreid.server.broker.decoding import Message

SETTINGS = """
[people]
half_life_h = {hours}
[pictures]
max_mb = 1
[retention]
embeddings_h = {hours}
pictures_h = {hours}
sightings_d = {days}
identities_d = {days}
events_d = {days}
"""
BEGINS_IN_S = 2.0


@dataclass(frozen=True)
class Look:
    """What the server's process had, and had done, at the end of a minute."""

    minute: int
    rss_mb: float
    disk_mb: float
    """Of everything in the site's folder but what is logged."""
    files: int
    threads: int
    cpu_s: float
    """Of this minute."""
    sightings: int
    """Published in this minute."""
    undecided: int
    returns_waiting: float
    rows: int
    """Sightings that the journal holds."""


class Soak:
    """One site, minute by minute."""

    def __init__(self, chain: Chain, client: Any, pid: int, world: World) -> None:
        self._chain, self._client, self._pid, self._world = chain, client, pid, world
        self._devices = [f"device-{n}" for n in range(len(world.cameras))]
        self._sent = 0
        self.published = 0
        self.looks: list[Look] = []

    def run(self, minutes: int) -> None:
        """Publish in real time, and look once a minute."""
        self._world.start_ns = time.time_ns() + round(BEGINS_IN_S * 1e9)
        begin_s = time.monotonic() + BEGINS_IN_S
        spent_s, said = cpu_s(self._pid), 0
        for second, told in enumerate(self._world.live(60 * minutes)):
            time.sleep(max(0.0, begin_s + second + 1 - time.monotonic()))
            self._say(told, self._world.start_ns + (second + 1) * 10**9)
            if second % 60 == 59:
                now_s = cpu_s(self._pid)
                self.looks.append(self._look(second // 60 + 1, now_s - spent_s, said))
                print(json.dumps(asdict(self.looks[-1])), file=sys.stderr, flush=True)
                spent_s, said = now_s, self.published

    def _say(self, told: Sequence[tuple[str, str, str, Sighting]], mark_ns: int) -> None:
        """What each device saw in the last second, or that it saw nobody."""
        for device in self._devices:
            mine = [s for d, _, _, s in told if d == device]
            # Those in view at the beginning had begun before it.
            mine = [s for s in mine if s.captured_at_ns >= self._world.start_ns]
            for k in range(0, max(len(mine), 1), 32):
                part = mine[k : k + 32]
                sent_ns = time.time_ns()
                batch = SightingBatch(
                    SITE, device, BOOT, Lane.LIVE, sent_ns, MODEL, tuple(part), mark_ns
                )
                beside = batch_properties(BOOT, [s.seq for s in part])
                topic = topics.device(SITE, device, "sightings")
                send(self._client, Message(topic, encode_batch(batch), beside, sent_ns))
                self.published += len(part)

    def _look(self, minute: int, spent_s: float, before: int) -> Look:
        process = Path(f"/proc/{self._pid}")
        fields = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        ready = json.loads(self._chain.get("/readyz"))
        journal = self._chain.journal
        with sqlite3.connect(f"file:{journal}?mode=ro", uri=True) as read:
            (rows,) = read.execute("SELECT count(*) FROM sighting").fetchone()
        return Look(
            minute=minute,
            rss_mb=int(fields["VmRSS"].split()[0]) / 1024,
            disk_mb=_mb(path for path in journal.parent.rglob("*") if path.name != "log"),
            files=len(list((process / "fd").iterdir())),
            threads=int(fields["Threads"]),
            cpu_s=round(spent_s, 2),
            sightings=self.published - before,
            undecided=ready["undecided"],
            returns_waiting=counted(self._chain, "skyreid_returns_waiting"),
            rows=rows,
        )


def _mb(paths: Iterable[Path]) -> float:
    return round(sum(path.stat().st_size for path in paths if path.is_file()) / 2**20, 2)


def grown(looks: Sequence[Look], what: str) -> dict[str, float]:
    """Medians of the second and of the last third of the minutes, and by how much it grew."""
    third = len(looks) // 3
    values = [float(getattr(look, what)) for look in looks]
    middle, last = np.median(values[third : 2 * third]), np.median(values[2 * third :])
    return {
        "middle": round(float(middle), 3),
        "last": round(float(last), 3),
        "grown": round(float(last / middle - 1), 4) if middle else 0.0,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="an empty folder")
    parser.add_argument("--minutes", type=int, default=90)
    parser.add_argument("--people-per-min", type=float, default=60.0, help="each in two cameras")
    parser.add_argument("--kept-min", type=float, default=12.0, help="for so long all is kept")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every minute there")
    args = parser.parse_args(arguments)
    if args.minutes < 3:
        parser.error(f"--minutes is {args.minutes}: thirds of them are compared, so at least 3")
    args.work.mkdir(parents=True, exist_ok=True)
    hours = args.kept_min / 60
    world = World(
        round(args.people_per_min * 2 * WINDOW_S / 60), placed=True, start_ns=time.time_ns()
    )
    settings = SETTINGS.format(hours=hours, days=hours / 24)
    with Chain(args.work, world.cameras, settings) as chain:
        server = chain.start_server()
        threading.Thread(target=chain.listen, daemon=True).start()
        with chain.publisher() as client:
            soak = Soak(chain, client, server.pid, world)
            soak.run(args.minutes)
            # What is stored is forgotten again after a while: what was taken in counts.
            counter = "skyreid_sightings_stored_total"
            wait(
                lambda: server.poll() is not None or counted(chain, counter) >= soak.published,
                f"{soak.published} sightings are stored",
            )
    names = ("rss_mb", "disk_mb", "files", "threads", "rows", "undecided")
    out = {
        "minutes": args.minutes,
        "published": soak.published,
        "died": server.poll() not in (None, -9),
        **{name: grown(soak.looks, name) for name in names},
        "cpu_ms_a_sighting": {
            part: round(
                1e3 * sum(k.cpu_s for k in some) / max(sum(k.sightings for k in some), 1), 3
            )
            for part, some in (
                ("middle", soak.looks[len(soak.looks) // 3 : 2 * len(soak.looks) // 3]),
                ("last", soak.looks[2 * len(soak.looks) // 3 :]),
            )
        },
    }
    print(json.dumps(out, indent=1))
    if args.json:
        args.json.write_text(json.dumps({**out, "looks": [asdict(k) for k in soak.looks]}) + "\n")
    return int(out["died"])


def counted(chain: Chain, name: str) -> float:
    """The sum of a server's metric over its labels."""
    lines = chain.get("/metrics").decode().splitlines()
    return sum(float(x.split()[-1]) for x in lines if x.startswith((f"{name} ", f"{name}{{")))


if __name__ == "__main__":
    sys.exit(main())
