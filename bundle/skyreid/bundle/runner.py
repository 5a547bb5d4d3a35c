"""Runners: what executes a bundle's model.

``OnnxRunner`` is ONNX Runtime on the CPU: it works on any machine and is the reference that other
runners are held against.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skyreid.bundle.archive import Bundle
from skyreid.bundle.manifest import NumericFormat
from skyreid.contract.errors import BundleError, GateError, PlatformError

FORMAT_ORDER: tuple[NumericFormat, ...] = ("int8", "fp32", "fp16")
"""Which numeric format a CPU prefers: fp16 has no fast kernels there."""

Outputs = dict[str, NDArray[np.float32]]


class Runner(Protocol):
    """Executes one model. Not safe for two threads at once."""

    def run(self, pictures: NDArray[np.uint8]) -> Outputs:
        """uint8 [N, H, W, 3] RGB -> float32 outputs by name, first axis N.

        The arrays returned belong to the caller.
        """
        ...

    def close(self) -> None:
        """Free what the runner holds; it cannot be used afterwards."""
        ...


class OnnxRunner:
    """Runs a model of a bundle with ONNX Runtime on the CPU."""

    def __init__(
        self, model: bytes, *, name: str, threads: int = 1, quantised: bool = False
    ) -> None:
        """Load an ONNX model.

        Args:
            model: serialised ONNX with one uint8 NHWC input.
            name: what to call the model in messages.
            threads: threads of one call; calls do not overlap.
            quantised: whether its Linears are int8 between Q and DQ.

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
        try:
            self._session: Any = onnxruntime.InferenceSession(
                model,
                options,
                providers=["CPUExecutionProvider"],
                # It would join product and bias before the int8 kernel is chosen, which then is not
                # found: four times slower than fp32 (docs/LOG.md).
                disabled_optimizers=["MatMulAddFusion"] if quantised else [],
            )
        except Exception as error:  # onnxruntime's own tree has no public base class
            raise BundleError(f"model {name} does not load: {error}") from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(uint8)" or len(inputs[0].shape) != 4:
            found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
            raise BundleError(f"model {name}: expected one uint8 NHWC input, it has: {found}")
        self._input = inputs[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, pictures: NDArray[np.uint8]) -> Outputs:
        """See ``Runner.run``."""
        values = self._session.run(self._outputs, {self._input: np.ascontiguousarray(pictures)})
        return dict(zip(self._outputs, values, strict=True))

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
    bundle: Bundle, *, threads: int = 1, numeric_format: NumericFormat | None = None
) -> OnnxRunner:
    """Load the bundle's model: the format asked for, else the one this machine runs best."""
    preferred = [f for f in FORMAT_ORDER if f in bundle.manifest.formats]
    chosen = numeric_format or preferred[0]
    return OnnxRunner(
        bundle.model(chosen),
        name=f"{bundle.manifest.name}/{chosen}",
        threads=threads,
        quantised=chosen == "int8",
    )


def self_test(bundle: Bundle, runner: Runner, *, min_cosine: float = 0.99) -> Mapping[str, float]:
    """Run the golden pictures and compare with the recorded outputs.

    Returns:
        Lowest cosine per output over the golden pictures, each flattened.

    Raises:
        GateError: an output is missing, has another shape or falls below ``min_cosine``.
    """
    pictures, expected = bundle.golden()
    found = runner.run(pictures)
    worst: dict[str, float] = {}
    for name, want in expected.items():
        if name not in found or found[name].shape != want.shape:
            shape = list(found[name].shape) if name in found else "absent"
            raise GateError(f"bundle {bundle.path}: output {name} is {shape}, not {want.shape}")
        a = found[name].reshape(len(want), -1).astype(np.float64)
        b = want.reshape(len(want), -1).astype(np.float64)
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        worst[name] = float(((a * b).sum(1) / np.maximum(norms, 1e-12)).min())
        if not worst[name] >= min_cosine:
            raise GateError(
                f"bundle {bundle.path}: self-test of {name}: cosine {worst[name]:.4f} to the "
                f"golden output, at least {min_cosine} is needed; this machine computes wrongly "
                "or the runner is broken"
            )
    return worst
