"""How the training of an embedder is set up: from pictures in memory to the best checkpoint.

What happens in a step is in `steps`, and of what in `embedder`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from skyreid.contract import files
from skyreid.contract.errors import SettingsError
from skyreid.train import checkpoint
from skyreid.train.data import workers as processes
from skyreid.train.data.records import ByReason, Record
from skyreid.train.data.workers import Begin
from skyreid.train.evaluate.embedding import embedded, in_grey, with_torch
from skyreid.train.fit import distil, prompts, resume, score_priors, steps
from skyreid.train.fit import split as splitting
from skyreid.train.fit.curves import Board
from skyreid.train.fit.embedder import Embedding, augmentation
from skyreid.train.fit.parallel import ALONE, Crew
from skyreid.train.fit.prefetch import SLOTS
from skyreid.train.fit.split import Split
from skyreid.train.fit.start import begin_with, rows_from_means
from skyreid.train.fit.steps import Outcome
from skyreid.train.models import variants
from skyreid.train.models.method import Method
from skyreid.train.recipe import DistilSection, Recipe

SCORE_PRIORS = "score-priors.json"
"""Of `best` on the held-out people, for `skyreid-export bundle --score-priors`."""


def fit(
    recipe: Recipe,
    records: Sequence[Record],
    out: Path,
    *,
    cache: Path | None = None,
    start: Path | None = None,
    clip: Path | None = None,
    teachers: Sequence[Path] = (),
    workers: int | None = None,
    refused: ByReason | None = None,
    crew: Crew = ALONE,
    board: Board | None = None,
) -> Outcome:
    """Train a recipe on `records`; writes the checkpoints and the score priors to `out`.

    Where `out` holds the state of the same run it goes on from there, and ends as it would have.

    Args:
        recipe: what to train.
        records: the training split; some of its people are held out and choose the checkpoint,
            unless the recipe holds nobody out.
        out: folder for the checkpoints.
        cache: folder for the resized pictures, see `pictures.load`; default is `out`.
        start: checkpoint whose weights to begin with; None draws them at random. Its classifier is
            kept where the people are the same ones.
        clip: weights of OpenAI's CLIP, with whose text side CLIP-ReID's prompts are learned first.
        teachers: checkpoints whose embeddings the network learns as well, see `distil`.
        workers: processes that augment pictures beside this one, see `data.workers`; None takes as
            many as usual. They change no result.
        refused: what the readers refused of the split; counts with the unreadable pictures.
        crew: the processes that train together, and where.
        board: takes the curves.

    Raises:
        InputError: when the people are too few to hold some out, more than 1 % of the pictures
            cannot be used, another process writes to `out`, or it cannot be written to.
        SettingsError: when `clip` or `teachers` are missing where they are needed, `clip` is given
            where it is not, or `out` holds another run.
        SkyreidError: when the loss is no number any more; the batch is kept in `out` then.
    """
    check(recipe, crew, start, clip, teachers, workers)  # before minutes go into pictures
    with steps.held(out, crew):
        torch.manual_seed(recipe.run.seed)
        if not crew.first:
            crew.wait()  # for the cache
        split = splitting.read(recipe, records, cache or out, refused)
        if crew.first:
            crew.wait()
        mark = resume.fingerprint(
            recipe,
            splitting.digest(split),
            {"--start": [start] if start else [], "--clip": [clip] if clip else [],
             "--teacher": teachers},
        )  # fmt: skip
        found = steps.find(out, mark)

        config = _config(recipe, split)
        network = variants.construct(config, recipe.loss)
        network.to(crew.device)
        if found is None:
            if start is not None:
                begin_with(network, config, checkpoint.load(start))
                if recipe.run.rows_from_means:
                    rows_from_means(network, split, recipe.input)
            prompts.learn(
                network,
                torch.from_numpy(split.images),
                torch.from_numpy(split.people),
                clip=clip,
                spec=recipe.input,
                options=recipe.prompts,
                seed=recipe.run.seed,
            )
        trained: Method | distil.Distilled = network
        if teachers or recipe.distil:
            section = recipe.distil or DistilSection()
            taught_by = distil.read(teachers, config["held_out"])
            trained = distil.Distilled(network, taught_by, recipe.input, section).to(crew.device)
            config["teachers"] = [teacher.sha256 for teacher in taught_by]
        with making(recipe, split, crew, workers) as (begin, rows):
            task = Embedding(recipe, split, config, network, trained, begin, rows)
            outcome = steps.Run(task, recipe, out, mark, found, crew=crew, board=board).train()
        if crew.first and split.held_out:
            embed = with_torch(checkpoint.load(outcome.best))
            images = split.held_out_images
            priors = score_priors.measure(
                *(embedded(way, split.held_out, images) for way in (embed, in_grey(embed)))
            )
            files.write(out / SCORE_PRIORS, (json.dumps(priors, indent=2) + "\n").encode())
        return outcome


@contextmanager
def making(
    recipe: Recipe, split: Split, crew: Crew, workers: int | None
) -> Iterator[tuple[Begin, slice]]:
    """What makes this process's rows of a batch, and which they are.

    Raises:
        SkyreidError: when the batch cannot be cut, or workers cannot be started.
    """
    rows = crew.rows(recipe.batch.people * recipe.batch.crops)
    if workers is None:
        workers = processes.usual(crew.here, gpu=crew.device.type == "cuda")
    with processes.maker(
        workers, split.images, split.stored, augmentation(recipe), rows.stop - rows.start, SLOTS
    ) as begin:
        yield begin, rows


def check(
    recipe: Recipe,
    crew: Crew,
    start: Path | None,
    clip: Path | None,
    teachers: Sequence[Path],
    workers: int | None,
) -> None:
    """Refuse what can be seen to be wrong without a data set; for the arguments see `fit`.

    Raises:
        SettingsError: the network cannot be built, its batch not be cut as the recipe says, or
            something that it trains with is missing.
        InputError: a file cannot be read.
    """
    with torch.device("meta"):  # shapes without numbers: no time, no memory
        network = variants.construct(network_of(recipe, 2), recipe.loss)
    rows = crew.rows(recipe.batch.people * recipe.batch.crops)
    steps.require(network, recipe.run, rows)
    processes.require(workers or 0)
    prompts.check(network, clip)
    if recipe.distil and not teachers:
        raise SettingsError("the recipe distils, but nobody teaches: give --teacher CHECKPOINT")
    for path in [*([start] if start else []), *teachers]:
        checkpoint.load(path)


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
