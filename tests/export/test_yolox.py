"""What makes family ``yolox`` of a published file: numpy and graph say the same, others refused."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from skyreid.bundle.boxes import P6_STRIDES, STRIDES, YOLOX
from skyreid.bundle.manifest import DetectorSpec
from skyreid.bundle.runner import OnnxRunner
from skyreid.contract.errors import BundleError
from skyreid.export.foreign import Answers
from skyreid.export.yolox import FOREIGN, grid, is_raw

FAMILY = YOLOX


def drawn(strides: tuple[int, ...], *, raw: bool, height: int = 128, width: int = 192) -> Answers:
    """A file's answer to two pictures."""
    rng = np.random.default_rng(0)
    cells, _ = grid(height, width, strides)
    rows = rng.normal(0, 1, (2, len(cells), 9)).astype(np.float32)
    if not raw:
        rows[..., :2] = rng.uniform(0, width, rows[..., :2].shape)
        rows[..., 2:4] = np.exp(rows[..., 2:4]) * 20
    rows[..., 4:] = 1 / (1 + np.exp(-rows[..., 4:]))
    return Answers(Path("x.onnx"), height, width, [rows], FOREIGN.declared)


@pytest.mark.parametrize("strides", [STRIDES, P6_STRIDES])
def test_decoding_equals_a_naive_loop(strides: tuple[int, ...]) -> None:
    answers = drawn(strides, raw=True)
    found, index = FOREIGN.read(answers, FAMILY), 0
    for stride in strides:
        for y in range(128 // stride):
            for x in range(192 // stride):
                raw = answers.outputs[0][1, index]
                cx, cy = (raw[0] + x) * stride, (raw[1] + y) * stride
                w, h = np.exp(raw[2]) * stride, np.exp(raw[3]) * stride
                box = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
                np.testing.assert_allclose(found["boxes"][1, index], box, rtol=1e-5, atol=1e-4)
                assert found["scores"][1, index] == pytest.approx(raw[4] * raw[5])
                index += 1
    assert index == found["boxes"].shape[1]
    assert FOREIGN.align(answers) == strides[-1]


@pytest.mark.parametrize("raw", [True, False])
def test_the_graph_decodes_as_numpy_does(raw: bool) -> None:
    answers = drawn(STRIDES, raw=raw)
    (rows,) = answers.outputs
    assert is_raw(rows) is raw
    tail = FOREIGN.tail(["rows"], answers, FAMILY)
    cast = helper.make_node("Cast", ["images"], ["there"], to=TensorProto.FLOAT)
    least = helper.make_node("ReduceMin", ["there"], ["least"], keepdims=0)
    fixed = tail.constant("fixed", rows - np.float32(1))
    add = helper.make_node("Add", [fixed, "least"], ["rows"])  # 1, from a picture of ones
    spec = DetectorSpec(family="yolox", stride=0, align=FOREIGN.align(answers), score_min=0.1)
    shapes = FAMILY.shapes(128, 192, spec)
    graph = helper.make_graph(
        [cast, least, add, *tail.nodes],
        "tail",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, [1, 4, 4, 3])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, *shape])
            for name, shape in shapes.items()
        ],
        tail.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    with OnnxRunner(model.SerializeToString(), name="tail") as runner:
        found = runner.run(np.ones((1, 4, 4, 3), np.uint8))
    for name, wanted in FOREIGN.read(answers, FAMILY).items():
        np.testing.assert_allclose(found[name], wanted, rtol=1e-4, atol=1e-3)


def test_files_of_other_families_are_refused_in_one_line() -> None:
    answers = drawn(STRIDES, raw=False)
    (rows,) = answers.outputs

    def refused(outputs: list[np.ndarray], why: str) -> None:
        with pytest.raises(BundleError, match=why) as caught:
            FOREIGN.read(Answers(Path("x.onnx"), 128, 192, outputs, FOREIGN.declared), FAMILY)
        assert "\n" not in str(caught.value)

    refused([rows, rows], r"expected one output \[1, cells, 5 \+ classes\]")  # boxes and logits
    refused([rows[..., :5]], "expected one output")
    refused([rows.transpose(0, 2, 1)], "have 504 cells")  # YOLOv8
    refused([np.repeat(rows, 3, 1)], "have 504 cells")  # YOLOv5: three anchors a cell
    refused([rows * 4], "are not probabilities")  # pixels or logits in those columns
    certain = rows.copy()
    certain[..., 4] = 1
    refused([certain], "objectness is 1 in every cell")  # YOLOv6
