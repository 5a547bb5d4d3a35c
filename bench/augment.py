"""How fast pictures are augmented: CPU a picture, and pictures a second against worker processes.

    python bench/augment.py                            # the published augmentation at 256x128
    python bench/augment.py recipes/vdt-tiny-2.toml --workers 0 1 2 4 --batches 20

One JSON object a line on stdout for each number of workers: milliseconds of CPU a picture (of this
process and its workers, without their start), pictures a second by the clock, and both against one
process. Batches are begun as far ahead as in training. All numbers of workers take turns, --rounds
times, and the medians count. Cores that do something else make the clock's figures worse, not the
CPU's; `idle` says what share of the machine was left for them. Pictures are random: what is done to
them does not depend on what they show.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

from skyreid.contract.errors import SettingsError, run_command
from skyreid.train import recipe
from skyreid.train.data.augment import Augmentation
from skyreid.train.data.workers import Begin, Workers, maker
from skyreid.train.fit.prefetch import SLOTS

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = ROOT / "recipes" / "visa-base-cargo.toml"
PICTURES = 2000
TICKS = os.sysconf("SC_CLK_TCK")


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process of one thread has had, to the nanosecond; or this one."""
    if pid == os.getpid():
        return time.process_time()
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def idle_s() -> float:
    """Seconds that cores had nothing to do, of all cores together."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    return (int(fields[3]) + int(fields[4])) / TICKS


def timed(begin: Begin, pids: Sequence[int], batches: int, rows: int) -> dict[str, float]:
    """Make some batches: seconds by the clock and of CPU, and what share of the cores was free."""
    rng = np.random.default_rng(0)
    plans = [rng.integers(0, PICTURES, rows).tolist() for _ in range(batches)]
    begin(0, 0, plans[0])()
    cpu, free, began = sum(map(cpu_of, pids)), idle_s(), time.perf_counter()
    making: deque[Callable[[], object]] = deque()
    for number, index in enumerate(plans):
        if len(making) == SLOTS:
            making.popleft()()
        making.append(begin(number, 0, index))
    for end in making:
        end()
    wall_s = time.perf_counter() - began
    cpu_s = sum(map(cpu_of, pids)) - cpu
    cores = os.cpu_count() or 1
    return {"wall": wall_s, "cpu": cpu_s, "idle": (idle_s() - free + cpu_s) / (cores * wall_s)}


def measure(
    how: Augmentation, size: tuple[int, int], rows: int, counts: Sequence[int],
    batches: int, rounds: int, tell: Callable[[dict[str, Any]], None],
) -> None:  # fmt: skip
    """Give `tell` a row for each number of workers."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as ending:
        stored = Path(folder) / "pictures.npy"
        images = np.random.default_rng(0).integers(0, 256, (PICTURES, *size, 3), np.uint8)
        np.save(stored, images)
        makers: dict[int, tuple[Begin, list[int]]] = {}
        for count in counts:
            if count:
                group = ending.enter_context(Workers(count, size, stored, how, rows, SLOTS))
                makers[count] = group.begin, [os.getpid(), *group.pids]
            else:
                begin = ending.enter_context(maker(0, images, stored, how, rows, SLOTS))
                makers[count] = begin, [os.getpid()]
        found: dict[int, list[dict[str, float]]] = {count: [] for count in counts}
        for _ in range(rounds):
            for count, (begin, pids) in makers.items():
                found[count].append(timed(begin, pids, batches, rows))
    pictures = batches * rows
    base = {name: median(one[name] for one in found[counts[0]]) for name in ("wall", "cpu")}
    for count in counts:
        of = {name: median(one[name] for one in found[count]) for name in ("wall", "cpu", "idle")}
        tell({
            "workers": count,
            "size": list(size),
            "cpu_ms_a_picture": round(1e3 * of["cpu"] / pictures, 4),
            "pictures_per_s": round(pictures / of["wall"], 1),
            "cpu_against_first": round(median(
                mine["cpu"] / first["cpu"]
                for mine, first in zip(found[count], found[counts[0]], strict=True)
            ), 3),
            "speed_against_first": round(base["wall"] / of["wall"], 3),
            "idle": round(of["idle"], 2),
        })  # fmt: skip


def main() -> int:
    return run_command(_run)


def _run() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", nargs="?", type=Path, default=DEFAULT, metavar="RECIPE.toml")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batches", type=int, default=4, help="in a turn")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    if min(options.workers) < 0 or options.batches < 1 or options.rounds < 1:
        raise SettingsError("--workers must be 0 or more, --batches and --rounds 1 or more")
    cv2.setNumThreads(1)
    settings = recipe.read(options.recipe)
    how = Augmentation(
        strength=settings.augment, mean=settings.input.mean, std=settings.input.std, seed=0
    )
    measure(
        how,
        (settings.input.height, settings.input.width),
        settings.batch.people * settings.batch.crops,
        options.workers,
        options.batches,
        options.rounds,
        lambda row: print(json.dumps({"recipe": options.recipe.name, **row}), flush=True),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
