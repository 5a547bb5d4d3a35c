"""DTST: score the patches halfway through the trunk and let the last blocks see the best two only.

Wang and Pishgar, "Dynamic Token Selective Transformer for Aerial-Ground Person Re-Identification",
ICME 2025 (arXiv:2412.00433). Re-written from the paper and held against recorded outputs of the
authors' code with its selector switched on.

What it adds to VDT, whose trunk, losses and embedding it keeps: a `TokenSelector`. It gives each
patch a score out of the patch and the mean of all tokens and keeps CLS, VIEW and the k best of the
patches. Training draws k patches under Gaussian noise many times and keeps their mean, so that a
gradient reaches the scores (`PerturbedTopK`).

Where the selector stands decides whether it does anything (`DtstOptions.after_block`). The released
code builds it and never calls it, and the paper puts it after the last block, where CLS and VIEW,
all that is read, pass through it untouched: both give VDT's embedding to the last bit. What makes
another method of it is a call site in the middle, which is commented out in the code, and is the
default here. The paper also scores by a softmax over tokens and relaxes with Gumbel noise; the code
scores by tanh and relaxes with Gaussian noise, as here. Its evaluation draws that noise too; here
evaluation keeps the k best, or uses one noise bank for all pictures (`DtstOptions.eval`).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from skyreid.contract.errors import SettingsError
from skyreid.train.data.records import View
from skyreid.train.models.losses import LossOptions
from skyreid.train.models.registry import register
from skyreid.train.models.row_random import Chance
from skyreid.train.models.two_way import attend
from skyreid.train.models.vdt import ServingVdt, Vdt, VdtTrunk, without_view
from skyreid.train.models.vit import TrunkConfig
from skyreid.train.options import Options

BANK_SEED = 0  # of the noise that soft evaluation shares between all pictures and machines


class DtstOptions(Options):
    """Where the selector stands and how it chooses; sizes are those hard-coded by the authors."""

    after_block: Annotated[int, Field(ge=0)] | Literal["middle"] | None = "middle"
    """Index of the block behind which patches are dropped. "middle" is the third from the last,
    9 of 12 as in the code's one call site of effect; the last one (11), the paper's, and None, the
    released code, give VDT."""
    k: int = Field(2, ge=1)  # patches kept
    heads: int = Field(2, ge=1)  # of the selector's attention
    samples: int = Field(500, ge=1)  # draws of the noise
    sigma: float = Field(0.05, gt=0)
    """Standard deviation of the noise; scores are within -1 and 1. Without noise: `eval` "hard"."""
    eval: Literal["hard", "soft"] = "hard"

    def block_of(self, depth: int) -> int | None:
        """The block whose patches are dropped, or None where nobody would notice.

        Raises:
            SettingsError: when a trunk of `depth` blocks has no such block.
        """
        block = max(depth - 3, 0) if self.after_block == "middle" else self.after_block
        if block is not None and block >= depth:
            raise SettingsError(f"dtst: after_block is {block}, the last block is {depth - 1}")
        return None if block == depth - 1 else block


class PerturbedTopK(torch.autograd.Function):
    """Mean indicator of the k largest of noisy scores, and its gradient by the score function.

    Berthet et al., "Learning with Differentiable Perturbed Optimizers", NeurIPS 2020
    (arXiv:2002.08676): with scores s, noise z and the k chosen in ascending order of index,
    y(s) = E[onehot(top-k(s + sigma z))] has the derivative E[onehot(..) z] / sigma. Neither pass
    makes the [B, S, k, P] indicators of single draws.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, noise: Tensor, k: int, sigma: float) -> Tensor:
        """Scores [B, P] and standard normal noise [B, S, P] to [B, k, P], rows of sum 1."""
        chosen = (scores[:, None] + sigma * noise).topk(k, dim=-1).indices.sort(dim=-1).values
        ctx.save_for_backward(chosen, noise)
        ctx.sigma = sigma
        samples = noise.shape[1]
        rows = scores.new_zeros(scores.shape[0], k, scores.shape[1])
        share = scores.new_full((), 1 / samples).expand(scores.shape[0], k, samples)
        return rows.scatter_add_(2, chosen.transpose(1, 2), share)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None, None, None]:
        """The gradient [B, P] of the scores out of that of the rows [B, k, P]."""
        (rows,) = outputs
        chosen, noise = ctx.saved_tensors
        worth = rows.gather(2, chosen.transpose(1, 2)).sum(1)  # of each draw: [B, S]
        scale = noise.shape[1] * ctx.sigma
        return torch.einsum("bs,bsp->bp", worth, noise) / scale, None, None, None


def perturbed_top_k(scores: Tensor, noise: Tensor, k: int, sigma: float) -> Tensor:
    """See `PerturbedTopK`.

    Args:
        scores: float [B, P].
        noise: float [B, S, P], standard normal.
        k: how many are chosen, at most P.
        sigma: above 0.

    Returns:
        Float [B, k, P]: row r weights the patches that come r-th by index among the chosen.
    """
    rows: Tensor = PerturbedTopK.apply(scores, noise, k, sigma)  # type: ignore[no-untyped-call]
    return rows


def banked_top_k(scores: Tensor, bank: Tensor, k: int, sigma: float) -> Tensor:
    """The same of one noise bank [S, P] for all pictures, in operators that export; no gradient."""
    chosen = (scores[:, None] + sigma * bank).topk(k, dim=-1).indices
    # Ascending by a second top-k: as an operator of its own, Sort is in few runtimes.
    ordered = chosen.to(scores.dtype).topk(k, dim=-1, largest=False).values  # [B, S, k]
    places = torch.arange(scores.shape[-1], dtype=scores.dtype, device=scores.device)
    return (ordered[..., None] == places).to(scores.dtype).mean(dim=1)


class SelectorAttention(nn.Module):
    """Self-attention without any bias; there is no residual and no norm around it."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, N, E] to [B, N, E]."""
        mixed = attend(self.query(tokens), self.key(tokens), self.value(tokens), self.heads)
        projected: Tensor = self.out(mixed)
        return projected


class ScorePredictor(nn.Module):
    """A score between -1 and 1 of each token, out of itself and of the mean of all."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        inner = dim // 2
        if inner % heads:
            raise SettingsError(
                f"dtst: heads is {heads}, the selector's width {inner} is no multiple"
            )
        self.in_conv = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, inner, bias=False), nn.GELU()
        )
        self.attention = SelectorAttention(inner, heads)
        self.out_conv = nn.Sequential(
            nn.Linear(2 * inner, inner, bias=False),
            nn.GELU(),
            nn.Linear(inner, 1, bias=False),
            nn.Tanh(),
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens [B, N, D] to scores [B, N]."""
        local = self.attention(self.in_conv(tokens))
        # What the code concatenates is a sum here: the mean's half of the product is made once.
        own, shared = cast(nn.Linear, self.out_conv[0]).weight.chunk(2, dim=1)
        hidden = F.linear(local, own) + F.linear(local.mean(dim=1, keepdim=True), shared)
        scores: Tensor = self.out_conv[1:](hidden)
        return scores[..., 0]


class TokenSelector(Chance):
    """CLS, VIEW and P patches to CLS, VIEW and k of them, or k mixtures of them in training."""

    bank: Tensor | None

    def __init__(self, config: TrunkConfig, options: DtstOptions) -> None:
        super().__init__()
        rows, columns = config.grid()
        patches = rows * columns
        if options.k > patches:
            raise SettingsError(f"dtst: k is {options.k}, the picture has {patches} patches")
        self.options = options
        self.score_predictor = ScorePredictor(config.dim, options.heads)
        bank = None
        if options.eval == "soft":
            generator = torch.Generator().manual_seed(BANK_SEED)
            bank = torch.randn(options.samples, patches, generator=generator)
        self.register_buffer("bank", bank, persistent=False)

    def scores(self, tokens: Tensor) -> Tensor:
        """Scores float32 [B, P] of the patches in tokens [B, 2 + P, D].

        Always computed in float32: neighbouring scores are closer than a half can tell apart, and
        the choice between them is a jump of the embedding.
        """
        device = tokens.device.type
        if torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                found: Tensor = self.score_predictor(tokens.float())
        else:
            found = self.score_predictor(tokens)
        return found[:, 2:]

    def weights(self, scores: Tensor) -> Tensor:
        """Of each kept token the share of each patch: scores [B, P] to [B, k, P], rows of sum 1.

        In training of fresh noise, which is drawn where the scores are; else as `eval` says.
        """
        options = self.options
        if self.training:
            batch, patches = scores.shape
            noise = self.normal(scores, (batch, options.samples, patches))
            return perturbed_top_k(scores, noise, options.k, options.sigma)
        if self.bank is not None:
            return banked_top_k(scores, self.bank, options.k, options.sigma)
        chosen = scores.topk(options.k, dim=-1).indices.sort(dim=-1).values
        return F.one_hot(chosen, scores.shape[-1]).to(scores.dtype)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, 2 + P, D] to [B, 2 + k, D]."""
        scores, patches = self.scores(tokens), tokens[:, 2:]
        if self.training or self.bank is not None:
            kept = self.weights(scores).to(patches.dtype) @ patches
        else:  # as `weights` has it but for the order, which no later block can see
            chosen = scores.topk(self.options.k, dim=-1).indices
            kept = patches.gather(1, chosen[..., None].expand(-1, -1, patches.shape[-1]))
        return torch.cat([tokens[:, :2], kept], dim=1)


class DtstTrunk(VdtTrunk):
    """VDT's trunk whose blocks behind `after` see 2 + k tokens."""

    def __init__(self, config: TrunkConfig, options: DtstOptions) -> None:
        super().__init__(config)
        self.after = options.block_of(config.depth)
        self.visual_token_selector = TokenSelector(config, options)  # keeps torch's initialisation
        if self.after is None:
            self.visual_token_selector.requires_grad_(False)

    def until_selection(self, images: Tensor) -> Tensor:
        """Pictures to the tokens [B, 2 + P, D] that the selector is shown.

        Raises:
            SettingsError: when it is shown none.
        """
        if self.after is None:
            raise SettingsError("dtst: this after_block selects nothing, its embedding is VDT's")
        tokens = self.embed(images)
        for block in self.blocks[: self.after]:
            tokens = without_view(block(tokens))
        shown: Tensor = self.blocks[self.after](tokens)  # CLS still has VIEW in it
        return shown

    def forward(self, images: Tensor) -> Tensor:
        """See `VdtTrunk.forward`."""
        if self.after is None:
            return super().forward(images)
        tokens = without_view(self.visual_token_selector(self.until_selection(images)))
        for block in self.blocks[self.after + 1 : -1]:
            tokens = without_view(block(tokens))
        normed: Tensor = self.norm(without_view(self.blocks[-1](tokens, self.extra_tokens)))
        return normed


@register(
    "dtst",
    options=DtstOptions,
    pretrained={"imagenet": "backbone."},
    marks=(*Vdt.declaration.marks, "backbone.visual_token_selector."),
    superseded={
        "backbone.token_selector.": (
            "a superseded DTST: its selector mixed ten tokens out of all, CLS and VIEW among them, "
            "and ran the last block twice, which no method here computes; dtst reads "
            "backbone.visual_token_selector.*"
        )
    },
    fixture="dtst",
)
class Dtst(Vdt):
    """VDT on a trunk that drops patches; its losses alone teach the selector."""

    backbone: DtstTrunk

    def __init__(
        self,
        config: TrunkConfig,
        *,
        people: int,
        options: DtstOptions | None = None,
        loss: LossOptions | None = None,
    ) -> None:
        backbone = DtstTrunk(config, options or DtstOptions())
        super().__init__(config, people=people, loss=loss, backbone=backbone)

    def selection(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What the selector thinks of pictures: scores [B, P] and weights [B, k, P].

        The scores' spread against sigma, and 1 / sum(weights²), the number of patches a row is
        made of, tell whether a trained selector selects or averages.

        Raises:
            SettingsError: when `after_block` leaves it nothing to do.
        """
        selector = self.backbone.visual_token_selector
        scores = selector.scores(self.backbone.until_selection(images))
        return scores, selector.weights(scores)

    def serving(self, view: View | None) -> nn.Module:
        """See `Method.serving`; the same for both views, VDT's where the selector does nothing."""
        served = ServingVdt(self)
        if self.backbone.after is None:
            del served.backbone.visual_token_selector
        return served
