"""Distillation: a student learns what larger teachers make of the very crops it is trained on.

Two terms are added to the student's own loss. `embedding` pulls each embedding towards the
teacher's, through a learned linear map where their widths differ (Romero et al., "FitNets", ICLR
2015, arXiv:1412.6550, do so with hidden layers). `relation` makes the cosines between the crops of
a batch those of the teacher (Park et al., "Relational Knowledge Distillation", CVPR 2019,
arXiv:1904.05068; Tung and Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019,
arXiv:1907.09682).

What differs: the former compare distances that are divided by their mean under a Huber loss, the
latter rows of similarities of unit length; here it is the cosines themselves, since they are what
the search ranks by, and pairs within a view and across views count for half each, however many
there are of either.

The teacher sees what the student sees: the same augmented crop, an aerial one in the teacher's
form for aerial cameras (Beyer et al., "Knowledge distillation: A good teacher is patient and
consistent", CVPR 2022, arXiv:2106.05237). It is resized on the fly to the teacher's own input. What
the student's size has lost is lost to the teacher as well: from 128 x 64 pixels a teacher of
256 x 128 embeds blurred pictures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skyreid.contract.errors import InputError, SettingsError
from skyreid.contract.input_spec import InputSpec
from skyreid.train import checkpoint
from skyreid.train.data.records import View
from skyreid.train.fit.start import check_strangers
from skyreid.train.models.heads import EmbeddingHead
from skyreid.train.models.method import AERIAL, GROUND, Method
from skyreid.train.models.variants import construct
from skyreid.train.recipe import DistilSection

TAUGHT = "taught"
VIEWS: tuple[tuple[View, int], ...] = (("aerial", AERIAL), ("ground", GROUND))


@dataclass(frozen=True)
class Teacher:
    """A checkpoint that teaches.

    Attributes:
        forms: its serving form for each view, one and the same where the method has one for both.
        spec: what it was trained to see.
        dim: width of its embeddings.
        sha256: of its file.
    """

    forms: Mapping[View, nn.Module]
    spec: InputSpec
    dim: int
    sha256: str

    @torch.no_grad()
    def embed(self, images: Tensor, views: Tensor, spec: InputSpec) -> Tensor:
        """Unit vectors float32 [B, dim].

        Args:
            images: float32 [B, 3, H, W], normalised as `spec` says.
            views: int64 [B], aerial 1 and ground 0.
            spec: the student's input.
        """
        seen = as_input(images, spec, self.spec)
        found: Tensor | None = None
        for view, label in VIEWS:
            rows = torch.nonzero(views == label)[:, 0]
            if not len(rows):
                continue
            features = self.forms[view].to(images.device)(seen[rows]).float()
            if found is None:
                found = features.new_empty(len(images), features.shape[1])
            found[rows] = features
        assert found is not None  # a batch has pictures
        return F.normalize(found, dim=1)


def as_input(images: Tensor, spec: InputSpec, wanted: InputSpec) -> Tensor:
    """Pictures of one input as another has them: float32 [B, 3, H', W'], normalised.

    Bilinear, with the reference's wider filter where the picture shrinks; neither the margin of a
    crop nor rounding to bytes is undone.

    Args:
        images: float32 [B, 3, H, W], normalised as `spec` says.
        spec: of `images`.
        wanted: what is made of them.
    """

    def column(values: tuple[float, float, float]) -> Tensor:
        return images.new_tensor(values)[:, None, None]

    if (spec.height, spec.width) != (wanted.height, wanted.width):
        size = (wanted.height, wanted.width)
        images = F.interpolate(
            images, size=size, mode="bilinear", antialias=True, align_corners=False
        )
    if (spec.mean, spec.std) != (wanted.mean, wanted.std):
        pixels = images * column(spec.std) + column(spec.mean)
        images = (pixels - column(wanted.mean)) / column(wanted.std)
    return images


def read(paths: Iterable[Path], held_out: Sequence[str]) -> tuple[Teacher, ...]:
    """Open the teachers' checkpoints.

    Args:
        paths: their files.
        held_out: people of the data set that choose the student's checkpoint.

    Raises:
        InputError: when one is no embedder, or was fitted on people who are held out now: what it
            knows of them would pass to the student, and they could no longer choose a checkpoint.
    """
    return tuple(_read(path, held_out) for path in paths)


def _read(path: Path, held_out: Sequence[str]) -> Teacher:
    source = checkpoint.load(path)
    if source.kind != "embedder":
        raise InputError(f"{path} is a {source.kind}; a teacher is an embedder")
    check_strangers(source, held_out, f"the teacher {path}")
    network = construct(source.config)
    checkpoint.fill(network, source.state)
    network.eval()
    if network.needs_view:
        forms: dict[View, nn.Module] = {view: network.serving(view) for view, _ in VIEWS}
    else:
        both = network.serving(None)
        forms = {view: both for view, _ in VIEWS}
    blank = torch.zeros(1, 3, source.input_spec.height, source.input_spec.width)
    with torch.no_grad():
        dim = int(forms["aerial"](blank).shape[1])
    return Teacher(forms, source.input_spec, dim, source.sha256)


class Distilled(nn.Module):
    """A student with its teachers: the loss it is trained on, and what that loss has to learn.

    The state_dict is the student's under `student.` and the map's; teachers are no part of it.

    Args:
        student: of any method that has `embedding_heads`.
        teachers: one or more; of several the unit vectors are put side by side, so that their
            cosine is the mean of the teachers'.
        spec: the student's input.
        section: the terms' weights.

    Raises:
        SettingsError: for a method without: its embedding is not read behind its necks.
    """

    def __init__(
        self,
        student: Method,
        teachers: Sequence[Teacher],
        spec: InputSpec,
        section: DistilSection,
    ) -> None:
        super().__init__()
        self.student = student
        self.spec = spec
        self.section = section
        self._teachers = tuple(teachers)  # in a tuple torch does not see them: neither trained
        #                                   nor saved, and evaluated whatever `train()` says
        self._necks = student.embedding_heads
        if not self._necks:
            raise SettingsError(
                f"{student.declaration.name} cannot learn from a teacher: its embedding is not "
                "read behind a head; take another method for the student"
            )
        mine = sum(head.weight.shape[1] for head in self._necks)
        theirs = sum(teacher.dim for teacher in teachers)
        self.map: nn.Linear | None = None
        if mine != theirs:
            self.map = nn.Linear(mine, theirs, bias=False)
            nn.init.orthogonal_(self.map.weight)  # cosines survive it, if it is not narrower

    def forward(self, images: Tensor, people: Tensor, views: Tensor) -> dict[str, Tensor]:
        """As `losses`."""
        return self.losses(images, people, views)

    def losses(self, images: Tensor, people: Tensor, views: Tensor) -> dict[str, Tensor]:
        """The student's terms, `taught_embedding` and `taught_relation`; see `Method.losses`."""
        return self.judge(self.see(images, views), people, views)

    def see(self, images: Tensor, views: Tensor) -> dict[str, Tensor]:
        """What the student sees, and as `taught` what its teachers embed; see `Method.see`."""
        taught = torch.cat(
            [teacher.embed(images, views, self.spec) for teacher in self._teachers], dim=1
        ) / math.sqrt(len(self._teachers))
        return {**self.student.see(images, views), TAUGHT: taught}

    def judge(self, seen: Mapping[str, Tensor], people: Tensor, views: Tensor) -> dict[str, Tensor]:
        """The terms of `losses`; see `Method.judge`."""
        with watched(self._necks) as outputs:
            terms = self.student.judge(seen, people, views)
        embedding, taught = torch.cat(outputs, dim=1), seen[TAUGHT]
        with torch.autocast(taught.device.type, enabled=False):  # both are of small differences
            mine = F.normalize(embedding.float(), dim=1)
            if self.section.embedding_weight > 0:
                mapped = mine if self.map is None else self.map(mine)
                terms["taught_embedding"] = self.section.embedding_weight * embedding_loss(
                    mapped, taught, self.section.distance
                )
            if self.section.relation_weight > 0:
                terms["taught_relation"] = self.section.relation_weight * relation_loss(
                    mine, taught, views
                )
        return terms


def embedding_loss(mine: Tensor, taught: Tensor, distance: str) -> Tensor:
    """Mean over the batch of 1 - cosine, or for "l2" of the squared distance.

    Args:
        mine: float32 [B, D].
        taught: float32 [B, D], unit vectors.
        distance: "cosine" or "l2".
    """
    if distance == "cosine":
        return 1 - F.cosine_similarity(mine, taught, dim=1).mean()
    return (mine - taught).square().sum(1).mean()


def relation_loss(mine: Tensor, taught: Tensor, views: Tensor) -> Tensor:
    """Mean squared difference of the cosines of all pairs of different crops.

    The mean of the mean over pairs of one view and of the mean over pairs of two views; of either
    alone where a batch has no pair of the other sort.

    Args:
        mine: float32 [B, D], unit vectors.
        taught: float32 [B, E], unit vectors.
        views: int64 [B].
    """
    squares = (mine @ mine.T - taught @ taught.T).square()
    same = views[:, None] == views[None, :]
    pairs = ~torch.eye(len(views), dtype=torch.bool, device=views.device)
    groups = [
        torch.where(group, squares, 0).sum() / group.sum().clamp(min=1)
        for group in (same & pairs, ~same)
    ]
    filled = (same & pairs).any().float() + (~same).any().float()
    return torch.stack(groups).sum() / filled.clamp(min=1)


@contextmanager
def watched(heads: Sequence[EmbeddingHead]) -> Iterator[list[Tensor]]:
    """Within it the embeddings [B, D] that leave the heads' necks, one for each in their order.

    Only what gradients flow through is kept: the published methods send a second feature through
    a neck for its statistics alone. The list is filled on the way out.
    """
    seen: dict[int, Tensor] = {}

    def keep(place: int) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            if torch.is_grad_enabled():
                seen.setdefault(place, output)

        return hook

    handles = [
        head.bottleneck[0].register_forward_hook(keep(place)) for place, head in enumerate(heads)
    ]
    found: list[Tensor] = []
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
    found += [seen[place] for place in range(len(heads))]
