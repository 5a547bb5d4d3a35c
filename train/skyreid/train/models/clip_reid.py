"""CLIP-ReID: the image half of a model that learned from captions, for people without captions.

Li, Sun and Li, "CLIP-ReID: Exploiting Vision-Language Model for Image Re-identification without
Concrete Text Labels", AAAI 2023 (arXiv:2211.13977), on Radford et al., "Learning Transferable
Visual Models From Natural Language Supervision", ICML 2021 (arXiv:2103.00020). Re-written from the
papers and held against recorded outputs of the authors' code (eb1898b); parameter names are those
of their checkpoints.

What it adds to CLIP: people have no captions, so a first stage learns four words for each person
in "A photo of a X X X X person." while both encoders stand still (`clip_text`), and the second
stage, here, trains the image encoder with those sentences as a fixed classifier (`text` of the
loss). To the baseline `vit` it adds that term, triplets on three features (CLS before the last
block, CLS at the end, and its projection to where pictures and texts meet) and two classifiers;
what is searched is the last two features side by side.

Where it stands apart from the other methods here: CLIP's trunk norms its tokens before the first
block, has no bias in the patch projection, QuickGELU instead of GELU and an epsilon of 1e-5; the
embedding is read before the necks (`neck = "after"` is the authors' other choice); label smoothing
gives the right person their share too, smoothing / C.

What differs from the published code: no side information embedding (SIE, their switch, off in
`vit_clipreid.yml`). It learns a vector for each camera, and a camera that flies has no place of its
own for one to describe. Of the second stage's optimiser the recipe decides; theirs is Adam at 5e-6,
biases at twice that.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from skyreid.contract.errors import InputError, SettingsError
from skyreid.train.data.records import View
from skyreid.train.models.heads import EmbeddingHead, FoldedNeck
from skyreid.train.models.losses import LossOptions, batch_hard_triplet
from skyreid.train.models.method import Method
from skyreid.train.models.recompute import Recomputing
from skyreid.train.models.registry import register
from skyreid.train.models.vit import TrunkConfig
from skyreid.train.options import Options


class ClipReidOptions(Options):
    """The second stage's loss and what is read; the defaults are the published ones."""

    text: bool = True  # pictures are compared with everybody's text; False trains without
    neck: Literal["before", "after"] = "before"  # where the embedding is read
    identity_weight: float = Field(0.25, ge=0)  # of each of the two classifiers' cross-entropies
    triplet_weight: float = Field(1.0, ge=0)  # of each of the three triplets
    text_weight: float = Field(1.0, ge=0)  # of the cross-entropy over texts
    margin: float = Field(0.3, ge=0)  # of the triplets
    label_smoothing: float = Field(0.1, ge=0, lt=1)  # over all people, the right one included


def joint_width(dim: int) -> int:
    """Channels of the space pictures and texts share: CLIP's 512 at 768, and in proportion."""
    return dim * 2 // 3


class ClipAttention(nn.Module):
    """Multi-head self-attention under the names of torch's MultiheadAttention."""

    def __init__(self, dim: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} is not divisible by {heads} heads")
        self.heads = heads
        self.causal = causal
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor, first: int | None = None) -> Tensor:
        """Tokens [B, N, D] to [B, N, D], or to the rows of the `first` tokens alone."""
        dim = tokens.shape[-1]
        weight, bias = self.in_proj_weight, self.in_proj_bias
        asking = tokens if first is None else tokens[:, :first]
        query = F.linear(asking, weight[:dim], bias[:dim])
        key, value = F.linear(tokens, weight[dim:], bias[dim:]).chunk(2, dim=-1)
        mixed = F.scaled_dot_product_attention(
            self._split(query), self._split(key), self._split(value), is_causal=self.causal
        )
        projected: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return projected

    def _split(self, tokens: Tensor) -> Tensor:
        """[B, N, D] to [B, heads, N, D / heads]."""
        batch, count, dim = tokens.shape
        return tokens.reshape(batch, count, self.heads, dim // self.heads).transpose(1, 2)


class ClipMlp(nn.Module):
    """Two layers around QuickGELU, x * sigmoid(1.702 x): CLIP's cheaper GELU, and not the same."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(dim, 4 * dim)
        self.c_proj = nn.Linear(4 * dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.c_fc(tokens)
        projected: Tensor = self.c_proj(hidden * torch.sigmoid(1.702 * hidden))
        return projected


class ClipBlock(Recomputing):
    """CLIP's pre-norm transformer block, of pictures (all tokens see all) or texts (causal)."""

    def __init__(self, dim: int, heads: int, depth: int, *, causal: bool) -> None:
        super().__init__()
        self.attn = ClipAttention(dim, heads, causal=causal)
        self.ln_1 = nn.LayerNorm(dim)
        self.mlp = ClipMlp(dim)
        self.ln_2 = nn.LayerNorm(dim)
        into_stream = dim**-0.5 * (2 * depth) ** -0.5
        nn.init.normal_(self.attn.in_proj_weight, std=dim**-0.5)
        nn.init.normal_(self.attn.out_proj.weight, std=into_stream)
        nn.init.normal_(self.mlp.c_fc.weight, std=(2 * dim) ** -0.5)
        nn.init.normal_(self.mlp.c_proj.weight, std=into_stream)
        for linear in (self.attn.out_proj, self.mlp.c_fc, self.mlp.c_proj):
            nn.init.zeros_(linear.bias)

    def forward(self, tokens: Tensor, first: int | None = None) -> Tensor:
        """Tokens [B, N, D] to [B, N, D], or exactly the `first` of them."""
        attended = self.attn(self.ln_1(tokens), first)
        tokens = (tokens if first is None else tokens[:, :first]) + attended
        mixed: Tensor = tokens + self.mlp(self.ln_2(tokens))
        return mixed


class ClipTransformer(nn.Module):
    """The blocks, under the name both of CLIP's encoders keep them."""

    def __init__(self, dim: int, heads: int, depth: int, *, causal: bool) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(
            ClipBlock(dim, heads, depth, causal=causal) for _ in range(depth)
        )


class ImageEncoder(nn.Module):
    """CLIP's `visual`, whose state_dict this is but for the size of the position grid.

    Raises:
        SettingsError: when the trunk asks for something CLIP's has not.
    """

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        fixed = {"stem": "patch", "extra_tokens": 1, "mlp_ratio": 4.0, "drop_path": 0.0}
        for name, value in fixed.items():
            if getattr(config, name) != value:
                raise SettingsError(
                    f"clip-reid: trunk.{name} is {getattr(config, name)!r}, "
                    f"CLIP's trunk has {value!r}"
                )
        dim = config.dim
        rows, columns = config.grid()
        self.class_embedding = nn.Parameter(dim**-0.5 * torch.randn(dim))
        self.positional_embedding = nn.Parameter(dim**-0.5 * torch.randn(rows * columns + 1, dim))
        self.proj = nn.Parameter(dim**-0.5 * torch.randn(dim, joint_width(dim)))
        self.conv1 = nn.Conv2d(3, dim, config.patch, stride=config.stride, bias=False)
        self.ln_pre = nn.LayerNorm(dim)
        self.transformer = ClipTransformer(dim, config.heads, config.depth, causal=False)
        self.ln_post = nn.LayerNorm(dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Three features of float32 [B, 3, H, W] normalised.

        Returns:
            CLS before the last block [B, D], CLS after the final norm [B, D], and the latter
            projected to the space of texts [B, P].
        """
        patches = self.conv1(images).flatten(2).transpose(1, 2) + self.positional_embedding[1:]
        leading = self.class_embedding + self.positional_embedding[0]
        tokens = torch.cat([leading.expand(patches.shape[0], 1, -1), patches], dim=1)
        tokens = self.ln_pre(tokens)
        for block in self.transformer.resblocks[:-1]:
            tokens = block(tokens)
        last: Tensor = self.ln_post(self.transformer.resblocks[-1](tokens, 1)[:, 0])
        return tokens[:, 0], last, last @ self.proj


@register(
    "clip-reid",
    trunk={"drop_path": 0.0},
    options=ClipReidOptions,
    pretrained={"clip": "image_encoder."},
    marks=("image_encoder.",),
    unread=("text_encoder.", "prompt_learner."),
    fixture="clip-reid",
)
class ClipReid(Method):
    """CLIP's image encoder with two necks and classifiers, in the second stage of its training.

    Raises:
        SettingsError: for a trunk CLIP has not, or for options of the loss that are not read here.
    """

    text_features: Tensor | None

    def __init__(
        self,
        config: TrunkConfig,
        *,
        people: int,
        options: ClipReidOptions | None = None,
        loss: LossOptions | None = None,
    ) -> None:
        super().__init__()
        if loss not in (None, LossOptions()):
            raise SettingsError(
                "clip-reid: the options of [loss] are those of the other methods; "
                "set margin, weights and label_smoothing under model.options"
            )
        self.options = options or ClipReidOptions()
        width = joint_width(config.dim)
        self.classifier = nn.Linear(config.dim, people, bias=False)
        self.classifier_proj = nn.Linear(width, people, bias=False)
        self.bottleneck = nn.BatchNorm1d(config.dim)
        self.bottleneck_proj = nn.BatchNorm1d(width)
        self.image_encoder = ImageEncoder(config)
        for classifier in (self.classifier, self.classifier_proj):
            nn.init.normal_(classifier.weight, std=0.001)
        for norm in (self.bottleneck, self.bottleneck_proj):
            norm.bias.requires_grad_(False)
        # Not persistent: the first stage's result is no part of the published image side.
        self.register_buffer("text_features", None, persistent=False)

    @property
    def classifier_weight(self) -> Tensor:
        """See `Method.classifier_weight`."""
        return self.classifier.weight

    @property
    def embedding_heads(self) -> tuple[EmbeddingHead, ...]:
        """See `Method.embedding_heads`."""
        return ()

    def forward(self, images: Tensor, views: Tensor) -> Tensor:
        """Embeddings [B, D + P]: the last feature and its projection, see `Method.forward`."""
        _, last, projected = self.image_encoder(images)
        if self.options.neck == "after":
            last, projected = self.bottleneck(last), self.bottleneck_proj(projected)
        return torch.cat([last, projected], dim=1)

    def read_texts(self, features: Tensor) -> None:
        """Keep what the first stage learned: everybody's text, as `clip_text.stage_one` returns it.

        Args:
            features: float32 [people, P], a row per class.

        Raises:
            InputError: when there is another number of people or of channels.
        """
        wanted = self.classifier_proj.weight.shape
        if features.shape != wanted:
            raise InputError(
                f"text features of shape {list(features.shape)}, clip-reid needs {list(wanted)}: "
                "a row for each person of the training set"
            )
        self.text_features = features.detach().to(self.classifier.weight)

    def see(self, images: Tensor, views: Tensor) -> dict[str, Tensor]:
        """See `Method.see`."""
        before, last, projected = self.image_encoder(images)
        return {"before": before, "last": last, "projected": projected}

    def judge(self, seen: Mapping[str, Tensor], people: Tensor, views: Tensor) -> dict[str, Tensor]:
        """The second stage's terms, see `Method.losses`.

        Raises:
            SettingsError: when `read_texts` was not called, unless the options ask for no texts.
        """
        options = self.options
        if options.text and self.text_features is None:
            raise SettingsError(
                "clip-reid compares pictures with everybody's text and no text features were "
                "given: learn the prompts first, or set model.options.text = false"
            )
        last, projected = seen["last"], seen["projected"]
        logits = self.classifier(self.bottleneck(last))
        logits_proj = self.classifier_proj(self.bottleneck_proj(projected))
        terms = {
            "identity": options.identity_weight * self._identity(logits, people),
            "identity_proj": options.identity_weight * self._identity(logits_proj, people),
        }
        names = ("triplet_before", "triplet", "triplet_proj")
        for name, feature in zip(names, (seen["before"], last, projected), strict=True):
            triplet = batch_hard_triplet(feature, people, options.margin)
            terms[name] = options.triplet_weight * triplet
        if options.text:
            assert self.text_features is not None
            to_texts = projected @ self.text_features.T
            terms["text"] = options.text_weight * self._identity(to_texts, people)
        return terms

    def _identity(self, logits: Tensor, people: Tensor) -> Tensor:
        # torch's smoothing: here, unlike in the fast-reid family, the right person has their share.
        return F.cross_entropy(logits, people, label_smoothing=self.options.label_smoothing)

    def serving(self, view: View | None) -> nn.Module:
        """See `Method.serving`; the same for both views."""
        return ServingClipReid(self)


class ServingClipReid(nn.Module):
    """CLIP-ReID as it is exported: without classifiers, and without necks nobody reads."""

    def __init__(self, network: ClipReid) -> None:
        super().__init__()
        self.image_encoder = copy.deepcopy(network.image_encoder)
        self.necks: nn.ModuleList | None = None
        if network.options.neck == "after":
            folded = FoldedNeck(network.bottleneck), FoldedNeck(network.bottleneck_proj)
            self.necks = nn.ModuleList(folded)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Float32 [B, 3, H, W] normalised to [B, D + P]."""
        _, last, projected = self.image_encoder(images)
        if self.necks is not None:
            last, projected = self.necks[0](last), self.necks[1](projected)
        return torch.cat([last, projected], dim=1)
