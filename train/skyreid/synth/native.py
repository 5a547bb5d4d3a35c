"""Machine code by numba, with one set of options for all, and no threads but our own processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import cv2
import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """`numba.njit` with its machine code cached beside the module.

    Results may differ in the last bit between types of processor (`fastmath`).
    """
    return cast(Function, numba.njit(cache=True, fastmath=True)(function))


@contextmanager
def one_thread() -> Iterator[None]:
    """Draw without OpenCV's pool of threads; also a decorator.

    A rendering is spread over processes, and equal options give equal bytes: the encoder has one
    thread, compiled functions have one, and so nothing here depends on who runs when.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
