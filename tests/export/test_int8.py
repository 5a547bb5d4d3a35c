"""INT8 on Linears and nowhere else, measured on some pictures and judged on others."""

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from skyreid.bundle.archive import open_bundle
from skyreid.bundle.runner import SPOIL_INT8, OnnxRunner, start
from skyreid.contract.errors import GateError, InputError
from skyreid.contract.input_spec import InputSpec
from skyreid.export import closeness, int8, loss, ranges
from skyreid.export.__main__ import main
from skyreid.export.closeness import distance, require
from skyreid.export.crops import FEWEST, read

COUNT = FEWEST


def pictures_below(folder: Path, count: int, size: tuple[int, int] = (40, 20)) -> Path:
    """The training split of a CARGO-shaped data set: eight people before three street cameras."""
    rng = np.random.default_rng(0)
    for index in range(count):
        camera = folder / "train" / f"Cam{6 + index % 3}"
        camera.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (4, 3, 3), np.uint8)
        picture = cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
        name = f"{camera.name}_day_{index % 8:04d}_{index // 8}.jpg"
        assert cv2.imwrite(str(camera / name), picture)
    return folder / "train"


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    return pictures_below(tmp_path / "crops", 2 * COUNT)


def quantized(bundle: Path, crops: Path, out: Path) -> int:
    arguments = ["--pictures", str(crops), "--count", str(COUNT)]
    return main(["quantize", str(bundle), "-o", str(out), *arguments])


def test_an_int8_bundle_keeps_the_key_and_says_where_its_ranges_come_from(
    embedder_bundle: Path, crops: Path, tmp_path: Path
) -> None:
    out = tmp_path / "int8"
    assert quantized(embedder_bundle, crops, out) == 0
    old, new = open_bundle(embedder_bundle), open_bundle(out)
    assert new.manifest.model_key == old.manifest.model_key
    assert new.manifest.formats == ("fp32", "int8")
    assert new.files["model.fp32.onnx"] == old.files["model.fp32.onnx"]
    table = json.loads(new.files["int8-ranges.json"])
    assert table["pictures"] == len(table["listed"]) == COUNT
    taken = read(crops, old.manifest.input, COUNT, "ground")
    assert table["pictures_sha256"] == taken.sha256
    assert table["kept_in_float"] == {}
    assert set(table["ranges"]) == set(
        int8.quantised_inputs(onnx.load_from_string(old.files["model.fp32.onnx"]))
    )
    parity = json.loads(new.files["parity.json"])
    assert parity["gates"] == json.loads(old.files["parity.json"])["gates"]
    assert parity["int8"]["min_cosine"] >= 0.98
    # Two blocks of four Linears; the last one's first is two, for it asks for two tokens only.
    assert parity["int8"]["linears"] == 9
    with start(new) as runner:  # a CPU prefers int8
        found = runner.run(taken.judge.images[:4])
    assert np.abs(np.linalg.norm(found["embedding"], axis=1) - 1).max() < 1e-5


def test_the_same_pictures_give_the_same_bytes(
    embedder_bundle: Path, crops: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        assert quantized(embedder_bundle, crops, tmp_path / name) == 0
    one, two = (open_bundle(tmp_path / name) for name in ("one", "two"))
    assert one.sha256 == two.sha256


def test_pictures_that_judge_are_not_those_of_the_ranges(crops: Path) -> None:
    taken = read(crops, InputSpec(height=32, width=16), COUNT)
    mine, others = taken.ranges, taken.judge
    assert len(mine.images) == len(others.images) == COUNT
    apart = np.abs(mine.images[:, None].astype(int) - others.images[None])
    assert apart.reshape(COUNT, COUNT, -1).max(-1).min() > 0
    assert not {r.person for r in mine.records} & {r.person for r in others.records}
    assert {name.split("/")[0] for name in taken.listed} == {"Cam6", "Cam7", "Cam8"}


def test_too_few_pictures_and_a_detector_are_refused_and_nothing_is_written(
    embedder_bundle: Path,
    detector_bundle: Path,
    crops: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    next(iter(sorted((crops / "Cam6").iterdir()))).unlink()
    out = tmp_path / "int8"
    for bundle, word in ((embedder_bundle, "31 distinct pictures"), (detector_bundle, "detector")):
        assert quantized(bundle, crops, out) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert word in said
    assert not out.exists()


def linear_graph(weight: np.ndarray, *, gemm: bool = False) -> bytes:
    """uint8 [N, 2, 2, 3] -> mean colour -> one Linear -> `embedding`."""
    nodes = [
        helper.make_node("Cast", ["images"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f", "axes"], ["mean"], keepdims=0),
    ]
    weights = [
        numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
        numpy_helper.from_array(weight.T.copy() if gemm else weight, "w"),
    ]
    if gemm:
        nodes.append(helper.make_node("Gemm", ["mean", "w", "b"], ["embedding"], transB=1))
        weights.append(numpy_helper.from_array(np.full(weight.shape[1], 5, np.float32), "b"))
    else:
        nodes.append(helper.make_node("MatMul", ["mean", "w"], ["embedding"]))
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 2, 2, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", weight.shape[1]])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return bytes(model.SerializeToString())


def half_above(values: np.ndarray) -> np.ndarray:
    """The smallest float16 numbers that are no smaller, by trying them all."""
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    return halves[np.searchsorted(halves, values)]


@pytest.mark.parametrize("gemm", [False, True])
def test_a_linear_is_rounded_as_by_hand(gemm: bool) -> None:
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(3, 5)).astype(np.float32)
    pictures = rng.integers(0, 256, (7, 2, 2, 3), np.uint8)
    quantised = int8.quantise(linear_graph(weight, gemm=gemm), {"mean": 200.0})
    assert int8.check(quantised) == {"linears": 1, "quantize": 1, "dequantize": 2}
    onnx.checker.check_model(onnx.load_from_string(quantised), full_check=True)
    with OnnxRunner(quantised, name="linear", quantised=True) as runner:
        found = runner.run(pictures)["embedding"]
    mean = pictures.astype(np.float64).mean((1, 2))
    step = half_above(np.array(200 / 127))
    left = np.clip(np.rint(mean / step), -128, 127) * step
    scale = half_above(np.abs(weight).max(0) / 127)
    right = np.rint(weight / scale) * scale
    np.testing.assert_allclose(found, left @ right + 5 * gemm, rtol=1e-5, atol=1e-3)


def test_wrong_ranges_are_named() -> None:
    data = linear_graph(np.ones((3, 2), np.float32))
    with pytest.raises(InputError, match="do not fit the graph: other"):
        int8.quantise(data, {"mean": 1.0, "other": 1.0})
    with pytest.raises(InputError, match="range of mean is 0"):
        int8.quantise(data, {"mean": 0.0})
    with pytest.raises(InputError, match="beyond float16"):
        int8.quantise(data, {"mean": 1e7})


def test_a_graph_without_a_linear_is_refused(detector_bundle: Path) -> None:
    with pytest.raises(InputError, match="no Linear"):
        int8.quantise(open_bundle(detector_bundle).model("fp32"), {})


def test_a_foreign_zero_point_and_a_forgotten_linear_fail_the_check() -> None:
    data = linear_graph(np.ones((3, 2), np.float32))
    with pytest.raises(GateError, match="not quantised: embedding"):
        int8.check(data)
    model = onnx.load_from_string(int8.quantise(data, {"mean": 200.0}))
    for tensor in model.graph.initializer:
        if tensor.name == "mean_zero":
            tensor.CopyFrom(numpy_helper.from_array(np.int8(3), "mean_zero"))
    with pytest.raises(GateError, match="zero point"):
        int8.check(model.SerializeToString())


def test_percentile_ranges_are_tighter_than_the_largest_value() -> None:
    data = linear_graph(np.ones((3, 2), np.float32))
    pictures = np.random.default_rng(2).integers(0, 256, (64, 2, 2, 3), np.uint8)
    seen: list[int] = []
    widest = ranges.measure(data, pictures, "minmax", advance=seen.append)["mean"]
    assert widest == pytest.approx(pictures.mean((1, 2)).max())
    assert ranges.measure(data, pictures, "percentile", 90.0)["mean"] < widest
    assert sum(seen) == 64


def test_distance_counts_ranks_and_gates_refuse_a_nan() -> None:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(40, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    strangers = np.arange(40)
    same = distance(rows, rows, strangers)
    assert same["rank1_agreement"] == same["rank5_agreement"] == 1
    assert same["min_cosine"] == pytest.approx(1)
    require(same, "int8")
    mixed = distance(np.roll(rows, 1, axis=0), rows, strangers)
    assert mixed["rank1_agreement"] < 0.5
    with pytest.raises(GateError, match=r"who is nearest stays for 0\.\d+ of the pictures"):
        require(mixed, "int8")
    for name in ("noise", "worst", "rank1_agreement", "rank5_agreement"):
        with pytest.raises(GateError, match="nan"):
            require({**same, name: float("nan")}, "int8")


def test_int8_that_fails_the_golden_pictures_leaves_no_bundle(
    embedder_bundle: Path,
    crops: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Should the other gates let crude ranges pass, the bundle is asked before it is one."""
    monkeypatch.setattr(closeness, "failures", lambda *_: [])
    monkeypatch.setattr(loss, "losses", lambda *_: ())
    crude = int8.quantised_inputs(onnx.load(embedder_bundle / "model.fp32.onnx"))
    monkeypatch.setattr(ranges, "measure", lambda *_: dict.fromkeys(crude, 0.1))
    assert quantized(embedder_bundle, crops, tmp_path / "out") == 3
    assert "self-test of embedding" in capsys.readouterr().err.splitlines()[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["crops"]


def test_linears_that_read_the_same_all_run_in_int8(tmp_path: Path) -> None:
    """ViSA's experts do; with one pair of Q and DQ for all of them none would."""
    random = np.random.default_rng(0)
    names = ("a", "b", "c")
    weights = [
        numpy_helper.from_array(random.normal(size=(16, 8)).astype(np.float32), f"{name}_weight")
        for name in names
    ]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", f"{name}_weight"], [name]) for name in names],
        "shared",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 8]) for name in names],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    rounded = int8.quantise(made.SerializeToString(), {"x": 3.0})
    assert int8.check(rounded) == {"linears": 3, "quantize": 3, "dequantize": 6}
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(
        rounded, options, ["CPUExecutionProvider"], disabled_optimizers=list(SPOIL_INT8)
    )
    kernels = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert kernels.count("MatMulIntegerToFloat") == 3
    assert "MatMul" not in kernels


def test_linears_that_share_a_matrix_load_where_signed_bytes_become_unsigned() -> None:
    """As ViSA's graph convolution does for all its queries; x86 without VNNI could not load it."""
    random = np.random.default_rng(4)
    weight = numpy_helper.from_array(random.normal(size=(3, 3)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Cast", ["images"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f", "axes"], ["mean"], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["once"]),
        helper.make_node("MatMul", ["once", "w"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "shared",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 2, 2, 3])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 3])],
        [weight, numpy_helper.from_array(np.array([1, 2], np.int64), "axes")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    data = made.SerializeToString()
    pictures = random.integers(0, 256, (64, 2, 2, 3), np.uint8)
    found = int8.quantise(data, ranges.measure(data, pictures, "minmax"))
    assert int8.check(found) == {"linears": 2, "quantize": 2, "dequantize": 4}
    with (
        OnnxRunner(data, name="exact") as exact,
        OnnxRunner(found, name="rounded", quantised=True) as rounded,
    ):
        wanted = exact.run(pictures)["embedding"]
        apart = np.abs(rounded.run(pictures)["embedding"] - wanted).max()
    assert apart < 0.03 * np.abs(wanted).max()
