"""A bundle's engine on this device, detector and embedder alike: from the cache, or built."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from skyreid.bundle.archive import Bundle
from skyreid.bundle.engine import DLA_REFUSED, Api, Profile, Say, build
from skyreid.bundle.engine_cache import Engine, EngineKey, ensure
from skyreid.bundle.manifest import NumericFormat
from skyreid.contract.errors import InputError

NO_GPU = "no-gpu"


def this_device() -> str:
    """``sm87`` and the like, as pycuda reads it; `NO_GPU` without pycuda or a driver."""
    try:
        import pycuda.driver as cuda
    except (ImportError, OSError):
        return NO_GPU
    try:
        cuda.init()
        major, minor = cuda.Device(0).compute_capability()
    except cuda.Error:
        return NO_GPU
    return f"sm{major}{minor}"


def compile_bundle(
    bundle: Bundle,
    numeric_format: NumericFormat,
    profile: Profile,
    cache: Path,
    *,
    api: Api,
    trt: Any,
    device: str,
    dla: bool = False,
    say: Say | None = None,
) -> Engine:
    """The engine of one numeric format of a verified bundle.

    Raises:
        InputError: the cache cannot be used, or `dla` is asked for.
        BundleError: the bundle has no such format, or TensorRT cannot read it.
        EngineError: TensorRT built nothing.
    """
    if dla:  # also where an engine without it is cached
        raise InputError(DLA_REFUSED)
    model = bundle.model(numeric_format)
    key = EngineKey(
        api=api,
        version=str(trt.__version__),
        device=device,
        onnx_sha256=hashlib.sha256(model).hexdigest(),
        numeric_format=numeric_format,
        profile=profile.text(),
    )
    return ensure(
        cache,
        key,
        lambda timings: build(
            model,
            profile,
            trt=trt,
            name=f"{bundle.manifest.name}/{numeric_format}",
            timing_cache=timings,
            say=say,
        ),
    )
