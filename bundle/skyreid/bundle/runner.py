"""Runners: what executes a bundle's model, ONNX Runtime here and TensorRT by `trt_runner`.

``OnnxRunner`` is ONNX Runtime on the CPU: it works on any machine and is the reference that other
runners are held against. `start` chooses between it and a compiled engine (trt_runner.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from skyreid.bundle import limit, processor
from skyreid.bundle.archive import Bundle
from skyreid.bundle.manifest import NumericFormat
from skyreid.contract.errors import BundleError, GateError, InputError, PlatformError

if TYPE_CHECKING:
    from skyreid.bundle.compiled import Machine

log = logging.getLogger(__name__)

FORMAT_ORDER: tuple[NumericFormat, ...] = ("int8", "fp32", "fp16")
"""Which numeric format a CPU prefers: fp16 has no fast kernels there."""

GPU_FORMAT_ORDER: tuple[NumericFormat, ...] = ("fp16", "int8", "fp32")
"""Which one a GPU prefers: int8 gains a vision transformer little over fp16 there, so that whoever
wants it measures first."""

Outputs = dict[str, NDArray[np.float32]]

RunnerKind = Literal["auto", "onnx", "tensorrt"]


@dataclass(frozen=True)
class Execution:
    """Where models run, for `start`."""

    kind: RunnerKind = "onnx"
    """``auto``: a compiled engine where TensorRT, pycuda and a GPU are, else ONNX Runtime."""
    engines: Path | None = None
    """Directory where compiled engines are kept; needed but for ``onnx``."""
    frame_max: tuple[int, int] | None = None
    """Height and width of the largest picture that a detector's engine takes."""
    graphs: bool = True
    """Whether an engine's shapes are captured as CUDA graphs; off to measure what they bring."""
    machine: Machine | None = None
    """None = this one."""


ON_CPU = Execution()
"""ONNX Runtime, what ``export`` and tests want: the reference."""


class Runner(Protocol):
    """Executes one model. Not safe for two threads at once."""

    by: str
    """What executes it, for people."""

    def run(self, pictures: NDArray[np.uint8]) -> Outputs:
        """uint8 [N, H, W, 3] RGB -> float32 outputs by name, first axis N.

        The arrays returned belong to the caller.
        """
        ...

    def cut(self) -> None:
        """Ask a call that another thread is in to end, for good: no call comes afterwards."""
        ...

    def close(self) -> None:
        """Free what the runner holds; it cannot be used afterwards."""
        ...

    def __enter__(self) -> Runner: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


SPOIL_INT8 = ("MatMulAddFusion", "CommonSubexpressionElimination")
"""Optimisations of ONNX Runtime behind which it finds no int8 kernels."""


VNNI = frozenset({"avx512_vnni", "avx_vnni"})
"""Instruction sets of x86 that add products of bytes up in 32 bits; either will do."""

EXACT_WITHOUT_VNNI = "session.x64quantprecision"
"""ONNX Runtime's option that makes signed bytes unsigned."""


class OnnxRunner:
    """Runs a model of a bundle with ONNX Runtime on the CPU."""

    def __init__(
        self,
        model: bytes,
        *,
        name: str,
        threads: int = 1,
        quantised: bool = False,
        limited: bool = False,
    ) -> None:
        """Load an ONNX model.

        Args:
            model: serialised ONNX with one uint8 NHWC input.
            name: what to call the model in messages.
            threads: threads of one call; calls do not overlap.
            quantised: whether its Linears are int8 between Q and DQ.
            limited: whether loading and every call are cut off where they do not end, until
                `self_test` has passed.

        Raises:
            PlatformError: ONNX Runtime is not installed.
            BundleError: the model does not load, or its input is not uint8 of rank 4.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise PlatformError(
                "onnxruntime is not installed: pip install 'skyreid[edge]'"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A spinning worker burns a core while it waits; frames come in bursts, cores are shared.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Without VNNI, x86 adds up products of unsigned and signed bytes in 16 bits and overflows:
        # embeddings would be others than elsewhere. Both sides unsigned are exact. Where there is
        # VNNI both ways are, and this one a third slower. No effect on Arm.
        if not VNNI & processor.flags():
            options.add_session_config_entry(EXACT_WITHOUT_VNNI, "1")
        self._name, self._threads, self.limited = name, threads, limited
        self._run_options = onnxruntime.RunOptions()

        def load() -> Any:
            return onnxruntime.InferenceSession(
                model,
                options,
                providers=["CPUExecutionProvider"],
                # One joins product and bias, the other the Q and DQ of Linears that read the same,
                # both before int8 kernels are chosen (docs/LOG.md).
                disabled_optimizers=list(SPOIL_INT8) if quantised else [],
            )

        try:
            self._session: Any = self._within(load, "loading", 6 * limit.CPU_S)
        except BundleError:
            raise
        except Exception as error:  # onnxruntime's own tree has no public base class
            raise BundleError(f"model {name} does not load: {error}") from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(uint8)" or len(inputs[0].shape) != 4:
            found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise BundleError(f"model {name}: expected one uint8 NHWC input, it has: {found}")
        self.by = f"ONNX Runtime {onnxruntime.__version__} on the CPU"
        self._input = inputs[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, pictures: NDArray[np.uint8]) -> Outputs:
        """See ``Runner.run``.

        Raises:
            BundleError: the model does not take pictures of that size, or so many, or does not end.
        """
        fed = {self._input: np.ascontiguousarray(pictures)}

        def call() -> Any:
            return self._session.run(self._outputs, fed, self._run_options)

        try:
            values = self._within(
                call, "running", limit.CPU_S + limit.CPU_PER_PICTURE_S * len(pictures)
            )
        except BundleError:
            raise
        except Exception as error:  # as above
            raise BundleError(
                f"model {self._name} does not run on pictures {list(pictures.shape)}: {error}"
            ) from error
        return dict(zip(self._outputs, values, strict=True))

    def _within(self, call: Callable[[], Any], doing: str, core_s: float) -> Any:
        if not self.limited:
            return call()
        what = f"model {self._name}: {doing} it"
        return limit.within(call, what, cpu_s=self._threads * core_s, cut=self.cut)

    def cut(self) -> None:
        """See ``Runner.cut``: it ends after the operator that it is at."""
        self._run_options.terminate = True

    def close(self) -> None:
        """See ``Runner.close``."""
        self._session = None

    def __enter__(self) -> OnnxRunner:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def start(
    bundle: Bundle,
    *,
    threads: int = 1,
    numeric_format: NumericFormat | None = None,
    execution: Execution = ON_CPU,
) -> Runner:
    """Load the bundle's model, embedder or detector, in the format this machine runs best.

    Where an engine is to run it and the cache has none, it is built first, which takes minutes on
    a board; that is logged.

    Args:
        bundle: a verified bundle.
        threads: CPU threads of one call of ONNX Runtime.
        numeric_format: asked for; None = the first of `FORMAT_ORDER` or `GPU_FORMAT_ORDER`.
        execution: where it runs.

    Raises:
        PlatformError: a library or device that was asked for is missing.
        InputError: no directory for engines, or one that cannot be used.
        BundleError: the bundle does not have the format, or the model does not load.
        EngineError: TensorRT cannot build or load the engine: there is no fallback from that.
    """
    machine = _machine(execution, bundle.manifest.name)
    order = FORMAT_ORDER if machine is None else GPU_FORMAT_ORDER
    chosen = numeric_format or preferred(bundle, order)
    if machine is None:
        return OnnxRunner(
            bundle.model(chosen),
            name=f"{bundle.manifest.name}/{chosen}",
            threads=threads,
            quantised=chosen == "int8",
            limited=True,
        )
    from skyreid.bundle.compiled import start_engine
    from skyreid.bundle.engine import profile_of

    if execution.engines is None:
        raise InputError("an engine needs a directory to be kept in: say which")
    height, width = execution.frame_max or (None, None)
    if bundle.manifest.input.height:  # it has a size of its own
        height = width = None
    profile = profile_of(bundle.manifest, height=height, width=width)
    runner = start_engine(
        bundle,
        chosen,
        profile,
        execution.engines,
        machine,
        graphs=execution.graphs,
        say=log.info,
    )
    log.info("%s/%s runs by %s", bundle.manifest.name, chosen, runner.by)
    return runner


def preferred(bundle: Bundle, order: tuple[NumericFormat, ...]) -> NumericFormat:
    """The first numeric format of `order` that the bundle has."""
    return next(name for name in order if name in bundle.manifest.formats)


def _machine(execution: Execution, name: str) -> Machine | None:
    """What runs an engine; None where ONNX Runtime is to run the model."""
    if execution.kind == "onnx":
        return None
    if execution.machine is not None:
        return execution.machine
    from skyreid.bundle.compiled import find_machine

    try:
        return find_machine()
    except PlatformError as error:
        if execution.kind == "tensorrt":
            raise
        log.info("%s runs by ONNX Runtime on the CPU: %s", name, error)
        return None


def _run_all(runner: Runner, pictures: NDArray[np.uint8], batch: int) -> Outputs:
    """Outputs of all pictures uint8 [N, H, W, 3], N > 0, at most `batch` of them at a time."""
    rows = [runner.run(pictures[first : first + batch]) for first in range(0, len(pictures), batch)]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def self_test(bundle: Bundle, runner: Runner, *, min_cosine: float = 0.99) -> Mapping[str, float]:
    """Run the golden pictures and compare with the recorded outputs.

    Returns:
        Lowest cosine per output over the golden pictures, each flattened.

    Raises:
        GateError: an output is missing, has another shape or falls below ``min_cosine``.
    """
    pictures, expected = bundle.golden()
    found = _run_all(runner, pictures, bundle.manifest.batch_max)
    worst: dict[str, float] = {}
    for name, want in expected.items():
        if name not in found or found[name].shape != want.shape:
            shape = list(found[name].shape) if name in found else "absent"
            raise GateError(f"bundle {bundle.path}: output {name} is {shape}, not {want.shape}")
        a = found[name].reshape(len(want), -1).astype(np.float64)
        b = want.reshape(len(want), -1).astype(np.float64)
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosines = (a * b).sum(1) / np.maximum(norms, 1e-12)
        cosines[(a == b).all(1)] = 1  # a picture without anybody: nothing but zeros on both sides
        worst[name] = float(cosines.min())
        if not worst[name] >= min_cosine:
            raise GateError(
                f"bundle {bundle.path}: self-test of {name}: cosine {worst[name]:.4f} to the "
                f"golden output, at least {min_cosine} is needed; this machine computes wrongly, "
                "or the numeric format loses too much"
            )
    if isinstance(runner, OnnxRunner):
        runner.limited = False  # it has proved that it ends
    return worst


def self_test_all(bundle: Bundle) -> None:
    """`self_test` of every numeric format on this CPU.

    Raises:
        GateError: as `self_test`.
    """
    for numeric_format in bundle.manifest.formats:
        with start(bundle, numeric_format=numeric_format) as runner:
            self_test(bundle, runner)
