"""How fast the synthetic world is drawn: crops a second of one core, frames a second of two.

    python bench/synth.py [--people 60] [--seconds 8] [--only crops|clip] [--json FILE]

Each row is one run of the command line in a process of its own, start-up and compilation included
(a first run compiles into a cache, so everything is run once before). On a machine that does other
work the rate by CPU time is the honest one; both are printed, and what two cores that do nothing
else would give: twice the rate by CPU time. From it follows how long 500 people x 13 cameras x 3
would take.
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
LARGE_SET = 500 * CAMERAS * 3


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
    parser.add_argument("--only", choices=("crops", "clip"), help="leave out the other")
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
    chosen = {
        name: job for name, job in work.items() if options.only is None or job[0][0] == options.only
    }
    rows: dict[str, dict[str, float]] = {}
    try:
        run(["crops", str(folder / "warm"), "--people", "1", "--frames", "1"])
        run(["clip", str(folder / "warm clip"), "--seconds", "0.25", "--cameras", "1,6"])
        head = f"{'a second':>9} {'a CPU second':>13} {'x 2':>6} {'MiB a process':>14}"
        print(f"{'':<44} {head}")
        for index, (name, (arguments, pictures)) in enumerate(chosen.items()):
            verb, *rest = arguments
            wall, cpu, mib = run([verb, str(folder / str(index)), *rest])
            rate = pictures / cpu
            rows[name] = {
                "pictures": pictures,
                "per_s": pictures / wall,
                "per_cpu_s": rate,
                "mib": mib,
            }
            rates = f"{pictures / wall:9.1f} {rate:13.1f} {2 * rate:6.1f}"
            print(f"{name:<44} {rates} {mib:14.0f}", flush=True)
            if verb == "crops":
                minutes = LARGE_SET / (2 * rate) / 60
                rows[name]["large_set_min_extrapolated"] = minutes
                print(f"  500 people x 13 x 3 = {LARGE_SET} on two cores: {minutes:.1f} min")
    finally:
        shutil.rmtree(folder)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
