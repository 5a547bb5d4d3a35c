"""The training loop, from pictures in memory to the checkpoint that was best on held-out people."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from skyreid.train import checkpoint, distil, guard, optimise, precision, priors, prompts, resume
from skyreid.train import split as splitting
from skyreid.train.ahead import Ahead
from skyreid.train.average import Average
from skyreid.train.board import Board
from skyreid.train.data import augment
from skyreid.train.data.records import ByReason, Record
from skyreid.train.data.sampler import PkSampler
from skyreid.train.embedding import embedded, with_torch
from skyreid.train.metrics import Score
from skyreid.train.models import variants
from skyreid.train.models.losses import LossOptions
from skyreid.train.models.method import Method
from skyreid.train.parallel import ALONE, Crew
from skyreid.train.recipe import DistilSection, Recipe
from skyreid.train.resume import Parts, Progress
from skyreid.train.selection import cross_view, selection_value, spelled
from skyreid.train.split import Split
from skyreid.train.start import begin_with

log = logging.getLogger(__name__)

BEST = "best.safetensors"
LAST = "last.safetensors"
STATE = "state.safetensors"
BROKEN = "broken-batch.npz"
SCORE_PRIORS = "score-priors.json"

TOLD_EVERY = 20  # steps between two lines of progress


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
            where it is not, or `out` holds the state of another run.
        SkyreidError: when the loss is no number any more; the batch is kept in `out`.
    """
    run = recipe.run
    torch.manual_seed(run.seed)
    if not crew.first:
        crew.wait()  # for the cache
    split = splitting.read(recipe, records, cache or out, refused)
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

    config = _config(recipe, split)
    network = variants.construct(config, LossOptions(**recipe.loss.model_dump()))
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
            section=recipe.prompts,
            seed=run.seed,
        )
    average = Average(network, recipe.optimiser.average_decay)
    trained: Method | distil.Distilled = network
    if teachers or recipe.distil:
        section = recipe.distil or DistilSection()
        taught_by = distil.read(teachers, config["held_out"], section)
        trained = distil.Distilled(network, taught_by, recipe.input, section).to(crew.device)
        config["teachers"] = [teacher.sha256 for teacher in taught_by]
    crew.join_up(trained)
    parts = Parts(
        trained,
        average,
        optimise.build(trained, recipe.optimiser),
        precision.scaler(crew.device, run.precision),
        PkSampler(
            split.people,
            split.views,
            people_per_batch=recipe.batch.people,
            crops_per_person=recipe.batch.crops,
            balance_views=recipe.batch.balance_views,
            passes=recipe.batch.passes,
            seed=run.seed,
        ),
        torch.Generator().manual_seed(run.seed),
    )
    progress = Progress()
    if found is not None:
        progress = resume.restore(found, parts)
        log.info("goes on behind step %d of the state in %s", progress.step, out / STATE)
        if progress.step == progress.best_step and crew.first:  # it may not have been written yet
            _save(out / BEST, config, average.network, recipe, progress.step)

    if board is not None:
        board.begin(progress.step)
    batch_size = recipe.batch.people * recipe.batch.crops
    mine = crew.rows(batch_size)
    length = optimise.length(run, len(split.kept), batch_size)
    strength = augment.Strength(**recipe.augment.model_dump())
    mean, std = torch.tensor(recipe.input.mean), torch.tensor(recipe.input.std)
    images = torch.from_numpy(split.images)
    everybody, every_view = torch.from_numpy(split.people), torch.from_numpy(split.views)
    batches = iter(parts.sampler)

    def drawn() -> tuple[Tensor, Tensor]:
        index = torch.from_numpy(next(batches))
        return index, augment.augment(images[index], mean, std, strength, parts.rng)

    began = time.monotonic() - progress.spent_s
    bar = tqdm(
        total=length.steps,
        initial=progress.step,
        unit="step",
        smoothing=0.05,
        dynamic_ncols=True,
        disable=not crew.first,
    )
    with bar, Ahead(drawn) as ahead:
        while True:
            share = progress.step / length.steps
            if run.time_limit_s is not None:
                share = max(share, crew.agreed(time.monotonic() - began) / run.time_limit_s)
            if share >= 1 or progress.step == run.stop_after:
                break
            step = progress.step = progress.step + 1
            told = step % TOLD_EVERY == 0
            evaluated, saved = step % run.evaluate_every == 0, step % run.save_every == 0
            rate = optimise.learning_rate(recipe.optimiser, length, step, share)
            optimise.set_rate(parts.optimiser, rate)

            trained.train()
            index, normal = ahead.take()
            progress.seen += len(index)
            if not (told or evaluated or saved or step in (length.steps, run.stop_after)):
                ahead.begin()  # those steps have a say in what is drawn next, or keep it
            people, views = everybody[index].to(crew.device), every_view[index].to(crew.device)
            with precision.autocast(crew.device, run.precision):
                rows = trained.see(_moved(normal[mine], crew.device), views[mine])
            seen = crew.gather({name: values.float() for name, values in rows.items()})
            terms = trained.judge(seen, people, views)
            loss = torch.stack(list(terms.values())).sum()
            parts.optimiser.zero_grad()
            torch.autograd.backward(parts.scaler.scale(loss))
            crew.average_gradients(trained.parameters())
            parts.scaler.unscale_(parts.optimiser)
            norm = optimise.clip(parts.optimiser, recipe.optimiser)
            guard.check(
                out / BROKEN if crew.first else None,
                step,
                terms,
                None if parts.scaler.is_enabled() and parts.scaler.get_scale() > 1 else norm,
                guard.Batch(index, [split.kept[i] for i in index.tolist()], normal, people, views),
            )
            parts.scaler.step(parts.optimiser)
            parts.scaler.update()
            average.update(network)
            bar.update()

            if told:
                speed = progress.seen / (time.monotonic() - began)
                values = " ".join(f"{name} {term.item():.3f}" for name, term in terms.items())
                bar.set_postfix_str(f"{speed:.0f} pictures/s {values}")
                if board is not None:
                    board.step(step, terms, norm, rate, speed)
                if recipe.batch.group > 1 and share >= recipe.batch.group_after:
                    nearest = look_alikes(network.classifier_weight, recipe.batch.group - 1)
                    parts.sampler.set_neighbours(nearest)
            progress.spent_s = time.monotonic() - began
            if evaluated:
                if crew.first:
                    results = _evaluate(out, config, recipe, split, mark, progress, parts)
                    log.info("step=%d lr=%.2e %s", step, rate, spelled(results, terms))
                    if board is not None:
                        board.evaluated(step, results)
            elif saved and crew.first:
                resume.save(out / STATE, mark, progress, parts)

    if crew.first:
        results = _evaluate(out, config, recipe, split, mark, progress, parts, end=True)
        log.info("end step=%d best=%d %s", progress.step, progress.best_step, spelled(results, {}))
        if board is not None:
            board.evaluated(progress.step, results)
        embed = with_torch(checkpoint.load(out / BEST))
        measured = priors.measure(embedded(embed, split.held_out, split.held_out_images))
        (out / SCORE_PRIORS).write_text(json.dumps(measured, indent=2) + "\n")
    return Outcome(
        out / BEST,
        out / LAST,
        out / SCORE_PRIORS,
        int(crew.agreed(progress.best_step)),
        crew.agreed(progress.best_score),
        progress.seen / max(time.monotonic() - began, 1e-9),
    )


def _config(recipe: Recipe, split: Split) -> dict[str, Any]:
    """How to build the network, and notes of the run, as the checkpoints keep them."""
    return {
        **variants.variant(
            recipe.model.variant,
            height=recipe.input.height,
            width=recipe.input.width,
            people=int(split.people.max()) + 1,
            trunk=recipe.model.trunk,
            options=recipe.model.options,
        ),
        "recipe": recipe.model_dump(mode="json"),
        "held_out": sorted({r.person for r in split.held_out}),
        "pictures": len(split.kept),
    }


def _moved(images: Tensor, device: torch.device) -> Tensor:
    """`images` on `device`; the copy to a GPU does not hold up this process."""
    if device.type == "cpu":
        return images
    return images.pin_memory().to(device, non_blocking=True)


@torch.no_grad()
def look_alikes(classifier: Tensor, count: int) -> NDArray[np.int64]:
    """For each row of a classifier's `weight` [C, D] the `count` most similar other rows."""
    rows = F.normalize(classifier, dim=1)
    similarity = rows @ rows.T
    similarity.fill_diagonal_(-2)
    nearest: NDArray[np.int64] = similarity.topk(count, dim=1).indices.cpu().numpy()
    return nearest


def _evaluate(
    out: Path,
    config: Mapping[str, Any],
    recipe: Recipe,
    split: Split,
    mark: Mapping[str, Any],
    progress: Progress,
    parts: Parts,
    *,
    end: bool = False,
) -> dict[str, Score]:
    """Rank the held-out people; keep the state, then the checkpoints (`resume` says why).

    At the end a tie goes to the later checkpoint, before to the earlier.
    """
    network = parts.average.network
    results = cross_view(network, recipe.input, split.held_out, split.held_out_images)
    value = selection_value(results)
    better = value >= progress.best_score if end else value > progress.best_score
    if better:
        progress.best_step, progress.best_score = progress.step, value
    resume.save(out / STATE, mark, progress, parts)
    if better:
        _save(out / BEST, config, network, recipe, progress.step)
    _save(out / LAST, config, network, recipe, progress.step)
    return results


def _save(
    path: Path, config: Mapping[str, Any], network: nn.Module, recipe: Recipe, step: int
) -> None:
    checkpoint.save(
        path,
        kind="embedder",
        config={**config, "step": step},
        state=network.state_dict(),
        input_spec=recipe.input,
    )
