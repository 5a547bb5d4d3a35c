"""The detector's two losses, on raw outputs and drawn targets."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def heat_loss(logits: Tensor, heat: Tensor, weight: Tensor) -> Tensor:
    """Penalty-reduced focal loss ("Objects as Points", equation 1; alpha 2, beta 4).

    Args:
        logits: float32 [N, h, w].
        heat: float32 [N, h, w], exactly 1 at centres.
        weight: float32 [N, h, w], 0 where nothing is asked.

    Returns:
        A scalar, divided by the number of centres (at least 1).
    """
    positive = (heat >= 1).float() * weight
    chance = logits.sigmoid()
    hit = functional.logsigmoid(logits) * (1 - chance) ** 2 * positive
    miss = functional.logsigmoid(-logits) * chance**2 * (1 - heat) ** 4 * (weight - positive)
    return -(hit.sum() + miss.sum()) / positive.sum().clamp(min=1)


def box_loss(predicted: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Generalised IoU loss (Rezatofighi et al., CVPR 2019) of boxes that share their origin cell.

    Args:
        predicted: float32 [N, 4, h, w], positive distances left, top, right, bottom.
        target: float32 [N, 4, h, w].
        weight: float32 [N, h, w]; each person's cells sum to about 1.

    Returns:
        A scalar, the weighted mean of ``1 - GIoU`` (0 for a perfect box, below 2 always).
    """
    n, rows, columns = torch.nonzero(weight > 0, as_tuple=True)
    p, t, share = (
        predicted[n, :, rows, columns],
        target[n, :, rows, columns],
        weight[n, rows, columns],
    )  # [K, 4], [K, 4], [K]
    inner, outer = torch.minimum(p, t), torch.maximum(p, t)
    overlap = (inner[:, 0] + inner[:, 2]) * (inner[:, 1] + inner[:, 3])
    hull = (outer[:, 0] + outer[:, 2]) * (outer[:, 1] + outer[:, 3])
    area_p = (p[:, 0] + p[:, 2]) * (p[:, 1] + p[:, 3])
    area_t = (t[:, 0] + t[:, 2]) * (t[:, 1] + t[:, 3])
    union = area_p + area_t - overlap
    giou = overlap / union - (hull - union) / hull
    return ((1 - giou) * share).sum() / share.sum().clamp(min=1e-6)
