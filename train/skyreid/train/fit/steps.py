"""One run of training: its steps, and what it keeps as it goes, whatever the task."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import torch
from torch import nn
from tqdm import tqdm

from skyreid.contract.errors import SettingsError
from skyreid.contract.files import FileLock
from skyreid.train import checkpoint
from skyreid.train.fit import accumulate, finite, optimise, precision, resume
from skyreid.train.fit.curves import Board
from skyreid.train.fit.ema import Average
from skyreid.train.fit.parallel import Crew
from skyreid.train.fit.prefetch import Prefetch
from skyreid.train.fit.resume import Found, Parts, Progress
from skyreid.train.fit.task import B, Task, Terms, Verdict
from skyreid.train.models.recompute import recompute
from skyreid.train.recipe import RunSection, TrainingRecipe

log = logging.getLogger(__name__)

BEST = "best.safetensors"
LAST = "last.safetensors"
STATE = "state.safetensors"
BROKEN = "broken-batch.npz"

TOLD_EVERY = 20  # steps between two lines of progress


@dataclass(frozen=True)
class Outcome:
    """What a run leaves behind.

    Attributes:
        best: the checkpoint that the held-out data chose.
        last: the checkpoint of the last step.
        best_step: when `best` was taken.
        best_score: its `Verdict.value`, a fraction.
        pictures_per_s: training pictures a second, evaluation included.
        waited: share of the time of this process's steps that went by waiting for pictures.
    """

    best: Path
    last: Path
    best_step: int
    best_score: float
    pictures_per_s: float
    waited: float

    @property
    def speed(self) -> str:
        """In words."""
        return f"{self.pictures_per_s:.0f} pictures/s, {self.waited:.0%} of it waiting for pictures"


@contextmanager
def held(out: Path, crew: Crew) -> Iterator[None]:
    """Within it `out` is this run's alone.

    Raises:
        InputError: when another process writes to it, or it cannot be written to.
    """
    if not crew.first:
        yield
        return
    with FileLock(out / ".lock", of=f"folder {out}", remedy="give another --out"):
        yield


def find(out: Path, mark: Mapping[str, Any]) -> Found | None:
    """The state from which the run `mark` goes on in `out`, or None where it begins.

    Raises:
        SkyreidError: as `resume.find`, or checkpoints lie there that would be written over.
    """
    found = resume.find(out / STATE, mark)
    for kept in (out / BEST, out / LAST) if found is None else ():
        if kept.exists():  # it may have been trained for hours
            raise SettingsError(
                f"{kept} is of a run whose state is gone and would be written over; remove it "
                "or give another --out"
            )
    return found


def require(trained: nn.Module, run: RunSection, rows: slice) -> None:
    """Let `trained` recompute what `run` says, and refuse what it asks in vain.

    Args:
        trained: see `Task`.
        run: how it is trained.
        rows: of a batch that this process sees.

    Raises:
        SettingsError: saying what cannot be done.
    """
    accumulate.require(trained, rows, run.accumulate)
    if run.recompute and not recompute(trained):
        raise SettingsError("run.recompute: nothing in this network can be recomputed")


class Run(Generic[B]):
    """Everything that one process needs from the first step to the last.

    Args:
        task: what is trained, with the weights it begins with, on the device of `crew`.
        recipe: how long, with which optimiser, and what is kept when.
        out: folder for the checkpoints.
        mark: what the state says that this is a run of, see `resume.fingerprint`.
        found: a state to go on from, see `find`.
        crew: the processes that train together.
        board: takes the curves.

    Raises:
        SkyreidError: when `found` does not fit, or the batch cannot be cut for `crew`.
    """

    def __init__(
        self,
        task: Task[B],
        recipe: TrainingRecipe,
        out: Path,
        mark: Mapping[str, Any],
        found: Found | None,
        *,
        crew: Crew,
        board: Board | None,
    ) -> None:
        self._task, self._run, self._optimiser = task, recipe.run, recipe.optimiser
        self._out, self._mark, self._crew, self._board = out, mark, crew, board
        self._mine = crew.rows(task.batch)
        require(task.trained, self._run, self._mine)
        self._length = optimise.length(recipe.run, task.pictures, task.batch)
        average = Average(task.network, recipe.optimiser.average_decay)
        crew.join_up(task.trained)
        self._batches = Prefetch(task)
        self._parts = Parts(
            task.trained,
            average,
            optimise.build(task.trained, recipe.optimiser),
            precision.scaler(crew.device, recipe.run.precision),
            self._batches,
        )
        self._progress = Progress() if found is None else resume.restore(found, self._parts)
        if found is not None:
            step = self._progress.step
            log.info("goes on behind step %d of the state in %s", step, out / STATE)
            if step == self._progress.best_step and crew.first:
                self._keep(BEST)  # it may not have been written yet
        # When it would have begun, had it never been interrupted.
        self._began = time.monotonic() - self._progress.spent_s
        self._stepping_s = 0.0  # of this process, evaluations left out

    def train(self) -> Outcome:
        """Every step that is left, and an evaluation of the last one.

        Raises:
            SkyreidError: when the loss is no number any more; the batch is kept in `out`.
        """
        if self._board is not None:
            self._board.begin(self._progress.step)
        self._steps()
        progress = self._progress
        if self._crew.first:
            verdict = self._evaluate(end=True)
            log.info("end step=%d best=%d %s", progress.step, progress.best_step, verdict.said)
        return Outcome(
            self._out / BEST,
            self._out / LAST,
            int(self._crew.agreed(progress.best_step)),
            self._crew.agreed(progress.best_score),
            progress.seen / max(time.monotonic() - self._began, 1e-9),
            self._waited(),
        )

    def _steps(self) -> None:
        run, progress, parts, crew = self._run, self._progress, self._parts, self._crew
        bar = tqdm(
            total=self._length.steps,
            initial=progress.step,
            unit="step",
            smoothing=0.05,
            dynamic_ncols=True,
            disable=not crew.first,
        )
        with bar, self._batches:
            while (share := self._share()) < 1 and progress.step != run.stop_after:
                step = progress.step = progress.step + 1
                told = step % TOLD_EVERY == 0
                evaluated, saved = step % run.evaluate_every == 0, step % run.save_every == 0
                rate = optimise.learning_rate(self._optimiser, self._length, step, share)
                optimise.set_rate(parts.optimiser, rate)
                parts.trained.train()
                begun = time.monotonic()
                batch = self._batches.take()
                progress.seen += self._task.batch
                terms, norm = self.step(batch)
                self._stepping_s += time.monotonic() - begun
                bar.update()
                if told:
                    speed, waited = progress.seen / (time.monotonic() - self._began), self._waited()
                    said = f"{speed:.0f} pictures/s, waits {waited:.0%} {_spelled(terms, ' ')}"
                    bar.set_postfix_str(said)
                    if self._board is not None:
                        self._board.step(step, terms, norm, rate, speed, waited)
                    self._task.adapt(share)
                progress.spent_s = time.monotonic() - self._began
                if evaluated and crew.first:
                    verdict = self._evaluate()
                    said = f"{verdict.said} {_spelled(terms, '=')}"
                    log.info("step=%d lr=%.2e %s", step, rate, said)
                elif saved and crew.first:
                    resume.save(self._out / STATE, self._mark, progress, parts)

    def _waited(self) -> float:
        """See `Outcome.waited`."""
        return self._batches.waited_s / max(self._stepping_s, 1e-9)

    def _share(self) -> float:
        """How much of the run is over, 0 to 1: of its steps, or of its time if that is more."""
        share = self._progress.step / self._length.steps
        limit_s = self._run.time_limit_s
        if limit_s is None:
            return share
        return max(share, self._crew.agreed(time.monotonic() - self._began) / limit_s)

    def step(self, batch: B) -> tuple[Terms, torch.Tensor]:
        """Learn from one batch: the terms of the loss, and the norm of its gradient."""
        task, parts, crew = self._task, self._parts, self._crew

        def see(rows: slice) -> Terms:
            with precision.autocast(crew.device, self._run.precision):
                found = task.see(batch, rows, crew.device)
            return {name: values.float() for name, values in found.items()}

        cut = None
        if self._run.accumulate > 1:
            cut = accumulate.look(parts.trained, see, self._mine, self._run.accumulate)
        terms = task.judge(crew.gather(cut.seen if cut else see(self._mine)), batch, crew.device)
        loss = torch.stack(list(terms.values())).sum()
        parts.optimiser.zero_grad()
        torch.autograd.backward(parts.scaler.scale(loss))
        if cut:
            accumulate.learn(parts.trained, see, cut)
        crew.average_gradients(parts.trained.parameters())
        parts.scaler.unscale_(parts.optimiser)
        norm = optimise.clip(parts.optimiser, self._optimiser)
        finite.check(
            self._out / BROKEN if crew.first else None,
            self._progress.step,
            terms,
            None if parts.scaler.is_enabled() and parts.scaler.get_scale() > 1 else norm,
            lambda: task.arrays(batch),
        )
        parts.scaler.step(parts.optimiser)
        parts.scaler.update()
        parts.average.update(task.network)
        return terms, norm

    def _evaluate(self, *, end: bool = False) -> Verdict:
        """Judge the averaged network; keep the state, then the checkpoints (`resume` says why).

        At the end a tie goes to the later checkpoint, before to the earlier.
        """
        progress = self._progress
        verdict = self._task.evaluate(self._parts.average.network)
        value = verdict.value
        better = value >= progress.best_score if end else value > progress.best_score
        if better:
            progress.best_step, progress.best_score = progress.step, value
        progress.notes = dict(verdict.notes)
        resume.save(self._out / STATE, self._mark, progress, self._parts)
        if better:
            self._keep(BEST)
        self._keep(LAST)
        if self._board is not None:
            self._board.evaluated(progress.step, verdict.curves)
        return verdict

    def _keep(self, name: str) -> None:
        """Write the averaged network, which was evaluated last, as the checkpoint `name`."""
        checkpoint.save(
            self._out / name,
            kind=self._task.kind,
            config={**self._task.config, **self._progress.notes, "step": self._progress.step},
            state=self._parts.average.network.state_dict(),
            input_spec=self._task.input_spec,
        )


def _spelled(terms: Terms, between: str) -> str:
    return " ".join(f"{name}{between}{term.item():.3f}" for name, term in terms.items())
