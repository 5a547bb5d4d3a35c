"""Time and memory of every ranking measure, side by side with the full sort it replaces.

::

    python bench/metrics.py [--json FILE] [--skip-sort]

Random features of the sizes of two test sets, on one thread. Each form runs in a process of its
own, so that its memory is its own; ``MiB`` is the highest resident size with the features
themselves in it, ``beside`` what ranking added. Both forms must give the same numbers to the last
digit; the features are small whole numbers, so that no order of summation in a matrix product
stands in the way, and many distances are equal.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from skyreid.train.evaluate import metrics
from skyreid.train.evaluate.metrics import PROTOCOLS, Embedded, Protocol, Score


@dataclass(frozen=True)
class Size:
    """A test set: how many of everything, and which protocols are asked of it."""

    query: int
    gallery: int
    dim: int
    people: int
    cameras: int  # the first five fly
    protocols: tuple[Protocol, ...]


SIZES = {
    "CARGO": Size(312, 50_712, 1536, 2500, 13, PROTOCOLS),
    "Market": Size(3368, 15_913, 768, 750, 6, ("ALL",)),
}
FORMS = ("counted", "sorted")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def made(size: Size) -> tuple[Embedded, Embedded]:
    """Query and gallery, one random direction a person with noise upon it."""
    rng = np.random.default_rng(11)
    middles = rng.standard_normal((size.people, size.dim), dtype=np.float32)

    def embedded(count: int) -> Embedded:
        people = rng.integers(0, size.people, count)
        rows = rng.standard_normal((count, size.dim), dtype=np.float32)
        rows *= 3
        for start in range(0, count, 1024):  # so that the making takes less than the ranking
            rows[start : start + 1024] += middles[people[start : start + 1024]]
        np.rint(rows, out=rows)
        cameras = rng.integers(1, size.cameras + 1, count)
        return Embedded(rows, people, cameras, cameras <= 5)

    return embedded(size.query), embedded(size.gallery)


def by_full_sort(query: Embedded, gallery: Embedded) -> Score:
    """The textbook form: sort every row, strike out the junk, read the positives' places."""
    hits, precisions, penalties = np.zeros(metrics.MAX_RANK, np.int64), [], []
    rows = max(1, metrics.BLOCK_BYTES // (12 * gallery.people.size))
    for start in range(0, query.people.size, rows):
        part = slice(start, start + rows)
        order = np.argsort(1 - query.embeddings[part] @ gallery.embeddings.T, 1, kind="stable")
        people, cameras = gallery.people[order], gallery.cameras[order]
        same = people == query.people[part, None]
        junk = same & (cameras == query.cameras[part, None])
        for row in range(order.shape[0]):
            ranks = np.flatnonzero(same[row][~junk[row]]) + 1
            if ranks.size:
                precisions.append(float(np.mean(np.arange(1, ranks.size + 1) / ranks)))
                penalties.append(float(ranks.size / ranks[-1]))
                hits[ranks[0] - 1 :] += 1
    valid = len(precisions)
    cmc = hits.astype(np.float32) / np.float32(valid)
    means = {"mAP": float(np.mean(precisions)), "mINP": float(np.mean(penalties))}
    return Score(valid, cmc, means)


def sorted_once_each(
    query: Embedded, gallery: Embedded, wanted: tuple[Protocol, ...]
) -> dict[Protocol, Score]:
    """Every protocol by a full sort of its own, as evaluators do it."""
    aerial_q, ground_q = query.where(query.aerial), query.where(~query.aerial)
    sets = {"ALL": (query, gallery), "A<->G": (query.in_two_domains(), gallery.in_two_domains())}
    aerial_g, ground_g = gallery.where(gallery.aerial), gallery.where(~gallery.aerial)
    sets |= {"A-A": (aerial_q, aerial_g), "G-G": (ground_q, ground_g)}
    sets |= {"A->G": (aerial_q, ground_g), "G->A": (ground_q, aerial_g)}
    return {name: by_full_sort(*sets[name]) for name in wanted}


def counted(
    query: Embedded, gallery: Embedded, wanted: tuple[Protocol, ...]
) -> dict[Protocol, Score]:
    """What skyreid does."""
    if wanted == PROTOCOLS:
        return metrics.protocols(query, gallery)
    assert wanted == ("ALL",)
    return {"ALL": metrics.score(query, gallery)}


def measured(name: str, form: str) -> dict[str, Any]:
    """One form on one size, in this process."""
    size = SIZES[name]
    query, gallery = made(size)
    before_kib = _peak_kib()
    wall, cpu = time.perf_counter(), time.process_time()
    scores = (counted if form == "counted" else sorted_once_each)(query, gallery, size.protocols)
    return {
        "size": name,
        "form": form,
        "wall_s": round(time.perf_counter() - wall, 3),
        "cpu_s": round(time.process_time() - cpu, 3),
        "peak_mib": round(_peak_kib() / 1024),
        "beside_features_mib": round((_peak_kib() - before_kib) / 1024),
        "scores": metrics.as_json(scores),
    }


def _peak_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux


def main() -> int:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured")
    parser.add_argument("--skip-sort", action="store_true", help="measure skyreid's form only")
    parser.add_argument("--one", nargs=2, metavar=("SIZE", "FORM"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measured(*arguments.one)))
        return 0
    forms = FORMS[:1] if arguments.skip_sort else FORMS
    rows: list[dict[str, Any]] = []
    print(f"{'set':<8} {'form':<8} {'wall s':>7} {'CPU s':>7} {'MiB':>6} {'beside':>7}")
    for name, size in SIZES.items():
        for form in forms:
            command = [sys.executable, __file__, "--one", name, form]
            done = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | ONE_THREAD
            )
            row = json.loads(done.stdout)
            if form != FORMS[0] and row["scores"] != rows[-1]["scores"]:
                raise SystemExit(f"{name}: {form} gives other numbers than {rows[-1]['form']}")
            rows.append(row)
            print(
                f"{name:<8} {form:<8} {row['wall_s']:7.2f} {row['cpu_s']:7.2f} "
                f"{row['peak_mib']:6d} {row['beside_features_mib']:7d}",
                flush=True,
            )
        print(
            f"         {size.query} queries x {size.gallery} gallery x {size.dim}, "
            f"{len(size.protocols)} protocol{'s' if len(size.protocols) > 1 else ''}"
        )
    if arguments.json:
        sizes = {name: vars(size) for name, size in SIZES.items()}
        arguments.json.write_text(json.dumps({"sizes": sizes, "rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
