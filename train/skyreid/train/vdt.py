"""View-decoupled transformer: identity is what is left of CLS when the view token is taken away.

Zhang et al., "View-decoupled Transformer for Person Re-identification under Aerial-ground Camera
Network", CVPR 2024 (arXiv:2403.14513). Re-written from the paper and held against recorded outputs
of the authors' code (LinlyAC/VDT-AGPReID, ad01007); their in-place subtraction is a concatenation
here, which exports without a scatter. One view token serves both views: inference needs no label.

What differs, and only where `VdtLoss` asks for it: a second triplet term whose positives and
negatives both come from the other view, which is the question asked of the embedding in use;
triplets on the unit sphere behind the neck instead of before it; a neck that keeps the statistics
of the identity feature alone. The last two matter for random initialisation: there the view token
and CLS share a large constant part, the mixed statistics leave it in every embedding, and all
cosines end up above .99 (docs/LOG.md).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skyreid.train.heads import EmbeddingHead
from skyreid.train.losses import (
    batch_hard_triplet,
    cross_entropy,
    cross_view_triplet,
    orthogonality,
)
from skyreid.train.vit import Trunk, TrunkConfig

VIEW_LOSS_WEIGHT = 0.001  # the published VIEW_LAMBDA: view classifier and orthogonality alike


@dataclass(frozen=True, kw_only=True)
class VdtLoss:
    """The options of the loss; the defaults are the published method."""

    label_smoothing: float = 0.0  # of the identity term, 0 to 1
    cross_view_weight: float = 0.0  # of the triplet across views
    sphere_scale: float = 0.0  # > 0: triplets on the unit sphere of this radius behind the neck
    mixed_statistics: bool = True  # the neck's running statistics see CLS as well


class VdtTrunk(Trunk):
    """The two-token trunk with CLS <- CLS - VIEW after every block."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__(replace(config, extra_tokens=2))

    def forward(self, images: Tensor) -> Tensor:
        """Float32 [B, 3, H, W] normalised to [B, 2 + P, D] after the final norm."""
        tokens = self.embed(images)
        for block in self.blocks:
            tokens = block(tokens)
            tokens = torch.cat([tokens[:, :1] - tokens[:, 1:2], tokens[:, 1:]], dim=1)
        normed: Tensor = self.norm(tokens)
        return normed


class Vdt(nn.Module):
    """VDT with its two heads: people on the view-free part, views on the view token."""

    def __init__(self, config: TrunkConfig, *, people: int, loss: VdtLoss | None = None) -> None:
        super().__init__()
        self.loss = loss or VdtLoss()
        self.backbone = VdtTrunk(config)
        self.heads = EmbeddingHead(config.dim, people)
        self.view_heads = EmbeddingHead(config.dim, 2)

    def forward(self, images: Tensor) -> Tensor:
        """Float32 [B, 3, H, W] normalised to embeddings [B, D] behind the neck, not unit length."""
        tokens = self.backbone(images)
        return self.heads.embed(tokens[:, 0] - tokens[:, 1])

    def losses(self, images: Tensor, people: Tensor, views: Tensor) -> dict[str, Tensor]:
        """The terms to be summed, by name.

        Args:
            images: float32 [B, 3, H, W], normalised.
            people: int64 [B], class of each person.
            views: int64 [B], aerial 1 and ground 0.
        """
        tokens = self.backbone(images)
        whole, view = tokens[:, 0], tokens[:, 1]
        free = whole - view
        embedding = self.heads.embed(free)
        if self.loss.mixed_statistics:
            # The published code also sends `whole` through the head and drops the result; what
            # stays is its share in the neck's running statistics, and so in every embedding.
            self.heads.move_statistics(whole)
        compared = free
        if self.loss.sphere_scale > 0:
            compared = self.loss.sphere_scale * F.normalize(embedding, dim=1)
        terms = {
            "identity": cross_entropy(
                self.heads.classify(embedding), people, self.loss.label_smoothing
            ),
            "triplet": batch_hard_triplet(compared, people),
            "view": VIEW_LOSS_WEIGHT * cross_entropy(self.view_heads(view), views),
            "orthogonality": VIEW_LOSS_WEIGHT * orthogonality(free, view),
        }
        if self.loss.cross_view_weight > 0:
            across = cross_view_triplet(compared, people, views)
            terms["cross_view"] = self.loss.cross_view_weight * across
        return terms
