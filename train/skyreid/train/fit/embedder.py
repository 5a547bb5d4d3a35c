"""The task of an embedder: people in crops of two views, told apart and found again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from skyreid.train.data.augment import Augmentation
from skyreid.train.data.sampler import PkSampler
from skyreid.train.data.workers import Begin
from skyreid.train.fit import selection
from skyreid.train.fit.distil import Distilled
from skyreid.train.fit.split import Split
from skyreid.train.fit.task import Task, Terms, Verdict, moved
from skyreid.train.models.method import Method
from skyreid.train.recipe import Recipe


@dataclass(frozen=True)
class Crops:
    """A batch.

    Attributes:
        number: of the batch, from 0.
        index: int64 [B], places in the training split.
        images: float32 [R, 3, H, W], augmented and normalised: this process's rows alone.
    """

    number: int
    index: Tensor
    images: Tensor


class Embedding(Task[Crops]):
    """An embedder's task.

    Args:
        recipe: what is trained.
        split: the pictures, and the people who are held out.
        config: how to build the network, and notes, for the checkpoints.
        network: that learns.
        trained: the network, or it with its teachers.
        begin: rows of batches, as `augmentation` says.
        rows: of a batch that this process sees.
    """

    kind = "embedder"
    network: Method
    trained: Method | Distilled

    def __init__(
        self,
        recipe: Recipe,
        split: Split,
        config: Mapping[str, Any],
        network: Method,
        trained: Method | Distilled,
        begin: Begin,
        rows: slice,
    ) -> None:
        self.input_spec = recipe.input
        self.config = config
        self.network = network
        self.trained = trained
        self.pictures = len(split.kept)
        self.batch = recipe.batch.people * recipe.batch.crops
        self._split, self._section, self._how = split, recipe.batch, augmentation(recipe)
        self._begin, self._rows, self._planned = begin, rows, 0
        self._people, self._views = torch.from_numpy(split.people), torch.from_numpy(split.views)
        self._sampler = PkSampler(
            split.people,
            split.views,
            people_per_batch=recipe.batch.people,
            crops_per_person=recipe.batch.crops,
            balance_views=recipe.batch.balance_views,
            passes=recipe.batch.passes,
            seed=recipe.run.seed,
        )
        self._batches = iter(self._sampler)

    def plan(self) -> list[Any]:
        """The number of the batch, and the places of its pictures in the training split."""
        number = self._planned
        self._planned += 1
        return [number, next(self._batches).tolist()]

    def begin(self, plan: Any) -> Callable[[], Crops]:
        """See `Task`."""
        number, index = plan
        made = self._begin(number, self._rows.start, index[self._rows])

        def end() -> Crops:
            images = torch.from_numpy(made()).to(torch.get_default_dtype())
            return Crops(number, torch.tensor(index), images)

        return end

    def see(self, batch: Crops, rows: slice, device: torch.device) -> Terms:
        """See `Task`."""
        views = self._views[batch.index[rows]].to(device)
        first = self._rows.start
        mine = batch.images[rows.start - first : rows.stop - first]
        return self.trained.see(moved(mine, device), views)

    def judge(self, seen: Terms, batch: Crops, device: torch.device) -> Terms:
        """See `Task`."""
        people, views = self._people[batch.index], self._views[batch.index]
        return self.trained.judge(seen, people.to(device), views.to(device))

    def adapt(self, share: float) -> None:
        """Let batches hold look-alikes, once the classifier knows who looks like whom."""
        if self._section.group > 1 and share >= self._section.group_after:
            nearest = look_alikes(self.network.classifier_weight, self._section.group - 1)
            self._sampler.set_neighbours(nearest)

    def evaluate(self, network: torch.nn.Module) -> Verdict:
        """Rank the held-out people; where there are none, the last network is the best."""
        assert isinstance(network, Method)
        split = self._split
        if not split.held_out:
            return Verdict(0.0, "nobody held out", {})
        return selection.verdict(
            selection.cross_view(network, self.input_spec, split.held_out, split.held_out_images)
        )

    def state(self) -> dict[str, Any]:
        """See `Task`."""
        return {"sampler": self._sampler.state(), "planned": self._planned}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Task`."""
        self._sampler.restore(state["sampler"])
        self._planned = int(state["planned"])

    def arrays(self, batch: Crops) -> dict[str, NDArray[Any]]:
        """The batch, whose people and views and from which files; other processes' rows too."""
        index = batch.index
        images = self._how.batch(self._split.images, batch.number, 0, index.tolist())
        paths = [str(self._split.kept[i].path) for i in index.tolist()]
        return {
            "index": index.numpy(),
            "paths": np.asarray(paths),
            "images": images,
            "people": self._people[index].numpy(),
            "views": self._views[index].numpy(),
        }


def augmentation(recipe: Recipe) -> Augmentation:
    """How a recipe's pictures are changed."""
    return Augmentation(
        strength=recipe.augment,
        mean=recipe.input.mean,
        std=recipe.input.std,
        seed=recipe.run.seed,
    )


@torch.no_grad()
def look_alikes(classifier: Tensor, count: int) -> NDArray[np.int64]:
    """For each row of a classifier's `weight` [C, D] the `count` most similar other rows."""
    rows = F.normalize(classifier, dim=1)
    similarity = rows @ rows.T
    similarity.fill_diagonal_(-2)
    nearest: NDArray[np.int64] = similarity.topk(count, dim=1).indices.cpu().numpy()
    return nearest
