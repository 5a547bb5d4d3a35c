"""ViSA computed the way the papers' code does it, with the weights of ours, to measure against.

Every token of every block, view tokens filled in by masks, a loop over experts that gathers and
scatters by boolean masks, attention to a single key written out, and one graph of 65 nodes per
query with a diagonal degree matrix built sample by sample, all rows of which are convolved although
one is read. Section 3.1 of what the published code does, in this project's own words.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from skyreid.train.models.experts import Expert
from skyreid.train.models.method import AERIAL, GROUND
from skyreid.train.models.visa import Visa
from skyreid.train.models.visa_backbone import VisaBackbone, group_of


def features(network: Visa, images: Tensor, views: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """CLS, VIEW and the local feature of pictures [B, 3, H, W] and their views [B]: each [B, D]."""
    backbone = network.backbone
    whole, view, patches = trunk(backbone, images, views)
    return whole, view, decoder(backbone, whole - view, view, patches, views)


def embed(network: Visa, images: Tensor, views: Tensor) -> Tensor:
    """Embeddings [B, 2 D] behind the necks."""
    whole, view, local = features(network, images, views)
    assert network.local_heads is not None
    return torch.cat([network.heads.embed(whole - view), network.local_heads.embed(local)], 1)


def trunk(backbone: VisaBackbone, images: Tensor, views: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """CLS [B, D], VIEW [B, D] behind the last block and norm; the patches [B, P, D] before it."""
    base = backbone.base
    patches = base.patch_embed(images)
    cls = base.cls_token.expand(len(images), -1, -1)
    token = torch.zeros_like(cls)
    assert base.view_token_sky is not None
    assert base.view_token_ground is not None
    for label, drawn in ((AERIAL, base.view_token_sky), (GROUND, base.view_token_ground)):
        mask = views == label
        if mask.any():
            token[mask] = drawn.expand(int(mask.sum()), -1, -1)
    tokens = torch.cat([cls, token, patches], 1) + base.pos_embed
    for block in base.blocks[:-1]:
        tokens = block(tokens).clone()
        tokens[:, 0] = tokens[:, 0] - tokens[:, 1]
    ended = backbone.b1(tokens)
    return ended[:, 0], ended[:, 1], tokens[:, 2:]


def decoder(
    backbone: VisaBackbone, free: Tensor, view: Tensor, patches: Tensor, views: Tensor
) -> Tensor:
    """The local feature [B, D]: experts, graphs and fusion."""
    shared = mixture(backbone, "share", free)
    specific = torch.zeros_like(shared)
    for name, label in (("sky", AERIAL), ("ground", GROUND)):
        mask = views == label
        if mask.any():
            specific[mask] = mixture(backbone, name, view[mask])
    weight = backbone.share_gcn.gcn_weights
    count = backbone.options.graph_top_k
    left = backbone.norm_share(graph(shared, free, patches, weight, count)) + shared
    right = backbone.norm_view(graph(specific, view, patches, weight, count)) + specific
    out = backbone.out_token[None].expand(len(free), -1, -1)
    tokens = torch.cat([out, left, right], 1)
    fusion = backbone.final_attn_token_to_image
    tokens = fusion.norm2(tokens + fusion.attn(tokens))
    tokens = fusion.norm3(tokens + fusion.mlp(tokens))
    return tokens[:, 0]


def mixture(backbone: VisaBackbone, name: str, feature: Tensor) -> Tensor:
    """Queries [B, M, D] of a group: every expert on the pictures that chose it, one by one."""
    experts, router = group_of(backbone, name)
    values, chosen = router.gate(feature).topk(router.top_k, dim=1)
    weights = values.softmax(1)
    made = None
    for index, expert in enumerate(experts):
        assert isinstance(expert, Expert)
        mask = (chosen == index).any(1)
        if not mask.any():
            continue
        tokens = one_expert(expert, feature[mask])
        if made is None:
            made = tokens.new_zeros(len(feature), *tokens.shape[1:])
        gate = (weights * (chosen == index)).sum(1)[mask]
        made[mask] = made[mask] + gate[:, None, None] * tokens
    assert made is not None
    return made


def one_expert(expert: Expert, feature: Tensor) -> Tensor:
    """Prompt tokens [B, M, D] that attend to one key each, all four projections and the softmax."""
    cross = expert.prm.cross_attn
    prompt = expert.prompt.repeat_interleave(len(feature), dim=0)
    key = feature[:, None]
    heads, dim = cross.heads, feature.shape[1]

    def split(rows: Tensor) -> Tensor:
        return rows.reshape(len(rows), -1, heads, dim // heads).transpose(1, 2)

    asked = split(cross.q_proj(prompt)) @ split(cross.k_proj(key)).transpose(2, 3)
    mixed = (asked * (dim // heads) ** -0.5).softmax(-1) @ split(cross.v_proj(key))
    moved = cross.out_proj(mixed.transpose(1, 2).reshape(prompt.shape))
    return expert.prm.settle(prompt + moved)


def graph(queries: Tensor, anchor: Tensor, patches: Tensor, weight: Tensor, count: int) -> Tensor:
    """What queries [B, M, D] read from the patches nearest to `anchor` [B, D]: [B, M, D]."""
    with torch.no_grad():
        near = F.cosine_similarity(anchor[:, None], patches, dim=-1).topk(count, dim=1).indices
        chosen = patches.gather(1, near[:, :, None].expand(-1, -1, patches.shape[-1]))
        batch, length, dim = queries.shape
        nodes = torch.cat(
            [queries[:, :, None], chosen[:, None].expand(-1, length, -1, -1)], 2
        ).reshape(batch * length, count + 1, dim)
        unit = F.normalize(nodes, dim=-1)
        adjacency = (unit @ unit.transpose(1, 2)).clamp(min=0) + torch.eye(count + 1)
        root = torch.stack([torch.diag(row) for row in adjacency.sum(-1).pow(-0.5)])
        spread = root @ adjacency @ root @ nodes
    return torch.tanh(spread @ weight)[:, 0].reshape(batch, length, dim)
