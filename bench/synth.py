"""How fast the synthetic world is drawn: crops a second of one core, frames a second of two.

    python bench/synth.py [--people 60] [--seconds 8] [--json FILE]

Each row is one run of the command line in a process of its own, start-up and compilation included
(a first run compiles into a cache, so everything is run once before). On a machine that does other
work the rate by CPU time is the honest one; both are printed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CAMERAS = 13
CLIP_CAMERAS = "1,3,6,8,12"


def run(arguments: list[str]) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds of all processes, and the largest process's memory in MiB."""
    began, before = time.monotonic(), os.times()
    watched = subprocess.Popen(
        [sys.executable, "-m", "skyreid.train", "synth", *arguments], stderr=subprocess.DEVNULL
    )
    largest = 0.0
    while watched.poll() is None:
        largest = max(largest, *(resident(pid) for pid in family(watched.pid)))
        time.sleep(0.2)
    if watched.returncode:
        sys.exit(f"synth {' '.join(arguments)} exited with {watched.returncode}")
    after = os.times()
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return time.monotonic() - began, cpu, largest


def family(pid: int) -> list[int]:
    """A process and its children, as far as they still live."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return [pid]
    return [pid, *(int(child) for child in text.split())]


def resident(pid: int) -> float:
    """Resident memory in MiB; 0 for a process that has gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    clip = ["clip", "--seconds", str(options.seconds), "--fps", "8", "--cameras", CLIP_CAMERAS]
    work = {
        "crops, 1 process": (
            ["crops", "--people", str(options.people), "--jobs", "1"],
            options.people * CAMERAS * 3,
        ),
        "crops, 2 processes": (
            ["crops", "--people", str(options.people), "--jobs", "2"],
            options.people * CAMERAS * 3,
        ),
        "clip of 5 cameras at 1280x720, 2 processes": (
            [*clip, "--jobs", "2"],
            round(options.seconds * 8) * len(CLIP_CAMERAS.split(",")),
        ),
    }
    rows = {}
    try:
        run(["crops", str(folder / "warm"), "--people", "1", "--frames", "1"])
        print(f"{'':<44} {'a second':>9} {'a CPU second':>13} {'MiB a process':>14}")
        for index, (name, (arguments, pictures)) in enumerate(work.items()):
            verb, *rest = arguments
            wall, cpu, mib = run([verb, str(folder / str(index)), *rest])
            rows[name] = {
                "pictures": pictures,
                "per_s": pictures / wall,
                "per_cpu_s": pictures / cpu,
                "mib": mib,
            }
            print(f"{name:<44} {pictures / wall:9.1f} {pictures / cpu:13.1f} {mib:14.0f}")
    finally:
        shutil.rmtree(folder)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
