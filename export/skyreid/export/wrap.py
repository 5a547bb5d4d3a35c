"""A bare detector ``.onnx`` of a declared family to a bundle, without torch.

Published files take float planes and answer each in its own way. Around such a file goes what makes
it one of ours: uint8 [1, H, W, 3] RGB in, its family's outputs out. Then it is held against the
file itself, and must find somebody in pictures of people: a shape alone proves no family. Nothing
is written before every gate has passed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper

from skyreid.bundle.archive import Bundle, write_bundle
from skyreid.bundle.detector import Detector
from skyreid.bundle.family import FAMILIES, Family
from skyreid.bundle.manifest import DetectorSpec, Manifest, NumericFormat
from skyreid.bundle.runner import OnnxRunner, self_test_all
from skyreid.contract.errors import BundleError, GateError, InputError
from skyreid.contract.input_spec import InputSpec
from skyreid.export import fp16, golden, graph, parity, yolox
from skyreid.export.batched import run_all
from skyreid.export.foreign import Answers, Foreign, Tail

FOREIGN: dict[str, Foreign] = {"yolox": yolox.FOREIGN}
"""How a family's files are published, where they are not as `Foreign` has it by default."""

FOUND_MIN = 0.3
"""Score of somebody who was found for sure, in the golden pictures."""
SIDE_MAX_PX = 8192
"""Of an input: golden pictures have its size, eight at once are in memory."""
_OPSET_MIN = 11
_TOOLS = ("onnx", "onnxsim", "onnxruntime")
HALF_LIMIT = 1e-2
"""What the simplifier's other order of sums may change in a float16 file, relative above 1."""
_TYPES: dict[NumericFormat, int] = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16}
_FLOATS: dict[NumericFormat, Any] = {"fp32": np.float32, "fp16": np.float16}


@dataclass(frozen=True)
class File:
    """A bare file, read and checked."""

    path: Path
    model: Any
    """onnx.ModelProto with a fixed input, every name behind ``file/``."""
    sha256: str
    input: str
    numeric_format: NumericFormat
    height: int
    width: int


def wrap(
    path: Path,
    out: Path,
    *,
    family: str,
    pictures_from: Path,
    name: str,
    size: tuple[int, int] | None = None,
    score_min: float | None = None,
    formats: tuple[str, ...] = (),
    licence: str,
    notes: str = "",
    say: Callable[[str], object] = lambda line: None,
) -> Bundle:
    """Write the bundle of a bare detector file.

    Args:
        path: of the ``.onnx`` file.
        out: the bundle directory to make; it must not exist.
        family: a name of `FAMILIES`.
        pictures_from: directory of at least eight pictures with people in them; they become the
            golden ones.
        name: of the model, for people.
        size: height and width of its input, where the file leaves them open.
        score_min: default threshold; None = the family's.
        formats: numeric formats, the file's own or, of a float32 file, fp16 too; none = its own.
        licence: SPDX expression of the weights.
        notes: for people, into the manifest.
        say: receives a line per stage.

    Raises:
        InputError: an argument, the file or a picture cannot be used.
        BundleError: the file is not of the family, or `out` exists.
        GateError: a check or a parity limit failed, or nobody is found; nothing has been written.
    """
    if family not in FAMILIES:
        raise InputError(f"--family {family}: known are {', '.join(sorted(FAMILIES))}")
    if out.exists():
        raise BundleError(f"{out} exists already: remove it, or write to another directory")
    kind, form = FAMILIES[family], FOREIGN.get(family, Foreign())
    if score_min is not None and not 0 <= score_min <= 1:
        raise InputError(f"--score-min {score_min}: 0 to 1 is possible")
    say(f"read {path}")
    file = read(path, size)
    wanted_formats = _formats(formats, file)
    sides = InputSpec(
        height=file.height,
        width=file.width,
        mean=(0.0, 0.0, 0.0),
        std=(1 / form.scale,) * 3,
        crop_margin=0.0,
    )
    pictures = golden.read_for_detector(pictures_from, sides)

    say("ask the file itself")
    answers = ask(file, form, pictures)
    wanted = form.read(answers, kind)
    say(f"make it one of family {family}")
    made = graph.simplify(graft(file, form, kind, answers))
    facts = graph.check(made, batch=1)
    spec = DetectorSpec(
        family=family,
        stride=0,
        align=form.align(answers),
        score_min=kind.score_min if score_min is None else score_min,
    )
    with OnnxRunner(made, name=name) as runner:
        found = run_all(runner.run, pictures, 1, what=name)
        finder = Detector(runner.run, spec, sides, score_min=FOUND_MIN)
        finder.require_shapes(str(path))
        seen = sum(len(finder.find(picture)) > 0 for picture in pictures)
    apart = parity.distance(found, wanted, kind)
    limit = parity.TORCH_LIMIT if file.numeric_format == "fp32" else HALF_LIMIT
    parity.require(f"the bundle's graph against {path.name} itself", apart, limit)
    if 2 * seen < len(pictures):
        raise GateError(
            f"{path} as {family} finds somebody (score {FOUND_MIN} or more) in {seen} of the "
            f"{len(pictures)} pictures of {pictures_from}, in half of them it must: do they show "
            "people, and is that the file's family?"
        )

    models: dict[NumericFormat, bytes] = {file.numeric_format: made}
    if file.numeric_format == "fp32" and "fp16" in wanted_formats:
        say("convert to fp16")
        models["fp16"] = fp16.convert(made)
        fp16.check(models["fp16"])
    manifest = Manifest(
        kind="detector",
        name=name,
        input=sides,
        formats=wanted_formats,
        opset=facts["opset"],
        batch_max=1,
        checkpoint_sha256=file.sha256,
        tools={tool: version(tool) for tool in _TOOLS},
        licence=licence,
        detector=spec,
        notes=notes,
    )
    say(f"write {out}")
    return write_bundle(
        out,
        manifest,
        {one: models[one] for one in wanted_formats},
        golden_pictures=pictures,
        golden_outputs=found,
        parity={
            "gates": {"batch 1": {path.name: apart}},
            "nodes": facts["nodes"],
            "operators": facts["operators"],
        },
        check=self_test_all,
    )


def read(path: Path, size: tuple[int, int] | None) -> File:
    """Read a bare file: one float input [N, 3, H, W].

    Raises:
        InputError: it is no such file, or `size` is not the one it has.
    """
    try:
        data = path.read_bytes()
        model = onnx.load_from_string(data)
        onnx.checker.check_model(model, full_check=True)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except Exception as error:  # protobuf's and onnx's own trees
        raise InputError(f"{path} is no ONNX file that can be used: {error}") from error
    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < _OPSET_MIN:
        raise InputError(f"{path}: opset {opset}, at least {_OPSET_MIN} is needed")
    model = compose.add_prefix(model, "file/")
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in constants]
    tensors = [entry.type.tensor_type for entry in inputs]
    shapes = [[dim.dim_value or dim.dim_param or "?" for dim in t.shape.dim] for t in tensors]
    one = shapes[0] if len(inputs) == 1 else []
    if len(one) != 4 or one[1] != 3 or tensors[0].elem_type not in _TYPES.values():
        found = ", ".join(
            f"{entry.name[5:]} {TensorProto.DataType.Name(tensor.elem_type).lower()} {shape}"
            for entry, tensor, shape in zip(inputs, tensors, shapes, strict=True)
        )
        raise InputError(f"{path}: expected one float input [N, 3, height, width], it has {found}")
    if isinstance(one[0], int) and one[0] != 1:
        raise InputError(f"{path} takes {one[0]} pictures at once: export it for one, or for any")
    height, width = _size(path, one[2:], size)
    for dim, value in zip(tensors[0].shape.dim, (1, 3, height, width), strict=True):
        dim.dim_value = value
    del model.graph.value_info[:]
    (numeric_format,) = (name for name, kind in _TYPES.items() if kind == tensors[0].elem_type)
    digest = hashlib.sha256(data).hexdigest()
    return File(path, model, digest, inputs[0].name, numeric_format, height, width)


def _size(path: Path, own: list[Any], asked: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the input: the file's own, or those that were asked for."""
    fixed = [isinstance(side, int) for side in own]
    if asked is not None and not 1 <= min(asked) <= max(asked) <= SIDE_MAX_PX:
        raise InputError(f"--size {asked[0]} {asked[1]}: 1 to {SIDE_MAX_PX} is possible")
    if asked is None:
        if not all(fixed):
            raise InputError(
                f"{path} takes pictures of any size: say which with --size HEIGHT WIDTH"
            )
        return own[0], own[1]
    if any(known and side != mine for known, side, mine in zip(fixed, own, asked, strict=True)):
        raise InputError(f"--size {asked[0]} {asked[1]}: {path} takes {own[0]} x {own[1]} only")
    return asked


def ask(file: File, form: Foreign, pictures: NDArray[np.uint8]) -> Answers:
    """What the file itself says to uint8 [N, H, W, 3] RGB, fed one by one as its family's are.

    Raises:
        InputError: it does not run.
    """
    planes = pictures[..., ::-1] if form.bgr else pictures
    fed = planes.transpose(0, 3, 1, 2).astype(np.float32) * np.float32(form.scale)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is wrong with the file is said in one line of our own
    try:
        session = onnxruntime.InferenceSession(
            file.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        rows = [
            session.run(None, {file.input: one[None].astype(_FLOATS[file.numeric_format])})
            for one in fed
        ]
    except Exception as error:  # onnxruntime's own tree has no public base class
        raise InputError(f"{file.path} does not run: {error}") from error
    try:
        outputs = [np.concatenate(values).astype(np.float32) for values in zip(*rows, strict=True)]
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{file.path} gives something else than numbers of the same shape for every picture: "
            f"{error}"
        ) from error
    return Answers(file.path, file.height, file.width, outputs)


def graft(file: File, form: Foreign, family: Family, answers: Answers) -> bytes:
    """The file's graph between uint8 [1, H, W, 3] RGB and its family's outputs, float32."""
    model = onnx.ModelProto()
    model.CopyFrom(file.model)
    own = model.graph
    head = Tail()
    last = head.add("Cast", [graph.INPUT], "head/cast", to=_TYPES[file.numeric_format])
    last = head.add("Transpose", [last], "head/planes", perm=[0, 3, 1, 2])
    if form.bgr:
        order = head.constant("head/order", np.array([2, 1, 0], np.int64))
        last = head.add("Gather", [last, order], "head/bgr", axis=1)
    if form.scale != 1:
        scale = np.array(form.scale, _FLOATS[file.numeric_format])
        last = head.add("Mul", [last, head.constant("head/scale", scale)], "head/scaled")
    head.add("Identity", [last], file.input)

    casts, outputs = Tail(), [entry.name for entry in own.output]
    for entry in own.output:
        casts.add("Cast", [entry.name], f"tail/{entry.name}", to=TensorProto.FLOAT)
    tail = form.tail([f"tail/{name}" for name in outputs], answers, family)

    kept = [entry for entry in own.input if entry.name != file.input]
    shape = [1, file.height, file.width, 3]
    images = helper.make_tensor_value_info(graph.INPUT, TensorProto.UINT8, shape)
    del own.input[:], own.output[:]
    own.input.extend([images, *kept])
    shapes = form.read(answers, family)
    own.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, *shapes[name].shape[1:]])
        for name in family.outputs
    )
    nodes = [*head.nodes, *own.node, *casts.nodes, *tail.nodes]
    del own.node[:]
    own.node.extend(nodes)
    own.initializer.extend([*head.constants, *tail.constants])
    serialised: bytes = model.SerializeToString()
    return serialised


def _formats(asked: tuple[str, ...], file: File) -> tuple[NumericFormat, ...]:
    can: tuple[NumericFormat, ...] = (
        ("fp32", "fp16") if file.numeric_format == "fp32" else ("fp16",)
    )
    unknown = [one for one in asked if one not in can]
    if unknown:
        raise InputError(
            f"--formats {','.join(asked)}: of {file.path}, which is {file.numeric_format}, "
            f"can be made: {', '.join(can)}"
        )
    return tuple(one for one in can if one in (asked or (file.numeric_format,)))
