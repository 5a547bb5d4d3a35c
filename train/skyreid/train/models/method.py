"""What every method of this package offers: embed, a loss to train on, and a form to export."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from skyreid.contract.errors import InputError
from skyreid.train.data.records import View
from skyreid.train.models.heads import EmbeddingHead
from skyreid.train.options import Options

AERIAL, GROUND = 1, 0  # view labels in every tensor called `views`


Pretrained = Literal["imagenet", "clip"]


@dataclass(frozen=True)
class Declaration:
    """What the kit must know of a method besides its class.

    Attributes:
        name: in recipes, before the width, and in checkpoints.
        trunk: fields of `TrunkConfig` as its authors chose them; a recipe may choose otherwise.
        options: its own switches; `Options` itself for none.
        form: those of its options that change how the export form computes and not what it
            computes, so that an export may choose them anew.
        pretrained: the prefix of the names of its encoder, by whose weights that can begin with:
            ImageNet's ViT or OpenAI's CLIP.
        copies: prefixes of entries that begin as copies of its encoder's, and of which; `{last}` is
            the number of the last block.
        marks: parts of names that tell its authors' state_dict, which has all of them. Of the
            methods that match, the one with the most is meant.
        computed: parts of names of buffers that its authors saved and a network computes.
        unread: prefixes of tensors in its authors' files that only their training reads.
        superseded: prefixes of an older form, and what to say of a file that has them.
        sizes: fields of `options` that the shapes of its authors' state_dict decide.
        fixture: recorded outputs of its authors' code, for parity; None where there are none.
    """

    name: str
    trunk: Mapping[str, Any]
    options: type[Options]
    form: tuple[str, ...]
    pretrained: Mapping[Pretrained, str]
    copies: Mapping[str, str]
    marks: tuple[str, ...]
    computed: tuple[str, ...]
    unread: tuple[str, ...]
    superseded: Mapping[str, str]
    sizes: Callable[[Mapping[str, Tensor]], dict[str, Any]]
    fixture: str | None


class Method(nn.Module):
    """A network in the form it is trained in; parameter names are those of the authors' code.

    Attributes:
        declaration: what `register` was told of the method.
        heads: the neck and classifier of the identity feature; CLIP-ReID's have names of their own.
        needs_view: whether the embedding of a picture depends on its view label.
    """

    declaration: ClassVar[Declaration]
    heads: EmbeddingHead
    needs_view: bool = False

    @property
    def classifier_weight(self) -> Tensor:
        """Rows float32 [people, D] of the classifier of the identity feature."""
        return self.heads.weight

    @property
    def embedding_heads(self) -> tuple[EmbeddingHead, ...]:
        """The heads whose necks give the embedding, side by side; none where it is read before."""
        return (self.heads,)

    @abstractmethod
    def forward(self, images: Tensor, views: Tensor) -> Tensor:
        """Embeddings [B, D] behind the neck, not of unit length.

        Args:
            images: float32 [B, 3, H, W], normalised.
            views: int64 [B], AERIAL or GROUND; without effect unless `needs_view`.
        """

    def losses(self, images: Tensor, people: Tensor, views: Tensor) -> dict[str, Tensor]:
        """The weighted terms of the loss by name; their sum is what is minimised.

        Args:
            images: float32 [B, 3, H, W], normalised.
            people: int64 [B], class of each person.
            views: int64 [B], AERIAL or GROUND.
        """
        return self.judge(self.see(images, views), people, views)

    @abstractmethod
    def see(self, images: Tensor, views: Tensor) -> dict[str, Tensor]:
        """What `judge` reads of the pictures, by name.

        Nothing in it depends on another picture of the batch, but for the statistics of batch
        norms, so that it can be made of parts of a batch and in half precision. Rows belong to
        pictures; an entry has one for each, or for each of some of them where their order is
        without effect.

        Args:
            images: float32 [B, 3, H, W], normalised.
            views: int64 [B], AERIAL or GROUND.
        """

    @abstractmethod
    def judge(self, seen: Mapping[str, Tensor], people: Tensor, views: Tensor) -> dict[str, Tensor]:
        """The terms of `losses`; where pictures of a batch are compared with each other.

        Args:
            seen: float32, what `see` made of the whole batch.
            people: int64 [B], class of each person.
            views: int64 [B], AERIAL or GROUND.
        """

    @abstractmethod
    def serving(self, view: View | None) -> nn.Module:
        """The export form for the cameras of one view: a copy, in evaluation, without gradients.

        It equals `forward` for pictures of that view, has no control flow that depends on data,
        drops what inference does not read and holds as constants what does not depend on the
        picture. It maps float32 [B, 3, H, W] normalised to [B, D].

        Args:
            view: of the cameras; None serves both.

        Raises:
            InputError: for None, when `needs_view`.
        """

    def require_view(self, view: View | None) -> None:
        """Refuse a serving form for both views where the method has none.

        Raises:
            InputError: for None, when `needs_view`.
        """
        if self.needs_view and view is None:
            raise InputError(
                f"{type(self).__name__} embeds aerial and ground pictures differently: "
                "export it with --view aerial and --view ground, one bundle each"
            )


def as_views(view: View, count: int) -> Tensor:
    """Labels int64 [count] of one view."""
    return torch.full((count,), AERIAL if view == "aerial" else GROUND, dtype=torch.int64)
