"""ViSA: experts of a view write queries, and a graph lets them read the patches nearest to it.

"View-Aware Semantic Alignment for Aerial-Ground Person Re-Identification", CVPR 2026
(arXiv:2605.18192). Re-written from notes on the paper and held against recorded outputs of the
authors' code (Cat-Zero/ViSA, 22ff906).

What it adds to VDT, whose subtraction and losses it keeps: (VAB) a view token for each of the two
views, so that a picture's view must be known to embed it; (ETGM) three groups of experts, one on
the view-free feature of every picture and one each on the view token of aerial and of ground
pictures, which turn learned prompts into queries (`experts`); (DLFM) a graph between each query and
the patches most like its feature (`patch_graph`), and a block that gathers all queries in one
*local* feature with an identity and a triplet loss of its own. The embedding is both halves, 2 D
wide, each behind its own neck.

Where paper and code differ, the code is the default and `VisaOptions` has the paper's: experts read
patches (`etgm_kv`), where the code's read one vector and their attention is a constant shift; each
branch has its own graph convolution (`separate_gcn`); the token that gathers is CLS
(`fusion_token`); the balance weighs .001 (`balance_weight`). `graph_grad` lets gradients through
the graph, which the code cuts. Followed without a switch: view tokens enter once, not in every
layer; patches are chosen by the branch's feature, once for all queries, from before the last block
and before any norm. What the code never reads is kept for its state_dict and frozen.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from skyreid.contract.errors import SettingsError
from skyreid.train.data.records import View
from skyreid.train.models.experts import ServingExperts
from skyreid.train.models.heads import EmbeddingHead, FoldedNeck
from skyreid.train.models.losses import LossOptions, balance, cross_view_triplet
from skyreid.train.models.method import AERIAL, GROUND, Method
from skyreid.train.models.patch_graph import nearest, query_rows
from skyreid.train.models.registry import register
from skyreid.train.models.vdt import person_losses, view_decoupled_losses
from skyreid.train.models.visa_backbone import (
    Features,
    VisaBackbone,
    VisaOptions,
    group_of,
    trunk,
)
from skyreid.train.models.vit import TrunkConfig

__all__ = ["Visa", "VisaOptions"]

ROUTING = "routing."  # begins the name of what a group's router gave


def _experts(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """How many experts of how many queries a state_dict has."""
    found: dict[str, Any] = {}
    if (prompt := state.get("backbone.share_experts.0.prompt")) is not None:
        found["prompt_length"] = int(prompt.shape[1])
        if (gate := state.get("backbone.share_router.gate.weight")) is not None:
            found["experts"] = int(gate.shape[0])
    return found


@register(
    "visa",
    trunk={"stride": 12},
    options=VisaOptions,
    pretrained={"imagenet": "backbone.base."},
    copies={
        "backbone.b1.0.": "backbone.base.blocks.{last}.",
        "backbone.b1.1.": "backbone.base.norm.",
    },
    marks=("backbone.base.cls_token", "backbone.share_router."),
    sizes=_experts,
    fixture="visa",
)
class Visa(Method):
    """ViSA with its heads: people on the view-free and on the local feature, and views."""

    def __init__(
        self,
        config: TrunkConfig,
        options: VisaOptions | None = None,
        *,
        people: int,
        loss: LossOptions | None = None,
    ) -> None:
        super().__init__()
        self.options = options or VisaOptions()
        self.loss = loss or LossOptions()
        rows, columns = config.grid()
        down, across = config.stride
        if self.options.local and self.options.graph_top_k > rows * columns:
            raise SettingsError(
                f"visa: graph_top_k is {self.options.graph_top_k}, a picture of {config.size} "
                f"at stride {down}x{across} has {rows * columns} patches"
            )
        self.needs_view = self.options.specific
        self.backbone = VisaBackbone(config, self.options)
        self.heads = EmbeddingHead(config.dim, people)
        self.view_heads: EmbeddingHead | None = None
        self.local_heads: EmbeddingHead | None = None
        if self.options.view_tokens:
            self.view_heads = EmbeddingHead(config.dim, 2)
        if self.options.local:
            self.local_heads = EmbeddingHead(config.dim, people)

    @property
    def embedding_heads(self) -> tuple[EmbeddingHead, ...]:
        """See `Method.embedding_heads`."""
        return (self.heads,) if self.local_heads is None else (self.heads, self.local_heads)

    def forward(self, images: Tensor, views: Tensor) -> Tensor:
        """See `Method.forward`; the view-free half comes first, the local one second."""
        seen = self.backbone(images, views)
        embedding = self.heads.embed(seen.free)
        if self.local_heads is None:
            return embedding
        return torch.cat([embedding, self.local_heads.embed(seen.local)], dim=1)

    def see(self, images: Tensor, views: Tensor) -> dict[str, Tensor]:
        """See `Method.see`."""
        found: Features = self.backbone(images, views)
        named = {"whole": found.whole, "view": found.view, "local": found.local}
        seen = {name: feature for name, feature in named.items() if feature is not None}
        return seen | {ROUTING + group: rows for group, rows in found.routing.items()}

    def judge(self, seen: Mapping[str, Tensor], people: Tensor, views: Tensor) -> dict[str, Tensor]:
        """See `Method.losses`; those of VDT, of the local feature, and the routers' balance."""
        whole = seen["whole"]
        if self.view_heads is not None and "view" in seen:
            terms = view_decoupled_losses(
                self.heads,
                self.view_heads,
                whole,
                seen["view"],
                people,
                views,
                view_weight=self.options.view_weight,
                options=self.loss,
            )
        else:
            terms = self._without_views(whole, people, views)
        if self.local_heads is not None:
            identity, triplet, _ = person_losses(self.local_heads, seen["local"], people, self.loss)
            terms |= {"local_identity": identity, "local_triplet": triplet}
        routing = [rows for name, rows in seen.items() if name.startswith(ROUTING)]
        if routing:
            loads = [balance(p) * (len(p) / len(people)) for p in routing]
            terms["balance"] = self.options.balance_weight * torch.stack(loads).sum()
        return terms

    def _without_views(self, whole: Tensor, people: Tensor, views: Tensor) -> dict[str, Tensor]:
        identity, triplet, compared = person_losses(self.heads, whole, people, self.loss)
        terms = {"identity": identity, "triplet": triplet}
        if self.loss.cross_view_weight > 0:
            across = cross_view_triplet(compared, people, views)
            terms["cross_view"] = self.loss.cross_view_weight * across
        return terms

    def serving(self, view: View | None) -> nn.Module:
        """See `Method.serving`; one form for each view, and None only where no view is read."""
        self.require_view(view)
        return ServingVisa(self, view)


class ServingVisa(nn.Module):
    """ViSA for the cameras of one view, as it is exported."""

    leading: Tensor
    places: Tensor
    out_token: Tensor

    def __init__(self, network: Visa, view: View | None) -> None:
        super().__init__()
        source = network.backbone
        self.options = options = source.options
        self.patch_embed = copy.deepcopy(source.base.patch_embed)
        self.blocks = copy.deepcopy(source.base.blocks[:-1])
        self.b1 = copy.deepcopy(source.b1)
        label = torch.tensor([GROUND if view == "ground" else AERIAL])
        label = label.to(source.base.cls_token.device)
        self.register_buffer("leading", source.base.leading(label).detach().clone())
        self.register_buffer("places", source.base.places().detach().clone())
        self.neck = FoldedNeck(network.heads)
        if network.local_heads is not None:
            self.local_neck = FoldedNeck(network.local_heads)
            self.branches = nn.ModuleList([ServingBranch(source, "share", "share")])
            if options.specific:
                name = "ground" if view == "ground" else "sky"
                self.branches.append(ServingBranch(source, "view", name))
            self.register_buffer("out_token", source.out_token.detach().clone()[None])
            self.gather = copy.deepcopy(source.final_attn_token_to_image)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Float32 [B, 3, H, W] normalised to [B, 2 D], or to [B, D] without the local half."""
        patches = self.patch_embed(images) + self.places
        count = patches.shape[0]
        tokens = torch.cat([self.leading.expand(count, -1, -1), patches], dim=1)
        whole, view, patches = trunk(self.blocks, self.b1, tokens, self.leading.shape[1])
        free = whole if view is None else whole - view
        embedding: Tensor = self.neck(free)
        if not self.options.local:
            return embedding
        first = self.out_token.expand(count, -1, -1)
        if self.options.fusion_token == "cls":
            first = whole[:, None]
        anchors = (free, whole if view is None else view)
        read = [
            branch(anchor, patches) for branch, anchor in zip(self.branches, anchors, strict=False)
        ]
        local = self.gather(torch.cat([first, *read], dim=1))
        return torch.cat([embedding, self.local_neck(local)], dim=1)


class ServingBranch(nn.Module):
    """One branch as it is exported: its group of experts or its prompt, and its graph."""

    prompt: Tensor

    def __init__(self, source: VisaBackbone, branch: Literal["share", "view"], group: str) -> None:
        super().__init__()
        options = source.options
        self.count = options.graph_top_k
        own = branch == "view" and options.separate_gcn
        self.convolution = copy.deepcopy(source.view_gcn if own else source.share_gcn)
        self.norm = copy.deepcopy(source.norm_share if branch == "share" else source.norm_view)
        self.experts = ServingExperts(*group_of(source, group)) if options.experts else None
        if not options.experts:
            prompt = source.share_prompt if branch == "share" else source.view_prompt
            self.register_buffer("prompt", prompt.detach().clone())

    def forward(self, anchor: Tensor, patches: Tensor) -> Tensor:
        """The branch's feature [B, D] and patches [B, P, D] to its refined queries [B, M, D]."""
        if self.experts is not None:
            queries = self.experts(anchor, patches)
        else:
            queries = self.prompt.expand(anchor.shape[0], -1, -1)
        rows = query_rows(queries, nearest(anchor, patches, self.count))
        read: Tensor = self.norm(self.convolution(rows)) + queries
        return read
