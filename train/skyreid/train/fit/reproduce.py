"""`skyreid-train reproduce`: a paper's recipe trained and measured, beside the row of the paper."""

from __future__ import annotations

import json
import platform
import re
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from skyreid.contract import files
from skyreid.contract.errors import InputError
from skyreid.contract.version import release
from skyreid.train import recipe
from skyreid.train.checkpoint import sha256_of
from skyreid.train.data import catalogue
from skyreid.train.evaluate import protocols, tables
from skyreid.train.evaluate.protocols import Report
from skyreid.train.fit import command
from skyreid.train.fit.curves import Board
from skyreid.train.fit.parallel import Crew
from skyreid.train.fit.steps import BEST, LAST

RECIPES = Path(__file__).resolve().parents[4] / "recipes"
NAMED = {"CARGO": "cargo", "AG-ReID": "agreid-v1", "AG-ReID.v2": "agreid-v2", "LAGPeR": "lagper"}
RESULT = "reproduction.json"

_ROW = re.compile(r"(?P<protocol>[A-Z<>+-]+(?: exp\d)?) (?P<map>\d+\.\d+)/(?P<rank1>\d+\.\d+)")


@dataclass(frozen=True)
class Published:
    """A protocol of a paper's row, in percent."""

    rank1: float
    average_precision: float


def recipe_of(method: str, data: str) -> Path:
    """The recipe of a method on a data set.

    Raises:
        InputError: when there is none.
    """
    if data not in NAMED:
        raise InputError(f"nobody's row is known on {data}; there are rows on {', '.join(NAMED)}")
    path = RECIPES / f"{method}-base-{NAMED[data]}.toml"
    if not path.is_file():
        known = sorted(
            p.name.split("-base-")[0] for p in RECIPES.glob(f"*-base-{NAMED[data]}.toml")
        )
        raise InputError(
            f"no recipe of {method} on {data} in {RECIPES}; there are "
            f"{', '.join(known) or 'none: they lie in the clone of this project'}"
        )
    return path


def row_of(path: Path) -> dict[str, Published]:
    """The paper's row as the head of a recipe has it: the first of each protocol."""
    lines = [line[2:] for line in path.read_text().splitlines() if line.startswith("# ")]
    start = next(n for n, line in enumerate(lines) if line.endswith("Its row, mAP/R1:"))
    found: dict[str, Published] = {}
    for match in _ROW.finditer(lines[start + 1].partition(";")[0]):  # behind it stands another's
        found[match["protocol"]] = Published(float(match["rank1"]), float(match["map"]))
    return found


def reproduce(arguments: Namespace, crew: Crew, board: Board | None) -> str:
    """Train and measure; returns a table that says how near the row it came.

    Raises:
        SkyreidError: as `fit` and `evaluate`.
    """
    told = catalogue.told(arguments)
    (root,) = arguments.data
    data = catalogue.open(root, told=told)
    arguments.recipe = recipe_of(arguments.method, data.name)
    said = command.fit(arguments, crew, board)
    if not crew.first:
        return said
    settings = recipe.read(arguments.recipe, arguments.overrides)
    best = arguments.out / (BEST if settings.run.held_out_people else LAST)
    report = protocols.report([best], root, told=told)
    tables.require_queries(report.outcomes)
    rows = row_of(arguments.recipe)
    result = {
        "method": arguments.method,
        "data": report.data.title,
        "people": report.people,
        "published": {n: {"rank1": r.rank1, "mAP": r.average_precision} for n, r in rows.items()},
        "measured": tables.as_json(report.outcomes),
        "warnings": protocols.warnings(report),
        "recipe": settings.model_dump(mode="json"),
        "changed": list(arguments.overrides),
        "checkpoint_sha256": sha256_of(best),
        "start_sha256": sha256_of(arguments.start) if arguments.start else None,
        "versions": {
            "skyreid": release("train"), "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }  # fmt: skip
    files.write(arguments.out / RESULT, (json.dumps(result, indent=2) + "\n").encode())
    notes = [said, *protocols.warnings(report)]
    if report.data.title != report.data.name:
        notes.append(f"WARNING: {report.data.title}: another data set than the paper's")
    if arguments.overrides:
        notes.append(f"WARNING: not the paper's recipe: {' '.join(arguments.overrides)}")
    return "\n".join([*beside(rows, report), *notes, f"to share: {arguments.out / RESULT}"])


def beside(rows: Mapping[str, Published], report: Report) -> list[str]:
    """A line for each protocol of the row: published, measured, and its interval."""
    lines = [
        f"{'percent':<8} {'R1 paper':>8} {'here':>6} {'95 %':>13} {'mAP paper':>9} {'here':>6}"
    ]
    lines[0] += f" {'95 %':>13}"
    for outcome in report.outcomes:
        row = rows.get(outcome.trial.name)
        found: dict[str, Any] = tables.figures(outcome.whole)
        if row is None or not found["queries"]:
            continue
        (low, high), (under, over) = found["rank1_interval"], found["mAP_interval"]
        lines.append(
            f"{outcome.trial.name:<8} {row.rank1:8.2f} {found['rank1']:6.1f} "
            f"{low:5.1f} - {high:5.1f} {row.average_precision:9.2f} {found['mAP']:6.1f} "
            f"{under:5.1f} - {over:5.1f}"
        )
    return lines
