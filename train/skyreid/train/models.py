"""The variants by name, each a plain dict, and how one becomes a module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skyreid.contract.errors import InputError, SettingsError
from skyreid.train.vdt import Vdt, VdtLoss
from skyreid.train.vit import TrunkConfig, Vit

_BASE: dict[str, Any] = dict(stem="patch", patch=16, stride=16, dim=768, depth=12, heads=12)
_TINY: dict[str, Any] = dict(stem="conv", stride=16, dim=192, depth=4, heads=3, drop_path=0.0)

MODELS: dict[str, dict[str, Any]] = {
    "vit-base": dict(method="vit", trunk=_BASE),  # ImageNet's ViT-B/16
    "vit-tiny": dict(method="vit", trunk=_TINY),
    "vdt-base": dict(method="vdt", trunk=_BASE),  # as published
    "vdt-tiny": dict(method="vdt", trunk=_TINY),  # the width of DeiT-Ti
}

Method = Vit | Vdt


def variant(name: str, *, height: int, width: int, people: int) -> dict[str, Any]:
    """The complete, JSON-able configuration of a variant, as a checkpoint keeps it.

    Args:
        name: a key of MODELS.
        height: of the input, pixels.
        width: of the input, pixels.
        people: classes of the training set.

    Raises:
        SettingsError: when the name is unknown.
    """
    if name not in MODELS:
        raise SettingsError(f"unknown model {name!r}; known: {', '.join(sorted(MODELS))}")
    entry = MODELS[name]
    trunk = {**entry["trunk"], "height": height, "width": width}
    return {"variant": name, "method": entry["method"], "trunk": trunk, "people": people}


def construct(config: Mapping[str, Any], loss: VdtLoss | None = None) -> Method:
    """A freshly initialised network for `variant(...)`'s configuration.

    Args:
        config: of `variant` or of a checkpoint.
        loss: options of the loss, for training; the plain ViT knows label smoothing only.

    Raises:
        InputError: when the method is unknown.
    """
    trunk = TrunkConfig(**config["trunk"])
    people = int(config["people"])
    match config["method"]:
        case "vit":
            smoothing = loss.label_smoothing if loss else 0.0
            return Vit(trunk, people=people, label_smoothing=smoothing)
        case "vdt":
            return Vdt(trunk, people=people, loss=loss)
    raise InputError(f"unknown method {config['method']!r} in a checkpoint; known: vit, vdt")
