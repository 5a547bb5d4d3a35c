"""`skyreid-train fit` and `evaluate` where the recipe or the model is a detector's."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skyreid.contract.errors import InputError, SettingsError
from skyreid.contract.settings import read_table

if TYPE_CHECKING:
    from skyreid.train.detector.inference import Detect
    from skyreid.train.fit.curves import Board
    from skyreid.train.fit.parallel import Crew


def is_recipe(path: Path) -> bool:
    """Whether a recipe says ``kind = "detector"``; what cannot be read is left to its reader."""
    try:
        return bool(read_table(path, "recipe").get("kind") == "detector")
    except SettingsError:
        return False


def is_model(path: Path) -> bool:
    """Whether a bundle or a checkpoint holds a detector.

    Raises:
        InputError: it cannot be read.
    """
    if path.suffix == ".safetensors":
        from skyreid.train import checkpoint

        return checkpoint.load(path).kind == "detector"
    from skyreid.bundle.archive import open_bundle

    return open_bundle(path).manifest.kind == "detector"


def fit(arguments: Namespace, crew: Crew, board: Board | None) -> str:
    """Train on clips, of which the last ones only validate; returns a line that says how it went.

    Raises:
        SkyreidError: an option that a detector lacks, or what the training itself raises.
    """
    from skyreid.train.detector.fit import fit as train
    from skyreid.train.detector.recipe import read_recipe

    for option in ("cache", "clip", "teacher"):
        if getattr(arguments, option):
            raise InputError(f"--{option}: a detector recipe does not take it, leave it out")
    recipe = read_recipe(arguments.recipe, arguments.overrides)
    outcome = train(
        recipe, arguments.data, arguments.out, start=arguments.start, crew=crew, board=board
    )
    return (
        f"{outcome.best} step {outcome.best_step}, average precision on what is held out "
        f"{100 * outcome.best_score:.1f} %, {outcome.pictures_per_s:.0f} pictures/s"
    )


def evaluate(arguments: Namespace) -> int:
    """Recall, precision and average precision of every camera of a clip.

    Raises:
        SkyreidError: an option that a detector lacks, or what the measuring itself raises.
    """
    for option in ("format", "report", "against"):
        if getattr(arguments, option) is not None:
            raise InputError(f"--{option}: is for embedders, and this is a detector; leave it out")
    report = measure(arguments.models[0], arguments.data)
    print(json.dumps(report) if arguments.json else "\n".join(table(report)))
    return 0


def measure(model: Path, clip: Path) -> dict[str, Any]:
    """A detector over every frame of a clip, at its own default threshold.

    Returns:
        JSON-ready: ``model``, ``clip``, ``score_min`` and ``cameras``, by name ``recall`` and
        ``precision`` (0 to 1, None where nobody is to be found, or nothing was),
        ``average_precision`` (0 to 1) and ``people`` (boxes to be found).
    """
    import sys

    from tqdm import tqdm

    from skyreid.train.detector.clips import find_views
    from skyreid.train.detector.evaluate import average_precision, tally

    detect, score_min = open_model(model)
    cameras: dict[str, dict[str, float | None]] = {}
    for view in tqdm(find_views(clip), unit="camera", file=sys.stderr):
        part = tally(detect, view)
        recall, precision = part.rates(score_min)
        cameras[view.camera] = {
            "recall": None if recall is None else round(recall, 4),
            "precision": None if precision is None else round(precision, 4),
            "average_precision": round(average_precision(part), 4),
            "people": part.people,
        }
    return {"model": str(model), "clip": str(clip), "score_min": score_min, "cameras": cameras}


def table(report: dict[str, Any]) -> list[str]:
    """The report for people, in percent, a line a camera."""
    lines = [f"{'score >= ' + str(report['score_min']):<14} recall  precision    AP  people"]
    for camera, row in report["cameras"].items():
        recall, precision = (
            "-" if row[name] is None else f"{100 * row[name]:.1f}"
            for name in ("recall", "precision")
        )
        lines.append(
            f"{camera:<14} {recall:>6} {precision:>10} "
            f"{100 * row['average_precision']:5.1f} {row['people']:7d}"
        )
    return lines


def open_model(model: Path) -> tuple[Detect, float]:
    """A checkpoint or a bundle as a function from a frame to people, and its default threshold.

    The function gives everybody down to `SCORE_FLOOR`; at the threshold they are those that a
    device finds.

    Raises:
        SkyreidError: it cannot be read, or is no detector.
    """
    from skyreid.train.detector.inference import SCORE_FLOOR, halving, with_torch

    if model.suffix != ".safetensors":
        from skyreid.bundle.archive import open_bundle
        from skyreid.bundle.detector import start_detector

        bundle = open_bundle(model)
        detector = start_detector(bundle, score_min=SCORE_FLOOR)
        assert bundle.manifest.detector is not None  # or it would not have started
        return detector.find, bundle.manifest.detector.score_min
    from skyreid.train import checkpoint
    from skyreid.train.models.heatmap import build

    read = checkpoint.load(model)
    detect = with_torch(build(read.config, read.state), *halving(read.config))
    return detect, float(read.config["score_min"])
