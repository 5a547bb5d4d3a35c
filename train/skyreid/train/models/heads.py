"""The embedding head: a batch-norm neck and a bias-free classifier.

Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person Re-identification", CVPRW 2019
(arXiv:1903.07071). The triplet loss sees the feature before the neck, the classifier and the
search see it after.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class EmbeddingHead(nn.Module):
    """Neck and classifier; `weight` [classes, dim] is used in training only."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, dim))
        nn.init.normal_(self.weight, std=0.01)
        # A Sequential of one, because the published key is `bottleneck.0.*`.
        self.bottleneck = nn.Sequential(nn.BatchNorm1d(dim))
        self.bottleneck[0].bias.requires_grad_(False)  # stays 0: embeddings centre on the origin

    def embed(self, feature: Tensor) -> Tensor:
        """Float32 [B, D] behind the neck."""
        normed: Tensor = self.bottleneck(feature)
        return normed

    def classify(self, embedding: Tensor) -> Tensor:
        """Logits [B, classes] of what `embed` gave."""
        return F.linear(embedding, self.weight)

    def forward(self, feature: Tensor) -> Tensor:
        """Logits [B, classes]."""
        return self.classify(self.embed(feature))

    @torch.no_grad()
    def move_statistics(self, feature: Tensor) -> None:
        """Let `feature` [B, D] move the neck's running mean and variance, and nothing else."""
        self.embed(feature)


class FoldedNeck(nn.Module):
    """A trained neck as it is served: one gain and one offset per channel, nothing to train."""

    gain: Tensor
    offset: Tensor

    def __init__(self, head: EmbeddingHead | nn.BatchNorm1d) -> None:
        super().__init__()
        norm = head.bottleneck[0] if isinstance(head, EmbeddingHead) else head
        assert isinstance(norm, nn.BatchNorm1d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        gain = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
        self.register_buffer("gain", gain)
        self.register_buffer("offset", norm.bias.detach() - norm.running_mean * gain)

    def forward(self, feature: Tensor) -> Tensor:
        """Float32 [B, D] behind the neck."""
        return feature * self.gain + self.offset
