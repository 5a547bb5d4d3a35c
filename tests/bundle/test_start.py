"""`start` chooses between ONNX Runtime and an engine, and never loads an engine that is not right.

Embedder and detector take the same path; the device and TensorRT are those of fake_gpu.py.
"""

import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_gpu import FakeDriver, FakeTensorRT

from skyreid.bundle import compiled
from skyreid.bundle.archive import Bundle
from skyreid.bundle.compiled import Machine
from skyreid.bundle.embedder import Embedder
from skyreid.bundle.engine import EngineError
from skyreid.bundle.manifest import DetectorSpec
from skyreid.bundle.runner import Execution, OnnxRunner, RunnerKind, self_test, start
from skyreid.bundle.trt_runner import TensorRtRunner
from skyreid.contract.errors import InputError, PlatformError
from skyreid.contract.input_spec import InputSpec
from skyreid.contract.sighting import View


class Board:
    """A device with TensorRT, and what was done on it."""

    def __init__(self, cache: Path, version: str = "10.3.0", device: str = "sm87-orin") -> None:
        self.cache, self.device = cache, device
        self.trt = FakeTensorRT(version)
        self.drivers: list[FakeDriver] = []

    def execution(self, kind: RunnerKind = "auto") -> Execution:
        machine = Machine("tensorrt", self.trt, self.device, self._open)
        return Execution(kind, self.cache, machine=machine)

    def _open(self) -> FakeDriver:
        self.trt.driver = FakeDriver()
        self.drivers.append(self.trt.driver)
        return self.trt.driver


@pytest.fixture
def board(tmp_path: Path) -> Board:
    return Board(tmp_path / "engines")


def test_the_first_start_builds_and_the_second_loads(
    board: Board, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for _ in range(2):
        with start(bundle, execution=board.execution()) as runner:
            assert isinstance(runner, TensorRtRunner)
            assert self_test(bundle, runner)["embedding"] > 0.999
    assert board.trt.built == 1
    assert caplog.text.count("engine of tiny/fp32: no engine yet") == 1
    assert "Building: 50 %" in caplog.text
    assert caplog.text.count("tiny/fp32 runs by tensorrt 10.3.0 on sm87-orin") == 2
    assert all(driver.closed for driver in board.drivers)


def flip(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


@pytest.mark.parametrize(
    ("ending", "change", "said"),
    [
        (".plan", lambda data: data[:-3], "is truncated or grown"),
        (".plan", flip, "was changed: its digest is not the recorded one"),
        (".json", lambda data: b"{", "is damaged"),
        (
            ".json",
            lambda data: data.replace(b'"sm87-orin"', b'"sm110-thor"'),
            "is foreign: it was built for sm110-thor",
        ),
        (
            ".json",
            lambda data: data.replace(b'"10.3.0"', b'"10.16.2"'),
            "is foreign: it was built by TensorRT 10.16.2",
        ),
    ],
)
def test_an_engine_that_is_not_right_is_built_again_and_not_loaded(
    board: Board,
    bundle: Bundle,
    caplog: pytest.LogCaptureFixture,
    ending: str,
    change: Callable[[bytes], bytes],
    said: str,
) -> None:
    start(bundle, execution=board.execution()).close()
    (path,) = board.cache.glob(f"*{ending}")
    before = path.read_bytes()
    path.write_bytes(change(before))
    assert path.read_bytes() != before
    caplog.set_level("INFO")
    with start(bundle, execution=board.execution()) as runner:
        self_test(bundle, runner)
    assert said in caplog.text
    assert board.trt.built == 2
    (path,) = board.cache.glob(f"*{ending}")
    assert path.read_bytes() == before


def test_another_tensorrt_or_device_builds_its_own(
    board: Board, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    start(bundle, execution=board.execution()).close()
    caplog.set_level("INFO")
    newer = Board(board.cache, version="11.4.1")
    start(bundle, execution=newer.execution()).close()
    assert "it was built by TensorRT 10.3.0, needed is 11.4.1" in caplog.text
    other = Board(board.cache, device="sm110-thor")
    start(bundle, execution=other.execution()).close()
    assert (board.trt.built, newer.trt.built, other.trt.built) == (1, 1, 1)
    start(bundle, execution=board.execution()).close()  # and nobody lost theirs
    assert board.trt.built == 1


def test_a_cached_plan_that_tensorrt_refuses_is_built_again_once(
    board: Board, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    start(bundle, execution=board.execution()).close()
    (record,) = board.cache.glob("*.json")
    plan = record.with_suffix(".plan")
    poor = plan.read_bytes().replace(b"10.3.0", b"10.2.9")  # and a digest that fits
    plan.write_bytes(poor)
    content = json.loads(record.read_text())
    content["plan_sha256"] = hashlib.sha256(poor).hexdigest()
    record.write_text(json.dumps(content))
    caplog.set_level("INFO")
    with start(bundle, execution=board.execution()) as runner:
        self_test(bundle, runner)
    assert "the cached engine of tiny/fp32 is not usable" in caplog.text
    assert "of version 10.2.9" in caplog.text
    board.trt.refuses = "deserialize_cuda_engine"
    with pytest.raises(EngineError, match="deserialize_cuda_engine: out of memory"):
        start(bundle, execution=board.execution())
    assert board.trt.built == 3
    assert all(driver.closed for driver in board.drivers)


def test_a_new_plan_that_tensorrt_refuses_is_not_built_twice(board: Board, bundle: Bundle) -> None:
    board.trt.refuses = "deserialize_cuda_engine"
    with pytest.raises(EngineError, match="cannot load the engine"):
        start(bundle, execution=board.execution())
    assert board.trt.built == 1


def test_an_engine_that_cannot_be_built_is_an_error_and_no_way_to_the_cpu(
    board: Board, bundle: Bundle
) -> None:
    board.trt = FakeTensorRT(builds=False)
    with pytest.raises(EngineError, match="built no engine of model tiny/fp32"):
        start(bundle, execution=board.execution())


@pytest.mark.parametrize("lacks", ["tensorrt", "gpu"])
def test_without_tensorrt_or_a_gpu_it_is_the_cpu_and_that_is_said(
    lacks: str,
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def no_tensorrt() -> None:
        raise PlatformError("no TensorRT: it comes with JetPack")

    if lacks == "tensorrt":
        monkeypatch.setattr(compiled, "load_api", no_tensorrt)
    else:
        monkeypatch.setattr(compiled, "load_api", lambda: ("tensorrt", FakeTensorRT()))
        monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    caplog.set_level("INFO")
    with start(bundle, execution=Execution("auto", tmp_path)) as runner:
        assert isinstance(runner, OnnxRunner)
    words = {"tensorrt": "no TensorRT: it comes", "gpu": "pycuda cannot be imported"}[lacks]
    assert f"tiny runs by ONNX Runtime on the CPU: {words}" in caplog.text
    with pytest.raises(PlatformError, match=words):
        start(bundle, execution=Execution("tensorrt", tmp_path))


def test_graphs_are_captured_unless_they_are_switched_off(board: Board, bundle: Bundle) -> None:
    for graphs in (True, False):
        execution = dataclasses.replace(board.execution(), graphs=graphs)
        with start(bundle, execution=execution) as runner:
            self_test(bundle, runner)
            assert bool(board.drivers[-1].graphs) is graphs


def test_onnx_is_onnx_also_on_a_board(board: Board, bundle: Bundle) -> None:
    for execution in (board.execution("onnx"), Execution()):
        with start(bundle, execution=execution) as runner:
            assert isinstance(runner, OnnxRunner)
    assert not board.cache.exists()


def test_an_engine_without_a_directory_is_refused(board: Board, bundle: Bundle) -> None:
    machine = board.execution().machine
    with pytest.raises(InputError, match="needs a directory"):
        start(bundle, execution=Execution("tensorrt", machine=machine))


def test_a_gpu_prefers_half_precision_and_takes_what_was_asked_for(
    board: Board, bundle: Bundle
) -> None:
    manifest = bundle.manifest.model_copy(update={"formats": ("fp32", "fp16", "int8")})
    fp32 = bundle.files["model.fp32.onnx"]
    models = ("fp16", "int8", "int8-fp16")
    files = {**bundle.files, **{f"model.{name}.onnx": name.encode() for name in models}}
    rich = Bundle(bundle.path, manifest, bundle.sha256, {**files, "model.fp32.onnx": fp32})
    start(rich, execution=board.execution()).close()
    start(rich, numeric_format="int8", execution=board.execution()).close()
    keys = [json.loads(path.read_text())["key"] for path in board.cache.glob("*.json")]
    built = {key["numeric_format"]: key["onnx_sha256"] for key in keys}
    of = {"fp16": b"fp16", "int8": b"int8-fp16"}  # int8 with float16 around its Linears
    assert built == {name: hashlib.sha256(data).hexdigest() for name, data in of.items()}


def test_the_embedder_runs_on_the_engine_and_proves_itself_first(
    board: Board, bundle: Bundle, tmp_path: Path
) -> None:
    embedder = Embedder([bundle.path], view=View.GROUND, execution=board.execution())
    assert embedder.runner.startswith("tensorrt 10.3.0 on sm87-orin, lowest cosine")
    crops = np.random.default_rng(2).integers(0, 256, (3, 8, 4, 3), np.uint8)
    with start(bundle) as cpu:
        wanted = cpu.run(crops)["embedding"]
    np.testing.assert_allclose(embedder.embed(crops), wanted, atol=1e-6)
    assert board.trt.contexts == 2  # 8 golden crops, and 3 in a batch of 4
    embedder.close()
    assert board.drivers[0].closed


def test_a_detectors_engine_takes_pictures_up_to_the_size_that_is_said(
    board: Board, bundle: Bundle
) -> None:
    spec = DetectorSpec(stride=4, align=2, score_min=0.3)
    anything = InputSpec(height=0, width=0, crop_margin=0.0)
    change = {"kind": "detector", "detector": spec, "input": anything, "embedding_dim": 0}
    detector = Bundle(
        bundle.path, bundle.manifest.model_copy(update=change), bundle.sha256, bundle.files
    )
    execution = board.execution()
    limited = Execution("auto", board.cache, frame_max=(24, 32), machine=execution.machine)
    with start(detector, execution=limited) as runner:
        for size in ((8, 8), (24, 32), (10, 30)):
            assert runner.run(np.zeros((1, *size, 3), np.uint8))["embedding"].shape == (1, 3)
        with pytest.raises(InputError, match=r"from \[8, 8, 3\] to \[24, 32, 3\]"):
            runner.run(np.zeros((1, 26, 32, 3), np.uint8))
    with start(bundle, execution=limited) as runner:  # an embedder has a size of its own
        assert runner.run(np.zeros((1, 8, 4, 3), np.uint8))["embedding"].shape == (1, 3)
