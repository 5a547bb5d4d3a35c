"""The weights a run begins with, where it does not begin at random."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from skyreid.contract.errors import InputError, SettingsError
from skyreid.contract.input_spec import InputSpec
from skyreid.contract.settings import check
from skyreid.train import checkpoint
from skyreid.train.fit.split import Split
from skyreid.train.models import positions
from skyreid.train.models.method import Method
from skyreid.train.models.registry import method_of
from skyreid.train.models.variants import per_person
from skyreid.train.models.vit import TrunkConfig

log = logging.getLogger(__name__)

RIGHT_LOGIT = 9.0
ROWS_OF = 8
"""Pictures of each person that make his row, from all over his: more take minutes."""


def begin_with(
    network: nn.Module, config: Mapping[str, Any], source: checkpoint.Checkpoint
) -> None:
    """Copy the weights of `source` into `network`, which `config` describes.

    Rows for people are copied only where the people are the same ones. At another resolution or
    stride positions are resampled, and what a network computes from its grid is its own.

    Raises:
        InputError: when they are different networks, or as `check_strangers`.
    """
    if source.kind != "embedder":
        raise InputError(f"the checkpoint to start from is a {source.kind}, and this an embedder")
    old, new = _architecture(source.config), _architecture(config)
    if differing := [key for key in old if key in new and old[key] != new[key]]:
        said = (f"{key} is {old[key]} there and {new[key]} here" for key in differing)
        raise InputError(
            f"the checkpoint to start from holds another network than the recipe: {', '.join(said)}"
        )
    check_strangers(source, config["held_out"], "the checkpoint to start from")
    state, own = dict(source.state), network.state_dict()
    if source.config["fitted"] != config["fitted"]:
        state |= {key: own[key] for key in per_person(config)}
    before, after = (_trunk(one) for one in (source.config, config))
    if (before.size, before.stride) != (after.size, after.stride):
        computed = method_of(config["method"]).declaration.computed
        for key in state:
            if key.endswith(positions.NAMES):
                state[key] = positions.on_grid(state[key], before.grid(), after.grid())
            elif any(part in key for part in computed) and key in own:
                state[key] = own[key]
        log.info(
            "positions of %s, stride %s, resampled to %s, stride %s",
            *(before.size, before.stride, after.size, after.stride),
        )
    checkpoint.fill(network, state)


@torch.no_grad()
def rows_from_means(network: Method, split: Split, spec: InputSpec) -> None:
    """Let the classifier begin with each person's mean embedding by the network as it stands.

    Rows have one length, for which the right logits are `RIGHT_LOGIT` on average: about what
    label smoothing of .1 among hundreds of people asks for.

    Raises:
        SettingsError: where the network has not exactly one head.
    """
    if len(network.embedding_heads) != 1:
        raise SettingsError("run.rows_from_means is for methods with one head")
    network.eval()
    mean, std = (torch.tensor(values)[:, None, None] for values in (spec.mean, spec.std))
    device, weight = next(network.parameters()).device, network.classifier_weight
    found = []
    seen = np.concatenate(
        [
            mine[np.linspace(0, len(mine) - 1, min(ROWS_OF, len(mine))).astype(int)]
            for mine in (np.flatnonzero(split.people == person) for person in range(len(weight)))
        ]
    )
    for start in range(0, len(seen), 256):
        rows = seen[start : start + 256]
        pixels = torch.from_numpy(split.images[rows]).permute(0, 3, 1, 2).float()
        views = torch.from_numpy(split.views[rows]).to(device)
        found.append(network(((pixels - mean) / std).to(device), views).float())
    embeddings, people = torch.cat(found), torch.from_numpy(split.people[seen]).to(device)
    sums = torch.zeros_like(weight).index_add_(0, people, embeddings)
    means = F.normalize(sums, dim=1)
    right = (embeddings * means[people]).sum(1).mean()
    weight.copy_(means * (RIGHT_LOGIT / right))


def check_strangers(source: checkpoint.Checkpoint, held_out: Iterable[str], what: str) -> None:
    """Refuse a checkpoint that has seen who is to choose among the new ones.

    Converted weights were never fitted on people of ours, unless the authors of a method fitted
    them on the same data set: nobody can tell from the file, so that is said.

    Args:
        source: to start or to learn from.
        held_out: people, named as `joined` names them.
        what: the checkpoint is called in messages.

    Raises:
        InputError: when some of `held_out` were fitted.
    """
    if source.config.get("converted_from") == "authors":
        log.warning(
            "%s was fitted by a method's authors: on their data set's training split the held-out "
            "people were seen before, and choose a checkpoint less well",
            what,
        )
    if "unfolded_from" in source.config and set(held_out):
        log.warning(
            "%s was made of a bundle, which does not say whom it was fitted on: if the held-out "
            "people are among them, they choose a checkpoint less well",
            what,
        )
    if "fitted" not in source.config:
        raise InputError(f"{what} does not say whom it was fitted on; train it anew")
    if seen := sorted(set(held_out) & set(source.config["fitted"])):
        raise InputError(
            f"{what} was fitted on {len(seen)} of the people who are held out now "
            f"({', '.join(seen[:3])}{', ...' if seen[3:] else ''}): take the run.seed, "
            "run.held_out_people and --data that it was fitted with, or another checkpoint"
        )


def _architecture(config: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the entries of a state_dict, by name; not the people and the grid of patches."""
    trunk = _trunk(config)
    free = {"drop_path", "height", "width"}
    if trunk.stem == "patch":  # of a conv stem the stride decides how many stages it has
        free.add("stride")
    told = trunk.model_dump(mode="json", exclude=free)
    return {"method": config["method"], **{f"trunk.{key}": told[key] for key in told}}


def _trunk(config: Mapping[str, Any]) -> TrunkConfig:
    return check(TrunkConfig, config["trunk"], "model.trunk")
