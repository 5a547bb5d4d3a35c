"""The two-way decoder: prompts read the picture's tokens, and the tokens read the prompts.

Kirillov et al., "Segment Anything", ICCV 2023 (arXiv:2304.02643), section A, as SeCap changes it:
positions of the patches are learned and a last block of its own gathers everything in one token.
Parameter names are those of SeCap's state_dict.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skyreid.train.models.vit import Attention, Mlp, TrunkConfig

LAYERS = 2
NARROWER = 2  # the layers' attentions work in a space of dim / NARROWER


def attend(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """Multi-head attention of projected [B, N, E], [B, M, E] and [B, M, E]: [B, N, E]."""

    def split(tokens: Tensor) -> Tensor:
        batch, count, inner = tokens.shape
        return tokens.reshape(batch, count, heads, inner // heads).transpose(1, 2)

    mixed = F.scaled_dot_product_attention(split(queries), split(keys), split(values))
    return mixed.transpose(1, 2).flatten(2)


class CrossAttention(nn.Module):
    """Attention whose queries, keys and values may be three different things."""

    def __init__(self, dim: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """[B, N, D], [B, M, D] and [B, M, D] to [B, N, D]."""
        return self.mix(self.q_proj(queries), self.k_proj(keys), self.v_proj(values))

    def mix(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """The same of what is projected already."""
        mixed: Tensor = self.out_proj(attend(queries, keys, values, self.heads))
        return mixed


class UnbiasedAttention(Attention):
    """Self-attention whose queries, keys and values have no bias."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__(dim, heads)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)

    def forward(self, tokens: Tensor, first: int | None = None) -> Tensor:
        """See `Attention.forward`."""
        query, key, value = self.qkv.weight.chunk(3)
        asking = F.linear(tokens[:, :first], query)
        mixed = attend(asking, F.linear(tokens, key), F.linear(tokens, value), self.heads)
        projected: Tensor = self.proj(mixed)
        return projected


class TwoWayLayer(nn.Module):
    """Prompts among themselves, prompts to patches, and patches to prompts; norms come after."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        dim, heads, inner = config.dim, config.heads, config.dim // NARROWER
        self.self_attn = CrossAttention(dim, heads, inner)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = CrossAttention(dim, heads, inner)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio))
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = CrossAttention(dim, heads, inner)

    def read(self, image: Tensor, image_pe: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of patches [B, P, D]: keys and values for the prompts, and the patches' own queries."""
        placed = image + image_pe
        asked, asking = self.cross_attn_token_to_image, self.cross_attn_image_to_token
        return asked.k_proj(placed), asked.v_proj(image), asking.q_proj(placed)

    def talk(self, tokens: Tensor, pe: Tensor | None) -> Tensor:
        """Prompts [B, T, D] among themselves; without positions they also lose their own past."""
        if pe is None:
            mixed = self.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + pe
            mixed = tokens + self.self_attn(placed, placed, tokens)
        normed: Tensor = self.norm1(mixed)
        return normed

    def exchange(
        self, tokens: Tensor, pe: Tensor, image: Tensor, seen: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Prompts [B, T, D] and patches [B, P, D] behind each other's eyes.

        Args:
            tokens: the prompts, after `talk`.
            pe: float32 [B, T, D], their positions.
            image: the patches.
            seen: of the patches, as `read` gives it.
        """
        keys, values, queries = seen
        asked, asking = self.cross_attn_token_to_image, self.cross_attn_image_to_token
        tokens = self.norm2(tokens + asked.mix(asked.q_proj(tokens + pe), keys, values))
        tokens = self.norm3(tokens + self.mlp(tokens))
        answer = asking.mix(queries, asking.k_proj(tokens + pe), asking.v_proj(tokens))
        return tokens, self.norm4(image + answer)


class GatherBlock(nn.Module):
    """The last look: prompts to patches at full width, then prompts among themselves."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        dim = config.dim
        self.norm1 = nn.LayerNorm(dim)
        self.attn = UnbiasedAttention(dim, config.heads)
        self.cross_attn = CrossAttention(dim, config.heads, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio))
        self.norm3 = nn.LayerNorm(dim)

    def read(self, image: Tensor, image_pe: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of patches [B, P, D]."""
        return self.cross_attn.k_proj(image + image_pe), self.cross_attn.v_proj(image)

    def forward(self, tokens: Tensor, seen: tuple[Tensor, Tensor]) -> Tensor:
        """Placed prompts [B, T, D] to what the first of them has gathered: [B, 1, D]."""
        attended = self.cross_attn.mix(self.cross_attn.q_proj(tokens), *seen)
        tokens = self.norm1(tokens + attended)
        first = self.norm2(tokens[:, :1] + self.attn(tokens, 1))
        gathered: Tensor = self.norm3(first + self.mlp(first))
        return gathered


class TwoWayDecoder(nn.Module):
    """Tokens and patches to one vector: what the first token has gathered."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        # The published code makes this token and reads the backbone's instead.
        self.out_token = nn.Parameter(torch.zeros(1, config.dim), requires_grad=False)
        self.layers = nn.ModuleList(TwoWayLayer(config) for _ in range(LAYERS))
        self.final_attn_token_to_image = GatherBlock(config)
        self.norm_final_attn = nn.LayerNorm(config.dim)
        for linear in (m for m in self.modules() if isinstance(m, nn.Linear)):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(self, tokens: Tensor, image: Tensor, image_pe: Tensor) -> Tensor:
        """To float32 [B, D].

        Args:
            tokens: float32 [B, T, D]; they are their own positions too.
            image: float32 [B, P, D], the patches.
            image_pe: float32 [1, P, D], positions of the patches.
        """
        pe = tokens
        for index, layer in enumerate(cast(list[TwoWayLayer], list(self.layers))):
            tokens = layer.talk(tokens, pe if index else None)
            tokens, image = layer.exchange(tokens, pe, image, layer.read(image, image_pe))
        final = self.final_attn_token_to_image
        gathered = final(tokens + pe, final.read(image, image_pe))
        first: Tensor = self.norm_final_attn(tokens[:, :1] + gathered)[:, 0]
        return first


class PlacedLinear(nn.Module):
    """Several projections of patches, some of them with positions, as one with an offset each."""

    weight: Tensor
    offset: Tensor

    def __init__(self, placed: list[tuple[nn.Linear, bool]], image_pe: Tensor) -> None:
        """Fold the positions in.

        Args:
            placed: the projections, and whether each reads `patches + image_pe`.
            image_pe: float32 [1, P, D].
        """
        super().__init__()
        self.parts = [linear.out_features for linear, _ in placed]
        position = image_pe.detach()[0]
        self.register_buffer("weight", torch.cat([linear.weight.detach() for linear, _ in placed]))
        offsets = [
            linear(position) if moved else linear.bias.expand(len(position), -1)
            for linear, moved in placed
        ]
        self.register_buffer("offset", torch.cat(offsets, dim=1).detach())  # [P, sum of parts]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Patches [B, P, D] to one [B, P, E] each."""
        return torch.split_with_sizes(
            F.linear(image, self.weight) + self.offset, self.parts, dim=-1
        )


class ServingDecoder(nn.Module):
    """The decoder as it is exported: of the patches one product a layer, positions folded in."""

    def __init__(self, decoder: TwoWayDecoder, image_pe: Tensor) -> None:
        super().__init__()
        self.layers = copy.deepcopy(decoder.layers)
        self.final = copy.deepcopy(decoder.final_attn_token_to_image)
        self.norm = copy.deepcopy(decoder.norm_final_attn)
        reads = []
        for layer in cast(list[TwoWayLayer], list(self.layers)):
            asked, asking = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
            reads.append(
                PlacedLinear(
                    [(asked.k_proj, True), (asked.v_proj, False), (asking.q_proj, True)], image_pe
                )
            )
            del asked.k_proj, asked.v_proj, asking.q_proj
        last = self.final.cross_attn
        reads.append(PlacedLinear([(last.k_proj, True), (last.v_proj, False)], image_pe))
        del last.k_proj, last.v_proj
        self.reads = nn.ModuleList(reads)

    def forward(self, tokens: Tensor, image: Tensor, talked: Tensor | None = None) -> Tensor:
        """See `TwoWayDecoder.forward`.

        Args:
            tokens: float32 [B, T, D].
            image: float32 [B, P, D].
            talked: what the first layer's `talk` makes of tokens that are constant; may be given.
        """
        pe = tokens
        for index, layer in enumerate(cast(list[TwoWayLayer], list(self.layers))):
            if index == 0 and talked is not None:
                tokens = talked
            else:
                tokens = layer.talk(tokens, pe if index else None)
            tokens, image = layer.exchange(tokens, pe, image, self.reads[index](image))
        gathered = self.final(tokens + pe, self.reads[LAYERS](image))
        first: Tensor = self.norm(tokens[:, :1] + gathered)[:, 0]
        return first
