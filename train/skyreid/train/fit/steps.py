"""One run of training: its steps, and what it keeps as it goes."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from skyreid.train import checkpoint
from skyreid.train.data import augment
from skyreid.train.evaluate.embedding import embedded, with_torch
from skyreid.train.evaluate.metrics import Score
from skyreid.train.fit import finite, optimise, precision, resume, score_priors
from skyreid.train.fit.curves import Board
from skyreid.train.fit.distil import Distilled
from skyreid.train.fit.parallel import Crew
from skyreid.train.fit.prefetch import Ahead
from skyreid.train.fit.resume import Parts, Progress
from skyreid.train.fit.selection import cross_view, selection_value, spelled
from skyreid.train.fit.split import Split
from skyreid.train.models.method import Method
from skyreid.train.recipe import Recipe

log = logging.getLogger(__name__)

BEST = "best.safetensors"
LAST = "last.safetensors"
STATE = "state.safetensors"
BROKEN = "broken-batch.npz"
SCORE_PRIORS = "score-priors.json"

TOLD_EVERY = 20  # steps between two lines of progress

Terms = dict[str, Tensor]


@dataclass
class Run:
    """Everything that one process needs from the first step to the last.

    Attributes:
        recipe: what is trained.
        out: folder for the checkpoints.
        split: the pictures, and the people who are held out.
        mark: what the state says that this is a run of.
        config: how to build the network, and notes, for the checkpoints.
        network: that learns.
        trained: the network, or it with its teachers.
        parts: whatever changes.
        progress: how far it is.
        crew: the processes that train together.
        board: takes the curves.
    """

    recipe: Recipe
    out: Path
    split: Split
    mark: Mapping[str, Any]
    config: Mapping[str, Any]
    network: Method
    trained: Method | Distilled
    parts: Parts
    progress: Progress
    crew: Crew
    board: Board | None
    began: float = field(init=False)
    """When it would have begun, had it never been interrupted; monotonic seconds."""

    def __post_init__(self) -> None:
        batch, split = self.recipe.batch.people * self.recipe.batch.crops, self.split
        self._mine = self.crew.rows(batch)
        self._length = optimise.length(self.recipe.run, len(split.kept), batch)
        self._strength = self.recipe.augment
        spec = self.recipe.input
        self._mean, self._std = torch.tensor(spec.mean), torch.tensor(spec.std)
        self._images = torch.from_numpy(split.images)
        self._people, self._views = torch.from_numpy(split.people), torch.from_numpy(split.views)
        self._batches = iter(self.parts.sampler)
        self.began = time.monotonic() - self.progress.spent_s

    def train(self) -> None:
        """Every step that is left.

        Raises:
            SkyreidError: when the loss is no number any more; the batch is kept in `out`.
        """
        run, progress, parts, crew = self.recipe.run, self.progress, self.parts, self.crew
        bar = tqdm(
            total=self._length.steps,
            initial=progress.step,
            unit="step",
            smoothing=0.05,
            dynamic_ncols=True,
            disable=not crew.first,
        )
        with bar, Ahead(self._draw) as ahead:
            while (share := self._share()) < 1 and progress.step != run.stop_after:
                step = progress.step = progress.step + 1
                told = step % TOLD_EVERY == 0
                evaluated, saved = step % run.evaluate_every == 0, step % run.save_every == 0
                rate = optimise.learning_rate(self.recipe.optimiser, self._length, step, share)
                optimise.set_rate(parts.optimiser, rate)
                self.trained.train()
                index, images = ahead.take()
                progress.seen += len(index)
                if not (told or evaluated or saved or step in (self._length.steps, run.stop_after)):
                    ahead.begin()  # those steps have a say in what is drawn next, or keep it
                terms, norm = self._step(index, images)
                bar.update()
                if told:
                    speed = progress.seen / (time.monotonic() - self.began)
                    values = " ".join(f"{name} {term.item():.3f}" for name, term in terms.items())
                    bar.set_postfix_str(f"{speed:.0f} pictures/s {values}")
                    if self.board is not None:
                        self.board.step(step, terms, norm, rate, speed)
                    self._regroup(share)
                progress.spent_s = time.monotonic() - self.began
                if evaluated and crew.first:
                    results = self._evaluate()
                    log.info("step=%d lr=%.2e %s", step, rate, spelled(results, terms))
                elif saved and crew.first:
                    resume.save(self.out / STATE, self.mark, progress, parts)

    def finish(self) -> None:
        """Evaluate the last step; measure the score priors of the best one."""
        if not self.crew.first:
            return
        progress, split = self.progress, self.split
        results = self._evaluate(end=True)
        log.info("end step=%d best=%d %s", progress.step, progress.best_step, spelled(results, {}))
        embed = with_torch(checkpoint.load(self.out / BEST))
        measured = score_priors.measure(embedded(embed, split.held_out, split.held_out_images))
        (self.out / SCORE_PRIORS).write_text(json.dumps(measured, indent=2) + "\n")

    def keep(self, name: str) -> None:
        """Write the averaged network as the checkpoint `name`."""
        checkpoint.save(
            self.out / name,
            kind="embedder",
            config={**self.config, "step": self.progress.step},
            state=self.parts.average.network.state_dict(),
            input_spec=self.recipe.input,
        )

    def _share(self) -> float:
        """How much of the run is over, 0 to 1: of its steps, or of its time if that is more."""
        share = self.progress.step / self._length.steps
        limit_s = self.recipe.run.time_limit_s
        if limit_s is None:
            return share
        return max(share, self.crew.agreed(time.monotonic() - self.began) / limit_s)

    def _draw(self) -> tuple[Tensor, Tensor]:
        """The next batch: int64 [B], places in the split, and augmented float32 [B, 3, H, W]."""
        index = torch.from_numpy(next(self._batches))
        return index, augment.augment(
            self._images[index], self._mean, self._std, self._strength, self.parts.rng
        )

    def _step(self, index: Tensor, images: Tensor) -> tuple[Terms, Tensor]:
        """Learn from one batch: the terms of the loss, and the norm of its gradient."""
        parts, crew, device = self.parts, self.crew, self.crew.device
        people, views = self._people[index].to(device), self._views[index].to(device)
        with precision.autocast(device, self.recipe.run.precision):
            rows = self.trained.see(_moved(images[self._mine], device), views[self._mine])
        seen = crew.gather({name: values.float() for name, values in rows.items()})
        terms = self.trained.judge(seen, people, views)
        loss = torch.stack(list(terms.values())).sum()
        parts.optimiser.zero_grad()
        torch.autograd.backward(parts.scaler.scale(loss))
        crew.average_gradients(self.trained.parameters())
        parts.scaler.unscale_(parts.optimiser)
        norm = optimise.clip(parts.optimiser, self.recipe.optimiser)
        finite.check(
            self.out / BROKEN if crew.first else None,
            self.progress.step,
            terms,
            None if parts.scaler.is_enabled() and parts.scaler.get_scale() > 1 else norm,
            finite.Batch(
                index, [self.split.kept[i] for i in index.tolist()], images, people, views
            ),
        )
        parts.scaler.step(parts.optimiser)
        parts.scaler.update()
        parts.average.update(self.network)
        return terms, norm

    def _regroup(self, share: float) -> None:
        """Let batches hold look-alikes, once the classifier knows who looks like whom."""
        batch = self.recipe.batch
        if batch.group > 1 and share >= batch.group_after:
            nearest = look_alikes(self.network.classifier_weight, batch.group - 1)
            self.parts.sampler.set_neighbours(nearest)

    def _evaluate(self, *, end: bool = False) -> dict[str, Score]:
        """Rank the held-out people; keep the state, then the checkpoints (`resume` says why).

        At the end a tie goes to the later checkpoint, before to the earlier.
        """
        progress, split = self.progress, self.split
        results = cross_view(
            self.parts.average.network, self.recipe.input, split.held_out, split.held_out_images
        )
        value = selection_value(results)
        better = value >= progress.best_score if end else value > progress.best_score
        if better:
            progress.best_step, progress.best_score = progress.step, value
        resume.save(self.out / STATE, self.mark, progress, self.parts)
        if better:
            self.keep(BEST)
        self.keep(LAST)
        if self.board is not None:
            self.board.evaluated(progress.step, results)
        return results


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
