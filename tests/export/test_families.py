"""Files of every family, drawn small: right when declared, refused in one line when they are not.

Each says the same to every picture: a person of 12 x 30 pixels around (20, 30) of 64 x 64, as files
of its kind would.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from onnx import TensorProto, checker, helper, numpy_helper

from skyreid.bundle.archive import open_bundle
from skyreid.bundle.detector import open_detector
from skyreid.export.__main__ import main

SIDE = 64
CELLS = 64 + 16 + 4
CENTRED = (20, 30, 12, 30)
CORNERS = (14, 15, 26, 45)
OTHER = (50, 40, 10, 10)
FLOATS = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}
Outputs = dict[str, np.ndarray]


def write(
    path: Path,
    outputs: Outputs,
    *,
    sides: tuple[object, ...] = (1, 3, SIDE, SIDE),
    kind: int = TensorProto.FLOAT,
    dims: dict[str, list[object]] | None = None,
    sizes: bool = False,
) -> Path:
    """A file with those outputs; `dims` are shapes that it declares otherwise than it gives."""
    width = FLOATS[kind]
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
    ]
    constants = [numpy_helper.from_array(np.array(0, width), "zero")]
    inputs = [helper.make_tensor_value_info("images", kind, list(sides))]
    infos = []
    for name, values in outputs.items():
        whole = values.dtype.kind == "i"
        given = values if whole else values.astype(width)
        constants.append(numpy_helper.from_array(given, f"of_{name}"))
        if whole:
            nodes.append(helper.make_node("Identity", [f"of_{name}"], [name]))
        else:
            nodes.append(helper.make_node("Add", [f"of_{name}", "nothing"], [name]))
        shape = (dims or {}).get(name, list(values.shape))
        infos.append(
            helper.make_tensor_value_info(name, TensorProto.INT64 if whole else kind, shape)
        )
    if sizes:
        inputs.append(
            helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, ["N", 2])
        )
        last = nodes.pop()
        nodes += [
            helper.make_node("Cast", ["orig_target_sizes"], ["sides"], to=kind),
            helper.make_node("Concat", ["sides", "sides"], ["corners"], axis=1),
            helper.make_node(last.op_type, last.input, ["parts"]),
            helper.make_node("Mul", ["parts", "corners"], last.output),
        ]
    graph = helper.make_graph(nodes, "g", inputs, infos, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def cells(columns: int) -> np.ndarray:
    """A row [CELLS, columns] for every cell, with a box somewhere and next to no scores."""
    rows = np.full((CELLS, columns), 0.01, np.float32)
    rows[:, :2] = np.random.default_rng(0).uniform(0, SIDE, (CELLS, 2))
    rows[:, 2:4] = 8
    return rows


def yolox(columns: int = 9, person: int = 0) -> Outputs:
    """Objectness at 4, classes from 5 on."""
    rows = cells(columns)
    rows[7, :4], rows[7, 4], rows[7, 5 + person] = CENTRED, 0.9, 0.9
    rows[9, :4], rows[9, 4], rows[9, 6 - person] = OTHER, 0.9, 0.9
    rows[:, 4] += np.linspace(0, 0.01, CELLS)
    return {"output": rows[None]}


def yolox_raw() -> Outputs:
    """The same with boxes relative to their cells: cell 27 is column 3, row 3 of stride 8."""
    rows = np.full((CELLS, 9), 0.01, np.float32)
    rows[:, :4] = 0
    rows[27] = [20 / 8 - 3, 30 / 8 - 3, np.log(12 / 8), np.log(30 / 8), 0.9, 0.9, 0, 0, 0]
    return {"output": rows[None]}


def yolov8(columns: int = 8, person: int = 0) -> Outputs:
    """Classes from 4 on; [1, columns, CELLS]."""
    rows = cells(columns)
    rows[7, :4], rows[7, 4 + person] = CENTRED, 0.9
    rows[9, :4], rows[9, 5 - person] = OTHER, 0.9
    return {"output0": rows.T[None]}


def turned(outputs: Outputs) -> Outputs:
    return {name: values.transpose(0, 2, 1) for name, values in outputs.items()}


def yolov6() -> Outputs:
    """An objectness of 1 everywhere."""
    rows = cells(9)
    rows[:, 4], rows[7, :4], rows[7, 5] = 1, CENTRED, 0.9
    return {"outputs": rows[None]}


def logits(sure: float = 4.0, nobody: float = -6.0, columns: int = 5) -> Outputs:
    """Twenty queries: the first is the person, the second of another class."""
    scores = np.full((1, 20, columns), nobody, np.float32)
    scores[0, 0, 0] = scores[0, 1, 1] = sure
    boxes = np.full((1, 20, 4), 0.5, np.float32)
    boxes[0, 0] = np.array(CENTRED) / SIDE
    return {"logits": scores, "pred_boxes": boxes}


def softmaxed() -> Outputs:
    """DETR's own: the last class is that nobody is there."""
    outputs = logits(nobody=0.0)
    outputs["logits"][0, 2:, 4] = 9
    return outputs


def one_output() -> Outputs:
    """Ultralytics' RT-DETR: boxes and probabilities side by side."""
    two = logits()
    scores = 1 / (1 + np.exp(-two["logits"]))
    return {"output0": np.concatenate([two["pred_boxes"], scores], 2)}


def labelled(rows: int = 20) -> Outputs:
    """RT-DETR's own, its boxes as parts of what ``orig_target_sizes`` says."""
    scores = np.full((1, rows), 0.01, np.float32)
    scores[0, :2] = 0.9
    labels = np.zeros((1, rows), np.int64)
    labels[0, 1] = 2
    boxes = np.full((1, rows, 4), 0.5, np.float32)
    boxes[0, 0] = np.array(CORNERS) / SIDE
    return {"labels": labels, "scores": scores, "boxes": boxes}


def rows_of_six(count: int = 20) -> Outputs:
    """Corners, score, class; the second is of another class."""
    rows = np.zeros((1, count, 6), np.float32)
    rows[0, 0] = [*CORNERS, 0.9, 0]
    rows[0, 1] = [30, 30, 60, 60, 0.9, 2]
    return {"output0": rows}


def crowd() -> np.ndarray:
    """Three people of 8 x 24 pixels side by side, in rows of six."""
    rows = np.zeros((1, 20, 6), np.float32)
    for number in range(3):
        rows[0, number] = [8 + 18 * number, 20, 16 + 18 * number, 44, 0.9, 0]
    return rows


def rows_of_seven() -> Outputs:
    """Picture, corners, class, score, and only as many rows as are left: [2, 7]."""
    rows = np.array([[0, *CORNERS, 0, 0.9], [0, 30, 30, 60, 60, 2, 0.9]], np.float32)
    return {"output": rows}


def counted() -> Outputs:
    """EfficientNMS: what lies behind the count is left over from another picture."""
    boxes = np.tile(np.array([30, 10, 44, 50], np.float32), (1, 20, 1))
    boxes[0, 0] = CORNERS
    scores, classes = np.full((1, 20), 0.8, np.float32), np.zeros((1, 20), np.int64)
    return {
        "num_dets": np.array([[1]], np.int64),
        "det_boxes": boxes,
        "det_scores": scores,
        "det_classes": classes,
    }


def dets() -> Outputs:
    """MMDeploy: the score in the fifth column."""
    rows = rows_of_six()["output0"]
    return {"dets": rows[..., :5], "labels": rows[..., 5].astype(np.int64)}


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures; what is in them does not matter to the files drawn above."""
    folder = tmp_path_factory.mktemp("people")
    random = np.random.default_rng(0)
    for number in range(8):
        picture = random.integers(0, 256, (64, 64, 3), np.uint8)
        assert cv2.imwrite(str(folder / f"{number}.png"), picture)
    return folder


@pytest.fixture
def bundle(tmp_path: Path, people: Path) -> Callable[..., int]:
    """Run the command on a file; the bundle is ``tmp_path / "out"``."""

    def run(path: Path, family: str | None, *options: str) -> int:
        command = ["bundle", str(path), "--kind", "detector", "--golden", str(people)]
        command += [] if family is None else ["--family", family]
        return main([*command, "-o", str(tmp_path / "out"), *options])

    return run


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of the error."""
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error (")]
    assert len(lines) == 1
    return lines[0]


HALF: dict[str, Any] = {"kind": TensorProto.FLOAT16}
OPEN: dict[str, Any] = {"sides": ("batch", 3, "height", "width")}
RIGHT: dict[str, tuple[Outputs, dict[str, Any], str, tuple[str, ...]]] = {
    "yolox": (yolox(), {}, "yolox", ()),
    "yolox, not decoded": (yolox_raw(), {}, "yolox", ()),
    "yolox, half": (yolox(), HALF, "yolox", ()),
    "yolox, any size": (yolox(), OPEN, "yolox", ("--size", "64", "64")),
    "yolox, person second": (yolox(person=1), {}, "yolox", ("--person", "1")),
    "yolox, channels last": (yolox(), {"sides": (1, 64, 64, 3)}, "yolox", ("--layout", "nhwc")),
    "yolox, 0..1": (yolox(), {}, "yolox", ("--range", "1", "--channels", "rgb")),
    "yolov8": (yolov8(), {}, "yolov8", ()),
    "yolov8, turned": (turned(yolov8()), {}, "yolov8", ()),
    "yolov8, one class": ({"output0": yolov8()["output0"][:, :5]}, {}, "yolov8", ()),
    "yolov8, half": (yolov8(), HALF, "yolov8", ("--fit", "corner")),
    "detr": (logits(), {}, "detr", ()),
    "detr, softmax": (softmaxed(), {}, "detr", ("--scores", "softmax", "--range", "imagenet")),
    "detr, one output": (one_output(), {}, "detr", ()),
    "detr, labelled": (labelled(), {"sizes": True}, "detr", ()),
    "six columns": (rows_of_six(), {}, "nms-in-graph", ()),
    "seven columns": (
        rows_of_seven(),
        {"dims": {"output": ["left", 7]}},
        "nms-in-graph",
        ("--range", "1"),
    ),
    "counted": (counted(), {}, "nms-in-graph", ()),
    "dets": (dets(), {"dims": {"dets": [1, "left", 5], "labels": [1, "left"]}}, "nms-in-graph", ()),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_file_is_right_when_it_is_declared(
    name: str, bundle: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs, how, family, options = RIGHT[name]
    path = write(tmp_path / "x.onnx", outputs, **how)
    assert bundle(path, None, *options) == 2
    assert "--family: of the detector" in said(capsys)
    assert bundle(path, family, *options) == 0
    opened = open_bundle(tmp_path / "out").manifest
    assert opened.detector is not None
    assert opened.detector.family == family
    found = open_detector(tmp_path / "out").find(np.zeros((128, 128, 3), np.uint8))
    np.testing.assert_allclose(found.boxes, [2 * np.array(CORNERS)], atol=0.3)
    assert found.scores[0] >= 0.79


WRONG: dict[str, tuple[Outputs, dict[str, Any], str, tuple[str, ...], str]] = {
    "yolov8 as yolox": (yolov8(), {}, "yolox", (), "have 84 cells"),
    "yolov8, turned, as yolox": (turned(yolov8()), {}, "yolox", (), "finds somebody .* in 0 of"),
    "yolox as yolov8": (yolox(), {}, "yolov8", (), "as with an objectness: a YOLOX"),
    "yolox, person alone, as yolov8": (yolox(7), {}, "yolov8", (), "as with an objectness"),
    "yolov6 as yolox": (yolov6(), {}, "yolox", (), "objectness is 1 in every cell"),
    "yolov6 as yolov8": (yolov6(), {}, "yolov8", (), "sure of a person in 100%|as with an obj"),
    "detr as yolox": (logits(), {}, "yolox", (), "expected one output"),
    "detr as yolov8": (logits(), {}, "yolov8", (), "expected one output"),
    "detr as nms-in-graph": (logits(), {}, "nms-in-graph", (), "expected outputs named"),
    "detr, softmax, as sigmoid": (softmaxed(), {}, "detr", (), "sure of a person in 100%"),
    "detr, probabilities": (
        {"logits": 1 / (1 + np.exp(-logits()["logits"])), "pred_boxes": logits()["pred_boxes"]},
        {},
        "detr",
        (),
        "are probabilities: --scores plain",
    ),
    "detr in pixels": (
        {"logits": logits()["logits"], "pred_boxes": logits()["pred_boxes"] * 64},
        {},
        "detr",
        (),
        "no parts of the input",
    ),
    "six columns as detr": (rows_of_six(), {}, "detr", (), "no parts of the input"),
    "six columns, class before score": (
        {"output0": rows_of_six()["output0"][..., [0, 1, 2, 3, 5, 4]]},
        {},
        "nms-in-graph",
        (),
        "are not score",
    ),
    "six columns, parts of the input": (
        {"output0": rows_of_six()["output0"] / np.array([64, 64, 64, 64, 1, 1])},
        {},
        "nms-in-graph",
        (),
        "in 0 of the 8 pictures",
    ),
    "six columns, y before x": (
        {"output0": crowd()[..., [1, 0, 3, 2, 4, 5]]},
        {},
        "nms-in-graph",
        (),
        "sure of somebody 24 times in the drawn pictures, 0% of them .*x before y",
    ),
    "yolox as nms-in-graph": (yolox(), {}, "nms-in-graph", (), "6 or 7 columns"),
    "another person": (yolox(person=1), {}, "yolox", ("--person", "2"), "in 0 of the 8 pictures"),
    "no such class": (yolox(), {}, "yolox", ("--person", "4"), "classes are 0 to 3"),
    "channels last": (yolox(), {"sides": (1, 64, 64, 3)}, "yolox", (), "--layout nhwc declares"),
    "corners as centres": (
        {"output0": rows_of_six()["output0"]},
        {},
        "yolov8",
        (),
        "expected one output",
    ),
    "all cells hot": (
        {
            "output": np.where(
                np.arange(9) < 4, cells(9), np.linspace(0.8, 0.9, 9 * CELLS).reshape(CELLS, 9)
            )[None]
        },
        {},
        "yolox",
        (),
        "sure of a person in 100%",
    ),
    "somebody outside": (
        {"output0": yolov8()["output0"] + np.array([90, 0, 0, 0, 0, 0, 0, 0])[:, None]},
        {},
        "yolov8",
        (),
        "outside of its input",
    ),
    "no numbers": (
        {"output0": np.where(yolov8()["output0"] == 8, np.nan, yolov8()["output0"])},
        {},
        "yolov8",
        (),
        "no finite numbers",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_declared_wrongly_is_refused_in_one_line(
    name: str, bundle: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs, how, family, options, why = WRONG[name]
    path = write(tmp_path / "x.onnx", outputs, **how)
    assert bundle(path, family, *options) in (2, 3)
    line = said(capsys)
    assert re.search(why, line), line
    assert not (tmp_path / "out").exists()
