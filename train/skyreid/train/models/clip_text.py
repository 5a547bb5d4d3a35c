"""CLIP-ReID's first stage: four words for every person, learned from pictures of them.

See `clip_reid` for the papers. OpenAI's CLIP reads "A photo of a X X X X person." with the four X
replaced by vectors of a person's own; they are all that is trained, so that the sentence comes to
lie near the features of their pictures. The text encoder is CLIP's, and stands still.

Its mask is causal and only the token at the sentence's end is read: the zeros that pad a sentence
to 77 tokens change nothing, and are not computed here. That leaves 12 of 77 tokens, and a step of
training takes a seventh of the time.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from skyreid.contract.errors import InputError
from skyreid.train.models.clip_reid import ClipTransformer, ImageEncoder
from skyreid.train.options import Options

log = logging.getLogger(__name__)

CONTEXT = 77  # tokens of a sentence of CLIP's
PREFIX = (49406, 320, 1125, 539, 320)  # begin, "a photo of a", in CLIP's vocabulary
WORDS = 4  # learned for each person, in place of the X
SUFFIX = (2533, 269, 49407)  # "person", ".", end
END = len(PREFIX) + WORDS + len(SUFFIX) - 1  # position of the token that is read
PADDING = 0


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Sizes of the text encoder; the defaults are those of OpenAI's ViT-B/16."""

    dim: int = 512
    depth: int = 12
    heads: int = 8
    joint: int = 512  # channels of the space shared with pictures


class PromptOptions(Options):
    """CLIP-ReID's first stage, which learns a prompt for each person; other methods have none."""

    epochs: int = Field(120, gt=0)
    """Passes over the pictures' features."""
    batch: int = Field(64, ge=2)
    """Pictures of a step."""
    learning_rate: float = Field(3.5e-4, gt=0)
    """Of Adam, at the top of a cosine over the epochs."""
    warmup_epochs: int = Field(5, ge=0)
    """Epochs of linear growth."""
    warmup_rate: float = Field(1e-5, ge=0)
    """Learning rate the growth begins at."""
    last_rate: float = Field(1e-6, ge=0)
    """Learning rate the cosine ends at."""
    weight_decay: float = Field(1e-4, ge=0)
    """Of the learned words."""


class TextEncoder(nn.Module):
    """CLIP's text transformer over embedded tokens."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.transformer = ClipTransformer(config.dim, config.heads, config.depth, causal=True)
        self.positional_embedding = nn.Parameter(torch.empty(CONTEXT, config.dim))
        self.ln_final = nn.LayerNorm(config.dim)
        self.text_projection = nn.Parameter(torch.empty(config.dim, config.joint))
        nn.init.normal_(self.positional_embedding, std=0.01)
        nn.init.normal_(self.text_projection, std=config.dim**-0.5)

    def forward(self, prompts: Tensor, end: int) -> Tensor:
        """What sentences say.

        Args:
            prompts: embedded tokens, float32 [B, N, D], N up to 77; those behind `end` are unread.
            end: position of the token that ends every sentence.

        Returns:
            Float32 [B, P], not of unit length.
        """
        count = end + 1
        tokens = prompts[:, :count] + self.positional_embedding[:count]
        for block in self.transformer.resblocks:
            tokens = block(tokens)
        features: Tensor = self.ln_final(tokens[:, end]) @ self.text_projection
        return features


class PromptLearner(nn.Module):
    """The sentence with four vectors of each person's own, which begin at random."""

    token_prefix: Tensor
    token_suffix: Tensor

    def __init__(self, people: int, embedded: Tensor) -> None:
        """Args: people: count; embedded: the sentence with four X, float32 [77, D]."""
        super().__init__()
        self.cls_ctx = nn.Parameter(torch.empty(people, WORDS, embedded.shape[1]))
        nn.init.normal_(self.cls_ctx, std=0.02)
        self.register_buffer("token_prefix", embedded[None, : len(PREFIX)].clone())
        self.register_buffer("token_suffix", embedded[None, len(PREFIX) + WORDS :].clone())

    def forward(self, people: Tensor) -> Tensor:
        """Embedded sentences float32 [B, 77, D] of the classes int64 [B]."""
        words = self.cls_ctx[people]
        count = len(words)
        prefix = self.token_prefix.expand(count, -1, -1)
        return torch.cat([prefix, words, self.token_suffix.expand(count, -1, -1)], dim=1)


class TextSide(nn.Module):
    """What the first stage needs besides the image encoder, under the published names.

    Args:
        people: classes.
        config: sizes.
        vocabulary: CLIP's token embedding, float32 [49408, D]; of it the sentence's rows are kept.
    """

    def __init__(self, people: int, config: TextConfig, vocabulary: Tensor) -> None:
        super().__init__()
        self.text_encoder = TextEncoder(config)
        self.prompt_learner = PromptLearner(people, vocabulary[list(sentence())].detach())

    def forward(self, people: Tensor) -> Tensor:
        """Text features float32 [B, P] of the classes int64 [B]."""
        features: Tensor = self.text_encoder(self.prompt_learner(people), END)
        return features

    @torch.no_grad()
    def everybody(self, batch: int = 64) -> Tensor:
        """Text features float32 [C, P] of all classes."""
        words = self.prompt_learner.cls_ctx
        classes = torch.arange(len(words), device=words.device)
        parts = [classes[start : start + batch] for start in range(0, len(words), batch)]
        return torch.cat([self(part) for part in parts])


def sentence() -> tuple[int, ...]:
    """Token ids of "A photo of a X X X X person.", 77 of them; an X is 343."""
    used = PREFIX + (343,) * WORDS + SUFFIX
    return used + (PADDING,) * (CONTEXT - len(used))


def from_clip(state: Mapping[str, Tensor], people: int) -> TextSide:
    """The text side out of OpenAI's CLIP, prompts at random.

    Reads `token_embedding.weight`, `positional_embedding`, `transformer.*`, `ln_final.*` and
    `text_projection`; the image side (`visual.*`) and the temperature (`logit_scale`) are not read.

    Args:
        state: CLIP's state_dict.
        people: classes.

    Raises:
        InputError: naming the entries that are missing, or that do not fit.
    """
    named = ("token_embedding.weight", "positional_embedding", "ln_final.weight", "text_projection")
    if missing := [key for key in named if key not in state]:
        raise InputError(f"not the weights of OpenAI's CLIP: {', '.join(missing)} missing")
    vocabulary, projection = state["token_embedding.weight"], state["text_projection"]
    if len(vocabulary) <= max(PREFIX):
        raise InputError(
            f"token_embedding.weight has {len(vocabulary)} rows, CLIP's vocabulary 49408"
        )
    blocks = {m[1] for key in state if (m := re.match(r"transformer\.resblocks\.(\d+)\.", key))}
    dim = projection.shape[0]
    config = TextConfig(
        dim=dim, depth=len(blocks), heads=max(1, dim // 64), joint=projection.shape[1]
    )
    text = TextSide(people, config, vocabulary.to(torch.float32))
    parts = ("transformer.", "ln_final.", "positional_embedding", "text_projection")
    own = {key: tensor for key, tensor in state.items() if key.startswith(parts)}
    try:
        text.text_encoder.load_state_dict(own)
    except RuntimeError as error:
        raise InputError(f"the weights are not those of CLIP's text encoder: {error}") from error
    return text


def supervised_contrast(
    left: Tensor, right: Tensor, people: Tensor, others: Tensor, temperature: float = 1.0
) -> Tensor:
    """How badly the rows of `left` find those of `right` that are of the same person.

    Khosla et al., "Supervised Contrastive Learning" (arXiv:2004.11362): the mean over `left` of
    the mean over its positives of -log softmax(left . right / temperature). Dot products, because
    CLIP-ReID does not normalise here.

    Args:
        left: float32 [B, P].
        right: float32 [N, P].
        people: int64 [B], of `left`; each has a row in `right`.
        others: int64 [N], of `right`.
        temperature: of the softmax over `right`.
    """
    log_p = F.log_softmax(left @ right.T / temperature, dim=1)
    same = people[:, None] == others[None, :]
    return -((log_p * same).sum(1) / same.sum(1)).mean()


def symmetric_contrast(pictures: Tensor, texts: Tensor, people: Tensor) -> Tensor:
    """The first stage's loss: pictures find their texts, and texts their pictures.

    Args:
        pictures: features float32 [B, P].
        texts: features float32 [B, P], of the same people in the same order.
        people: int64 [B].
    """
    there = supervised_contrast(pictures, texts, people, people)
    return there + supervised_contrast(texts, pictures, people, people)


def stage_one(
    encoder: ImageEncoder,
    text: TextSide,
    batches: Iterable[Tensor],
    people: Tensor,
    options: PromptOptions | None = None,
    seed: int = 0,
) -> Tensor:
    """Learn everybody's words; `text.prompt_learner.cls_ctx` alone changes.

    The features of the pictures are computed once, without augmentation, as published.

    Args:
        encoder: of pictures; stands still.
        text: whose prompts are trained.
        batches: normalised pictures, float32 [B, 3, H, W] each.
        people: int64 [N], class of each picture in the order of `batches`.
        options: how long and how fast.
        seed: of the order of pictures.

    Returns:
        Text features float32 [C, P], for `ClipReid.read_texts`.

    Raises:
        InputError: when pictures and labels, or the widths of pictures and texts, do not agree.
    """
    options = options or PromptOptions()
    with torch.no_grad():
        pictures = torch.cat([encoder(batch)[2] for batch in batches])
    joint = text.text_encoder.text_projection.shape[1]
    if len(pictures) != len(people) or pictures.shape[1] != joint:
        raise InputError(
            f"{len(pictures)} pictures of {pictures.shape[1]} channels do not go with "
            f"{len(people)} labels and texts of {joint} channels"
        )
    text.requires_grad_(False)
    words = text.prompt_learner.cls_ctx.requires_grad_(True)
    optimiser = torch.optim.Adam(
        [words], lr=options.learning_rate, weight_decay=options.weight_decay
    )
    order = torch.Generator().manual_seed(seed)
    for epoch in range(1, options.epochs + 1):
        for group in optimiser.param_groups:
            group["lr"] = rate(options, epoch)
        total = 0.0
        shuffled = torch.randperm(len(people), generator=order)
        for start in range(0, len(people), options.batch):
            rows = shuffled[start : start + options.batch]
            loss = symmetric_contrast(pictures[rows], text(people[rows]), people[rows])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            total += loss.item() * len(rows)
        if epoch % 10 == 0 or epoch == options.epochs:
            log.info("prompts epoch=%d contrast=%.3f", epoch, total / len(people))
    words.requires_grad_(False)
    return text.everybody()


def rate(options: PromptOptions, epoch: int) -> float:
    """Learning rate of an epoch, counted from 1: linear warm-up, then a cosine over all epochs."""
    if epoch < options.warmup_epochs:
        share = epoch / options.warmup_epochs
        return options.warmup_rate + share * (options.learning_rate - options.warmup_rate)
    fall = 0.5 * (1 + math.cos(math.pi * epoch / options.epochs))
    return options.last_rate + fall * (options.learning_rate - options.last_rate)
