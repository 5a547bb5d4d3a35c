"""SeCap: prompts that adapt to the picture's viewpoint, and read its patches for a second feature.

Wang et al., "SeCap: Self-Calibrating and Adaptive Prompts for Cross-view Person Re-Identification
in Aerial-Ground Networks", CVPR 2025 (arXiv:2503.06965). Re-written from the paper and held against
recorded outputs of the authors' code.

What it adds to VDT, whose trunk and losses it keeps: VDT embeds the view-free part of CLS and drops
the patches. SeCap keeps 64 learned prompts, calibrates them by the view-free feature of the picture
at hand (`Recalibration`), and lets them read the patches in a two-way decoder (`two_way`), whose
first token becomes a *local* feature with an identity and a triplet loss of its own. The embedding
is both halves, 2 D wide, each behind its own neck.

Where paper and code differ, the code is followed. The paper calls the calibration attention; its
only key is one vector, so that every softmax is 1 and all prompts receive the same shift, whatever
queries and keys are. The patches come from before the last block and before any norm. What the code
never reads is kept for its state_dict and frozen: the trunk's last block and norm (the running
ones, `b1`, began as their copy), queries and keys of the calibration, its `attn2`, and the
decoder's own `out_token`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from skyreid.train.data.records import View
from skyreid.train.models.heads import EmbeddingHead, FoldedNeck
from skyreid.train.models.losses import LossOptions
from skyreid.train.models.method import Method
from skyreid.train.models.registry import register
from skyreid.train.models.two_way import (
    CrossAttention,
    ServingDecoder,
    TwoWayDecoder,
    TwoWayLayer,
    UnbiasedAttention,
)
from skyreid.train.models.vdt import (
    VIEW_WEIGHT,
    VdtTrunk,
    person_losses,
    view_decoupled_losses,
    without_view,
)
from skyreid.train.models.vit import Block, Mlp, TrunkConfig
from skyreid.train.options import Options


class SecapOptions(Options):
    """What the authors' configurations set; the defaults are those of all but AG-ReID v1."""

    prompts: int = Field(64, ge=1)  # AG-ReID v1: 128
    use_prm: bool = True  # False: the same prompts for every picture, the paper's ablation
    view_weight: float = Field(VIEW_WEIGHT, ge=0)
    """Of view classifier and orthogonality; AG-ReID v1: 10."""


class Recalibration(nn.Module):
    """The prompt re-calibration module (PRM): prompts moved by a picture's view-free feature."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        dim = config.dim
        self.cross_attn = CrossAttention(dim, config.heads, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.attn = UnbiasedAttention(dim, config.heads)
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio))
        self.norm3 = nn.LayerNorm(dim)
        self.attn2 = UnbiasedAttention(dim, config.heads)
        for unread in (self.cross_attn.q_proj, self.cross_attn.k_proj, self.attn2):
            unread.requires_grad_(False)

    def shift(self, free: Tensor) -> Tensor:
        """Attention to one key: float32 [B, D] to [B, D], the same for every prompt."""
        moved: Tensor = self.cross_attn.out_proj(self.cross_attn.v_proj(free))
        return moved

    def settle(self, prompts: Tensor, shift: Tensor) -> Tensor:
        """Prompts [1, M, D] and a shift [B, D] to calibrated prompts [B, M, D]."""
        tokens = self.norm1(prompts + shift[:, None])
        tokens = self.norm2(tokens + self.attn(tokens))
        settled: Tensor = self.norm3(tokens + self.mlp(tokens))
        return settled

    def forward(self, prompts: Tensor, free: Tensor) -> Tensor:
        """Prompts [1, M, D] and the view-free feature [B, D] to calibrated prompts [B, M, D]."""
        return self.settle(prompts, self.shift(free))


class SecapBackbone(nn.Module):
    """Pictures to CLS, VIEW and the local feature."""

    def __init__(self, config: TrunkConfig, options: SecapOptions) -> None:
        super().__init__()
        self.base = VdtTrunk(config)
        rows, columns = config.grid()
        self.prompt = nn.Parameter(torch.empty(1, options.prompts, config.dim))
        self.out_token = nn.Parameter(torch.empty(1, config.dim))
        self.image_pe = nn.Parameter(torch.empty(1, rows * columns, config.dim))
        for drawn in (self.prompt, self.out_token, self.image_pe):
            nn.init.trunc_normal_(drawn, std=0.02)
        self.b1 = nn.Sequential(copy.deepcopy(self.base.blocks[-1]), copy.deepcopy(self.base.norm))
        self.base.blocks[-1].requires_grad_(False)
        self.base.norm.requires_grad_(False)
        self.prm = Recalibration(config) if options.use_prm else None
        self.lfrm = TwoWayDecoder(config)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Float32 [B, 3, H, W] normalised to CLS, VIEW and the local feature, each [B, D]."""
        tokens = self.base.embed(images)
        for block in self.base.blocks[:-1]:
            tokens = without_view(block(tokens))
        whole, view = last(self.b1, tokens)
        prompts = self.prompt.expand(len(tokens), -1, -1)
        if self.prm is not None:
            prompts = self.prm(self.prompt, whole - view)
        out = self.out_token.expand(len(tokens), 1, -1)
        local = self.lfrm(torch.cat([out, prompts], dim=1), tokens[:, 2:], self.image_pe)
        return whole, view, local


def last(b1: nn.Sequential, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """CLS and VIEW behind the last block and its norm: [B, 2 + P, D] to two [B, D]."""
    block = cast(Block, b1[0])
    normed = b1[1](block(tokens, 2))
    return normed[:, 0], normed[:, 1]


def _prompts(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """How many prompts a state_dict has."""
    prompt = state.get("backbone.prompt")
    return {} if prompt is None else {"prompts": int(prompt.shape[1])}


@register(
    "secap",
    trunk={"stride": 12},
    options=SecapOptions,
    pretrained={"imagenet": "backbone.base."},
    copies={
        "backbone.b1.0.": "backbone.base.blocks.{last}.",
        "backbone.b1.1.": "backbone.base.norm.",
    },
    marks=("backbone.base.cls_token", "backbone.lfrm."),
    sizes=_prompts,
    fixture="secap",
)
class Secap(Method):
    """SeCap with its three heads: people on the view-free and the local feature, and views."""

    def __init__(
        self,
        config: TrunkConfig,
        *,
        people: int,
        options: SecapOptions | None = None,
        loss: LossOptions | None = None,
    ) -> None:
        super().__init__()
        self.options = options or SecapOptions()
        self.loss = loss or LossOptions()
        self.backbone = SecapBackbone(config, self.options)
        self.heads = EmbeddingHead(config.dim, people)
        self.view_heads = EmbeddingHead(config.dim, 2)
        self.local_heads = EmbeddingHead(config.dim, people)

    @property
    def embedding_heads(self) -> tuple[EmbeddingHead, ...]:
        """See `Method.embedding_heads`."""
        return self.heads, self.local_heads

    def forward(self, images: Tensor, views: Tensor) -> Tensor:
        """See `Method.forward`; the view-free half comes first, the local one second."""
        whole, view, local = self.backbone(images)
        return torch.cat([self.heads.embed(whole - view), self.local_heads.embed(local)], dim=1)

    def see(self, images: Tensor, views: Tensor) -> dict[str, Tensor]:
        """See `Method.see`."""
        whole, view, local = self.backbone(images)
        return {"whole": whole, "view": view, "local": local}

    def judge(self, seen: Mapping[str, Tensor], people: Tensor, views: Tensor) -> dict[str, Tensor]:
        """See `Method.losses`; those of VDT, and identity and triplet of the local feature."""
        terms = view_decoupled_losses(
            self.heads,
            self.view_heads,
            seen["whole"],
            seen["view"],
            people,
            views,
            view_weight=self.options.view_weight,
            options=self.loss,
        )
        identity, triplet, _ = person_losses(self.local_heads, seen["local"], people, self.loss)
        return terms | {"local_identity": identity, "local_triplet": triplet}

    def serving(self, view: View | None) -> nn.Module:
        """See `Method.serving`; the same for both views."""
        return ServingSecap(self)


class ServingCalibration(nn.Module):
    """The calibration as it is exported: attention to one key is one linear map."""

    def __init__(self, module: Recalibration, prompts: Tensor) -> None:
        super().__init__()
        value, out = module.cross_attn.v_proj, module.cross_attn.out_proj
        self.shift = nn.Linear(value.in_features, out.out_features)
        with torch.no_grad():  # in double: a product of two matrices rounds twice otherwise
            matrix = out.weight.double()
            self.shift.weight.copy_(matrix @ value.weight.double())
            self.shift.bias.copy_(matrix @ value.bias.double() + out.bias.double())
        self.rest = copy.deepcopy(module)
        del self.rest.cross_attn, self.rest.attn2
        self.prompts = nn.Parameter(prompts.detach().clone())

    def forward(self, free: Tensor) -> Tensor:
        """The view-free feature [B, D] to calibrated prompts [B, M, D]."""
        return self.rest.settle(self.prompts, self.shift(free))


class ServingSecap(nn.Module):
    """SeCap as it is exported."""

    start: Tensor
    talked: Tensor | None

    def __init__(self, network: Secap) -> None:
        super().__init__()
        source = network.backbone
        self.base = copy.deepcopy(source.base)
        del self.base.blocks[-1], self.base.norm
        self.b1 = copy.deepcopy(source.b1)
        self.decoder = ServingDecoder(source.lfrm, source.image_pe)
        out = source.out_token.detach()[None]
        self.calibrate: ServingCalibration | None = None
        if source.prm is not None:
            self.calibrate = ServingCalibration(source.prm, source.prompt)
            self.register_buffer("start", out.clone())
            self.register_buffer("talked", None)
        else:  # what the prompts tell each other first is the same for every picture
            start = torch.cat([out, source.prompt.detach()], dim=1)
            first = cast(TwoWayLayer, source.lfrm.layers[0])
            self.register_buffer("start", start)
            with torch.no_grad():
                self.register_buffer("talked", first.talk(start, None))
            opening = cast(TwoWayLayer, self.decoder.layers[0])
            del opening.self_attn, opening.norm1
        self.neck = FoldedNeck(network.heads)
        self.local_neck = FoldedNeck(network.local_heads)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Float32 [B, 3, H, W] normalised to [B, 2 D]."""
        tokens = self.base.embed(images)
        for block in self.base.blocks:
            tokens = without_view(block(tokens))
        whole, view = last(self.b1, tokens)
        free = whole - view
        batch = tokens.shape[0]
        start, talked = self.start.expand(batch, -1, -1), None
        if self.calibrate is not None:
            start = torch.cat([start, self.calibrate(free)], dim=1)
        elif self.talked is not None:
            talked = self.talked.expand(batch, -1, -1)
        local = self.decoder(start, tokens[:, 2:], talked)
        return torch.cat([self.neck(free), self.local_neck(local)], dim=1)
