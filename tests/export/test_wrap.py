"""Bare detector files become bundles of the family they are declared to be, or are refused."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from skyreid.bundle.archive import open_bundle
from skyreid.bundle.detections import Detections, Float32
from skyreid.bundle.detector import open_detector, place, start_detector
from skyreid.bundle.engine import profile_of
from skyreid.bundle.family import FAMILIES
from skyreid.bundle.manifest import DetectorSpec, WrappedFile
from skyreid.contract.errors import BundleError
from skyreid.export import wrap
from skyreid.export.__main__ import main

CELLS = 64 + 16 + 4  # of 64 x 64
FLOATS = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}


def write_file(
    path: Path,
    values: np.ndarray,
    *,
    sides: tuple[object, ...] = (1, 3, 64, 64),
    kind: int = TensorProto.FLOAT,
) -> Path:
    """A file that says `values` to every picture, and a little more where it is bright."""
    width = FLOATS.get(kind, np.float32)
    cast = [] if kind in FLOATS else [helper.make_node("Cast", ["images"], ["x"], to=1)]
    nodes = [
        *cast,
        helper.make_node("ReduceMean", ["x" if cast else "images"], ["m"], keepdims=0),
        helper.make_node("Mul", ["m", "tiny"], ["more"]),
        helper.make_node("Add", ["values", "more"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", kind, list(sides))],
        [
            helper.make_tensor_value_info(
                "output", kind if kind in FLOATS else TensorProto.FLOAT, list(values.shape)
            )
        ],
        [
            numpy_helper.from_array(values.astype(width), "values"),
            numpy_helper.from_array(np.array(1e-6, width), "tiny"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def rows(columns: int = 6) -> np.ndarray:
    """A decoded YOLOX of 64 x 64 that sees one person, 10 x 30 pixels around (20, 30)."""
    values = np.zeros((1, CELLS, columns), np.float32)
    values[..., :2] = np.random.default_rng(0).uniform(0, 64, (1, CELLS, 2))
    values[..., 2:4] = 8
    values[..., 4:] = 0.01
    values[0, 7] = [20, 30, 10, 30, 0.9, 0.9, *[0.01] * (columns - 6)]
    return values


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pictures; what is in them does not matter to the files drawn above."""
    folder = tmp_path_factory.mktemp("people")
    random = np.random.default_rng(0)
    for number in range(8):
        picture = random.integers(0, 256, (48, 96, 3), np.uint8)
        assert cv2.imwrite(str(folder / f"{number}.png"), picture)
    return folder


@pytest.fixture
def bundle(tmp_path: Path, people: Path) -> Callable[..., int]:
    """Run the command on a file; the bundle is ``tmp_path / "out"``."""

    def run(path: Path, *options: str, family: str = "yolox") -> int:
        command = ["bundle", str(path), "--kind", "detector", "--family", family]
        return main([*command, "--golden", str(people), "-o", str(tmp_path / "out"), *options])

    return run


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of the error."""
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error (")]
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("sides", "kind", "options", "form"),
    [
        ((1, 3, 64, 64), TensorProto.FLOAT, (), "fp32"),
        (("batch", 3, 64, 64), TensorProto.FLOAT, (), "fp32"),
        (("batch", 3, "height", "width"), TensorProto.FLOAT, ("--size", "64", "64"), "fp32"),
        ((1, 3, 64, 64), TensorProto.FLOAT16, (), "fp16"),
        ((1, 3, 64, 64), TensorProto.UINT8, (), "fp32"),
        ((1, 64, 64, 3), TensorProto.FLOAT, ("--layout", "nhwc"), "fp32"),
    ],
)
def test_every_form_in_which_a_yolox_comes_is_wrapped_and_finds_people(
    bundle: Callable[..., int],
    tmp_path: Path,
    sides: tuple[object, ...],
    kind: int,
    options: tuple[str, ...],
    form: str,
) -> None:
    assert bundle(write_file(tmp_path / "x.onnx", rows(), sides=sides, kind=kind), *options) == 0
    opened = open_bundle(tmp_path / "out")
    manifest = opened.manifest
    assert (manifest.kind, manifest.formats, manifest.batch_max) == ("detector", (form,), 1)
    assert (manifest.input.height, manifest.input.width) == (64, 64)
    assert manifest.licence == "NOASSERTION"
    assert manifest.detector == DetectorSpec(
        family="yolox",
        stride=0,
        align=32,
        score_min=0.1,
        rows=CELLS,
        file=WrappedFile(
            layout="nhwc" if options[:1] == ("--layout",) else "nchw", channels="bgr", person=0
        ),
    )
    assert profile_of(manifest).text() == "1x64x64x3:1x64x64x3:1x64x64x3"
    found = open_detector(tmp_path / "out").find(np.zeros((128, 64, 3), np.uint8))
    np.testing.assert_allclose(found.boxes, [[30, 30, 50, 90]], atol=0.1)
    np.testing.assert_allclose(found.scores, [0.81], atol=1e-2)


def test_the_channels_are_turned_for_a_yolox_and_not_for_others() -> None:
    assert wrap.FOREIGN["yolox"].declared.channels == "bgr"
    assert wrap.Foreign().declared.channels == "rgb"


@pytest.mark.parametrize(
    ("values", "sides", "kind", "why"),
    [
        (np.zeros((1, 24, CELLS)), (1, 3, 64, 64), 1, "64 x 64 pixels have 84 cells"),  # YOLOv8
        (np.zeros((1, 3 * CELLS, 85)), (1, 3, 64, 64), 1, "have 84 cells"),  # YOLOv5
        (rows(), (1, 64, 64, 3), 1, r"expected one float input \[N, 3, height, width\]"),
        (rows(), (1, 3, 64, 64), 7, "expected one float input"),  # int64
        (rows(), (4, 3, 64, 64), 1, "takes 4 pictures at once"),
        (rows(), (1, 3, "h", "w"), 1, "say which with --size"),
    ],
)
def test_files_that_are_none_are_refused_in_one_line(
    bundle: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    values: np.ndarray,
    sides: tuple[object, ...],
    kind: int,
    why: str,
) -> None:
    assert bundle(write_file(tmp_path / "x.onnx", values, sides=sides, kind=kind)) == 2
    assert re.search(why, said(capsys))
    assert not (tmp_path / "out").exists()


def test_a_yolov8_whose_output_was_turned_finds_nobody_and_is_refused(
    bundle: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its columns are centre, size and classes: a sure person has no objectness beside it."""
    values = rows(84)
    values[0, 7, 4:] = [0.95, *[0.001] * 79]
    assert bundle(write_file(tmp_path / "x.onnx", values)) == 3
    assert "finds somebody (score 0.3 or more) in 0 of the 8 pictures" in said(capsys)
    assert not (tmp_path / "out").exists()


def test_arguments_that_cannot_be_are_refused(
    bundle: Callable[..., int],
    tmp_path: Path,
    people: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = write_file(tmp_path / "x.onnx", rows())
    assert bundle(path, family="retina") == 2
    assert "--family retina: known are detr, heatmap, nms-in-graph, yolov8, yolox" in said(capsys)
    assert bundle(path, "--formats", "int8") == 2
    assert "can be made: fp32, fp16" in said(capsys)
    assert bundle(path, "--size", "32", "64") == 2
    assert "takes 64 x 64 only" in said(capsys)
    assert bundle(path, "--view", "aerial") == 2
    assert "serves any view" in said(capsys)
    assert bundle(tmp_path / "absent.onnx") == 2
    assert "absent.onnx: No such file" in said(capsys)
    assert bundle(people / "0.png") == 2
    assert "is no ONNX file" in said(capsys)
    out = ["-o", str(tmp_path / "out")]
    assert main(["bundle", str(path), "--kind", "detector", *out]) == 2
    assert "--family: of the detector" in said(capsys)
    assert main(["bundle", str(path), "--family", "yolox", "--view", "any", *out]) == 2
    assert "is for a bare .onnx, which says --kind detector" in said(capsys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--score-min", "nan"), "--score-min nan: 0 to 1"),
        (("--score-min", "1.1"), "--score-min 1.1: 0 to 1"),
        (("--size", "0", "64"), "--size 0 64: 1 to 8192"),
        (("--size", "64", "100000"), "--size 64 100000: 1 to 8192"),  # a picture of 19 MB
        (("--notes", "\udcff"), "--notes '.udcff': is no UTF-8"),
        (("-o", "/nowhere/\udcff"), "--name '.udcff': is no UTF-8"),
    ],
)
def test_values_that_cannot_be_are_refused_before_the_work(
    bundle: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    why: str,
) -> None:
    path = write_file(tmp_path / "x.onnx", rows(), sides=(1, 3, "h", "w"))
    assert bundle(path, *options) == 2
    assert re.search(why, said(capsys))


def test_a_bare_file_without_its_kind_is_told_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_file(tmp_path / "x.onnx", rows())
    assert main(["bundle", str(path), "--view", "any", "-o", str(tmp_path / "out")]) == 2
    assert "--kind detector --family yolox" in said(capsys)


def test_outputs_that_cannot_be_joined_are_refused(
    bundle: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One number alone for a picture, without the picture's axis."""
    assert bundle(write_file(tmp_path / "x.onnx", np.array(0.5))) == 2
    assert "something else than numbers of the same shape" in said(capsys)


def two_outputs(path: Path, first: np.ndarray, second: np.ndarray) -> Path:
    """A file that says the same two things to every picture."""
    values = {"a": first, "b": second}
    graph = helper.make_graph(
        [helper.make_node("Identity", [f"of_{name}"], [name]) for name in values],
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, list(value.shape))
            for name, value in values.items()
        ],
        [numpy_helper.from_array(v.astype(np.float32), f"of_{n}") for n, v in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (np.full((1, 16, 16), 0.9), np.full((1, 4, 16, 16), 8)),  # of its own shapes
        (np.zeros((1, 300, 4)), np.zeros((1, 300, 80))),  # RT-DETR
    ],
)
def test_no_bare_file_becomes_a_heatmap_whose_stride_nobody_knows(
    bundle: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    first: np.ndarray,
    second: np.ndarray,
) -> None:
    path = two_outputs(tmp_path / "x.onnx", first, second)
    assert bundle(path, family="heatmap") == 2
    assert "stride 0: a heatmap's cells have a size" in said(capsys)
    assert not (tmp_path / "out").exists()


def test_the_device_says_what_to_do_with_a_bare_file(tmp_path: Path) -> None:
    path = write_file(tmp_path / "x.onnx", rows())
    with pytest.raises(BundleError, match=r"bare \.onnx .* skyreid-export bundle x\.onnx --kind"):
        open_detector(path)


def test_torch_is_not_needed(tmp_path: Path, people: Path) -> None:
    path = write_file(tmp_path / "x.onnx", rows())
    command = ["bundle", str(path), "--kind", "detector", "--family", "yolox"]
    command += ["--golden", str(people), "-o", str(tmp_path / "out"), "--formats", "fp32,fp16"]
    code = (
        "import sys\nsys.modules['torch'] = None\n"
        "from skyreid.export.__main__ import main\n"
        f"code = main({command!r})\n"
        "sys.exit(code)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert open_bundle(tmp_path / "out").manifest.formats == ("fp32", "fp16")


class Toy:
    """A family from outside: one number a picture, how sure it is of one person in the middle."""

    name = "toy"
    outputs = ("sure",)
    score_min = 0.5
    iou_max = 0.5

    def shapes(self, height: int, width: int, spec: DetectorSpec) -> dict[str, tuple[int, ...]]:
        return {"sure": (1,)}

    def decode(
        self, outputs: Mapping[str, Float32], spec: DetectorSpec, score_min: float
    ) -> Detections:
        scores = outputs["sure"]
        boxes = np.array([[16, 8, 48, 56]], np.float32)
        return Detections(boxes[scores >= score_min], scores[scores >= score_min])

    def apart(self, name: str, found: Float32, wanted: Mapping[str, Float32]) -> Float32 | None:
        return None


def test_a_family_from_outside_is_wrapped_opened_and_run(
    bundle: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_file(tmp_path / "toy.onnx", np.array([[0.8]]))
    assert bundle(path, family="toy") == 2
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setitem(FAMILIES, "toy", Toy())
        assert bundle(path, family="toy") == 0
        found = open_detector(tmp_path / "out").find(np.zeros((64, 128, 3), np.uint8))
        np.testing.assert_array_equal(found.boxes, [[32, 16, 96, 64]])
        assert main(["verify", str(tmp_path / "out"), "--json"]) == 0
        capsys.readouterr()
        assert main(["inspect", str(tmp_path / "out"), "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["manifest"]["detector"]["family"] == "toy"
    with pytest.raises(
        BundleError, match="'toy' is unknown, this version has: detr, heatmap, nms-in"
    ):
        open_detector(tmp_path / "out")


def test_a_bundle_that_says_another_family_than_its_graphs_is_refused(
    bundle: Callable[..., int], tmp_path: Path
) -> None:
    assert bundle(write_file(tmp_path / "x.onnx", rows())) == 0
    opened = open_bundle(tmp_path / "out")
    assert opened.manifest.detector is not None
    lied = opened.manifest.detector.model_copy(update={"family": "heatmap", "stride": 4})
    manifest = opened.manifest.model_copy(update={"detector": lied})
    object.__setattr__(opened, "manifest", manifest)
    with pytest.raises(BundleError, match="is no detector of family heatmap") as caught:
        start_detector(opened)
    assert "\n" not in str(caught.value)


def test_people_of_a_real_frame_are_found_where_they_are(yolox_bundle: Path, shared: Path) -> None:
    detector = open_detector(yolox_bundle, score_min=0.4)
    video = cv2.VideoCapture(str(shared / "media" / "vtest.mp4"))
    video.set(cv2.CAP_PROP_POS_FRAMES, 150)
    ok, picture = video.read()
    assert ok
    found = detector.find(np.ascontiguousarray(picture[:, :, ::-1]))
    assert 5 <= len(found) <= 12
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    assert (sides[:, 1] > sides[:, 0]).all()  # upright


def test_golden_pictures_are_placed_as_a_device_places_them(
    yolox_bundle: Path, media_people: Path
) -> None:
    opened = open_bundle(yolox_bundle)
    pictures, _ = opened.golden()
    first = cv2.imread(str(sorted(media_people.iterdir())[0]))[:, :, ::-1]
    np.testing.assert_array_equal(pictures[0], place(first, opened.manifest.input, 32)[0])
