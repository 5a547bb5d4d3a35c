"""The variants by name, each a plain dict, and how one becomes a module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from skyreid.contract.errors import SettingsError
from skyreid.contract.settings import check
from skyreid.train.models.losses import LossOptions
from skyreid.train.models.method import Method
from skyreid.train.models.registry import method_of, methods
from skyreid.train.models.vit import TrunkConfig

WIDTHS: dict[str, dict[str, int]] = {
    "base": dict(dim=768, depth=12, heads=12),  # ImageNet's ViT-B/16
    "small": dict(dim=384, depth=12, heads=6),
    "tiny": dict(dim=192, depth=12, heads=3),
}


def names() -> list[str]:
    """Every variant: `{method}-{width}`."""
    return [f"{method}-{width}" for method in methods() for width in WIDTHS]


def variant(
    name: str,
    *,
    height: int,
    width: int,
    people: int,
    trunk: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The complete, JSON-able configuration of a variant, as a checkpoint keeps it.

    Args:
        name: one of `names()`.
        height: of the input, pixels.
        width: of the input, pixels.
        people: classes of the training set.
        trunk: fields of `TrunkConfig` that differ from the variant's.
        options: fields of the method's own options that differ from the published ones.

    Raises:
        SettingsError: when the name is unknown.
    """
    if name not in names():
        raise SettingsError(f"unknown model {name!r}; known: {', '.join(names())}")
    method, size = name.rsplit("-", 1)
    return {
        "variant": name,
        "method": method,
        "trunk": {
            "stride": 16,  # a patch's own size, where the authors chose none that overlaps
            **WIDTHS[size],
            **method_of(method).declaration.trunk,
            **(trunk or {}),
            "height": height,
            "width": width,
        },
        "options": dict(options or {}),
        "people": people,
    }


def construct(config: Mapping[str, Any], loss: LossOptions | None = None) -> Method:
    """A freshly initialised network for `variant(...)`'s configuration.

    Args:
        config: of `variant` or of a checkpoint.
        loss: options of the loss, for training.

    Raises:
        SettingsError: when the method is unknown, or naming the fields of trunk and options that
            are unknown or out of range.
    """
    method = method_of(config["method"])
    trunk = check(TrunkConfig, config["trunk"], "model.trunk")
    given, where = config.get("options", {}), f"model.options of {config['method']}"
    options = check(method.declaration.options, given, where)
    return method(trunk, people=int(config["people"]), options=options, loss=loss)


def per_person(config: Mapping[str, Any]) -> frozenset[str]:
    """The entries of a network's state_dict that grow with the people of the training set."""
    with torch.device("meta"):  # shapes without numbers: no time, no memory, nothing drawn
        one, two = (construct({**config, "people": n}).state_dict() for n in (1, 2))
    return frozenset(key for key in one if one[key].shape != two[key].shape)
