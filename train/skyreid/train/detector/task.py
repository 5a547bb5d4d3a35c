"""The task of a detector: people in windows of frames, found again in clips with truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skyreid.train.detector.clips import View
from skyreid.train.detector.crops import Sample, Source
from skyreid.train.detector.evaluate import (
    average_precision,
    best_threshold,
    tally,
    tally_pictures,
)
from skyreid.train.detector.inference import with_torch
from skyreid.train.detector.losses import box_loss, heat_loss
from skyreid.train.detector.recipe import DetectorRecipe
from skyreid.train.detector.targets import draw_targets
from skyreid.train.fit.task import Task, Terms, Verdict, moved
from skyreid.train.models.heatmap import INPUT_SPEC, PersonDetector


@dataclass(frozen=True)
class Pictures:
    """A batch: uint8 [B, H, W, 3] RGB, and the fields of `Targets`, stacked."""

    images: Tensor
    heat: Tensor
    weight: Tensor
    box: Tensor
    box_weight: Tensor


class Detection(Task[Pictures]):
    """A detector's task.

    Args:
        recipe: what is trained.
        source: of the training pictures.
        pictures: that it has, or that count as one epoch.
        held_out: cameras that are not trained on.
        pasted: pictures of people and grounds that are not trained on; none where none are pasted.
        config: how to build the network, and notes, for the checkpoints.
        network: that learns.
    """

    kind = "detector"
    input_spec = INPUT_SPEC
    network: PersonDetector

    def __init__(
        self,
        recipe: DetectorRecipe,
        source: Source,
        pictures: int,
        held_out: Sequence[View],
        pasted: Sequence[Sample],
        config: Mapping[str, Any],
        network: PersonDetector,
    ) -> None:
        self.config = config
        self.network = self.trained = network
        self.pictures = pictures
        self.batch = recipe.batch
        self._recipe, self._source = recipe, source
        self._held_out, self._pasted = held_out, pasted
        self._drawn = 0

    def plan(self) -> int:
        """How many were drawn before: with the seed, all that a batch follows from."""
        self._drawn += 1
        return self._drawn - 1

    def begin(self, plan: int) -> Callable[[], Pictures]:
        """See `Task`."""
        return partial(self._make, plan)

    def _make(self, plan: int) -> Pictures:
        random = np.random.default_rng([self._recipe.run.seed, plan])
        images, targets = [], []
        for _ in range(self.batch):
            picture, boxes, ignored = self._source(random)
            images.append(picture)
            targets.append(draw_targets(boxes, ignored, *picture.shape[:2]))
        return Pictures(
            torch.from_numpy(np.stack(images)),
            torch.from_numpy(np.stack([t.heat for t in targets])),
            torch.from_numpy(np.stack([t.weight for t in targets])),
            torch.from_numpy(np.stack([t.box for t in targets])),
            torch.from_numpy(np.stack([t.box_weight for t in targets])),
        )

    def see(self, batch: Pictures, rows: slice, device: torch.device) -> Terms:
        """Heat logits [N, H/4, W/4] and distances [N, 4, H/4, W/4]."""
        logits, box = self.network.raw(moved(batch.images[rows], device))
        return {"logits": logits, "box": box}

    def judge(self, seen: Terms, batch: Pictures, device: torch.device) -> Terms:
        """See `skyreid.train.detector.losses`."""
        heat, weight = batch.heat.to(device), batch.weight.to(device)
        box, box_weight = batch.box.to(device), batch.box_weight.to(device)
        return {
            "heat": heat_loss(seen["logits"], heat, weight),
            "box": self._recipe.box_weight * box_loss(seen["box"], box, box_weight),
        }

    def evaluate(self, network: nn.Module) -> Verdict:
        """Average precision, and the threshold with the best F1, both averaged over cameras.

        Where pasted pictures are trained on, they choose the threshold: rendered clips show next to
        nothing that looks like a person and is none, so the best one there is too low. Their
        average precision then counts as much as that of all cameras together. They stand for
        pictures of every width: where large ones are looked at twice, so are they, for a second
        look has false boxes of its own and asks for a higher threshold.
        """
        from_px, height_px = self._recipe.half_from_px, self._recipe.half_height_px
        detect = with_torch(network, from_px, height_px)
        parts = [tally(detect, view, step=self._recipe.validation_step) for view in self._held_out]
        rendered = float(np.mean([average_precision(part) for part in parts]))
        curves = {"AP": 100 * rendered}
        value, chosen_on = rendered, parts
        if self._pasted:
            as_large = with_torch(network, min(1, from_px), height_px)
            chosen_on = [tally_pictures(as_large, self._pasted)]
            pasted = average_precision(chosen_on[0])
            value = (rendered + pasted) / 2
            curves["AP pasted"] = 100 * pasted
        score_min, f1 = best_threshold(chosen_on)
        curves["F1"] = 100 * f1
        said = " ".join(f"{name}={percent:.1f}" for name, percent in curves.items())
        return Verdict(value, f"{said} score_min={score_min:.2f}", curves, {"score_min": score_min})

    def state(self) -> dict[str, Any]:
        """See `Task`."""
        return {"drawn": self._drawn}

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Task`."""
        self._drawn = int(state["drawn"])

    def arrays(self, batch: Pictures) -> dict[str, NDArray[Any]]:
        """The fields of the batch."""
        return {name: value.numpy() for name, value in vars(batch).items()}
