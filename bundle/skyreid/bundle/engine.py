"""ONNX to a TensorRT plan, by one path for TensorRT 10.3 to 11.x and TensorRT-RTX.

The numeric format lives in the ONNX and the network is built strongly typed: the format flags and
calibrators of older TensorRT are gone in 11. A plan fits the TensorRT and the GPU that built it and
no other, hence bundles carry ONNX and every device builds for itself.
"""

from __future__ import annotations

import importlib
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from skyreid.bundle.manifest import Manifest
from skyreid.contract.errors import BundleError, InputError, PlatformError, SkyreidError

Shape = tuple[int, int, int, int]
Api = Literal["tensorrt", "tensorrt_rtx"]
Say = Callable[[str], None]

WORKSPACE_MIB = 1024
"""Scratch memory that the builder may use; small enough for a board of 8 GB."""

FRAME_MAX = (1088, 1920)
"""Height and width of the largest picture that a detector sees, unless it is said: Full HD, filled
up to a multiple of 16."""

DLA_REFUSED = (
    "DLA is refused: its layer set has no LayerNorm, no softmax over tokens and no product of two "
    "activations, so that a transformer would run piecewise on the GPU anyway, and slower"
)


class EngineError(SkyreidError):
    """TensorRT refused; the message carries what it logged."""


@dataclass(frozen=True)
class Profile:
    """Shapes [N, H, W, 3] that an engine accepts, and the one it is tuned for."""

    minimum: Shape
    optimum: Shape
    maximum: Shape

    def __post_init__(self) -> None:
        for low, best, high in zip(self.minimum, self.optimum, self.maximum, strict=True):
            if not 1 <= low <= best <= high:
                raise InputError(
                    f"profile {self.text()}: every axis needs 1 <= minimum <= optimum <= maximum"
                )

    def text(self) -> str:
        """``1x8x4x3:8x8x4x3:32x8x4x3``."""
        shapes = (self.minimum, self.optimum, self.maximum)
        return ":".join("x".join(map(str, shape)) for shape in shapes)


@dataclass(frozen=True)
class Built:
    """A plan, and what a later build of the same device can start from."""

    plan: bytes
    timing_cache: bytes
    """Empty where this TensorRT offers none."""
    layers: int


@dataclass
class Log:
    """What TensorRT said at warning level and above, oldest first."""

    lines: deque[str] = field(default_factory=lambda: deque(maxlen=8))
    """The last ones: a runner lives for months."""

    def text(self) -> str:
        """The lines, joined; says so where there are none."""
        return " | ".join(self.lines) or "TensorRT logged nothing"


def load_api() -> tuple[Api, Any]:
    """TensorRT where it is installed, else TensorRT-RTX: the name and the module.

    Raises:
        PlatformError: neither imports.
    """
    why: list[str] = []
    names: tuple[Api, ...] = ("tensorrt", "tensorrt_rtx")
    for name in names:
        try:
            return name, importlib.import_module(name)
        except (ImportError, OSError) as error:
            why.append(f"{name}: {error}")
    raise PlatformError(
        "no TensorRT: on a Jetson it comes with JetPack (apt install python3-libnvinfer; make the "
        f"environment with --system-site-packages); {'; '.join(why)}"
    )


def profile_of(
    manifest: Manifest,
    *,
    batch: int | None = None,
    height: int | None = None,
    width: int | None = None,
) -> Profile:
    """The profile of a bundle: one rule, so that what `compile` made is what `run` looks for.

    An embedder takes 1 to `batch` pictures of its own size and is tuned for a quarter of them. A
    detector takes one picture, of its own size or, where it has none, of any from four times its
    alignment up to the one named, for which it is tuned.

    Args:
        manifest: of the bundle.
        batch: largest number of pictures of one call; the manifest's, and 1 for a detector.
        height: of the largest picture that a detector sees, pixels; `FRAME_MAX`. A network with a
            size of its own takes no other.
        width: as `height`.

    Raises:
        InputError: another size than the network's own, or one that is not a multiple of a
            detector's alignment.
    """
    spec = manifest.input
    usual = 1 if manifest.kind == "detector" else manifest.batch_max
    most = usual if batch is None else batch
    if spec.height and spec.width:
        if (height or spec.height, width or spec.width) != (spec.height, spec.width):
            raise InputError(
                f"{manifest.name} takes {spec.height} x {spec.width}, not {height} x {width}"
            )
        size = spec.height, spec.width, 3
        return Profile((1, *size), (max(1, most // 4), *size), (most, *size))
    height, width = height or FRAME_MAX[0], width or FRAME_MAX[1]
    align = manifest.detector.align if manifest.detector else 1
    if height % align or width % align:
        raise InputError(f"{height} x {width}: {manifest.name} needs multiples of {align}")
    least = manifest.detector.least_side_px if manifest.detector else 4 * align
    return Profile((1, least, least, 3), (most, height, width, 3), (most, height, width, 3))


def make_logger(trt: Any, log: Log) -> Any:
    """A TensorRT logger that appends to `log`; its owner must keep it alive."""

    class Collect(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # the binding refuses super() without its own constructor

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= int(trt.ILogger.Severity.WARNING):
                log.lines.append(" ".join(message.split()))

    return Collect()


def build(
    model: bytes,
    profile: Profile,
    *,
    trt: Any,
    name: str,
    workspace_mib: int = WORKSPACE_MIB,
    timing_cache: bytes = b"",
    say: Say | None = None,
) -> Built:
    """Parse an ONNX model and build its plan.

    Args:
        model: serialised ONNX with one uint8 NHWC input.
        profile: the shapes it is to accept.
        trt: the module ``tensorrt`` (10.3 or newer) or ``tensorrt_rtx``.
        name: what to call the model in messages.
        workspace_mib: scratch memory of the builder.
        timing_cache: of an earlier build on this device; one that does not fit is ignored.
        say: is given a line per phase of the build.

    Raises:
        BundleError: the parser refuses the model, or its input is not as it should be.
        EngineError: the builder gave no plan.
    """
    log = Log()
    logger = make_logger(trt, log)
    builder = trt.Builder(logger)
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # always on in 11
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        found = "; ".join(_parser_error(parser.get_error(i)) for i in range(parser.num_errors))
        raise BundleError(f"TensorRT cannot read model {name}: {found}; log: {log.text()}")
    if network.num_inputs != 1:
        raise BundleError(f"model {name} has {network.num_inputs} inputs, one is expected")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mib << 20)
    shapes = builder.create_optimization_profile()
    shapes.set_shape(network.get_input(0).name, profile.minimum, profile.optimum, profile.maximum)
    if config.add_optimization_profile(shapes) < 0:
        raise BundleError(f"model {name} refuses profile {profile.text()}; log: {log.text()}")
    timings = _offer_timings(config, timing_cache)
    monitor = None if say is None else _monitor(trt, say)
    if monitor is not None:
        config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(
            f"TensorRT {trt.__version__} built no engine of model {name} for profile "
            f"{profile.text()}; log: {log.text()}"
        )
    return Built(bytes(plan), _taken_timings(config, timings), int(network.num_layers))


def _parser_error(error: Any) -> str:
    return f"{error.desc()} (node {error.node_name()}, operator {error.node_operator()})"


def _offer_timings(config: Any, blob: bytes) -> Any:
    """Attach a timing cache; a blob of another version or device is replaced by an empty one."""
    with _deprecations_unraised():
        cache = config.create_timing_cache(blob)
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            cache = config.create_timing_cache(b"")
            if cache is not None:
                config.set_timing_cache(cache, ignore_mismatch=False)
        return cache


def _taken_timings(config: Any, offered: Any) -> bytes:
    with _deprecations_unraised():
        cache = config.get_timing_cache() or offered
        return b"" if cache is None else bytes(cache.serialize())


@contextmanager
def _deprecations_unraised() -> Iterator[None]:
    """Where warnings are errors, those of the timing cache stay warnings that nobody sees.

    TensorRT-RTX deprecates its timing cache from within C++ and returns a value all the same. When
    the warning has become an exception by then, Python finds a result and an exception at once and
    raises SystemError: the call can be neither caught nor used.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _monitor(trt: Any, say: Say) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Tells the outermost phases by quarters; a build on a board takes minutes."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            if parent is None:
                self.steps[name] = steps
                say(f"{name}: {steps} steps")

        def step_complete(self, name: str, step: int) -> bool:
            quarter = self.steps.get(name, 0) / 4
            if quarter >= 1 and int((step + 1) / quarter) > int(step / quarter):
                say(f"{name}: {100 * (step + 1) / (4 * quarter):.0f} %")
            return True  # False would abort the build

        def phase_finish(self, name: str) -> None:
            self.steps.pop(name, None)

    return Monitor()
