"""How the training of a detector is set up: from clips to the checkpoint that was best."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from skyreid.bundle.recall import cared
from skyreid.contract.errors import InputError
from skyreid.synth.pasted.stock import STOCK
from skyreid.train import checkpoint
from skyreid.train.detector.clips import NOBODY, People, UInt8, View, find_views, read_frames
from skyreid.train.detector.recipe import DetectorRecipe
from skyreid.train.detector.sources import held_out_pictures, open_source, split_data
from skyreid.train.detector.task import Detection
from skyreid.train.fit import resume, steps
from skyreid.train.fit.curves import Board
from skyreid.train.fit.parallel import ALONE, Crew
from skyreid.train.fit.steps import Outcome
from skyreid.train.models.heatmap import PersonDetector

log = logging.getLogger(__name__)


def fit(
    recipe: DetectorRecipe,
    data: Sequence[Path],
    out: Path,
    *,
    start: Path | None = None,
    crew: Crew = ALONE,
    board: Board | None = None,
) -> Outcome:
    """Train a detector; what is kept is best on the validation clips.

    Where `out` holds the state of the same run it goes on from there, and ends as it would have.

    Args:
        recipe: what to train.
        data: clip directories, of which the last ``validation_clips`` only validate, and a stock of
            cut-outs where the recipe pastes people.
        out: folder for the checkpoints.
        start: checkpoint whose weights to begin with; None draws them at random.
        crew: the processes that train together, and where.
        board: takes the curves.

    Raises:
        SkyreidError: a clip, the start or `out` cannot be used, or the loss is no number any more;
            the batch is kept in `out` then.
    """
    clips, stock = split_data(data, recipe.mix)
    if len(clips) <= recipe.validation_clips:
        raise InputError(
            f"{len(clips)} clip(s) given, and the last {recipe.validation_clips} only validate: "
            "give more with --data"
        )
    split = len(clips) - recipe.validation_clips
    views = [view for clip in clips[:split] for view in find_views(clip)]
    held_out = [view for clip in clips[split:] for view in find_views(clip)]
    config = _config(recipe, views, held_out)
    require_held_out(config, held_out)
    with steps.held(out, crew):
        torch.manual_seed(recipe.run.seed)
        mark = resume.fingerprint(
            recipe,
            f"{len(views)} cameras, and {len(held_out)} to validate",
            {
                "--data": [
                    *(file for view in (*views, *held_out) for file in _files(view)),
                    *([stock / STOCK] if stock else []),
                ],
                "--start": [start] if start else [],
            },
        )
        found = steps.find(out, mark)
        # Half again as fast on a CPU; typeshed of torch knows the argument for tensors only.
        network = PersonDetector(recipe.model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.to(crew.device)
        if found is None and start is not None:
            begin_with(network, config, checkpoint.load(start))
        frames = load_frames(views, recipe.frame_step, quiet=not crew.first)
        source = open_source(frames, stock, recipe.crops, recipe.mix)
        pasted = []
        if stock is not None:
            count = recipe.held_out_pictures
            pasted = held_out_pictures(stock, recipe.crops, recipe.mix, count)
        task = Detection(recipe, source, len(frames), held_out, pasted, config, network)
        return steps.Run(task, recipe, out, mark, found, crew=crew, board=board).train()


def require_held_out(config: Mapping[str, Any], held_out: Sequence[View]) -> None:
    """Raise `InputError` where the clips that validate are trained on too, or show nobody."""
    if both := set(config["fitted"]) & set(config["held_out"]):
        raise InputError(
            f"{len(both)} of the {len(held_out)} videos that only validate are among those that "
            "are trained on: name every clip once with --data, those that validate last"
        )
    people = (people for view in held_out for people in view.truth.values())
    if not any(cared(one.boxes, one.visibility).any() for one in people):
        raise InputError(
            f"{held_out[0].video.parent} and what else only validates show nobody who counts, and "
            "can choose neither checkpoint nor threshold: give another clip last"
        )


def begin_with(
    network: PersonDetector, config: Mapping[str, Any], source: checkpoint.Checkpoint
) -> None:
    """Copy the weights of `source` into `network`, which `config` describes.

    Raises:
        InputError: when they are different networks, or `source` was trained on a video that
            chooses the checkpoint now.
    """
    if source.kind != "detector" or source.config.get("trunk") != config["trunk"]:
        raise InputError("the checkpoint to start from holds another network than the recipe")
    if "unfolded_from" in source.config:
        log.warning(
            "the start was made of a bundle, which does not say what it was trained on: if one of "
            "the clips that validate is among it, they choose a checkpoint less well"
        )
    if seen := set(config["held_out"]) & set(source.config.get("fitted", ())):
        raise InputError(
            f"the checkpoint to start from was trained on {len(seen)} of the "
            f"{len(config['held_out'])} videos that only validate now: give other clips last, or "
            "another checkpoint"
        )
    checkpoint.fill(network, source.state)


def load_frames(
    views: Sequence[View], step: int, *, quiet: bool = False
) -> list[tuple[UInt8, People]]:
    """Every `step`-th frame of the views, decoded once, with its people."""
    return [
        (frame, view.truth.get(number, NOBODY))
        for view in tqdm(views, desc="read clips", unit="view", file=sys.stderr, disable=quiet)
        for number, frame in read_frames(view.video, step)
    ]


def _files(view: View) -> tuple[Path, Path]:
    """The video and its truth."""
    return view.video, view.video.parent / "gt" / f"{view.camera}.txt"


def _config(
    recipe: DetectorRecipe, views: Sequence[View], held_out: Sequence[View]
) -> dict[str, Any]:
    """How to build the network, and notes of the run, as the checkpoints keep them."""
    return {
        "trunk": recipe.model.model_dump(mode="json"),
        "half_from_px": recipe.half_from_px,
        "half_height_px": recipe.half_height_px,
        "recipe": recipe.model_dump(mode="json"),
        "fitted": sorted(checkpoint.sha256_of(view.video) for view in views),
        "held_out": sorted(checkpoint.sha256_of(view.video) for view in held_out),
    }
