"""View-decoupled transformer: identity is what is left of CLS when the view token is taken away.

Zhang et al., "View-decoupled Transformer for Person Re-identification under Aerial-ground Camera
Network", CVPR 2024 (arXiv:2403.14513). Re-written from the paper and held against recorded outputs
of the authors' code (LinlyAC/VDT-AGPReID, ad01007); their in-place subtraction is a concatenation
here, which exports without a scatter. One view token serves both views: inference needs no label.

What differs, and only where `LossOptions` asks for it: a second triplet term whose positives and
negatives both come from the other view, which is the question asked of the embedding in use;
triplets on the unit sphere behind the neck instead of before it; a neck that keeps the statistics
of the identity feature alone. The last two matter for random initialisation: there the view token
and CLS share a large constant part, the mixed statistics leave it in every embedding, and all
cosines end up above .99 (docs/LOG.md).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skyreid.train.data.records import View
from skyreid.train.models.heads import EmbeddingHead, FoldedNeck
from skyreid.train.models.losses import (
    LossOptions,
    batch_hard_triplet,
    cross_entropy,
    cross_view_triplet,
    orthogonality,
)
from skyreid.train.models.method import Method
from skyreid.train.models.registry import register
from skyreid.train.models.vit import Trunk, TrunkConfig
from skyreid.train.options import Options

VIEW_WEIGHT = 0.001  # the published VIEW_LAMBDA: view classifier and orthogonality alike


def without_view(tokens: Tensor) -> Tensor:
    """CLS <- CLS - VIEW in tokens [B, 2 + P, D], the others as they are."""
    return torch.cat([tokens[:, :1] - tokens[:, 1:2], tokens[:, 1:]], dim=1)


class VdtTrunk(Trunk):
    """The two-token trunk with CLS <- CLS - VIEW after every block."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__(config.model_copy(update={"extra_tokens": 2}))

    def forward(self, images: Tensor) -> Tensor:
        """Float32 [B, 3, H, W] normalised to CLS and VIEW after the final norm: [B, 2, D]."""
        tokens = self.embed(images)
        for block in self.blocks[:-1]:
            tokens = without_view(block(tokens))
        normed: Tensor = self.norm(without_view(self.blocks[-1](tokens, self.extra_tokens)))
        return normed


def person_losses(
    head: EmbeddingHead, feature: Tensor, people: Tensor, options: LossOptions
) -> tuple[Tensor, Tensor, Tensor]:
    """Identity and triplet loss of a feature, and what its triplets compare.

    Args:
        head: of the feature.
        feature: float32 [B, D], before the neck.
        people: int64 [B], class of each person.
        options: what departs from the published loss.
    """
    embedding = head.embed(feature)
    compared = feature
    if options.sphere_scale > 0:
        compared = options.sphere_scale * F.normalize(embedding, dim=1)
    identity = cross_entropy(head.classify(embedding), people, options.label_smoothing)
    return identity, batch_hard_triplet(compared, people), compared


def view_decoupled_losses(
    heads: EmbeddingHead,
    view_heads: EmbeddingHead,
    whole: Tensor,
    view: Tensor,
    people: Tensor,
    views: Tensor,
    *,
    view_weight: float,
    options: LossOptions,
) -> dict[str, Tensor]:
    """The loss of VDT, which its successors keep and add to.

    Args:
        heads: of the identity feature `whole - view`.
        view_heads: of the view token.
        whole: float32 [B, D], CLS after the final norm.
        view: float32 [B, D], VIEW after the final norm.
        people: int64 [B], class of each person.
        views: int64 [B], aerial 1 and ground 0.
        view_weight: of the view classifier and of the orthogonality.
        options: what departs from the published loss.
    """
    free = whole - view
    identity, triplet, compared = person_losses(heads, free, people, options)
    if options.mixed_statistics:
        # The published code also sends `whole` through the head and drops the result; what
        # stays is its share in the neck's running statistics, and so in every embedding.
        heads.move_statistics(whole)
    terms = {
        "identity": identity,
        "triplet": triplet,
        "view": view_weight * cross_entropy(view_heads(view), views),
        "orthogonality": view_weight * orthogonality(free, view),
    }
    if options.cross_view_weight > 0:
        across = cross_view_triplet(compared, people, views)
        terms["cross_view"] = options.cross_view_weight * across
    return terms


@register(
    "vdt",
    pretrained={"imagenet": "backbone."},
    marks=("backbone.cls_token", "backbone.view_token"),
    fixture="vdt",
)
class Vdt(Method):
    """VDT with its two heads: people on the view-free part, views on the view token."""

    head: type[EmbeddingHead] = EmbeddingHead  # of both

    def __init__(
        self,
        config: TrunkConfig,
        *,
        people: int,
        options: Options | None = None,  # it has none
        loss: LossOptions | None = None,
        backbone: VdtTrunk | None = None,  # of a successor
    ) -> None:
        super().__init__()
        self.loss = loss or LossOptions()
        self.backbone = backbone or VdtTrunk(config)
        self.heads = self.head(config.dim, people)
        self.view_heads = self.head(config.dim, 2)

    def forward(self, images: Tensor, views: Tensor) -> Tensor:
        """See `Method.forward`."""
        tokens = self.backbone(images)
        return self.heads.embed(tokens[:, 0] - tokens[:, 1])

    def see(self, images: Tensor, views: Tensor) -> dict[str, Tensor]:
        """See `Method.see`."""
        whole, view = self.backbone(images).unbind(1)
        return {"whole": whole, "view": view}

    def judge(self, seen: Mapping[str, Tensor], people: Tensor, views: Tensor) -> dict[str, Tensor]:
        """See `Method.losses`."""
        return view_decoupled_losses(
            self.heads,
            self.view_heads,
            seen["whole"],
            seen["view"],
            people,
            views,
            view_weight=VIEW_WEIGHT,
            options=self.loss,
        )

    def serving(self, view: View | None) -> nn.Module:
        """See `Method.serving`; the same for both views."""
        return ServingVdt(self)


class ServingVdt(nn.Module):
    """VDT as it is exported."""

    def __init__(self, network: Vdt) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(network.backbone)
        self.neck = FoldedNeck(network.heads)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Float32 [B, 3, H, W] normalised to [B, D]."""
        tokens = self.backbone(images)
        embedding: Tensor = self.neck(tokens[:, 0] - tokens[:, 1])
        return embedding
