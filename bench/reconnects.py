"""How a live source bears being connected again and again: a camera that ends after .4 s.

``python bench/reconnects.py --times 1000`` starts the test server of RTSP cameras, watches one that
ends at once, and says what hung, what was left and how memory, threads and files grew.
"""

from __future__ import annotations

import argparse
import json
import os
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


def main() -> int:
    """Run; returns 0 where nothing hung for good."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=1000)
    times = parser.parse_args().times
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    server = RtspServer(port, dict(os.environ))
    server.start()
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
