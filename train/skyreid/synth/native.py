"""Compile a Python function to machine code with numba, with one set of options for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """`numba.njit` with its machine code cached beside the module.

    Results may differ in the last bit between types of processor (`fastmath`).
    """
    return cast(Function, numba.njit(cache=True, fastmath=True)(function))
