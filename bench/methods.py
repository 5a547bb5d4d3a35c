"""Every method and ViSA's ablation at tiny width, trained alike on one data set: a Markdown table.

    python bench/methods.py --data shared/data/agsim --out runs/methods
    python bench/methods.py --data shared/data/agsim --out runs/methods-256 vit visa \
        --seeds 0 1 2 --height 256 --width 128                            # what a GPU is for

All rows have the same trunk, crops, batches, optimiser and number of steps; only method and options
differ, and the published weights of their losses. That compares methods as they learn from little,
not as their authors tuned them. Stopped and given again it goes on: a run resumes, and one whose
`measures.npz` lies in its folder is not run again. A row's interval is over people (docs/
evaluation.md), all seeds pooled; `above` is the difference to the first row, over the same queries.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
from safetensors import safe_open

from skyreid.contract import files
from skyreid.contract.errors import InputError, SkyreidError, run_command
from skyreid.train.evaluate import protocols
from skyreid.train.evaluate.bootstrap import difference, estimate
from skyreid.train.evaluate.metrics import Measures
from skyreid.train.models.registry import methods

VISA = "graph_top_k = 10"  # of 32 patches; the published 64 are for 128 and more
SMALL = {"visa": VISA}
ALIKE = [name for name, method in methods().items() if "clip" not in method.declaration.pretrained]
ROWS = {
    **{name: (name, SMALL.get(name, "")) for name in sorted(ALIKE, key=lambda n: (n != "vit", n))},
    "visa, no ETGM": ("visa", f"{VISA}, experts = 0"),
    "visa, no VAB": ("visa", f"{VISA}, view_tokens = false"),
    "visa, VAB alone": ("visa", f"{VISA}, experts = 0, local = false"),
    "visa, DLFM alone": ("visa", f"{VISA}, experts = 0, view_tokens = false"),
}
"""Method and options by row: every method on the common trunk, the plain one first, and ViSA's
ablation, where ETGM are the experts, VAB the view tokens and DLFM the local branch."""

RECIPE = """[model]
variant = "{method}-tiny"
trunk = {{ stem = "conv", depth = 4, stride = 16, drop_path = 0.0 }}
options = {{ {options} }}

[input]
height = {height}
width = {width}

[batch]
people = 16
crops = 4
balance_views = true

[optimiser]
learning_rate = 1e-3
weight_decay = 0.05
warmup_steps = 150

[run]
steps = {steps}
seed = {seed}
held_out_people = 20
evaluate_every = 250
save_every = 100
"""
CROPS_PER_STEP = 64


def folder_of(out: Path, row: str, seed: int) -> Path:
    """Where one run lies."""
    return out / f"{row.replace(', ', '-').replace(' ', '-').lower()}-{seed}"


def run(row: str, seed: int, options: argparse.Namespace) -> None:
    """Train, unless that is done, and keep what every query of the test split gave.

    Raises:
        InputError: when a run of other settings lies in its place.
    """
    folder = folder_of(options.out, row, seed)
    folder.mkdir(parents=True, exist_ok=True)
    method, chosen = ROWS[row]
    recipe = folder / "recipe.toml"
    wanted = f"# trained on {options.data.resolve()}\n" + RECIPE.format(
        method=method,
        options=chosen,
        height=options.height,
        width=options.width,
        steps=options.crops // CROPS_PER_STEP,
        seed=seed,
    )
    if recipe.exists() and recipe.read_text() != wanted:
        raise InputError(f"{recipe} is of other data or settings; give another --out")
    recipe.write_text(wanted)
    if (folder / "measures.npz").exists():
        return
    words = [sys.executable, "-m", "skyreid.train", "fit", recipe, "--data", options.data]
    words += ["--out", folder, "--cache", options.out, "--device", options.device]
    print(f"{row}, seed {seed}", file=sys.stderr)
    if code := subprocess.run(list(map(str, words))).returncode:
        raise SkyreidError(f"{row}, seed {seed}: training ended with exit code {code}")
    report = protocols.report([folder / "best.safetensors"], options.data)
    arrays = {
        f"{outcome.trial.name}/{field.name}": getattr(outcome.measures, field.name)
        for outcome in report.outcomes
        for field in fields(Measures)
    }
    with files.replacing(folder / "measures.npz") as partial, partial.open("wb") as file:
        np.savez(file, **arrays, query_cameras=report.ranked.query.cameras)


class Kept:
    """The measures of a row, the seeds one behind the other."""

    def __init__(self, paths: list[Path]) -> None:
        self._files = [dict(np.load(path)) for path in paths]

    def each(self, protocol: str, camera: int | None = None) -> list[Measures]:
        """Of every seed; only of the queries of one camera where that is given."""
        found = []
        for file in self._files:
            measures = Measures(*(file[f"{protocol}/{f.name}"] for f in fields(Measures)))
            if camera is not None:
                measures = measures.where(file["query_cameras"][measures.query] == camera)
            found.append(measures)
        return found

    def pooled(self, protocol: str, camera: int | None = None) -> Measures:
        """All seeds as more queries of the same people."""
        parts = self.each(protocol, camera)
        return Measures(
            *(
                np.concatenate([getattr(p, f.name) for p in parts], axis=-1)
                for f in fields(Measures)
            )
        )


def parameters(checkpoint: Path) -> float:
    """Millions of numbers in a checkpoint's tensors; classifiers of the training count."""
    with safe_open(checkpoint, "np") as file:
        return sum(int(np.prod(file.get_slice(key).get_shape())) for key in file.keys()) / 1e6


def pair(measures: Measures) -> str:
    """R1 / mAP in percent."""
    score = measures.score()
    return f"{100 * score.rank1:.1f} / {100 * score.average_precision:.1f}"


def span(value: float, interval: tuple[float, float], sign: str = "") -> str:
    """A number in percent with its interval."""
    low, high = (100 * end for end in interval)
    return f"{100 * value:{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})"


def table(rows: list[str], options: argparse.Namespace) -> str:
    """Markdown, a line a row."""
    first = rows[0]
    lines = [
        f"| | M | A->G R1 (95 %) | A->G mAP (95 %) | above {first}: R1 | mAP | "
        f"steepest camera R1 | G->A R1 / mAP | A<->G | ALL |"
        + (" R1 by seed |" if len(options.seeds) > 1 else ""),
        "|---|---|---|---|---|---|---|---|---|---|" + ("---|" if len(options.seeds) > 1 else ""),
    ]
    base: Kept | None = None
    for row in rows:
        folders = [folder_of(options.out, row, seed) for seed in options.seeds]
        kept = Kept([folder / "measures.npz" for folder in folders])
        base = base or kept
        across = kept.pooled("A->G")
        found, gain = estimate(across), difference(across, base.pooled("A->G"))
        above = ["", ""]
        if row != first:
            above = [
                span(gain.rank1, gain.rank1_interval, "+"),
                span(gain.average_precision, gain.average_precision_interval, "+"),
            ]
        steep = kept.pooled("A->G", options.steepest).score()
        cells = [
            row,
            f"{parameters(folders[0] / 'best.safetensors'):.1f}",
            span(found.score.rank1, found.rank1),
            span(found.score.average_precision, found.average_precision),
            *above,
            f"{100 * steep.rank1:.0f}",
            *(pair(kept.pooled(protocol)) for protocol in ("G->A", "A<->G", "ALL")),
        ]
        if len(options.seeds) > 1:
            cells.append(", ".join(f"{100 * part.score().rank1:.1f}" for part in kept.each("A->G")))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of: {'; '.join(ROWS)}")
    parser.add_argument("--data", type=Path, required=True, help="CARGO's layout, like agsim")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--height", type=int, default=128)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--crops", type=int, default=96_000, help="each run sees (default 96,000)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steepest", type=int, default=5, help="aerial camera reported apart")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options = parser.parse_args()
    rows = options.rows or list(ROWS)
    if unknown := sorted(set(rows) - set(ROWS)):
        parser.error(f"no row {unknown[0]!r}; rows are {', '.join(ROWS)}")

    def work() -> int:
        for row in rows:
            for seed in options.seeds:
                run(row, seed, options)
        print(table(rows, options))
        return 0

    return run_command(work)


if __name__ == "__main__":
    raise SystemExit(main())
