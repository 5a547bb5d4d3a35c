"""How a run of training is set up: from pictures in memory to the checkpoint that was best.

What happens in a step is in `run`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from skyreid.contract.errors import SettingsError
from skyreid.train import checkpoint, durable
from skyreid.train.data.records import ByReason, Record
from skyreid.train.data.sampler import PkSampler
from skyreid.train.fit import distil, optimise, precision, prompts, resume, selection
from skyreid.train.fit import split as splitting
from skyreid.train.fit.curves import Board
from skyreid.train.fit.ema import Average
from skyreid.train.fit.parallel import ALONE, Crew
from skyreid.train.fit.resume import Parts, Progress
from skyreid.train.fit.split import Split
from skyreid.train.fit.start import begin_with
from skyreid.train.fit.steps import BEST, LAST, SCORE_PRIORS, STATE, Run
from skyreid.train.models import variants
from skyreid.train.models.method import Method
from skyreid.train.recipe import DistilSection, Recipe

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What a run leaves behind.

    Attributes:
        best: the checkpoint with the highest (mAP + R1) / 2 over both cross-view directions on the
            held-out people.
        last: the checkpoint of the last step.
        score_priors: JSON for `skyreid-export bundle --score-priors`, of `best` on the held-out
            people.
        best_step: when `best` was taken.
        best_score: its value, a fraction.
        pictures_per_s: training pictures a second, evaluation included.
    """

    best: Path
    last: Path
    score_priors: Path
    best_step: int
    best_score: float
    pictures_per_s: float


def fit(
    recipe: Recipe,
    records: Sequence[Record],
    out: Path,
    *,
    cache: Path | None = None,
    start: Path | None = None,
    clip: Path | None = None,
    teachers: Sequence[Path] = (),
    refused: ByReason | None = None,
    crew: Crew = ALONE,
    board: Board | None = None,
) -> Outcome:
    """Train a recipe on `records`; writes the checkpoints and the score priors to `out`.

    Where `out` holds the state of the same run it goes on from there, and ends as it would have.

    Args:
        recipe: what to train.
        records: the training split; some of its people are held out and choose the checkpoint.
        out: folder for the checkpoints.
        cache: folder for the resized pictures, see `pictures.load`; default is `out`.
        start: checkpoint whose weights to begin with; None draws them at random. Its classifier is
            kept where the people are the same ones.
        clip: weights of OpenAI's CLIP, with whose text side CLIP-ReID's prompts are learned first.
        teachers: checkpoints whose embeddings the network learns as well, see `distil`.
        refused: what the readers refused of the split; counts with the unreadable pictures.
        crew: the processes that train together, and where.
        board: takes the curves.

    Raises:
        InputError: when the people are too few to hold some out, or more than 1 % of the pictures
            cannot be used.
        SettingsError: when `clip` or `teachers` are missing where they are needed, `clip` is given
            where it is not, `out` holds another run, or another process writes to it.
        SkyreidError: when `out` cannot be written to, or the loss is no number any more; the batch
            is kept in `out` then.
    """
    check(recipe, clip, teachers)  # before minutes are spent on pictures
    with durable.alone(out) if crew.first else nullcontext():
        torch.manual_seed(recipe.run.seed)
        if not crew.first:
            crew.wait()  # for the cache
        split = splitting.read(recipe, records, cache or out, refused)
        selection.check(split.held_out)
        if crew.first:
            crew.wait()
        mark = resume.fingerprint(
            recipe,
            split.images,
            (split.people, split.views),
            {"--start": [start] if start else [], "--clip": [clip] if clip else [],
             "--teacher": teachers},
        )  # fmt: skip
        found = resume.find(out / STATE, mark)
        for kept in (out / BEST, out / LAST) if found is None else ():
            if kept.exists():  # it may have been trained for hours
                raise SettingsError(
                    f"{kept} is of a run whose state is gone and would be written over; remove it "
                    "or give another --out"
                )

        config = _config(recipe, split)
        network = variants.construct(config, recipe.loss)
        network.to(crew.device)
        if found is None:
            if start is not None:
                begin_with(network, config, checkpoint.load(start))
            prompts.learn(
                network,
                torch.from_numpy(split.images),
                torch.from_numpy(split.people),
                clip=clip,
                spec=recipe.input,
                options=recipe.prompts,
                seed=recipe.run.seed,
            )
        average = Average(network, recipe.optimiser.average_decay)
        trained: Method | distil.Distilled = network
        if teachers or recipe.distil:
            section = recipe.distil or DistilSection()
            taught_by = distil.read(teachers, config["held_out"])
            trained = distil.Distilled(network, taught_by, recipe.input, section).to(crew.device)
            config["teachers"] = [teacher.sha256 for teacher in taught_by]
        crew.join_up(trained)
        parts = Parts(
            trained,
            average,
            optimise.build(trained, recipe.optimiser),
            precision.scaler(crew.device, recipe.run.precision),
            PkSampler(
                split.people,
                split.views,
                people_per_batch=recipe.batch.people,
                crops_per_person=recipe.batch.crops,
                balance_views=recipe.batch.balance_views,
                passes=recipe.batch.passes,
                seed=recipe.run.seed,
            ),
            torch.Generator().manual_seed(recipe.run.seed),
        )
        progress = Progress() if found is None else resume.restore(found, parts)
        run = Run(recipe, out, split, mark, config, network, trained, parts, progress, crew, board)
        if found is not None:
            log.info("goes on behind step %d of the state in %s", progress.step, out / STATE)
            if progress.step == progress.best_step and crew.first:
                run.keep(BEST)  # it may not have been written yet
        if board is not None:
            board.begin(progress.step)
        run.train()
        run.finish()
        return Outcome(
            out / BEST,
            out / LAST,
            out / SCORE_PRIORS,
            int(crew.agreed(progress.best_step)),
            crew.agreed(progress.best_score),
            progress.seen / max(time.monotonic() - run.began, 1e-9),
        )


def check(recipe: Recipe, clip: Path | None, teachers: Sequence[Path]) -> None:
    """Refuse a recipe whose network cannot be built, or which lacks what it trains with.

    Raises:
        SettingsError: naming what is wrong.
    """
    with torch.device("meta"):  # shapes without numbers: no time, no memory
        network = variants.construct(network_of(recipe, 2), recipe.loss)
    prompts.check(network, clip)
    if recipe.distil and not teachers:
        raise SettingsError("the recipe distils, but nobody teaches: give --teacher CHECKPOINT")


def network_of(recipe: Recipe, people: int) -> dict[str, Any]:
    """How to build a recipe's network for so many classes, see `variants.variant`."""
    return variants.variant(
        recipe.model.variant,
        height=recipe.input.height,
        width=recipe.input.width,
        people=people,
        trunk=recipe.model.trunk,
        options=recipe.model.options,
    )


def _config(recipe: Recipe, split: Split) -> dict[str, Any]:
    """How to build the network, and notes of the run, as the checkpoints keep them."""
    return {
        **network_of(recipe, int(split.people.max()) + 1),
        "recipe": recipe.model_dump(mode="json"),
        "fitted": sorted({r.person for r in split.kept}),  # a row of the classifier each
        "held_out": sorted({r.person for r in split.held_out}),
        "pictures": len(split.kept),
    }
