"""A bundle's engine on this device, detector and embedder alike: from the cache, or built; run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skyreid.bundle.archive import Bundle
from skyreid.bundle.cuda import NO_GPU, Driver, PycudaDriver, this_device
from skyreid.bundle.engine import (
    DLA_REFUSED,
    Api,
    EngineError,
    Profile,
    Say,
    build,
    load_api,
)
from skyreid.bundle.engine_cache import Engine, EngineKey, discard, ensure
from skyreid.bundle.manifest import NumericFormat
from skyreid.bundle.trt_runner import TensorRtRunner
from skyreid.contract.errors import InputError, PlatformError


@dataclass(frozen=True)
class Machine:
    """What builds engines and what runs them."""

    api: Api
    trt: Any
    """The module ``tensorrt`` or ``tensorrt_rtx``."""
    device: str
    """Of the engine's key: ``sm87-orin``."""
    open_driver: Callable[[], Driver]


def find_machine() -> Machine:
    """This machine's TensorRT and GPU.

    Raises:
        PlatformError: it lacks one of them, or pycuda.
    """
    api, trt = load_api()
    device = this_device()
    if device == NO_GPU:
        PycudaDriver().close()  # says what is missing
        raise PlatformError("no CUDA device")
    return Machine(api, trt, device, PycudaDriver)


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
    model = bundle.engine_model(numeric_format)
    name = f"{bundle.manifest.name}/{numeric_format}"
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
        lambda timings: build(model, profile, trt=trt, name=name, timing_cache=timings, say=say),
        say=lambda why: None if say is None else say(f"engine of {name}: {why}"),
    )


def start_engine(
    bundle: Bundle,
    numeric_format: NumericFormat,
    profile: Profile,
    cache: Path,
    machine: Machine,
    *,
    graphs: bool = True,
    say: Say,
) -> TensorRtRunner:
    """A runner of the bundle's engine, which is built first where the cache has none that fits.

    A cached plan that TensorRT refuses all the same (after a change of driver, say) is built again,
    once.

    Raises:
        InputError: the cache cannot be used.
        BundleError: the bundle has no such format, or TensorRT cannot read it.
        EngineError: TensorRT builds nothing, or refuses what it has just built.
    """
    name = f"{bundle.manifest.name}/{numeric_format}"

    def ready() -> Engine:
        return compile_bundle(
            bundle,
            numeric_format,
            profile,
            cache,
            api=machine.api,
            trt=machine.trt,
            device=machine.device,
            say=say,
        )

    def load(engine: Engine) -> TensorRtRunner:
        driver = machine.open_driver()
        return TensorRtRunner(
            engine.plan,
            name=name,
            trt=machine.trt,
            driver=driver,
            device=machine.device,
            graphs=graphs,
            say=say,
        )

    engine = ready()
    try:
        return load(engine)
    except EngineError as error:
        if engine.rebuilt_because:
            raise
        say(f"the cached engine of {name} is not usable: {error}")
    discard(engine)
    return load(ready())
