"""A GPU and a TensorRT that are not there: they do what they are told, in order, and keep a record.

`FakeDriver` stands at the border that ``cuda.Driver`` draws. Its stream does nothing before it is
waited for, so that whoever reads too early reads garbage. `FakeTensorRT` has the attributes of one
version and no more. What it runs is the mean colour, of unit length, whatever it was given; but for
a model with another output than ``embedding``, which ONNX Runtime runs for it.
"""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx

from skyreid.bundle.cuda import Buffer, CudaError
from skyreid.bundle.runner import OnnxRunner

GARBAGE = 0xA5


class FakeDriver:
    """Memory is a dict; addresses are handed out once and never again."""

    def __init__(self, *, integrated: bool = False, captures: bool = True) -> None:
        self.integrated, self._captures = integrated, captures
        self.stream = 77
        self.did: list[str] = []
        self.memory: dict[int, np.ndarray] = {}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.depth = 0
        self.closed = False
        self._next = 4096
        self._queue: list[Callable[[], None]] = []
        self._noted: list[Callable[[], None]] | None = None

    @contextmanager
    def active(self) -> Iterator[None]:
        assert not self.closed
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1

    def buffer(self, size: int) -> Buffer:
        host = np.full(size, GARBAGE, np.uint8)
        return self._made(host, host if self.integrated else np.full(size, GARBAGE, np.uint8))

    def scratch(self, size: int) -> Buffer:
        return self._made(np.zeros(0, np.uint8), np.zeros(size, np.uint8))

    def free(self, buffer: Buffer) -> None:
        self._note("free")
        del self.memory[buffer.address]

    def upload(self, buffer: Buffer) -> None:
        if not self.integrated:
            self.put("upload", lambda: self._copy(self.memory[buffer.address], buffer.host))

    def download(self, buffer: Buffer) -> None:
        if not self.integrated:
            self.put("download", lambda: self._copy(buffer.host, self.memory[buffer.address]))

    def wait(self) -> None:
        self._note("wait")
        while self._queue:
            self._queue.pop(0)()

    def begin_capture(self) -> None:
        if not self._captures:
            raise CudaError("cuStreamBeginCapture_v2: CUDA_ERROR_NOT_SUPPORTED (801)")
        self._note("capture")
        self._noted = []

    def end_capture(self) -> int:
        noted, self._noted = self._noted, None
        assert noted is not None
        self._next += 1
        self.graphs[self._next] = noted
        return self._next

    def launch(self, graph: int) -> None:
        self._note("launch")
        self._queue += self.graphs[graph]

    def free_graph(self, graph: int) -> None:
        self._note("free graph")
        del self.graphs[graph]

    def close(self) -> None:
        self.did.append("close")
        self.closed = True

    def put(self, what: str, action: Callable[[], None]) -> None:
        """Into the stream, or into the graph that is being captured."""
        self._note(what if self._noted is None else f"note {what}")
        (self._queue if self._noted is None else self._noted).append(action)

    def _made(self, host: np.ndarray, device: np.ndarray) -> Buffer:
        self._note("get")
        self._next += 256
        self.memory[self._next] = device
        return Buffer(host, self._next)

    def _note(self, what: str) -> None:
        assert self.depth == 1, f"{what} while the device is not current, or twice"
        self.did.append(what)

    @staticmethod
    def _copy(to: np.ndarray, of: np.ndarray) -> None:
        to[:] = of


class FakeTensorRT:
    """What a build and a run call; `strongly_typed_flag` is absent in some versions."""

    class ILogger:
        Severity = SimpleNamespace(WARNING=2)

    class IProgressMonitor:
        pass

    MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="ours")
    TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
    DataType = SimpleNamespace(UINT8="uint8", FLOAT="float", HALF="half")

    def __init__(
        self,
        version: str = "10.3.0",
        *,
        strongly_typed_flag: bool = True,
        builds: bool = True,
        parses: bool = True,
        takes_timings: bool = True,
    ) -> None:
        self.__version__, self.__name__ = version, "tensorrt"
        members = {"STRONGLY_TYPED": 1} if strongly_typed_flag else {}
        self.NetworkDefinitionCreationFlag = SimpleNamespace(**members)
        self.creation_flags = -1
        self.offered: list[bytes] = []
        self.logger: Any = None
        self.built = 0
        self.driver: FakeDriver | None = None
        """On whose memory engines run."""
        self.input_type, self.output_type = "uint8", "float"
        self.refuses = ""
        """A call that fails, and leaves a line in the log."""
        self.contexts = 0
        self._builds, self._parses, self._takes = builds, parses, takes_timings
        self._shapes: tuple[Any, ...] = ()
        self._model = b""

    def Builder(self, logger: Any) -> Any:
        self.logger = logger
        return SimpleNamespace(
            create_network=self._network,
            create_builder_config=self._config,
            create_optimization_profile=lambda: SimpleNamespace(set_shape=self._set_shape),
            build_serialized_network=self._build,
        )

    def OnnxParser(self, network: Any, logger: Any) -> Any:
        error = SimpleNamespace(
            desc=lambda: "no such operator", node_name=lambda: "n7", node_operator=lambda: "Foo"
        )

        def parse(model: bytes) -> bool:
            self._model = model if _outputs(model) else b""
            return self._parses

        return SimpleNamespace(parse=parse, num_errors=1, get_error=lambda index: error)

    def Runtime(self, logger: Any) -> Any:
        self.logger = logger
        return SimpleNamespace(deserialize_cuda_engine=self._deserialize)

    def fails(self, call: str) -> bool:
        if self.refuses != call:
            return False
        self.logger.log(1, f"{call}:\n out of memory")
        return True

    def _set_shape(self, name: str, *shapes: Any) -> None:
        self._shapes = shapes

    def _network(self, flags: int) -> Any:
        self.creation_flags = flags
        return SimpleNamespace(
            num_inputs=1, num_layers=3, get_input=lambda index: SimpleNamespace(name="images")
        )

    def _config(self) -> Any:
        def timing_cache(blob: bytes) -> Any:
            self.offered.append(blob)
            return SimpleNamespace(blob=blob, serialize=lambda: b"timings")

        return SimpleNamespace(
            set_memory_pool_limit=lambda pool, size: None,
            add_optimization_profile=lambda profile: 0,
            create_timing_cache=timing_cache,
            set_timing_cache=lambda cache, ignore_mismatch: self._takes or not cache.blob,
            get_timing_cache=lambda: None,
            progress_monitor=None,
        )

    def _build(self, network: Any, config: Any) -> bytes | None:
        self.logger.log(1, "tactic\nran out of memory")
        self.logger.log(3, "chatter")
        if config.progress_monitor is not None:
            monitor = config.progress_monitor
            monitor.phase_start("Building", None, 8)
            for step in range(8):
                monitor.phase_start("Inner", "Building", 2)
                assert monitor.step_complete("Inner", 0)
                monitor.phase_finish("Inner")
                assert monitor.step_complete("Building", step)
            monitor.phase_finish("Building")
        if not self._builds:
            return None
        self.built += 1
        plan = {"version": self.__version__, "shapes": self._shapes}
        if self._model:
            plan["model"] = base64.b64encode(self._model).decode()
        return json.dumps(plan).encode()

    def _deserialize(self, plan: bytes) -> Any:
        try:
            found = json.loads(plan)
        except ValueError:
            self.logger.log(1, "magic tag does not match")
            return None
        if self.fails("deserialize_cuda_engine") or found["version"] != self.__version__:
            self.logger.log(1, f"the plan is of version {found['version']}")
            return None
        return _Engine(self, found["shapes"], base64.b64decode(found.get("model", "")))


def _outputs(model: bytes) -> dict[str, tuple[int, ...]]:
    """Shapes of a model's outputs without the batch; none of what is no model, or an embedder."""
    try:
        graph = onnx.load_from_string(model).graph
    except Exception:
        return {}
    shapes = {
        out.name: tuple(dim.dim_value for dim in out.type.tensor_type.shape.dim[1:])
        for out in graph.output
    }
    return {} if "embedding" in shapes else shapes


class _Engine:
    device_memory_size_v2 = 1000

    def __init__(self, trt: FakeTensorRT, shapes: Any, model: bytes) -> None:
        self.trt, self.shapes = trt, shapes
        self.outputs = _outputs(model) or {"embedding": (3,)}
        self.runner = OnnxRunner(model, name="fake") if model else None
        self.num_io_tensors = 1 + len(self.outputs)

    def get_tensor_name(self, index: int) -> str:
        return ("images", *self.outputs)[index]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == "images" else "out"

    def get_tensor_dtype(self, name: str) -> str:
        return self.trt.input_type if name == "images" else self.trt.output_type

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *(self.shapes[0][1:] if name == "images" else self.outputs[name]))

    def get_tensor_profile_shape(self, name: str, index: int) -> Any:
        assert (name, index) == ("images", 0)
        return self.shapes

    def create_execution_context(self, strategy: str) -> Any:
        assert strategy == "ours"
        if self.trt.fails("create_execution_context"):
            return None
        self.trt.contexts += 1
        return _Context(self)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self.engine, self.trt = engine, engine.trt
        self.shape: tuple[int, ...] | None = None
        self.addresses: dict[str, int] = {}
        self.scratch = 0

    def set_device_memory(self, address: int, size: int) -> None:
        driver = self.trt.driver
        assert driver is not None
        assert len(driver.memory[address]) >= size >= self.engine.device_memory_size_v2
        self.scratch = address

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self.engine.shapes
        self.shape = shape
        return all(a <= n <= b for a, n, b in zip(low, shape, high, strict=True))

    def infer_shapes(self) -> list[str]:
        return [] if self.shape else ["images"]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert self.shape is not None
        return self.shape if name == "images" else (self.shape[0], *self.engine.outputs[name])

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return not self.trt.fails("set_tensor_address")

    def execute_async_v3(self, stream: int) -> bool:
        driver, shape = self.trt.driver, self.shape
        assert driver is not None
        assert shape is not None
        assert stream == driver.stream
        assert self.scratch
        if self.trt.fails("execute_async_v3"):
            return False
        addresses = dict(self.addresses)  # a graph keeps those of its capture

        def work() -> None:
            assert driver is not None
            pictures = driver.memory[addresses["images"]].reshape(shape)
            means = pictures.astype(np.float64).mean((1, 2))
            means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
            runner = self.engine.runner
            found = runner.run(pictures) if runner else {"embedding": means.astype(np.float32)}
            for name, values in found.items():
                driver.memory[addresses[name]][:] = values.ravel().view(np.uint8)

        driver.put("execute", work)
        return True
