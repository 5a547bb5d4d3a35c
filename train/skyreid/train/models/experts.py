"""A router and its experts, each a learned prompt that one picture's feature sets to work.

The expert-driven token generation module (ETGM) of ViSA, a mixture after Shazeer et al., ICLR 2017
(arXiv:1701.06538). For training the pairs of picture and chosen expert are sorted by expert and
each expert runs once, on its own rows; for serving, where a graph may not depend on data, all
experts run on all rows and those not chosen get weight 0.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from skyreid.train.models.two_way import CrossAttention, UnbiasedAttention, attend
from skyreid.train.models.vit import Mlp

Source = Literal["vector", "patches"]
"""What an expert's prompt attends to: the routed feature alone, or the picture's patches."""


class PromptModule(nn.Module):
    """Prompts moved by what they attend to, then a transformer block whose norms come after."""

    def __init__(self, dim: int, heads: int, mlp_ratio: float, source: Source) -> None:
        super().__init__()
        self.cross_attn = CrossAttention(dim, heads, dim)
        self.attn = UnbiasedAttention(dim, heads)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)
        if source == "vector":  # the softmax over one key is 1 whatever is asked
            self.cross_attn.q_proj.requires_grad_(False)
            self.cross_attn.k_proj.requires_grad_(False)

    def settle(self, moved: Tensor) -> Tensor:
        """Prompts behind their attention, [N, M, D], to the expert's tokens [N, M, D]."""
        tokens = self.norm1(moved)
        tokens = self.norm2(tokens + self.attn(tokens))
        settled: Tensor = self.norm3(tokens + self.mlp(tokens))
        return settled


class Expert(nn.Module):
    """One expert, with the prompt it begins from."""

    def __init__(
        self, dim: int, heads: int, *, prompt_length: int, mlp_ratio: float, source: Source
    ) -> None:
        super().__init__()
        self.source = source
        self.prompt = nn.Parameter(torch.empty(1, prompt_length, dim))
        nn.init.trunc_normal_(self.prompt, std=0.02)
        self.prm = PromptModule(dim, heads, mlp_ratio, source)

    def forward(self, feature: Tensor, patches: Tensor | None) -> Tensor:
        """A feature [N, D], and patches [N, P, D] where they are asked, to tokens [N, M, D]."""
        cross = self.prm.cross_attn
        if patches is None:
            shift = cross.out_proj(cross.v_proj(feature))[:, None]
        else:
            shift = cross(self.prompt.expand(len(patches), -1, -1), patches, patches)
        return self.prm.settle(self.prompt + shift)


class Router(nn.Module):
    """Which experts a picture gets, and what each counts for."""

    def __init__(self, dim: int, experts: int, top_k: int) -> None:
        super().__init__()
        self.top_k = top_k
        self.gate = nn.Linear(dim, experts)

    def forward(self, feature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Route features [N, D].

        Returns:
            int64 [N, K] the chosen experts, float32 [N, K] their weights, which sum to 1, and
            float32 [N, E] the probabilities of all of them, which the balance is taken of.
        """
        logits = self.gate(feature)
        values, chosen = logits.topk(self.top_k, dim=1)
        return chosen, values.softmax(1), logits.softmax(1)


def routed(
    experts: nn.ModuleList, router: Router, feature: Tensor, patches: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Weighted sum of what each picture's experts make of it.

    Every expert runs, if on no rows: its gradient is then zero and not absent, so that momentum
    and weight decay reach it as they do in the published code.

    Args:
        experts: E of `Expert`.
        router: theirs.
        feature: float32 [N, D], N >= 0.
        patches: float32 [N, P, D] for experts that read them, else None.

    Returns:
        float32 [N, M, D], and the router's probabilities float32 [N, E].
    """
    chosen, weights, probabilities = router(feature)
    count, top_k = chosen.shape
    order = chosen.flatten().argsort(stable=True)  # pairs (picture, expert) by expert
    sizes: list[int] = torch.bincount(chosen.flatten(), minlength=len(experts)).tolist()
    features = _parts(_paired(feature, top_k)[order], sizes)
    pictures: Sequence[Tensor | None] = [None] * len(sizes)
    if patches is not None:
        pictures = _parts(_paired(patches, top_k)[order], sizes)
    made = torch.cat(
        [expert(*rows) for expert, *rows in zip(experts, features, pictures, strict=True)]
    )
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    made = made[back].reshape(count, top_k, *made.shape[1:])
    return (weights[:, :, None, None] * made).sum(1), probabilities


def _paired(rows: Tensor, top_k: int) -> Tensor:
    """Each row of [N, ...] K times in a row: [N K, ...]."""
    return rows[:, None].expand(-1, top_k, *rows.shape[1:]).flatten(0, 1)


def _parts(rows: Tensor, sizes: list[int]) -> Sequence[Tensor]:
    parts: Sequence[Tensor] = torch.split(rows, sizes)
    return parts


class ServingExpert(nn.Module):
    """An expert of one vector as it is exported.

    Attention to one key is one linear map of the feature, the same shift for every prompt token.
    What the tokens ask of each other is linear in prompt plus shift but for the norm's gain, which
    is one number a token: so the prompt's share is a constant and the shift's share is computed
    once a picture, not once a token.
    """

    prompt: Tensor
    asked: Tensor
    asked_offset: Tensor

    def __init__(self, expert: Expert) -> None:
        super().__init__()
        module = expert.prm
        cross, norm = module.cross_attn, module.norm1
        dim = norm.weight.numel()
        self.heads, self.eps = module.attn.heads, norm.eps
        self.norm1, self.norm2 = copy.deepcopy(norm), copy.deepcopy(module.norm2)
        self.norm3, self.mlp = copy.deepcopy(module.norm3), copy.deepcopy(module.mlp)
        self.proj = copy.deepcopy(module.attn.proj)
        self.shift = nn.Linear(dim, 4 * dim)  # the shift, and what it asks, answers and gives
        with torch.no_grad():  # in double: a product of matrices rounds at every factor otherwise
            out, value = cross.out_proj, cross.v_proj
            matrix = out.weight.double() @ value.weight.double()
            offset = out.weight.double() @ value.bias.double() + out.bias.double()
            # The norm takes the mean of prompt plus shift away: take it from each of them instead.
            matrix, offset = matrix - matrix.mean(0), offset - offset.mean()
            prompt = expert.prompt.double()
            prompt = prompt - prompt.mean(-1, keepdim=True)
            qkv = module.attn.qkv.weight.double()
            gained = qkv * norm.weight.double()
            self.shift.weight.copy_(torch.cat([matrix, gained @ matrix]))
            self.shift.bias.copy_(torch.cat([offset, gained @ offset]))
            kind = expert.prompt.dtype
            self.register_buffer("prompt", prompt.to(kind))
            self.register_buffer("asked", (prompt @ gained.T).to(kind))
            self.register_buffer("asked_offset", (qkv @ norm.bias.double()).to(kind))

    def forward(self, feature: Tensor, patches: Tensor) -> Tensor:
        """A feature [B, D] to tokens [B, M, D]; the patches [B, P, D] are not read."""
        shift, asked = self.shift(feature)[:, None].split(
            [feature.shape[1], self.asked.shape[-1]], -1
        )
        moved = self.prompt + shift  # [B, M, D], of mean 0
        gain = torch.rsqrt(moved.square().mean(-1, keepdim=True) + self.eps)
        query, key, value = ((self.asked + asked) * gain + self.asked_offset).chunk(3, -1)
        tokens = self.norm1(moved) + self.proj(attend(query, key, value, self.heads))
        tokens = self.norm2(tokens)
        settled: Tensor = self.norm3(tokens + self.mlp(tokens))
        return settled


class ServingReader(nn.Module):
    """An expert that reads patches, as it is exported: its prompt's queries are constants."""

    asked: Tensor
    prompt: Tensor

    def __init__(self, expert: Expert) -> None:
        super().__init__()
        cross = expert.prm.cross_attn
        self.heads = cross.heads
        self.rest = copy.deepcopy(expert.prm)
        del self.rest.cross_attn
        self.key = copy.deepcopy(cross.k_proj)
        self.value = copy.deepcopy(cross.v_proj)
        self.out = copy.deepcopy(cross.out_proj)
        self.register_buffer("prompt", expert.prompt.detach().clone())
        self.register_buffer("asked", cross.q_proj(expert.prompt).detach().clone())

    def forward(self, feature: Tensor, patches: Tensor) -> Tensor:
        """Patches [B, P, D] to tokens [B, M, D]; the feature [B, D] only chooses the expert."""
        asked = self.asked.expand(feature.shape[0], -1, -1)
        moved = self.out(attend(asked, self.key(patches), self.value(patches), self.heads))
        settled: Tensor = self.rest.settle(self.prompt + moved)
        return settled


class ServingExperts(nn.Module):
    """A router and its experts as they are exported: all run, the router's choice is a weight.

    Their weights are read once a batch, which is what they cost in a batch of a few pictures.
    """

    numbers: Tensor

    def __init__(self, experts: nn.ModuleList, router: Router) -> None:
        super().__init__()
        self.router = copy.deepcopy(router)
        self.experts = nn.ModuleList(
            ServingExpert(expert) if expert.source == "vector" else ServingReader(expert)
            for expert in experts
            if isinstance(expert, Expert)
        )
        self.register_buffer("numbers", torch.arange(len(experts)))

    def forward(self, feature: Tensor, patches: Tensor) -> Tensor:
        """A feature [B, D] and patches [B, P, D] to tokens [B, M, D]."""
        values, chosen = self.router.gate(feature).topk(self.router.top_k, dim=1)
        weights = values.softmax(1)
        # A scatter of K weights into E places, as a comparison: targets lack the scatter.
        is_chosen = (chosen[:, :, None] == self.numbers).to(weights.dtype)  # [B, K, E]
        gates = (weights[:, :, None] * is_chosen).sum(1)
        made = (expert(feature, patches) for expert in self.experts)
        parts = [gates[:, index, None, None] * tokens for index, tokens in enumerate(made)]
        total: Tensor = parts[0]
        for part in parts[1:]:
            total = total + part
        return total
