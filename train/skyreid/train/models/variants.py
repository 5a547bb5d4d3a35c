"""The variants by name, each a plain dict, and how one becomes a module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skyreid.contract.errors import InputError, SettingsError
from skyreid.contract.settings import check
from skyreid.train.models.clip_reid import ClipReid, ClipReidOptions
from skyreid.train.models.dtst import Dtst, DtstOptions
from skyreid.train.models.gsalign import Gsalign, GsalignOptions
from skyreid.train.models.losses import LossOptions
from skyreid.train.models.method import Method
from skyreid.train.models.secap import Secap, SecapOptions
from skyreid.train.models.vdt import Vdt
from skyreid.train.models.visa import Visa, VisaOptions
from skyreid.train.models.vit import TrunkConfig, Vit
from skyreid.train.options import Options

WIDTHS: dict[str, dict[str, int]] = {
    "base": dict(dim=768, depth=12, heads=12),  # ImageNet's ViT-B/16
    "small": dict(dim=384, depth=12, heads=6),
    "tiny": dict(dim=192, depth=12, heads=3),
}

# Of each method what its authors chose for the trunk; a recipe may choose otherwise.
METHODS: dict[str, dict[str, Any]] = {
    "vit": dict(stride=16),
    "vdt": dict(stride=16),
    "visa": dict(stride=12),
    "secap": dict(stride=12),
    "gsalign": dict(stride=16),
    "dtst": dict(stride=16),
    "clip-reid": dict(stride=16, drop_path=0.0),
}


def names() -> list[str]:
    """Every variant: `{method}-{width}`."""
    return [f"{method}-{width}" for method in METHODS for width in WIDTHS]


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
            **WIDTHS[size],
            **METHODS[method],
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
        SettingsError: naming the fields of trunk and options that are unknown or out of range.
        InputError: when the method is unknown.
    """
    people = int(config["people"])
    trunk = check(TrunkConfig, config["trunk"], "model.trunk")
    given, where = config.get("options", {}), f"model.options of {config['method']}"
    match config["method"]:
        case "vit":
            check(Options, given, where)  # none
            return Vit(trunk, people=people, loss=loss)
        case "vdt":
            check(Options, given, where)
            return Vdt(trunk, people=people, loss=loss)
        case "visa":
            return Visa(trunk, check(VisaOptions, given, where), people=people, loss=loss)
        case "secap":
            return Secap(trunk, people=people, options=check(SecapOptions, given, where), loss=loss)
        case "gsalign":
            return Gsalign(
                trunk, people=people, options=check(GsalignOptions, given, where), loss=loss
            )
        case "dtst":
            return Dtst(trunk, people=people, options=check(DtstOptions, given, where), loss=loss)
        case "clip-reid":
            return ClipReid(
                trunk, people=people, options=check(ClipReidOptions, given, where), loss=loss
            )
    raise InputError(f"unknown method {config['method']!r}; known: {', '.join(METHODS)}")
