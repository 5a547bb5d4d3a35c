"""The one vision transformer trunk every method here stands on, and the plain baseline model.

Dosovitskiy et al., "An Image Is Worth 16x16 Words", ICLR 2021 (arXiv:2010.11929), with the
overlapping patches of He et al., "TransReID", ICCV 2021 (arXiv:2102.04378). Parameter names are
those of the state_dicts published with VDT, ViSA, SeCap and GSAlign, so that theirs load strictly.

What differs: `stem = "conv"` replaces the patch projection by a stack of 3x3 convolutions, after
Xiao et al., "Early Convolutions Help Transformers See Better", NeurIPS 2021 (arXiv:2106.14881);
each stage here halves the picture and, but for the first, refines it with a residual convolution.
A trunk that starts from random weights on ten thousand crops needs that prior; a converted ImageNet
checkpoint needs "patch".
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import BeforeValidator, Field, Strict, model_validator
from torch import Tensor, nn

from skyreid.train.data.records import View
from skyreid.train.models.heads import EmbeddingHead, FoldedNeck
from skyreid.train.models.losses import LossOptions, batch_hard_triplet, cross_entropy
from skyreid.train.models.method import Method
from skyreid.train.models.recompute import Recomputing
from skyreid.train.models.registry import register
from skyreid.train.models.row_random import Chance
from skyreid.train.options import Options

LAYER_NORM_EPS = 1e-6

Positive = Annotated[int, Field(ge=1)]


def _pair(value: object) -> object:
    return (value, value) if isinstance(value, int) else value


class TrunkConfig(Options):
    """What a trunk is made of; `variants` fills in the picture's size from the input spec."""

    height: int = Field(256, ge=1)  # pixels
    width: int = Field(128, ge=1)  # pixels
    stem: Literal["patch", "conv"] = "patch"
    patch: int = Field(16, ge=1)  # kernel of the patch projection; unused by the conv stem
    stride: Annotated[tuple[Positive, Positive], Strict(False), BeforeValidator(_pair)] = (16, 16)
    """Pixels between two rows and between two columns of tokens; one number is for both."""
    dim: int = Field(768, ge=1)
    depth: int = Field(12, ge=1)
    heads: int = Field(12, ge=1)
    mlp_ratio: float = Field(4.0, gt=0)
    extra_tokens: Literal[1, 2] = 1  # CLS, or CLS and VIEW
    drop_path: float = Field(0.1, ge=0, lt=1)  # of the last block; grows linearly from 0

    @model_validator(mode="after")
    def _fits(self) -> TrunkConfig:
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not divisible by {self.heads} heads")
        down, across = self.stride
        if self.stem == "patch":
            if min(self.height, self.width) < self.patch:
                raise ValueError(f"a picture of {self.size} has no patch of {self.patch} pixels")
        elif down != across or down < 2 or down & (down - 1):
            raise ValueError(f"a conv stem needs a power of two as stride, not {down}x{across}")
        elif self.height % down or self.width % down:
            raise ValueError(
                f"a conv stem of stride {down} does not divide {self.size}; choose a multiple"
            )
        return self

    @property
    def size(self) -> str:
        """Of the picture, as people write it."""
        return f"{self.height}x{self.width}"

    def grid(self) -> tuple[int, int]:
        """Rows and columns of patch tokens."""
        down, across = self.stride
        if self.stem == "conv":
            return self.height // down, self.width // across
        return (self.height - self.patch) // down + 1, (self.width - self.patch) // across + 1


class PatchEmbed(nn.Module):
    """One convolution of kernel `patch` and stride `stride`, flattened row by row."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.dim, config.patch, stride=config.stride)
        nn.init.normal_(self.proj.weight, std=math.sqrt(2 / (config.patch**2 * config.dim)))

    def forward(self, images: Tensor) -> Tensor:
        """Float32 [B, 3, H, W] to [B, P, D]."""
        tokens: Tensor = self.proj(images)  # [B, D, rows, columns]
        return tokens.flatten(2).transpose(1, 2)


class Refine(nn.Module):
    """Residual 3x3 convolution at one resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(maps + self.norm(self.conv(maps)))


class ConvStem(nn.Module):
    """Halving stages of convolutions down to the token stride, then a 1x1 projection."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        stages = config.stride[0].bit_length() - 1
        layers: list[nn.Module] = []
        inputs = 3
        for stage in range(stages):
            outputs = max(config.dim >> (stages - 1 - stage), 24)
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
            if stage > 0:  # at half resolution it costs a tenth of the step and gains little
                layers.append(Refine(outputs))
            inputs = outputs
        self.stages = nn.Sequential(*layers)
        self.proj = nn.Conv2d(inputs, config.dim, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Float32 [B, 3, H, W] to [B, P, D]."""
        maps = self.stages(images.contiguous(memory_format=torch.channels_last))
        tokens: Tensor = self.proj(maps)  # [B, D, rows, columns]
        return tokens.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection to queries, keys and values."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, first: int | None = None) -> Tensor:
        """Tokens [B, N, D] to [B, N, D], or to the rows of the `first` tokens alone."""
        if first is None:
            query, key, value = self.qkv(tokens).chunk(3, dim=-1)
        else:  # the other tokens are asked, but do not ask
            dim = tokens.shape[-1]
            weight, bias = self.qkv.weight, self.qkv.bias
            query = F.linear(tokens[:, :first], weight[:dim], bias[:dim])
            key, value = F.linear(tokens, weight[dim:], bias[dim:]).chunk(2, dim=-1)
        mixed = F.scaled_dot_product_attention(
            self._split(query), self._split(key), self._split(value)
        )
        projected: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return projected

    def _split(self, tokens: Tensor) -> Tensor:
        """[B, N, D] to [B, heads, N, D / heads]."""
        batch, count, dim = tokens.shape
        return tokens.reshape(batch, count, self.heads, dim // self.heads).transpose(1, 2)


class Mlp(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        projected: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return projected


class Block(Recomputing, Chance):
    """Pre-norm transformer block with stochastic depth (Huang et al., arXiv:1603.09382)."""

    def __init__(self, config: TrunkConfig, drop_path: float) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(config.dim, eps=LAYER_NORM_EPS)
        self.attn = Attention(config.dim, config.heads)
        self.norm2 = nn.LayerNorm(config.dim, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(config.dim, int(config.dim * config.mlp_ratio))

    def forward(self, tokens: Tensor, first: int | None = None) -> Tensor:
        """Tokens [B, N, D] to [B, N, D].

        Args:
            tokens: the input.
            first: how many leading tokens anybody will read; the others are not computed. Exact,
                and in the last block worth most of its cost.
        """
        attended = self._dropped(self.attn(self.norm1(tokens), first))
        tokens = (tokens if first is None else tokens[:, :first]) + attended
        return tokens + self._dropped(self.mlp(self.norm2(tokens)))

    def _dropped(self, branch: Tensor) -> Tensor:
        if not self.training or self.drop_path == 0:
            return branch
        keep = 1 - self.drop_path
        return branch * self.bernoulli(branch, (branch.shape[0], 1, 1), keep) / keep


class Trunk(nn.Module):
    """Pictures to tokens `[CLS, (VIEW,) patch_0 .. patch_{P-1}]`; the leading ones are read."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        rows, columns = config.grid()
        self.patch_embed = ConvStem(config) if config.stem == "conv" else PatchEmbed(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        # The view token is never re-initialised by the published code: it starts at zero.
        self.view_token = (
            nn.Parameter(torch.zeros(1, 1, config.dim)) if config.extra_tokens == 2 else None
        )
        self.extra_tokens = config.extra_tokens
        self.pos_embed = nn.Parameter(
            torch.zeros(1, rows * columns + config.extra_tokens, config.dim)
        )
        rates = torch.linspace(0, config.drop_path, config.depth, device="cpu").tolist()
        self.blocks = nn.ModuleList(Block(config, rate) for rate in rates)
        self.norm = nn.LayerNorm(config.dim, eps=LAYER_NORM_EPS)
        for linear in (m for m in self.modules() if isinstance(m, nn.Linear)):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def embed(self, images: Tensor) -> Tensor:
        """Tokens before the first block: float32 [B, 3, H, W] normalised to [B, T + P, D]."""
        return self.place(self.patch_embed(images))

    def place(self, patches: Tensor) -> Tensor:
        """Patches [B, P, D] behind the leading tokens, all with their positions: [B, T + P, D]."""
        extra: list[Tensor] = [self.cls_token]
        if self.view_token is not None:
            extra.append(self.view_token)
        leading = torch.cat(extra, dim=1) + self.pos_embed[:, : self.extra_tokens]
        placed = patches + self.pos_embed[:, self.extra_tokens :]
        return torch.cat([leading.expand(placed.shape[0], -1, -1), placed], dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Float32 [B, 3, H, W] normalised to CLS (and VIEW) after the final norm: [B, T, D]."""
        tokens = self.embed(images)
        for block in self.blocks[:-1]:
            tokens = block(tokens)
        normed: Tensor = self.norm(self.blocks[-1](tokens, self.extra_tokens))
        return normed


@register(
    "vit",
    pretrained={"imagenet": "backbone."},
    marks=("backbone.cls_token",),
    fixture="vit-base",
)
class Vit(Method):
    """The baseline: CLS through a BN neck, cross-entropy and batch-hard triplet."""

    def __init__(
        self,
        config: TrunkConfig,
        *,
        people: int,
        options: Options | None = None,  # it has none
        loss: LossOptions | None = None,
    ) -> None:
        super().__init__()
        self.loss = loss or LossOptions()
        self.backbone = Trunk(config)
        self.heads = EmbeddingHead(config.dim, people)

    def forward(self, images: Tensor, views: Tensor) -> Tensor:
        """See `Method.forward`."""
        return self.heads.embed(self.backbone(images)[:, 0])

    def see(self, images: Tensor, views: Tensor) -> dict[str, Tensor]:
        """See `Method.see`."""
        return {"feature": self.backbone(images)[:, 0]}

    def judge(self, seen: Mapping[str, Tensor], people: Tensor, views: Tensor) -> dict[str, Tensor]:
        """See `Method.losses`."""
        feature = seen["feature"]
        return {
            "identity": cross_entropy(self.heads(feature), people, self.loss.label_smoothing),
            "triplet": batch_hard_triplet(feature, people),
        }

    def serving(self, view: View | None) -> nn.Module:
        """See `Method.serving`; the same for both views."""
        return ServingVit(self)


class ServingVit(nn.Module):
    """The baseline as it is exported."""

    def __init__(self, network: Vit) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(network.backbone)
        self.neck = FoldedNeck(network.heads)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Float32 [B, 3, H, W] normalised to [B, D]."""
        embedding: Tensor = self.neck(self.backbone(images)[:, 0])
        return embedding
