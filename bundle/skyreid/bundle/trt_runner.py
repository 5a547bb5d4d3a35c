"""Runs a compiled engine, from TensorRT 10.3 to 11.x and TensorRT-RTX.

A batch is filled up to the next bucket (1, 2, 4, ..., the engine's largest). Each shape that is
met gets an execution context with its own input and output buffers; all of them share one scratch
memory, for they run one after the other. After its first run a shape is captured as a CUDA graph:
copies and kernels then start with one call. One context for each graph is what TensorRT's
developer guide asks for: changing a context's shape would spoil the graph made from it.
"""

from __future__ import annotations

import atexit
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyreid.bundle.cuda import Buffer, CudaError, Driver
from skyreid.bundle.engine import EngineError, Log, Say, make_logger
from skyreid.contract.errors import BundleError, InputError

Outputs = dict[str, NDArray[np.float32]]
Shape = tuple[int, ...]

SHAPES_MAX = 16
"""Shapes that are kept ready; beyond it the one that was used longest ago is dropped."""


def buckets(largest: int) -> tuple[int, ...]:
    """Batches that are run: powers of two below `largest`, and it."""
    powers = (1 << k for k in range(largest.bit_length()))
    return (*(p for p in powers if p < largest), largest)


@dataclass(eq=False)
class _Ready:
    """A shape that can be run."""

    context: Any
    input: Buffer
    outputs: dict[str, tuple[Buffer, Shape]]
    graph: int | None = None
    """None before the first run, and where graphs cannot be had."""

    def buffers(self) -> list[Buffer]:
        return [self.input, *(buffer for buffer, _ in self.outputs.values())]


class TensorRtRunner:
    """Runs one engine on one device. Not safe for two threads at once."""

    def __init__(
        self,
        plan: bytes,
        *,
        name: str,
        trt: Any,
        driver: Driver,
        device: str = "a GPU",
        graphs: bool = True,
        say: Say | None = None,
    ) -> None:
        """Load a plan.

        Args:
            plan: built by `engine.build`, trusted: see `engine_cache`.
            name: what to call the model in messages.
            trt: the module ``tensorrt`` or ``tensorrt_rtx`` that built the plan.
            driver: of the device that the plan was built on; closed with the runner.
            device: what to call the device in messages.
            graphs: whether shapes are captured as CUDA graphs.
            say: is told once when graphs cannot be had.

        Raises:
            EngineError: TensorRT refuses the plan.
            BundleError: the model's input is not uint8 NHWC, or an output is not float32.
        """
        self.by = f"{trt.__name__} {trt.__version__} on {device}"
        self._name, self._trt, self._driver = name, trt, driver
        self._graphs, self._say = graphs, say
        self._log = Log()
        self._logger = make_logger(trt, self._log)  # TensorRT does not keep it alive
        self._ready: OrderedDict[Shape, _Ready] = OrderedDict()
        self._runtime: Any = None
        self._engine: Any = None
        self._scratch: Buffer | None = None
        atexit.register(self.close)  # what outlives the interpreter is freed without its device
        try:
            with self._using("load the engine"):
                self._load(plan)
        except BaseException:
            self.close()
            raise

    def _load(self, plan: bytes) -> None:
        trt = self._trt
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise self._refused("load the engine")
        engine = self._engine
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        inputs = [n for n in names if engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        self._outputs = [n for n in names if n not in inputs]
        kinds = {n: engine.get_tensor_dtype(n) for n in names}
        rank = len(engine.get_tensor_shape(inputs[0])) if inputs else 0
        if len(inputs) != 1 or kinds[inputs[0]] != trt.DataType.UINT8 or rank != 4:
            found = ", ".join(f"{n} {kinds[n]}" for n in inputs)
            raise BundleError(f"engine {self._name}: expected one uint8 NHWC input, it has {found}")
        for output in self._outputs:
            if kinds[output] != trt.DataType.FLOAT:
                raise BundleError(f"engine {self._name}: output {output} is {kinds[output]}")
        self._input = inputs[0]
        low, _, high = engine.get_tensor_profile_shape(self._input, 0)
        self._low, self._high = tuple(low), tuple(high)
        self._buckets = buckets(self._high[0])
        # One memory for all contexts: they never run at the same time.
        self._scratch = self._driver.scratch(max(int(engine.device_memory_size_v2), 256))

    def run(self, pictures: NDArray[np.uint8]) -> Outputs:
        """See ``Runner.run``.

        Raises:
            InputError: the pictures are not uint8 [N, H, W, 3] of a size the engine was built for.
            EngineError: TensorRT or CUDA refuses; the message carries TensorRT's log.
        """
        if self._engine is None:
            raise EngineError(f"engine {self._name} was closed")
        self._require_fitting(pictures)
        most = self._high[0]
        with self._using("run"):
            parts = [self._part(pictures[i : i + most]) for i in range(0, len(pictures), most)]
            if not parts:
                parts = [self._part(np.zeros((1, *pictures.shape[1:]), np.uint8))]
                parts = [{name: rows[:0] for name, rows in parts[0].items()}]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in self._outputs}

    def cut(self) -> None:
        """See ``Runner.cut``: nothing to do, an engine has no loop that does not end."""

    def close(self) -> None:
        """See ``Runner.close``; a second call does nothing."""
        if self._driver is None:
            return
        atexit.unregister(self.close)
        driver = self._driver
        try:
            with driver.active():
                if self._ready:
                    driver.wait()
                while self._ready:
                    self._drop(self._ready.popitem()[1])
                self._engine = None
                self._runtime = None
                if self._scratch is not None:
                    driver.free(self._scratch)
        finally:
            self._driver = None  # type: ignore[assignment]
            driver.close()

    def __enter__(self) -> TensorRtRunner:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _part(self, pictures: NDArray[np.uint8]) -> Outputs:
        """At most a batch of the largest bucket."""
        count = len(pictures)
        batch = next(b for b in self._buckets if b >= count)
        ready = self._shape((batch, *pictures.shape[1:]))
        held = ready.input.host.reshape(batch, *pictures.shape[1:])
        held[:count] = pictures
        held[count:] = 0  # not the last batch's people
        if ready.graph is not None:
            self._driver.launch(ready.graph)
            self._driver.wait()
        else:
            self._enqueue(ready)
            self._driver.wait()
            if self._graphs:  # only now: the first run settles what depends on the shape
                self._capture(ready)
        return {
            name: buffer.host.view(np.float32).reshape(shape)[:count].copy()
            for name, (buffer, shape) in ready.outputs.items()
        }

    def _shape(self, shape: Shape) -> _Ready:
        ready = self._ready.get(shape)
        if ready is None:
            if len(self._ready) >= SHAPES_MAX:
                self._drop(self._ready.popitem(last=False)[1])
            ready = self._ready[shape] = self._prepare(shape)
        self._ready.move_to_end(shape)
        return ready

    def _prepare(self, shape: Shape) -> _Ready:
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._engine.create_execution_context(strategy)
        if context is None:
            raise self._refused("make an execution context")
        assert self._scratch is not None
        context.set_device_memory(
            self._scratch.address, max(int(self._engine.device_memory_size_v2), 256)
        )
        if not context.set_input_shape(self._input, shape):
            raise self._refused(f"take input {'x'.join(map(str, shape))}")
        if unknown := list(context.infer_shapes()):
            raise self._refused(f"say the shapes of {', '.join(unknown)}")
        made: list[Buffer] = []
        try:
            made.append(self._driver.buffer(int(np.prod(shape))))
            ready = _Ready(context, made[0], {})
            for name in self._outputs:
                size = tuple(int(n) for n in context.get_tensor_shape(name))
                if min(size, default=0) < 1:
                    raise self._refused(f"say the shape of {name}, it says {size}")
                made.append(self._driver.buffer(4 * int(np.prod(size))))
                ready.outputs[name] = made[-1], size
            addresses = {self._input: ready.input, **{n: b for n, (b, _) in ready.outputs.items()}}
            for name, buffer in addresses.items():
                if not context.set_tensor_address(name, buffer.address):
                    raise self._refused(f"take the address of {name}")
        except BaseException:
            for buffer in made:
                self._driver.free(buffer)
            raise
        return ready

    def _enqueue(self, ready: _Ready) -> None:
        self._driver.upload(ready.input)
        if not ready.context.execute_async_v3(self._driver.stream):
            raise self._refused("run")
        for buffer, _ in ready.outputs.values():
            self._driver.download(buffer)

    def _capture(self, ready: _Ready) -> None:
        """Make the shape's graph; where that fails, none is asked for again and that is said."""
        try:
            # TensorRT-RTX says beforehand; TensorRT has no such question and refuses.
            capturable = getattr(ready.context, "is_stream_capturable", None)
            if capturable is not None and not capturable(self._driver.stream):
                raise EngineError("its stream cannot be captured")
            self._driver.begin_capture()
            try:
                self._enqueue(ready)
            except EngineError:
                self._driver.free_graph(self._driver.end_capture())
                raise
            ready.graph = self._driver.end_capture()
        except (EngineError, CudaError, OSError) as error:
            self._graphs = False
            if self._say is not None:
                self._say(f"{self._name} runs without CUDA graphs: {error}")

    def _drop(self, ready: _Ready) -> None:
        if ready.graph is not None:
            self._driver.free_graph(ready.graph)
        ready.context = None  # before the memory that it points to
        for buffer in ready.buffers():
            self._driver.free(buffer)

    def _require_fitting(self, pictures: NDArray[np.uint8]) -> None:
        size = pictures.shape[1:]
        fits = pictures.dtype == np.uint8 and pictures.ndim == 4
        if not fits or any(
            not low <= n <= high
            for n, low, high in zip(size, self._low[1:], self._high[1:], strict=True)
        ):
            raise InputError(
                f"engine {self._name} takes uint8 [N, H, W, 3] from {list(self._low[1:])} to "
                f"{list(self._high[1:])}, not {pictures.dtype} {list(pictures.shape)}"
            )

    @contextmanager
    def _using(self, what: str) -> Iterator[None]:
        """The device is current; what CUDA says is told together with what TensorRT said."""
        with self._driver.active():
            try:
                yield
            except (CudaError, RuntimeError) as error:  # TensorRT's binding raises the latter
                raise EngineError(
                    f"cannot {what} {self._name}: {error}; log: {self._log.text()}"
                ) from error

    def _refused(self, what: str) -> EngineError:
        version = self._trt.__version__
        return EngineError(
            f"TensorRT {version} cannot {what} ({self._name}); log: {self._log.text()}"
        )
