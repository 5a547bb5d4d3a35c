"""ViSA: experts of a view write queries, and a graph lets them read the patches nearest to it.

"ViSA" for aerial-ground person re-identification, CVPR 2026. Re-written from notes on the paper and
held against recorded outputs of the authors' code (Cat-Zero/ViSA, 22ff906).

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
import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skyreid.contract.errors import SettingsError
from skyreid.train.data.records import View
from skyreid.train.models.experts import Expert, Router, ServingExperts, Source, routed
from skyreid.train.models.heads import EmbeddingHead, FoldedNeck
from skyreid.train.models.losses import (
    LossOptions,
    balance,
    batch_hard_triplet,
    cross_entropy,
    cross_view_triplet,
)
from skyreid.train.models.method import AERIAL, GROUND, Method
from skyreid.train.models.patch_graph import GraphConvolution, nearest, query_rows
from skyreid.train.models.two_way import UnbiasedAttention
from skyreid.train.models.vdt import view_decoupled_losses, without_view
from skyreid.train.models.vit import Block, Mlp, Trunk, TrunkConfig


@dataclass(frozen=True, kw_only=True)
class VisaOptions:
    """What the authors' configurations set, where code and paper differ, and the ablation.

    The defaults are the published code for CARGO and AG-ReID.v2.
    """

    view_tokens: bool = True
    """VAB. Without: a plain trunk, no view losses; both branches start from CLS."""
    experts: int = 8
    """ETGM, experts a group. 0: a learned prompt a branch instead, the same for every picture."""
    local: bool = True
    """DLFM. Without: no local half, the embedding is D wide; needs `experts` 0."""
    prompt_length: int = 16  # queries a branch; LAGPeR: 8
    top_k: int = 2  # experts a picture; LAGPeR: 3
    graph_top_k: int = 64  # patches in a graph
    expert_mlp_ratio: float = 2.0
    etgm_kv: Source = "vector"
    separate_gcn: bool = False
    fusion_token: Literal["learned", "cls"] = "learned"
    graph_grad: bool = False
    balance_weight: float = 1e-4  # the paper: 1e-3
    view_weight: float = 1.0  # of view classifier and orthogonality

    def __post_init__(self) -> None:
        """Refuse what cannot be built.

        Raises:
            SettingsError: naming the option and its value.
        """
        for name in ("prompt_length", "top_k", "graph_top_k"):
            if getattr(self, name) < 1:
                raise SettingsError(f"visa: {name} is {getattr(self, name)}, at least 1 is needed")
        if self.experts < 0 or 0 < self.experts < self.top_k:
            raise SettingsError(
                f"visa: experts is {self.experts}, it must be 0 or at least top_k {self.top_k}"
            )
        if self.experts and not self.local:
            raise SettingsError(
                f"visa: experts is {self.experts} and local is off, which leaves nobody to read "
                "the experts; set experts to 0 or local on"
            )
        for name in ("balance_weight", "view_weight"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise SettingsError(f"visa: {name} is {getattr(self, name)}, it must be 0 or more")
        if not (math.isfinite(self.expert_mlp_ratio) and self.expert_mlp_ratio > 0):
            raise SettingsError(
                f"visa: expert_mlp_ratio is {self.expert_mlp_ratio}, it must be above 0"
            )
        choices = {"etgm_kv": ("vector", "patches"), "fusion_token": ("learned", "cls")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise SettingsError(
                    f"visa: {name} is {getattr(self, name)!r}, known: {', '.join(known)}"
                )

    @property
    def specific(self) -> bool:
        """Whether there is a branch of the view besides the view-free one."""
        return self.view_tokens or self.experts > 0


class VisaTrunk(Trunk):
    """The trunk with a view token for each view, or with none."""

    def __init__(self, config: TrunkConfig, *, view_tokens: bool) -> None:
        super().__init__(replace(config, extra_tokens=2 if view_tokens else 1))
        self.view_token = None  # instead: one a view, which start at zero like VDT's
        self.view_token_sky: nn.Parameter | None = None
        self.view_token_ground: nn.Parameter | None = None
        if view_tokens:
            self.view_token_sky = nn.Parameter(torch.zeros(1, 1, config.dim))
            self.view_token_ground = nn.Parameter(torch.zeros(1, 1, config.dim))

    def leading(self, views: Tensor) -> Tensor:
        """CLS, and the VIEW of each picture's view [B], placed: [B, T, D]."""
        cls = self.cls_token.expand(len(views), -1, -1)
        if self.view_token_sky is not None and self.view_token_ground is not None:
            aerial = (views == AERIAL)[:, None, None]
            view = torch.where(aerial, self.view_token_sky, self.view_token_ground)
            cls = torch.cat([cls, view], dim=1)
        return cls + self.pos_embed[:, : self.extra_tokens]

    def places(self) -> Tensor:
        """Positions of the patches, [1, P, D]."""
        return self.pos_embed[:, self.extra_tokens :]


class Fusion(nn.Module):
    """A block whose norms come after, of which the first token alone is read."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.attn = UnbiasedAttention(config.dim, config.heads)
        self.norm2 = nn.LayerNorm(config.dim)
        self.mlp = Mlp(config.dim, int(config.dim * config.mlp_ratio))
        self.norm3 = nn.LayerNorm(config.dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [B, N, D] to what the first has gathered, [B, D]."""
        first = self.norm2(tokens[:, :1] + self.attn(tokens, 1))
        gathered: Tensor = self.norm3(first + self.mlp(first))[:, 0]
        return gathered


class Features(NamedTuple):
    """What the backbone makes of B pictures; each feature is float32 [B, D]."""

    whole: Tensor  # CLS
    view: Tensor | None  # VIEW, where there is one
    local: Tensor | None  # where it is asked for
    routing: dict[str, Tensor]  # by group: probabilities [N, E] of the N pictures it served

    @property
    def free(self) -> Tensor:
        """The view-free feature."""
        return self.whole if self.view is None else self.whole - self.view


class VisaBackbone(nn.Module):
    """Pictures and their views to CLS, VIEW and the local feature."""

    def __init__(self, config: TrunkConfig, options: VisaOptions) -> None:
        super().__init__()
        self.options = options
        dim = config.dim
        self.base = VisaTrunk(config, view_tokens=options.view_tokens)
        self.b1 = nn.Sequential(copy.deepcopy(self.base.blocks[-1]), copy.deepcopy(self.base.norm))
        unread: list[nn.Module] = [self.base.blocks[-1], self.base.norm]
        if options.local:
            rows, columns = config.grid()
            self.image_pe = nn.Parameter(torch.empty(1, rows * columns, dim), requires_grad=False)
            self.out_token = nn.Parameter(
                torch.empty(1, dim), requires_grad=options.fusion_token == "learned"
            )
            nn.init.trunc_normal_(self.image_pe, std=0.02)
            nn.init.trunc_normal_(self.out_token, std=0.02)
            self.share_gcn = GraphConvolution(dim)
            self.norm_share = nn.LayerNorm(dim)
            if options.specific:
                self.view_gcn = GraphConvolution(dim)
                self.norm_view = nn.LayerNorm(dim)
                if not options.separate_gcn:
                    unread.append(self.view_gcn)
            self.final_attn_token_to_image = Fusion(config)
        if options.experts:
            self.share_experts, self.share_router = _group(config, options)
            self.sky_experts, self.sky_router = _group(config, options)
            self.ground_experts, self.ground_router = _group(config, options)
        elif options.local:
            self.share_prompt = _prompt(options.prompt_length, dim)
            if options.specific:
                self.view_prompt = _prompt(options.prompt_length, dim)
        for module in unread:
            module.requires_grad_(False)

    def forward(self, images: Tensor, views: Tensor) -> Features:
        """Float32 [B, 3, H, W] normalised and int64 [B] to the features."""
        patches = self.base.patch_embed(images) + self.base.places()
        tokens = torch.cat([self.base.leading(views), patches], dim=1)
        whole, view, patches = trunk(self.base.blocks[:-1], self.b1, tokens, self.base.extra_tokens)
        if not self.options.local:
            return Features(whole, view, None, {})
        free = whole if view is None else whole - view
        specific = whole if view is None else view
        routing: dict[str, Tensor] = {}
        queries, others = self._queries(free, specific, patches, views, routing)
        read = [refine(self, "share", queries, free, patches)]
        if others is not None:
            read.append(refine(self, "view", others, specific, patches))
        first = self.out_token[None].expand(len(images), -1, -1)
        if self.options.fusion_token == "cls":
            first = whole[:, None]
        local = self.final_attn_token_to_image(torch.cat([first, *read], dim=1))
        return Features(whole, view, local, routing)

    def _queries(
        self,
        free: Tensor,
        specific: Tensor,
        patches: Tensor,
        views: Tensor,
        routing: dict[str, Tensor],
    ) -> tuple[Tensor, Tensor | None]:
        """Queries [B, M, D] of the view-free branch and of the view's, if there is one."""
        count = len(views)
        if not self.options.experts:
            shared = self.share_prompt.expand(count, -1, -1)
            other = self.view_prompt.expand(count, -1, -1) if self.options.specific else None
            return shared, other
        seen = patches if self.options.etgm_kv == "patches" else None
        shared, routing["share"] = routed(self.share_experts, self.share_router, free, seen)
        rows, made = [], []
        for name, label in (("sky", AERIAL), ("ground", GROUND)):
            of_view = torch.nonzero(views == label)[:, 0]
            group, router = group_of(self, name)
            theirs = None if seen is None else seen[of_view]
            tokens, routing[name] = routed(group, router, specific[of_view], theirs)
            rows.append(of_view)
            made.append(tokens)
        order = torch.cat(rows).argsort()  # back to the order of the batch
        return shared, torch.cat(made)[order]


def _group(config: TrunkConfig, options: VisaOptions) -> tuple[nn.ModuleList, Router]:
    experts = nn.ModuleList(
        Expert(
            config.dim,
            config.heads,
            prompt_length=options.prompt_length,
            mlp_ratio=options.expert_mlp_ratio,
            source=options.etgm_kv,
        )
        for _ in range(options.experts)
    )
    return experts, Router(config.dim, options.experts, options.top_k)


def _prompt(length: int, dim: int) -> nn.Parameter:
    prompt = nn.Parameter(torch.empty(1, length, dim))
    nn.init.trunc_normal_(prompt, std=0.02)
    return prompt


def group_of(backbone: VisaBackbone, name: str) -> tuple[nn.ModuleList, Router]:
    """The experts `share`, `sky` or `ground`, and their router."""
    experts = backbone.get_submodule(f"{name}_experts")
    return cast(nn.ModuleList, experts), cast(Router, backbone.get_submodule(f"{name}_router"))


def trunk(
    blocks: nn.ModuleList, b1: nn.Sequential, tokens: Tensor, leading: int
) -> tuple[Tensor, Tensor | None, Tensor]:
    """CLS and VIEW behind the last block and its norm, and the patches from before both.

    Args:
        blocks: all but the last.
        b1: the last, and the norm.
        tokens: float32 [B, leading + P, D].
        leading: 1 without a VIEW, else 2.

    Returns:
        [B, D], [B, D] or None, and [B, P, D].
    """
    for block in blocks:
        tokens = block(tokens)
        if leading == 2:
            tokens = without_view(tokens)
    last = cast(Block, b1[0])
    normed = b1[1](last(tokens, leading))
    return normed[:, 0], (normed[:, 1] if leading == 2 else None), tokens[:, leading:]


def refine(
    backbone: VisaBackbone,
    branch: Literal["share", "view"],
    queries: Tensor,
    anchor: Tensor,
    patches: Tensor,
) -> Tensor:
    """Queries [B, M, D] of a branch plus what they read from the patches near its feature."""
    options = backbone.options
    norm = backbone.norm_share if branch == "share" else backbone.norm_view
    own = branch == "view" and options.separate_gcn
    convolution = backbone.view_gcn if own else backbone.share_gcn
    if options.graph_grad:
        rows = query_rows(queries, nearest(anchor, patches, options.graph_top_k))
    else:  # gradients reach the convolution, the norm and, past the graph, the queries
        with torch.no_grad():
            rows = query_rows(queries, nearest(anchor, patches, options.graph_top_k))
    read: Tensor = norm(convolution(rows)) + queries
    return read


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
        if self.options.local and self.options.graph_top_k > rows * columns:
            raise SettingsError(
                f"visa: graph_top_k is {self.options.graph_top_k}, a picture of {config.height}x"
                f"{config.width} at stride {config.stride} has {rows * columns} patches"
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

    def forward(self, images: Tensor, views: Tensor) -> Tensor:
        """See `Method.forward`; the view-free half comes first, the local one second."""
        seen = self.backbone(images, views)
        embedding = self.heads.embed(seen.free)
        if self.local_heads is None:
            return embedding
        return torch.cat([embedding, self.local_heads.embed(seen.local)], dim=1)

    def losses(self, images: Tensor, people: Tensor, views: Tensor) -> dict[str, Tensor]:
        """See `Method.losses`; those of VDT, of the local feature, and the routers' balance."""
        seen: Features = self.backbone(images, views)
        if self.view_heads is not None and seen.view is not None:
            terms = view_decoupled_losses(
                self.heads,
                self.view_heads,
                seen.whole,
                seen.view,
                people,
                views,
                view_weight=self.options.view_weight,
                options=self.loss,
            )
        else:
            terms = self._without_views(seen.whole, people, views)
        if self.local_heads is not None and seen.local is not None:
            identity, triplet, _ = self._person(self.local_heads, seen.local, people)
            terms |= {"local_identity": identity, "local_triplet": triplet}
        if seen.routing:
            loads = [balance(p) * (len(p) / len(images)) for p in seen.routing.values()]
            terms["balance"] = self.options.balance_weight * torch.stack(loads).sum()
        return terms

    def _without_views(self, whole: Tensor, people: Tensor, views: Tensor) -> dict[str, Tensor]:
        identity, triplet, compared = self._person(self.heads, whole, people)
        terms = {"identity": identity, "triplet": triplet}
        if self.loss.cross_view_weight > 0:
            across = cross_view_triplet(compared, people, views)
            terms["cross_view"] = self.loss.cross_view_weight * across
        return terms

    def _person(
        self, head: EmbeddingHead, feature: Tensor, people: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Identity and triplet loss of a feature [B, D], and what the triplets compare."""
        embedding = head.embed(feature)
        compared = feature
        if self.loss.sphere_scale > 0:
            compared = self.loss.sphere_scale * F.normalize(embedding, dim=1)
        identity = cross_entropy(head.classify(embedding), people, self.loss.label_smoothing)
        return identity, batch_hard_triplet(compared, people), compared

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
