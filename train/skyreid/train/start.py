"""The weights a run begins with, where it does not begin at random."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch import nn

from skyreid.contract.errors import InputError
from skyreid.contract.settings import check
from skyreid.train import checkpoint
from skyreid.train.models.vit import TrunkConfig

log = logging.getLogger(__name__)

PER_PERSON = (
    "heads.weight",
    "local_heads.weight",
    "classifier.weight",
    "classifier_proj.weight",
    "prompt_learner.cls_ctx",
)
"""Entries of the methods' state_dicts with a row for each person of the training set."""


def begin_with(
    network: nn.Module, config: Mapping[str, Any], source: checkpoint.Checkpoint
) -> None:
    """Copy the weights of `source` into `network`, which `config` describes.

    Rows for people are copied only where the people are the same ones. Converted weights were
    never fitted on people of ours, unless the authors of a method fitted them on the same data set:
    nobody can tell from the file, so that is said.

    Raises:
        InputError: when they are different networks, or when the source was fitted on people who
            are held out now: they could no longer choose a checkpoint.
    """
    if source.kind != "embedder" or _architecture(source.config) != _architecture(config):
        raise InputError("the checkpoint to start from holds another network than the recipe")
    origin = source.config.get("converted_from")
    same = origin is None and source.config["held_out"] == config["held_out"]
    if source.config["people"] == config["people"] and same:
        network.load_state_dict(source.state)
        return
    if origin == "authors":
        log.warning(
            "the start was fitted by a method's authors: on their data set's training split the "
            "held-out people were seen before, and choose a checkpoint less well"
        )
    elif origin is None and set(config["held_out"]) - set(source.config["held_out"]):
        raise InputError("the checkpoint to start from was fitted on people who are held out now")
    own = network.state_dict()
    body = {key: value for key, value in source.state.items() if key not in PER_PERSON}
    checkpoint.fill(network, {**body, **{key: own[key] for key in PER_PERSON if key in own}})


def _architecture(config: Mapping[str, Any]) -> tuple[Any, ...]:
    """What decides the entries of a state_dict, but for the number of people."""
    trunk = check(TrunkConfig, config["trunk"], "model.trunk")
    return config["method"], trunk.model_copy(update={"drop_path": 0.0})
