"""Loss terms as plain functions on a batch; the methods decide which to add up.

Distances are Euclidean between un-normalised features before the neck, as in the published code.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from skyreid.train.options import Options

SQUARED_DISTANCE_FLOOR = 1e-12  # keeps the square root's gradient finite


class LossOptions(Options):
    """What every method lets a recipe change; the defaults are the published losses."""

    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the identity target spread over the wrong people."""
    cross_view_weight: float = Field(0.0, ge=0)
    """Weight of a triplet across views; 0 as published."""
    sphere_scale: float = Field(0.0, ge=0)
    """Radius of the sphere on which triplets are compared; 0 compares before the neck."""
    mixed_statistics: bool = True
    """Whether a two-token method's neck keeps statistics of CLS beside the identity feature's."""


def cross_entropy(logits: Tensor, classes: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of people, or of views (aerial 1, ground 0); `smoothing` goes to wrong classes.

    That is smoothing / (C - 1) for each wrong class and 1 - smoothing for the right one (Szegedy
    et al., arXiv:1512.00567, in the form the re-identification frameworks use), where torch's own
    option gives the right class its share of `smoothing` too.

    As in the published code the mean is over the rows whose term is not exactly 0, and 0 where
    none is. In float32 a term is 0 once the right logit leads by about 17: such a row leaves the
    mean to those that are still to be learnt.

    Args:
        logits: float32 [B, C].
        classes: int64 [B].
        smoothing: 0 to 1.
    """
    log_p = F.log_softmax(logits, dim=1)
    right = log_p.gather(1, classes[:, None])[:, 0]
    terms = -right
    if smoothing > 0:
        wrong = (log_p.sum(1) - right) / (logits.shape[1] - 1)
        terms = -((1 - smoothing) * right + smoothing * wrong)
    return terms.sum() / terms.count_nonzero().clamp(min=1)


def pairwise_distance(features: Tensor) -> Tensor:
    """Euclidean distances [B, B] between the rows of `features` [B, D]."""
    squares = (features * features).sum(1)
    squared = squares[:, None] + squares[None, :] - 2 * features @ features.T
    return squared.clamp(min=SQUARED_DISTANCE_FLOOR).sqrt()


def batch_hard_triplet(features: Tensor, people: Tensor, margin: float | None = None) -> Tensor:
    """Triplet loss over each row's hardest positive and hardest negative.

    Hermans et al., "In Defense of the Triplet Loss" (arXiv:1703.07737): the mean over the batch of
    log(1 + exp(d_ap - d_an)), or with a margin (CLIP-ReID: .3) of max(0, d_ap - d_an + margin). The
    row itself counts as a positive, at distance 0. The published code takes the exponential as it
    stands and falls back to a margin where that overflows; softplus does not overflow.

    Args:
        features: float32 [B, D], at least two different people.
        people: int64 [B].
        margin: of the hinge; None for the soft margin.
    """
    distance = pairwise_distance(features)
    same = people[:, None] == people[None, :]
    positive = distance.masked_fill(~same, -torch.inf).amax(1)
    negative = distance.masked_fill(same, torch.inf).amin(1)
    if margin is not None:
        return F.relu(positive - negative + margin).mean()
    return F.softplus(positive - negative).mean()


def cross_view_triplet(features: Tensor, people: Tensor, views: Tensor) -> Tensor:
    """`batch_hard_triplet` with positives and negatives of the other view only.

    Rows without a positive or without a negative in the other view do not count; without any such
    row the loss is 0.

    Args:
        features: float32 [B, D].
        people: int64 [B].
        views: int64 [B].
    """
    distance = pairwise_distance(features)
    same = people[:, None] == people[None, :]
    other = views[:, None] != views[None, :]
    counts = (same & other).any(1) & (~same & other).any(1)
    positive = distance.masked_fill(~(same & other), -torch.inf).amax(1)
    negative = distance.masked_fill(~(~same & other), torch.inf).amin(1)
    gap = torch.where(counts, positive - negative, torch.zeros_like(positive))
    terms = torch.where(counts, F.softplus(gap), torch.zeros_like(gap))
    return terms.sum() / counts.sum().clamp(min=1)


def orthogonality(left: Tensor, right: Tensor) -> Tensor:
    """Mean absolute cosine between the rows of two [B, D] batches."""
    return F.cosine_similarity(left, right, dim=1).abs().mean()


def balance(probabilities: Tensor) -> Tensor:
    """How unevenly a router loads its experts: 1 where all alike, E where one takes everything.

    E * sum of p_e², with p the mean of the router's full softmax over its samples; 0 without any.
    The form of ViSA's code: 1 plus the squared coefficient of variation of p, which is what Shazeer
    et al. (arXiv:1701.06538) keep small.

    Args:
        probabilities: float32 [B, E], rows that sum to 1.
    """
    load = probabilities.sum(0) / max(probabilities.shape[0], 1)
    load = load / (load.sum() + 1e-6)
    return probabilities.shape[1] * (load * load).sum()
