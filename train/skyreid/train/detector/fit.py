"""The detector's training loop: clips in, one checkpoint out."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from skyreid.contract.errors import InputError
from skyreid.train import checkpoint
from skyreid.train.detector.clips import NOBODY, People, UInt8, View, find_views, read_frames
from skyreid.train.detector.crops import CropRules, cut
from skyreid.train.detector.evaluate import (
    Tally,
    average_precision,
    best_threshold,
    tally,
)
from skyreid.train.detector.inference import with_torch
from skyreid.train.detector.losses import box_loss, heat_loss
from skyreid.train.detector.recipe import DetectorRecipe, read_recipe
from skyreid.train.detector.targets import draw_targets
from skyreid.train.models.heatmap import INPUT_SPEC, PersonDetector


@dataclass(frozen=True)
class Validation:
    """A checkpoint's worth on the validation clips."""

    average_precision: float
    """Mean over cameras, 0 to 1."""
    score_min: float
    f1: float
    """Mean over cameras at ``score_min``."""


def fit(recipe_path: Path, clips: Sequence[Path], out: Path) -> Path:
    """Train a detector and keep the weights that were best on the validation clips.

    Args:
        recipe_path: a TOML file that `read_recipe` reads.
        clips: clip directories; the last ``validation_clips`` of them only validate.
        out: directory for ``detector.safetensors`` and ``log.jsonl``; made where it is missing.

    Returns:
        The checkpoint.

    Raises:
        SkyreidError: the recipe, a clip or the output directory cannot be used.
    """
    recipe = read_recipe(recipe_path)
    if len(clips) <= recipe.validation_clips:
        raise InputError(
            f"{len(clips)} clip(s) given, and the last {recipe.validation_clips} only validate: "
            "give more with --data"
        )
    out.mkdir(parents=True, exist_ok=True)
    split = len(clips) - recipe.validation_clips
    frames = load_frames([view for clip in clips[:split] for view in find_views(clip)], recipe)
    held_out = [view for clip in clips[split:] for view in find_views(clip)]

    torch.manual_seed(recipe.seed)
    random = np.random.default_rng(recipe.seed)
    model = PersonDetector(recipe.model).train()
    # Half again as fast on a CPU; typeshed of torch knows the argument for tensors only.
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = deepcopy(model).eval().requires_grad_(False)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    rules = recipe.crops
    path, best, started_s = out / "detector.safetensors", -1.0, time.monotonic()

    with (
        (out / "log.jsonl").open("w") as log,
        tqdm(total=recipe.steps, unit="step", file=sys.stderr, mininterval=2) as progress,
    ):
        for step in range(1, recipe.steps + 1):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(step, recipe)
            losses = _train_step(
                model, optimiser, _batch(frames, rules, recipe.batch, random), recipe
            )
            _follow(average, model, min(recipe.average_decay, step / (step + 20)))
            progress.update()
            progress.set_postfix({k: f"{v:.3f}" for k, v in losses.items()}, refresh=False)
            if step % recipe.validate_every and step != recipe.steps:
                continue
            found = validate(average, held_out, recipe.validation_step)
            row = {"step": step, "seconds": round(time.monotonic() - started_s, 1), **losses}
            log.write(json.dumps({**row, **found.__dict__}) + "\n")
            log.flush()
            progress.write(
                f"step {step}: validation AP {found.average_precision:.3f}, "
                f"F1 {found.f1:.3f} at score {found.score_min:.2f}",
                file=sys.stderr,
            )
            if found.average_precision > best:
                best = found.average_precision
                save(path, average, found)
    return path


def save(path: Path, model: PersonDetector, found: Validation) -> None:
    """Write a detector checkpoint; the default threshold travels in its configuration."""
    checkpoint.save(
        path,
        kind="detector",
        config={**model.config.model_dump(mode="json"), "score_min": found.score_min},
        state=model.state_dict(),
        input_spec=INPUT_SPEC,
    )


def learning_rate(step: int, recipe: DetectorRecipe) -> float:
    """Rate at a step from 1: linear warm-up, then a cosine down to 1 %."""
    warm = max(1, round(recipe.steps * 0.05))
    if step <= warm:
        return recipe.learning_rate * step / warm
    part = (step - warm) / max(1, recipe.steps - warm)
    return recipe.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * part)) / 2)


def load_frames(views: Sequence[View], recipe: DetectorRecipe) -> list[tuple[UInt8, People]]:
    """Every ``frame_step``-th frame of the training views, decoded once, with its people."""
    return [
        (frame, view.truth.get(number, NOBODY))
        for view in tqdm(views, desc="read clips", unit="view", file=sys.stderr)
        for number, frame in read_frames(view.video, recipe.frame_step)
    ]


def validate(model: PersonDetector, views: Sequence[View], step: int) -> Validation:
    """Average precision, best threshold and its F1 over some cameras."""
    parts: list[Tally] = [tally(with_torch(model), view, step=step) for view in views]
    score_min, f1 = best_threshold(parts)
    precision = float(np.mean([average_precision(part) for part in parts]))
    return Validation(round(precision, 4), score_min, round(f1, 4))


def _batch(
    frames: Sequence[tuple[UInt8, People]],
    rules: CropRules,
    size: int,
    random: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Pictures, heat, heat weight, box and box weight, stacked."""
    pictures, drawn = [], []
    for index in random.integers(len(frames), size=size):
        frame, people = frames[index]
        picture, boxes, ignored = cut(frame, people, rules, random)
        pictures.append(picture)
        drawn.append(draw_targets(boxes, ignored, rules.height_px, rules.width_px))
    return (
        torch.from_numpy(np.stack(pictures)),
        torch.from_numpy(np.stack([t.heat for t in drawn])),
        torch.from_numpy(np.stack([t.weight for t in drawn])),
        torch.from_numpy(np.stack([t.box for t in drawn])),
        torch.from_numpy(np.stack([t.box_weight for t in drawn])),
    )


def _train_step(
    model: PersonDetector,
    optimiser: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor, Tensor, Tensor, Tensor],
    recipe: DetectorRecipe,
) -> dict[str, float]:
    pictures, heat, weight, box, box_weight = batch
    logits, distances = model.raw(pictures)
    heat_part = heat_loss(logits, heat, weight)
    box_part = box_loss(distances, box, box_weight)
    optimiser.zero_grad(set_to_none=True)
    (heat_part + recipe.box_weight * box_part).backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
    optimiser.step()
    return {"heat": round(float(heat_part.detach()), 4), "box": round(float(box_part.detach()), 4)}


@torch.no_grad()
def _follow(average: PersonDetector, model: PersonDetector, decay: float) -> None:
    """Move the running average of weights and statistics a little towards the model."""
    current = model.state_dict()
    for name, value in average.state_dict().items():
        if value.dtype.is_floating_point:
            value.lerp_(current[name], 1 - decay)
        else:
            value.copy_(current[name])
