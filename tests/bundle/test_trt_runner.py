"""The TensorRT runner on a fake GPU; and the buffer layer on a real one where there is one."""

import atexit
import gc
import json
import sys
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fake_gpu import FakeDriver, FakeTensorRT

from skyreid.bundle.cuda import CudaError, Driver, PycudaDriver, this_device
from skyreid.bundle.engine import EngineError
from skyreid.bundle.trt_runner import SHAPES_MAX, TensorRtRunner, buckets
from skyreid.contract.errors import BundleError, InputError, PlatformError

SHAPES = ((1, 8, 4, 3), (2, 8, 4, 3), (8, 8, 4, 3))


def plan(shapes: tuple[tuple[int, ...], ...] = SHAPES, version: str = "10.3.0") -> bytes:
    return json.dumps({"version": version, "shapes": shapes}).encode()


def made(
    trt: FakeTensorRT, driver: FakeDriver, *, say: list[str] | None = None, data: bytes = plan()
) -> TensorRtRunner:
    trt.driver = driver
    tell = (lambda line: None) if say is None else say.append
    return TensorRtRunner(data, name="m/fp16", trt=trt, driver=driver, say=tell)


def drawn(count: int, height: int = 8, width: int = 4, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, height, width, 3), np.uint8)


def means(pictures: np.ndarray) -> np.ndarray:
    found = pictures.astype(float).mean((1, 2))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_buckets_are_powers_of_two_and_the_largest() -> None:
    assert buckets(32) == (1, 2, 4, 8, 16, 32)
    assert buckets(20) == (1, 2, 4, 8, 16, 20)
    assert buckets(1) == (1,)


@pytest.mark.parametrize("integrated", [False, True])
def test_every_number_of_pictures_gives_each_its_own_row(integrated: bool) -> None:
    driver = FakeDriver(integrated=integrated)
    with made(FakeTensorRT(), driver) as runner:
        for again in range(3):  # the first run of a shape, then its graph
            for count in (1, 2, 3, 5, 8, 9, 20):
                pictures = drawn(count, seed=again)
                found = runner.run(pictures)["embedding"]
                assert found.dtype == np.float32
                np.testing.assert_allclose(found, means(pictures), atol=1e-6)
        assert runner.run(drawn(0))["embedding"].shape == (0, 3)


def test_a_batch_is_filled_up_with_nothing_and_not_with_the_last_ones_people() -> None:
    trt, driver = FakeTensorRT(), FakeDriver()
    with made(trt, driver) as runner:
        runner.run(np.full((4, 8, 4, 3), 255, np.uint8))
        runner.run(drawn(3))
        held = next(m for m in driver.memory.values() if len(m) == 4 * 8 * 4 * 3)
        assert held[3 * 8 * 4 * 3 :].max() == 0


def test_a_shape_is_run_once_captured_once_and_then_launched() -> None:
    trt, driver = FakeTensorRT(), FakeDriver()
    with made(trt, driver) as runner:
        driver.did.clear()
        for _ in range(3):
            runner.run(drawn(3))
        first = ["get", "get", "upload", "execute", "download", "wait"]
        captured = ["capture", "note upload", "note execute", "note download"]
        assert driver.did == [*first, *captured, *(["launch", "wait"] * 2)]
        assert trt.contexts == 1
        runner.run(drawn(1))  # another bucket: a context and a graph of its own
        assert trt.contexts == len(driver.graphs) == 2


def test_an_integrated_device_copies_nothing() -> None:
    driver = FakeDriver(integrated=True)
    with made(FakeTensorRT(), driver) as runner:
        runner.run(drawn(2))
        runner.run(drawn(2))
    assert not [what for what in driver.did if "load" in what]


@pytest.mark.parametrize("case", ["driver", "tensorrt", "rtx"])
def test_where_graphs_cannot_be_had_it_is_said_once_and_the_result_is_the_same(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    trt, driver = FakeTensorRT(), FakeDriver(captures=case != "driver")
    with made(trt, driver, say=said) as runner:
        if case == "tensorrt":  # refuses only while it is captured
            monkeypatch.setattr(driver, "begin_capture", refusing(trt, driver.begin_capture))
        if case == "rtx":
            monkeypatch.setattr(
                "fake_gpu._Context.is_stream_capturable", lambda *_: False, raising=False
            )
        for count in (2, 2, 5):
            pictures = drawn(count)
            found = runner.run(pictures)["embedding"]
            np.testing.assert_allclose(found, means(pictures), atol=1e-6)
            trt.refuses = ""
        assert driver.graphs == {}
    assert len(said) == 1
    assert said[0].startswith("m/fp16 runs without CUDA graphs: ")


def refusing(trt: FakeTensorRT, begin: object) -> object:
    def refuse() -> None:
        trt.refuses = "execute_async_v3"
        begin()  # type: ignore[operator]

    return refuse


def test_shapes_that_were_used_longest_ago_make_room() -> None:
    shapes = ((1, 16, 16, 3), (1, 64, 999, 3), (1, 64, 999, 3))
    trt, driver = FakeTensorRT(), FakeDriver()
    with made(trt, driver, data=plan(shapes)) as runner:
        widths = list(range(16, 16 + SHAPES_MAX + 1))
        for width in [*widths[:-1], widths[0], widths[-1], widths[0]]:
            pictures = drawn(1, 16, width)
            np.testing.assert_allclose(runner.run(pictures)["embedding"], means(pictures), 1e-6)
        assert trt.contexts == SHAPES_MAX + 1  # the first was in use, the second made room
        assert len(driver.graphs) == SHAPES_MAX
        runner.run(drawn(1, 16, widths[1]))
        assert trt.contexts == SHAPES_MAX + 2


def test_pictures_that_the_engine_was_not_built_for_are_named() -> None:
    with made(FakeTensorRT(), FakeDriver()) as runner:
        wrong: Any
        for wrong in (drawn(2, 16, 4), drawn(1).astype(np.float32), drawn(1)[0]):
            with pytest.raises(InputError, match=r"m/fp16 takes uint8 \[N, H, W, 3\] from \[8, 4"):
                runner.run(wrong)


@pytest.mark.parametrize(
    "call", ["create_execution_context", "set_tensor_address", "execute_async_v3"]
)
def test_every_refusal_carries_what_tensorrt_logged_and_leaves_no_memory_behind(call: str) -> None:
    trt, driver = FakeTensorRT(), FakeDriver()
    with made(trt, driver) as runner:
        trt.refuses = call
        with pytest.raises(EngineError, match=rf"TensorRT 10.3.0 cannot .*log: {call}: out of"):
            runner.run(drawn(2))
        trt.refuses = ""
        np.testing.assert_allclose(runner.run(drawn(2))["embedding"], means(drawn(2)), atol=1e-6)
    assert driver.memory == driver.graphs == {}


def test_a_refusal_of_the_driver_is_told_with_tensorrts_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trt, driver = FakeTensorRT(), FakeDriver()

    def fail(size: int) -> None:
        trt.logger.log(2, "little memory")
        raise CudaError("cuMemAlloc failed: out of memory")

    with made(trt, driver) as runner:
        monkeypatch.setattr(driver, "buffer", fail)
        with pytest.raises(EngineError, match=r"run m/fp16: cuMemAlloc .*; log: little memory"):
            runner.run(drawn(2))


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"junk", "magic tag does not match"), (plan(version="10.16.2"), "of version 10.16.2")],
)
def test_a_plan_that_is_refused_frees_the_device(data: bytes, said: str) -> None:
    driver = FakeDriver()
    with pytest.raises(EngineError, match=rf"cannot load the engine \(m/fp16\); log: .*{said}"):
        made(FakeTensorRT(), driver, data=data)
    assert driver.closed


def test_other_types_than_uint8_in_and_float32_out_are_refused() -> None:
    for name, said in (("input_type", "expected one uint8"), ("output_type", "embedding is half")):
        trt, driver = FakeTensorRT(), FakeDriver()
        setattr(trt, name, "half")
        with pytest.raises(BundleError, match=said):
            made(trt, driver)
        assert driver.closed


def test_everything_is_given_back_in_order_and_once() -> None:
    trt, driver = FakeTensorRT(), FakeDriver()
    runner = made(trt, driver)
    runner.run(drawn(2))
    runner.run(drawn(8))
    engine = weakref.ref(runner._engine)
    driver.did.clear()
    runner.close()
    runner.close()
    # Graph before buffers of each shape, scratch after all contexts are gone, the device last.
    shape = ["free graph", "free", "free"]
    assert driver.did == ["wait", *shape, *shape, "free", "close"]
    assert driver.memory == driver.graphs == {}
    gc.collect()
    assert engine() is None
    with pytest.raises(EngineError, match="was closed"):
        runner.run(drawn(2))


def test_a_runner_that_nobody_closes_is_closed_before_the_interpreter_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_the_end: list[object] = []
    monkeypatch.setattr(atexit, "register", at_the_end.append)
    monkeypatch.setattr(atexit, "unregister", at_the_end.remove)
    driver = FakeDriver()
    runner = made(FakeTensorRT(), driver)
    assert at_the_end == [runner.close]
    runner.close()
    assert at_the_end == []
    assert driver.closed


def test_the_device_is_current_during_calls_only() -> None:
    """`FakeDriver` refuses every call outside ``active`` or within two of them."""
    driver = FakeDriver()
    with made(FakeTensorRT(), driver) as runner:
        runner.run(drawn(3))
        assert driver.depth == 0
        with pytest.raises(InputError):
            runner.run(drawn(1, 9, 9))
        assert driver.depth == 0


@pytest.fixture(params=["fake", "fake integrated", "pycuda"])
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    if request.param == "pycuda":
        try:
            real: Driver = PycudaDriver()
        except PlatformError as error:
            pytest.skip(f"needs pycuda and a CUDA device: {error}")
    else:
        real = FakeDriver(integrated="integrated" in request.param)
    yield real
    real.close()


def test_a_driver_copies_there_and_back_at_once_and_by_a_graph(driver: Driver) -> None:
    with driver.active():
        buffer, scratch = driver.buffer(1000), driver.scratch(5000)
        assert (buffer.host.shape, buffer.host.dtype) == ((1000,), np.dtype(np.uint8))
        assert buffer.address
        assert scratch.address not in (0, buffer.address)
        assert scratch.host.size == 0
        sent = np.arange(1000).astype(np.uint8)
        buffer.host[:] = sent
        driver.upload(buffer)
        driver.wait()
        if not driver.integrated:
            buffer.host[:] = 0
        driver.download(buffer)
        driver.wait()
        np.testing.assert_array_equal(buffer.host, sent)
        if not driver.integrated:  # a graph of nothing but a copy
            driver.begin_capture()
            driver.download(buffer)
            graph = driver.end_capture()
            for _ in range(2):
                buffer.host[:] = 0
                driver.launch(graph)
                driver.wait()
                np.testing.assert_array_equal(buffer.host, sent)
            driver.free_graph(graph)
        driver.free(buffer)
        driver.free(scratch)


def test_without_pycuda_or_a_device_the_key_says_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    assert this_device() == "no-gpu"
    with pytest.raises(PlatformError, match=r"pycuda cannot be imported.*pip install pycuda"):
        PycudaDriver()
