"""CLIP-ReID's first stage as a part of `fit`: learn everybody's words before the loop begins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import torch
from torch import Tensor

from skyreid.contract.errors import InputError, SettingsError
from skyreid.contract.input_spec import InputSpec
from skyreid.train.models import clip_text
from skyreid.train.models.clip_reid import ClipReid
from skyreid.train.models.clip_text import PromptOptions
from skyreid.train.models.method import Method

BATCH = 64  # pictures at a time through the image encoder


def check(network: Method, clip: Path | None) -> None:
    """Refuse a network that is to learn prompts without CLIP, or CLIP where nobody reads it.

    Raises:
        SettingsError: in either case.
        InputError: when there is no such file.
    """
    if not _reads_texts(network):
        if clip is not None:
            raise SettingsError("--clip is for a clip-reid that trains with texts; leave it out")
    elif clip is None:
        raise SettingsError(
            "clip-reid learns a prompt for each person first: give --clip FILE, the weights of "
            "OpenAI's CLIP ViT-B/16, or set model.options.text = false to train without texts"
        )
    elif not clip.is_file():
        raise InputError(f"--clip {clip}: there is no such file")


def _reads_texts(network: Method) -> TypeGuard[ClipReid]:
    return isinstance(network, ClipReid) and network.options.text


def learn(
    network: Method,
    images: Tensor,
    people: Tensor,
    *,
    clip: Path | None,
    spec: InputSpec,
    options: PromptOptions,
    seed: int,
) -> None:
    """Give a CLIP-ReID the text features its loss compares pictures with; others need none.

    Args:
        network: as it begins, with CLIP's image encoder.
        images: of the training split, uint8 [N, H, W, 3] RGB.
        people: int64 [N], class of each.
        clip: weights of OpenAI's CLIP, of which the text side is read.
        spec: how pictures are normalised.
        options: how long and how fast.
        seed: of the words' first values and of the order of pictures.

    Raises:
        SettingsError: as `check`.
        InputError: when `clip` cannot be read or is of another width than the network.
    """
    check(network, clip)
    if clip is None or not _reads_texts(network):
        return
    from skyreid.train.authors import published  # needed by nobody who trains another method

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        text = clip_text.from_clip(published.read(clip).state, len(network.classifier_weight))
    device = network.classifier_weight.device
    batches = (batch.to(device) for batch in _normalised(images, spec))
    network.read_texts(
        clip_text.stage_one(
            network.image_encoder, text.to(device), batches, people.to(device), options, seed
        )
    )


def _normalised(images: Tensor, spec: InputSpec) -> Iterator[Tensor]:
    mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH].to(torch.float32)
        yield ((part - mean) / std).permute(0, 3, 1, 2)
