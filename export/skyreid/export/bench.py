"""How fast a bundle's model runs on this CPU, by numeric format and batch, beside PyTorch.

All that is compared runs in one process in turn, a call each a round, and the order moves on by one
every round: what else the machine does meets them alike. What counts is the median of the rounds
and the median of the rounds' ratios, each with its quartiles.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from skyreid.bundle import processor
from skyreid.bundle.archive import Bundle, open_bundle
from skyreid.bundle.runner import start
from skyreid.bundle.signature import ANYONE, Trust
from skyreid.contract.errors import InputError, PlatformError

TORCH = "torch eager"
BATCHES = (1, 8, 32)
ROUNDS = 15
_WARM_UP = 2
_FLAGS = tuple(
    "avx2 f16c avx512f avx512bw avx512_vnni avx_vnni avx512_bf16 avx512_fp16 amx_int8 amx_bf16 "
    "asimd asimdhp asimddp i8mm bf16 sve".split()
)

Call = Callable[[], object]


def bench(
    path: Path,
    *,
    batches: Sequence[int] = BATCHES,
    threads: int = 1,
    rounds: int = ROUNDS,
    checkpoint: Path | None = None,
    trust: Trust = ANYONE,
) -> dict[str, Any]:
    """Time every numeric format of a bundle with ONNX Runtime, and the checkpoint with PyTorch.

    Args:
        path: of the bundle; its golden pictures are what is run, repeated to the batch.
        batches: pictures of one call.
        threads: of one call.
        rounds: calls of each, after two that do not count.
        checkpoint: what the bundle was made of; the network as it would be exported runs beside it.
        trust: whose bundles are accepted.

    Returns:
        `cpu` (see `cpu`), `load` (runnable processes a core, the last minute's mean), `clock`
        (``cpu`` at one thread, for it leaves out what others take of the core; else ``wall``), and
        `rows`, one a batch and contender: see `summary`.

    Raises:
        InputError: an argument is out of range, or the checkpoint is not the bundle's.
        BundleError: the bundle cannot be used.
        PlatformError: a checkpoint is given and PyTorch is not installed.
    """
    for name, values in (("batch", batches), ("threads", (threads,)), ("rounds", (rounds,))):
        if not values or min(values) < 1:
            raise InputError(f"--{name} {','.join(map(str, values))}: whole numbers from 1 on")
    bundle = open_bundle(path, trust)
    if bundle.manifest.batch_max == 1 and max(batches) > 1:
        raise InputError(
            f"--batch {max(batches)}: {path} takes one picture of a call; say --batch 1"
        )
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    golden, _ = bundle.golden()
    names = [*bundle.manifest.formats, *([TORCH] if checkpoint else [])]
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        runs: dict[str, Callable[[Any], object]] = {
            name: stack.enter_context(start(bundle, numeric_format=name, threads=threads)).run
            for name in bundle.manifest.formats
        }
        if checkpoint is not None:
            runs[TORCH] = _eager(checkpoint, bundle, threads, stack)
        total = len(batches) * len(names) * (rounds + _WARM_UP)
        with tqdm(total=total, unit="call", disable=None) as bar:
            for batch in batches:
                pictures = np.resize(golden, (batch, *golden.shape[1:]))
                calls: dict[str, Call] = {
                    name: partial(run, pictures) for name, run in runs.items()
                }
                clock = time.process_time if threads == 1 else time.perf_counter
                taken = in_turn(calls, rounds, clock, bar.update)
                rows += summary(taken, batch)
    return {
        "bundle": bundle.manifest.name,
        "bundle_sha256": bundle.sha256,
        "height": int(golden.shape[1]),
        "width": int(golden.shape[2]),
        "threads": threads,
        "rounds": rounds,
        "clock": "cpu" if threads == 1 else "wall",
        "cpu": cpu(),
        "load": load,
        "rows": rows,
    }


def in_turn(
    calls: Mapping[str, Call],
    rounds: int,
    clock: Callable[[], float],
    advance: Callable[[int], object] = lambda count: None,
) -> dict[str, list[float]]:
    """Seconds of each call in each round; two rounds before the first do not count."""
    names = list(calls)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-_WARM_UP, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            began = clock()
            calls[name]()
            seconds = clock() - began
            if number >= 0:
                taken[name].append(seconds)
            advance(1)
    return taken


def summary(taken: Mapping[str, Sequence[float]], batch: int) -> list[dict[str, Any]]:
    """One row a contender, from its seconds in each round.

    Returns:
        `runs` (a numeric format, or PyTorch), `batch`, `ms` with `ms_quartiles`,
        `pictures_per_s`, and, where these are among the contenders, `faster_than_fp32` and
        `faster_than_torch`: median and quartiles of the rounds' ratios, as (lower, median, upper).
    """
    rows = []
    for name, seconds in taken.items():
        ms = 1000 * np.asarray(seconds, np.float64)
        low, middle, high = _quartiles(ms)
        row: dict[str, Any] = {
            "runs": name,
            "batch": batch,
            "ms": middle,
            "ms_quartiles": (low, high),
            "pictures_per_s": 1000 * batch / middle,
        }
        for other, key in (("fp32", "faster_than_fp32"), (TORCH, "faster_than_torch")):
            if other in taken and other != name:
                row[key] = _quartiles(np.asarray(taken[other]) * 1000 / ms)
        rows.append(row)
    return rows


def cpu() -> dict[str, Any]:
    """This CPU's `model`, `cores`, and those of its instruction sets that matter (`flags`)."""
    words = processor.flags()
    return {
        "model": processor.told().get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 1,
        "flags": [flag for flag in _FLAGS if flag in words],
    }


def as_lines(report: Mapping[str, Any]) -> list[str]:
    """The same for people: what it was measured on, and a table."""
    size = f"{report['width']} x {report['height']}"
    threads = "one thread" if report["threads"] == 1 else f"{report['threads']} threads"
    chip = report["cpu"]
    lines = [
        f"{report['bundle']}, {size}, {threads}, {report['clock']} time, medians (quartiles) of "
        f"{report['rounds']} rounds in turn",
        f"{chip['model']}, {chip['cores']} cores, {' '.join(chip['flags'])}; "
        f"load {report['load']:.1f} a core",
        f"{'batch':>5}  {'runs':<12}{'ms':>24}{'pictures/s':>12}{'x fp32':>20}{'x torch':>20}",
    ]
    for row in report["rows"]:
        low, high = row["ms_quartiles"]
        ms = f"{row['ms']:.1f} ({low:.1f}-{high:.1f})"
        cells = "".join(
            f"{_ratio(row.get(key)):>20}" for key in ("faster_than_fp32", "faster_than_torch")
        )
        lines.append(
            f"{row['batch']:>5}  {row['runs']:<12}{ms:>24}{row['pictures_per_s']:>12.1f}{cells}"
        )
    return [line.rstrip() for line in lines]


def _ratio(value: tuple[float, float, float] | None) -> str:
    return "" if value is None else f"{value[1]:.2f} ({value[0]:.2f}-{value[2]:.2f})"


def _quartiles(values: Any) -> tuple[float, float, float]:
    low, middle, high = (float(v) for v in np.percentile(values, (25, 50, 75)))
    return low, middle, high


def _eager(
    checkpoint: Path, bundle: Bundle, threads: int, stack: ExitStack
) -> Callable[[Any], object]:
    """The checkpoint's network for the bundle's view, in PyTorch without compilation."""
    try:
        import torch

        from skyreid.export import trace
    except ImportError as error:
        raise PlatformError(
            f"--checkpoint: {error.name} is not installed: pip install 'skyreid[export]'"
        ) from error
    traced = trace.load_for(bundle, checkpoint)
    before = torch.get_num_threads()
    stack.callback(torch.set_num_threads, before)
    torch.set_num_threads(threads)
    return lambda pictures: trace.ask(traced, pictures)
