"""How a live source bears being connected again and again: a camera that ends after .4 s.

``python bench/reconnects.py --times 1000`` starts the test server of RTSP cameras, watches one that
ends at once, and says what hung, what was left and how memory, threads and files grew.

``--seconds 1800 --seed 1`` watches one that goes on instead, whose server is killed, frozen or left
alone for a while at random; in the end also how long it took to see again once it was back.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "edge" / "video"))

from cameras import RtspServer

from skyreid.edge.video.clock import LiveClock
from skyreid.edge.video.pipeline import build, parse_source
from skyreid.edge.video.platform import probe
from skyreid.edge.video.source import GstSource, Limits


def held() -> dict[str, int]:
    """Memory in MiB, threads and open files of this process."""
    status = Path("/proc/self/status").read_text()
    said = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return {
        "rss_mib": int(said["VmRSS"].split()[0]) // 1024,
        "threads": int(said["Threads"]),
        "files": len(os.listdir("/proc/self/fd")),
    }


class Seen:
    """A camera watched in a thread: how many frames, and when the last one came."""

    def __init__(self, url: str) -> None:
        source = parse_source(url)
        self.stop, self.frames, self.last_at = threading.Event(), 0, time.monotonic()
        self.watched = GstSource(build(source, probe()), source, LiveClock())
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self) -> None:
        try:
            for frame in self.watched.frames(self.stop):
                frame.release()
                self.frames, self.last_at = self.frames + 1, time.monotonic()
        except BaseException as error:
            self.error = error


def live(server: RtspServer, seconds: float, seed: int) -> int:
    """Watch a camera that comes and goes; returns 0 where it was always seen again."""
    dice, seen = random.Random(seed), Seen(server.url("s"))
    began, told_at, first = time.monotonic(), 0.0, held()
    breaks: dict[str, int] = {"killed": 0, "frozen": 0}
    waits: list[float] = []
    while time.monotonic() - began < seconds and seen.error is None:
        time.sleep(dice.uniform(3, 15))
        if dice.random() < 0.5:
            server.kill()
            time.sleep(dice.uniform(0, 6))
            server.start()
            breaks["killed"] += 1
        else:
            server.signal(signal.SIGSTOP)
            time.sleep(dice.uniform(1, 8))
            server.signal(signal.SIGCONT)
            breaks["frozen"] += 1
        back, frames = time.monotonic(), seen.frames
        while seen.frames < frames + 3 and time.monotonic() - back < 120 and seen.error is None:
            time.sleep(0.05)
        waits.append(time.monotonic() - back)
        if time.monotonic() - told_at > 60:
            told_at = time.monotonic()
            told = {"seconds": round(told_at - began), "frames": seen.frames, **breaks, **held()}
            print(json.dumps(told), flush=True)
    ends = time.monotonic()
    seen.stop.set()
    seen.thread.join(60)
    result = {
        **breaks,
        "frames": seen.frames,
        "lost": dict(seen.watched.lost),
        "error": repr(seen.error) if seen.error else None,
        "never_seen_again": sum(wait >= 120 for wait in waits),
        "seen_again_within_s": [round(sorted(waits)[k], 1) for k in (len(waits) // 2, -1)],
        "stopped_within_s": round(time.monotonic() - ends, 2),
        "still_reading": seen.thread.is_alive(),
        "first": first,
        "last": held(),
        "seconds": round(time.monotonic() - began),
    }
    server.kill()
    print(json.dumps(result))
    bad = result["error"] or result["never_seen_again"] or result["still_reading"]
    return int(bool(bad or seen.watched.lost["hung"]))


def main() -> int:
    """Run; returns 0 where nothing hung for good."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=0, help="watch one that goes on, so long")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    times = given.times
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    server = RtspServer(port, dict(os.environ))
    server.start()
    if given.seconds:
        return live(server, given.seconds, given.seed)
    stop = threading.Event()
    source = parse_source(server.url("short"))
    watched = GstSource(
        build(source, probe()), source, LiveClock(), limits=Limits(backoff_s=(0.02, 0.02))
    )
    began, frames, first = time.monotonic(), 0, held()
    told = 0
    for frame in watched.frames(stop):
        frame.release()
        frames += 1
        done = sum(watched.lost.values())
        if done >= 50 and told == 0:
            first = held()
        if done // 100 > told // 100:
            print(json.dumps({"reconnects": done, **held(), **watched.lost}), flush=True)
        told = done
        if done >= times:
            stop.set()
    server.kill()
    lost = dict(watched.lost)
    result = {
        "reconnects": sum(lost.values()),
        "frames": frames,
        "lost": lost,
        "seconds": round(time.monotonic() - began, 1),
        "first": first,
        "last": held(),
    }
    print(json.dumps(result))
    return 1 if lost.get("hung") else 0


if __name__ == "__main__":
    sys.exit(main())
