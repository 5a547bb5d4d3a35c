"""The engine of a bundle for this machine, as a device builds it at its first start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from skyreid.bundle.archive import open_bundle
from skyreid.bundle.compiled import compile_bundle
from skyreid.bundle.cuda import this_device
from skyreid.bundle.engine import load_api, profile_of
from skyreid.bundle.manifest import NumericFormat
from skyreid.bundle.runner import GPU_FORMAT_ORDER, preferred
from skyreid.bundle.signature import ANYONE, Trust


def compile_here(
    path: Path,
    cache: Path,
    *,
    numeric_format: NumericFormat | None,
    batch: int | None,
    height: int | None,
    width: int | None,
    dla: bool,
    trust: Trust = ANYONE,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Build an engine, or find it in the cache.

    Args:
        path: of the bundle.
        cache: directory of the engines.
        numeric_format: None = the one a device would run.
        batch: see `profile_of`, as `height` and `width`.
        height: pixels.
        width: pixels.
        dla: refused, with the reason.
        trust: whose bundles are accepted.
        say: receives a line per stage.

    Returns:
        JSON-ready: ``engine`` (its path), ``bytes``, ``api``, ``version``, ``device``, ``profile``
        and ``rebuilt_because`` (empty where it was in the cache).

    Raises:
        SkyreidError: what opening the bundle and `compile_bundle` raise.
    """
    bundle = open_bundle(path, trust)
    name, trt = load_api()
    device = this_device()
    say(f"{name} {trt.__version__} on {device}")
    profile = profile_of(bundle.manifest, batch=batch, height=height, width=width)
    engine = compile_bundle(
        bundle,
        numeric_format or preferred(bundle, GPU_FORMAT_ORDER),
        profile,
        cache,
        api=name,
        trt=trt,
        device=device,
        dla=dla,
        say=say,
    )
    return {
        "engine": str(engine.path),
        "bytes": len(engine.plan),
        "api": name,
        "version": str(trt.__version__),
        "device": device,
        "profile": profile.text(),
        "rebuilt_because": engine.rebuilt_because,
    }
