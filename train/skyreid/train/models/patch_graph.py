"""The graph between a query and the patches nearest to it, of which one node is ever read.

The local feature module (DLFM) of ViSA joins each query to `k` patches: 1 + k nodes, edges weighted
by cosine, one convolution of Kipf and Welling (ICLR 2017, arXiv:1609.02907), and of its outcome the
query's node alone. That node has a closed form, so that no graph is built here: the adjacency
[B, M, 1 + k, 1 + k] of the published code, 65 times 65 numbers a query, becomes [B, k, k] among the
patches, once for all queries, and [B, M, k] between queries and patches.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def nearest(anchor: Tensor, patches: Tensor, count: int) -> Tensor:
    """The patches of the largest cosine to a picture's anchor, in no order that matters.

    Args:
        anchor: float32 [B, D].
        patches: float32 [B, P, D].
        count: how many are kept, at most P.

    Returns:
        float32 [B, count, D].
    """
    # The anchor's length changes no order.
    likeness = (F.normalize(patches, dim=-1) @ anchor[:, :, None])[:, :, 0]
    chosen = likeness.topk(count, dim=1).indices
    return patches.gather(1, chosen[:, :, None].expand(-1, -1, patches.shape[-1]))


def query_rows(queries: Tensor, patches: Tensor) -> Tensor:
    """Row 0 of `D^-1/2 A D^-1/2 N` for each query's graph, whose node 0 is the query.

    `A = max(cos, 0) + I` with the cosine of a node to itself left in, so that its diagonal is 2,
    and `D` the row sums of `A`.

    Args:
        queries: float32 [B, M, D].
        patches: float32 [B, k, D], the other nodes of all M graphs.

    Returns:
        float32 [B, M, D].
    """
    unit = F.normalize(patches, dim=-1)
    among = F.relu(unit @ unit.transpose(1, 2)).sum(-1)  # [B, k], each patch's own 1 included
    edges = F.relu(F.normalize(queries, dim=-1) @ unit.transpose(1, 2))  # [B, M, k]
    of_query = 2 + edges.sum(-1, keepdim=True)  # degrees; never below 2
    of_patches = 1 + among[:, None] + edges
    return (2 / of_query) * queries + (edges / torch.sqrt(of_query * of_patches)) @ patches


class GraphConvolution(nn.Module):
    """The learned part: one matrix from the right, no bias, and tanh."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gcn_weights = nn.Parameter(torch.empty(dim, dim))
        bound = 1 / math.sqrt(dim)
        nn.init.uniform_(self.gcn_weights, -bound, bound)

    def forward(self, rows: Tensor) -> Tensor:
        """Float32 [B, M, D] to [B, M, D]."""
        return torch.tanh(rows @ self.gcn_weights)
