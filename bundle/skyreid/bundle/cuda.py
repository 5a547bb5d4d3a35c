"""The few things that running an engine asks of CUDA, and pycuda doing them.

pycuda works in the primary context, which TensorRT shares: it is retained once, and pushed and
popped around every use, so that any thread may run and nothing is left on a thread's stack.
pycuda has no CUDA graphs; those six functions are called in the driver library by ctypes.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import PlatformError, SkyreidError

NO_GPU = "no-gpu"


class CudaError(SkyreidError):
    """The driver refused."""


@dataclass(frozen=True, eq=False)
class Buffer:
    """Memory that both sides use: page-locked on the host, and an address for the GPU.

    On an integrated device (Jetson) both are the same memory; on others `upload` and `download`
    copy between them.
    """

    host: NDArray[np.uint8]
    """uint8 [bytes]."""
    address: int
    held: tuple[Any, ...] = ()
    """What the driver frees."""


class Driver(Protocol):
    """One device and one stream of it. Every call but `active` and `close` needs `active`."""

    integrated: bool
    """Whether CPU and GPU share their memory."""
    stream: int
    """Handle of the stream that everything is put into."""

    def active(self) -> AbstractContextManager[None]:
        """Makes the device current in this thread, for as long as it lasts."""
        ...

    def buffer(self, size: int) -> Buffer:
        """A new buffer of `size` bytes, at least 1."""
        ...

    def scratch(self, size: int) -> Buffer:
        """Memory of `size` bytes that only the GPU sees; its `host` is empty."""
        ...

    def free(self, buffer: Buffer) -> None:
        """Give memory back."""
        ...

    def upload(self, buffer: Buffer) -> None:
        """Put a copy from host to GPU into the stream; nothing where they are the same memory."""
        ...

    def download(self, buffer: Buffer) -> None:
        """Put a copy from GPU to host into the stream; nothing where they are the same memory."""
        ...

    def wait(self) -> None:
        """Until the stream has done everything."""
        ...

    def begin_capture(self) -> None:
        """What is put into the stream from here on is noted down and not done."""
        ...

    def end_capture(self) -> int:
        """A graph of what was noted down; the stream does things again, also after an error."""
        ...

    def launch(self, graph: int) -> None:
        """Put a graph into the stream."""
        ...

    def free_graph(self, graph: int) -> None:
        """Give a graph back."""
        ...

    def close(self) -> None:
        """Let go of stream and device; everything else must have been freed."""
        ...


def this_device() -> str:
    """``sm87-orin`` and the like, as pycuda reads it; `NO_GPU` without pycuda or a driver."""
    try:
        return device_name(_first_device())
    except PlatformError:
        return NO_GPU


def describe_device() -> str:
    """The first device in words: name, compute capability, kind and memory.

    Raises:
        PlatformError: pycuda is not installed, or there is no device.
    """
    device = _first_device()
    import pycuda.driver as cuda

    major, minor = device.compute_capability()
    shared = bool(device.get_attribute(cuda.device_attribute.INTEGRATED))
    kind = "memory shared with the CPU" if shared else "memory of its own"
    return (
        f"{device.name()}, compute capability {major}.{minor}, "
        f"{device.total_memory() >> 20} MiB of {kind}"
    )


def device_name(device: Any) -> str:
    """Compute capability and model in one word of a file name: an engine fits no other."""
    major, minor = device.compute_capability()
    model = re.sub(r"[^a-z0-9]+", "-", str(device.name()).lower()).strip("-")
    return f"sm{major}{minor}-{model}"


def _first_device() -> Any:
    try:
        import pycuda.driver as cuda
    except (ImportError, OSError) as error:
        raise PlatformError(f"pycuda cannot be imported ({error}): pip install pycuda") from error
    try:
        cuda.init()
        return cuda.Device(0)
    except cuda.Error as error:
        raise PlatformError(f"no CUDA device: {error}") from error


class PycudaDriver:
    """`Driver` by pycuda, on the first device.

    Raises:
        PlatformError: pycuda is not installed, or there is no device.
        CudaError: from every method, when the driver refuses.
    """

    def __init__(self) -> None:
        device = _first_device()
        import pycuda.driver as cuda

        self._cuda: Any = cuda
        self._library = ctypes.CDLL("libcuda.so.1")  # there, for pycuda is linked to it
        self._graphs = _Graphs(self._library)
        self._context: Any = device.retain_primary_context()
        self.name = device_name(device)
        self.integrated = bool(device.get_attribute(cuda.device_attribute.INTEGRATED))
        with self.active(), self._saying("make a stream"):
            self._stream: Any = cuda.Stream()
        self.stream = int(self._stream.handle)

    @contextmanager
    def active(self) -> Iterator[None]:
        """See ``Driver.active``."""
        self._context.push()
        try:
            yield
        finally:
            self._cuda.Context.pop()

    def buffer(self, size: int) -> Buffer:
        """See ``Driver.buffer``."""
        flags = self._cuda.host_alloc_flags.DEVICEMAP if self.integrated else 0
        with self._saying(f"lock {size} bytes of memory"):
            host = self._cuda.pagelocked_empty(size, np.uint8, mem_flags=flags)
            if self.integrated:
                return Buffer(host, int(host.base.get_device_pointer()), (host.base,))
        with self._saying(f"get {size} bytes of GPU memory"):
            memory = self._cuda.mem_alloc(size)
        return Buffer(host, int(memory), (memory, host.base))

    def scratch(self, size: int) -> Buffer:
        """See ``Driver.scratch``."""
        with self._saying(f"get {size} bytes of GPU memory"):
            memory = self._cuda.mem_alloc(size)
        return Buffer(np.zeros(0, np.uint8), int(memory), (memory,))

    def free(self, buffer: Buffer) -> None:
        """See ``Driver.free``."""
        with self._saying("free memory"):
            for memory in buffer.held:
                memory.free()

    def upload(self, buffer: Buffer) -> None:
        """See ``Driver.upload``."""
        if not self.integrated:
            with self._saying("copy to the GPU"):
                self._cuda.memcpy_htod_async(buffer.address, buffer.host, self._stream)

    def download(self, buffer: Buffer) -> None:
        """See ``Driver.download``."""
        if not self.integrated:
            with self._saying("copy from the GPU"):
                self._cuda.memcpy_dtoh_async(buffer.host, buffer.address, self._stream)

    def wait(self) -> None:
        """See ``Driver.wait``."""
        with self._saying("finish"):
            self._stream.synchronize()

    def begin_capture(self) -> None:
        """See ``Driver.begin_capture``."""
        self._graphs.begin(self.stream)

    def end_capture(self) -> int:
        """See ``Driver.end_capture``."""
        return self._graphs.end(self.stream)

    def launch(self, graph: int) -> None:
        """See ``Driver.launch``."""
        self._graphs.launch(graph, self.stream)

    def free_graph(self, graph: int) -> None:
        """See ``Driver.free_graph``."""
        self._graphs.free(graph)

    def close(self) -> None:
        """See ``Driver.close``."""
        with self.active():
            del self._stream
        self._context.push()
        self._context.detach()
        # pycuda lets go of the context and leaves it on the thread's stack.
        if self._cuda.Context.get_current() is None:
            self._library.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))

    @contextmanager
    def _saying(self, what: str) -> Iterator[None]:
        try:
            yield
        except self._cuda.Error as error:
            raise CudaError(f"CUDA on {self.name} cannot {what}: {error}") from error


class _Graphs:
    """The six functions of the CUDA driver that pycuda lacks; stream handles are pycuda's."""

    _THREAD_LOCAL = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may go on allocating

    def __init__(self, library: Any) -> None:
        self._library = library

    def begin(self, stream: int) -> None:
        self._call("cuStreamBeginCapture_v2", ctypes.c_void_p(stream), self._THREAD_LOCAL)

    def end(self, stream: int) -> int:
        graph, ready = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuStreamEndCapture", ctypes.c_void_p(stream), ctypes.byref(graph))
        try:
            self._call(
                "cuGraphInstantiateWithFlags", ctypes.byref(ready), graph, ctypes.c_uint64(0)
            )
        finally:
            self._call("cuGraphDestroy", graph)
        assert ready.value is not None
        return ready.value

    def launch(self, graph: int, stream: int) -> None:
        self._call("cuGraphLaunch", ctypes.c_void_p(graph), ctypes.c_void_p(stream))

    def free(self, graph: int) -> None:
        self._call("cuGraphExecDestroy", ctypes.c_void_p(graph))

    def _call(self, name: str, *arguments: Any) -> None:
        try:
            function = getattr(self._library, name)
        except AttributeError as error:
            raise CudaError(f"this CUDA driver has no {name}: graphs need CUDA 11.4") from error
        code = int(function(*arguments))
        if code:
            said = ctypes.c_char_p()
            self._library.cuGetErrorName(code, ctypes.byref(said))
            raise CudaError(f"{name}: {(said.value or b'?').decode()} ({code})")
