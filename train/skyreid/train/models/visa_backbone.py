"""ViSA's trunk, its options and what it makes of a picture before any head; `visa` says the rest.

Parameter names are those of ViSA's state_dict.
"""

from __future__ import annotations

import copy
from typing import Literal, NamedTuple, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from skyreid.train.models.experts import Expert, Router, Source, routed
from skyreid.train.models.method import AERIAL, GROUND
from skyreid.train.models.patch_graph import GraphConvolution, nearest, query_rows
from skyreid.train.models.two_way import UnbiasedAttention
from skyreid.train.models.vdt import without_view
from skyreid.train.models.vit import Block, Mlp, Trunk, TrunkConfig
from skyreid.train.options import Options


class VisaOptions(Options):
    """What the authors' configurations set, where code and paper differ, and the ablation.

    The defaults are the published code for CARGO and AG-ReID.v2.
    """

    view_tokens: bool = True
    """VAB. Without: a plain trunk, no view losses; both branches start from CLS."""
    experts: int = Field(8, ge=0)
    """ETGM, experts a group. 0: a learned prompt a branch instead, the same for every picture."""
    local: bool = True
    """DLFM. Without: no local half, the embedding is D wide; needs `experts` 0."""
    prompt_length: int = Field(16, ge=1)  # queries a branch; LAGPeR: 8
    top_k: int = Field(2, ge=1)  # experts a picture; LAGPeR: 3
    graph_top_k: int = Field(64, ge=1)  # patches in a graph
    expert_mlp_ratio: float = Field(2.0, gt=0)
    etgm_kv: Source = "vector"
    separate_gcn: bool = False
    fusion_token: Literal["learned", "cls"] = "learned"
    graph_grad: bool = False
    balance_weight: float = Field(1e-4, ge=0)  # the paper: 1e-3
    view_weight: float = Field(1.0, ge=0)  # of view classifier and orthogonality

    @model_validator(mode="after")
    def _somebody_reads_the_experts(self) -> VisaOptions:
        if 0 < self.experts < self.top_k:
            raise ValueError(
                f"experts is {self.experts}, it must be 0 or at least top_k {self.top_k}"
            )
        if self.experts and not self.local:
            raise ValueError(
                f"experts is {self.experts} and local is off, which leaves nobody to read the "
                "experts; set experts to 0 or local on"
            )
        return self

    @property
    def specific(self) -> bool:
        """Whether there is a branch of the view besides the view-free one."""
        return self.view_tokens or self.experts > 0


class VisaTrunk(Trunk):
    """The trunk with a view token for each view, or with none."""

    def __init__(self, config: TrunkConfig, *, view_tokens: bool) -> None:
        super().__init__(config.model_copy(update={"extra_tokens": 2 if view_tokens else 1}))
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
