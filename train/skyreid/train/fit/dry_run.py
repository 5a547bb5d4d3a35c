"""What a run will cost, before it is begun: a few steps of it, on a few people's real pictures."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch

from skyreid.train.data.records import Record
from skyreid.train.fit import optimise, setup, steps
from skyreid.train.fit import split as splitting
from skyreid.train.fit.embedder import Embedding
from skyreid.train.fit.parallel import Crew
from skyreid.train.models import variants
from skyreid.train.recipe import Recipe

STEPS = 4  # of which the first is not timed
PICTURES_EACH = 8  # of a person, which are read


@dataclass(frozen=True)
class Cost:
    """What a run needs.

    Attributes:
        steps: of the whole schedule.
        step_s: seconds of a step, its batch made beside it.
        draw_s: seconds that making a batch takes of those, or more where that is what it waits for.
        read_s: seconds to read all pictures once.
        pictures_bytes: of all pictures in memory.
        peak_bytes: of the device's memory, on a CPU of the process's, with few pictures.
        batch: pictures in one.
    """

    steps: int
    step_s: float
    draw_s: float
    read_s: float
    pictures_bytes: int
    peak_bytes: int
    batch: int

    @property
    def hours(self) -> float:
        """Of the whole run, without its evaluations."""
        return (self.steps * max(self.step_s, self.draw_s) + self.read_s) / 3600

    @property
    def said(self) -> str:
        """In a line."""
        return (
            f"dry run: {self.hours:.2f} h for {self.steps} steps of {self.batch} pictures, without "
            f"evaluations: {self.batch / max(self.step_s, self.draw_s):.0f} pictures/s (a step "
            f"{self.step_s:.3f} s, making its batch {self.draw_s:.3f} s beside it), "
            f"{self.read_s / 60:.1f} min to read the pictures; peak memory "
            f"{self.peak_bytes / 2**30:.2f} GiB, and {self.pictures_bytes / 2**30:.2f} GiB of main "
            "memory for all pictures"
        )


def cost(recipe: Recipe, records: Sequence[Record], crew: Crew, workers: int | None = None) -> Cost:
    """Take a few steps of a run; nothing is written.

    Args:
        recipe: of the run.
        records: the training split.
        crew: this process, and where it trains.
        workers: that make the batches, see `setup.fit`.

    Raises:
        SkyreidError: what the run itself would raise at its beginning.
    """
    kept, _ = splitting.divided(recipe, records)
    of_each: dict[str, list[Record]] = {}
    for record in kept:
        of_each.setdefault(record.person, []).append(record)
    some = list(of_each)[: 2 * recipe.batch.people]
    few = [record for person in some for record in of_each[person][:PICTURES_EACH]]
    began = time.perf_counter()
    alone = recipe.model_copy(
        update={"run": recipe.run.model_copy(update={"held_out_people": 0, "people": None})}
    )
    with tempfile.TemporaryDirectory() as nowhere:
        split = splitting.read(alone, few, Path(nowhere))
        read_s = (time.perf_counter() - began) / len(few) * len(records)
        torch.manual_seed(recipe.run.seed)
        network = variants.construct(setup.network_of(recipe, len(of_each)), recipe.loss)
        network.to(crew.device)
        with setup.making(recipe, split, crew, workers) as (begin, rows):
            task = Embedding(recipe, split, {}, network, network, begin, rows)
            run = steps.Run(task, recipe, Path(nowhere), {}, None, crew=crew, board=None)
            network.train()
            drawn, taken = [], []
            for _ in range(STEPS):
                begun = time.perf_counter()
                batch = task.begin(task.plan())()
                made = time.perf_counter()
                run.step(batch)
                if crew.device.type == "cuda":
                    torch.cuda.synchronize(crew.device)
                drawn.append(made - begun)
                taken.append(time.perf_counter() - made)
    size = recipe.input.height * recipe.input.width * 3
    return Cost(
        optimise.length(recipe.run, len(kept), task.batch).steps,
        median(taken[1:]),
        median(drawn[1:]),
        read_s,
        size * len(records),
        _peak_bytes(crew.device),
        task.batch,
    )


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
