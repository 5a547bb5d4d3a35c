"""The registry of methods: each enters itself beside its class, and nothing else lists them.

A file in this folder whose class says `@register(...)` is a method: recipes, checkpoints,
conversion, parity, distillation and export find it by its name and read here what else they must
know of it.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any, TypeVar

from torch import Tensor

from skyreid.contract.errors import SettingsError
from skyreid.train import models
from skyreid.train.models.method import Declaration, Method, Pretrained
from skyreid.train.options import Options

AnyMethod = TypeVar("AnyMethod", bound=Method)


def _decide_nothing(state: Mapping[str, Tensor]) -> dict[str, Any]:
    return {}


_METHODS: dict[str, type[Method]] = {}
_NOTHING: Mapping[Any, Any] = {}


def register(
    name: str,
    *,
    trunk: Mapping[str, Any] = _NOTHING,
    options: type[Options] = Options,
    form: tuple[str, ...] = (),
    pretrained: Mapping[Pretrained, str] = _NOTHING,
    copies: Mapping[str, str] = _NOTHING,
    marks: tuple[str, ...] = (),
    computed: tuple[str, ...] = (),
    unread: tuple[str, ...] = (),
    superseded: Mapping[str, str] = _NOTHING,
    sizes: Callable[[Mapping[str, Tensor]], dict[str, Any]] = _decide_nothing,
    fixture: str | None = None,
) -> Callable[[type[AnyMethod]], type[AnyMethod]]:
    """Declare a method where its class stands; see `Declaration`.

    The class is made as `cls(trunk, people=..., options=..., loss=...)`.
    """
    declared = Declaration(
        name, trunk, options, form, pretrained, copies, marks, computed, unread, superseded, sizes,
        fixture,
    )  # fmt: skip

    def enter(method: type[AnyMethod]) -> type[AnyMethod]:
        assert name not in _METHODS, f"two methods are called {name}"
        method.declaration = declared
        _METHODS[name] = method
        return method

    return enter


def methods() -> dict[str, type[Method]]:
    """Every method by its name, in alphabetical order."""
    _import_all()
    return dict(sorted(_METHODS.items()))


def method_of(name: str) -> type[Method]:
    """The method of that name.

    Raises:
        SettingsError: when there is none.
    """
    known = methods()
    if name not in known:
        raise SettingsError(f"unknown method {name!r}; known: {', '.join(known)}")
    return known[name]


@cache
def _import_all() -> None:
    """Let every file of this folder register what it has."""
    for module in pkgutil.iter_modules(models.__path__):
        import_module(f"{models.__name__}.{module.name}")
