"""A bare detector ``.onnx``: reading it, asking it, and putting its graph into one of ours."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, compose, helper

from skyreid.bundle.family import Family
from skyreid.bundle.manifest import NumericFormat
from skyreid.contract.errors import InputError
from skyreid.export import graph
from skyreid.export.declared import RANGES, Declared
from skyreid.export.foreign import Answers, Floats, Foreign, Tail

UInt8 = NDArray[np.uint8]

SIDE_MAX_PX = 8192
"""Of an input: golden pictures have its size, eight at once are in memory."""
_OPSET_MIN = 11
_TYPES: dict[NumericFormat, int] = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16}
_FLOATS: dict[NumericFormat, Any] = {"fp32": np.float32, "fp16": np.float16}
_SIZE_INPUT = "orig_target_sizes"


@dataclass(frozen=True)
class File:
    """A bare file, read and checked, and what is declared of its input."""

    path: Path
    model: Any
    """onnx.ModelProto with a fixed input, every name behind ``file/``."""
    sha256: str
    input: str
    size_input: str | None
    """A second input, int64 [1, 2], that is told width and height."""
    numeric_format: NumericFormat
    height: int
    width: int
    declared: Declared
    filled: tuple[bool, ...]
    """Of each output: whether it gets `Foreign.rows_max` rows, since the file gives any number."""


def read(path: Path, size: tuple[int, int] | None, form: Foreign, declared: Declared) -> File:
    """Read a bare file: one input of pictures, float or uint8, in the declared layout.

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
    size_input = _size_input(inputs) if form.wants_size else None
    pictures = [entry for entry in inputs if entry.name != size_input]
    numeric_format = _numeric_format(path, model, pictures, declared)
    dims = pictures[0].type.tensor_type.shape.dim
    shape = [dim.dim_value or dim.dim_param or "?" for dim in dims]
    if isinstance(shape[0], int) and shape[0] != 1:
        raise InputError(f"{path} takes {shape[0]} pictures at once: export it for one, or for any")
    first = 2 if declared.layout == "nchw" else 1
    height, width = _size(path, shape[first : first + 2], size)
    whole = (1, 3, height, width) if declared.layout == "nchw" else (1, height, width, 3)
    for dim, value in zip(dims, whole, strict=True):
        dim.dim_value = value
    if size_input is not None:
        for dim, value in zip(_named(inputs, size_input).shape.dim, (1, 2), strict=True):
            dim.dim_value = value
    del model.graph.value_info[:]
    return File(
        path,
        model,
        hashlib.sha256(data).hexdigest(),
        pictures[0].name,
        size_input,
        numeric_format,
        height,
        width,
        declared,
        tuple(form.rows_max is not None and _any_rows(entry) for entry in model.graph.output),
    )


def _numeric_format(
    path: Path, model: Any, pictures: Sequence[Any], declared: Declared
) -> NumericFormat:
    """Of the file, by its one input, whose axes must be in the declared order.

    An uint8 input is as good as a float32 one where the file itself begins with a cast of it.
    """
    at = 1 if declared.layout == "nchw" else 3
    tensor = pictures[0].type.tensor_type if len(pictures) == 1 else None
    shape = [] if tensor is None else [d.dim_value or d.dim_param or "?" for d in tensor.shape.dim]
    if tensor is not None and len(shape) == 4 and shape[at] == 3:
        if tensor.elem_type == TensorProto.UINT8 and declared.range == "255":
            readers = [node for node in model.graph.node if pictures[0].name in node.input]
            if all(node.op_type == "Cast" for node in readers):
                tensor.elem_type = TensorProto.FLOAT
        for name, kind in _TYPES.items():
            if tensor.elem_type == kind:
                return name
    axes = "[N, 3, height, width]" if declared.layout == "nchw" else "[N, height, width, 3]"
    found = ", ".join(
        f"{entry.name[5:]} {TensorProto.DataType.Name(entry.type.tensor_type.elem_type).lower()} "
        f"{[d.dim_value or d.dim_param or '?' for d in entry.type.tensor_type.shape.dim]}"
        for entry in pictures
    )
    other = "nhwc" if declared.layout == "nchw" else "nchw"
    turned = len(shape) == 4 and shape[4 - at] == 3
    hint = f": --layout {other} declares that" if turned else ""
    raise InputError(f"{path}: expected one float input {axes}, it has {found}{hint}")


def _size_input(inputs: Sequence[Any]) -> str | None:
    """The name of the input that is told the picture's size, if there is one."""
    names = [
        entry.name
        for entry in inputs
        if entry.name.endswith(_SIZE_INPUT)
        and entry.type.tensor_type.elem_type == TensorProto.INT64
        and len(entry.type.tensor_type.shape.dim) == 2
    ]
    return names[0] if names else None


def _named(inputs: Sequence[Any], name: str) -> Any:
    return next(entry.type.tensor_type for entry in inputs if entry.name == name)


def _any_rows(output: Any) -> bool:
    """Whether an output's rows, its second axis or the first of a table, have no fixed number."""
    dims = output.type.tensor_type.shape.dim
    at = 0 if len(dims) == 2 and dims[1].dim_value in (6, 7) else 1
    return len(dims) < 2 or not dims[at].dim_value or at == 0


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


class Asked:
    """A file's own graph, ready to be asked."""

    def __init__(self, file: File, form: Foreign) -> None:
        """Load it.

        Raises:
            InputError: it does not run.
        """
        self._file, self._form = file, form
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what is wrong is said in one line of our own
        try:
            self._session = onnxruntime.InferenceSession(
                file.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own tree has no public base class
            raise InputError(f"{file.path} does not run: {error}") from error

    def ask(self, pictures: UInt8, declared: Declared) -> Answers:
        """What it says to uint8 [N, H, W, 3] RGB, fed one by one as `declared`.

        Raises:
            InputError: it does not run, or says something of no shape.
        """
        file = self._file
        mean, std = (np.array(values, np.float32) for values in RANGES[declared.range])
        fed = (pictures.astype(np.float32) - mean) / std
        fed = fed[..., ::-1] if declared.channels == "bgr" else fed
        fed = fed.transpose(0, 3, 1, 2) if declared.layout == "nchw" else fed
        feed: dict[str, Any] = {}
        if file.size_input is not None:
            feed[file.size_input] = np.array([[file.width, file.height]], np.int64)
        rows = []
        try:
            for one in fed:
                feed[file.input] = np.ascontiguousarray(one[None], _FLOATS[file.numeric_format])
                rows.append(self._session.run(None, feed))
        except Exception as error:  # as above
            raise InputError(f"{file.path} does not run: {error}") from error
        try:
            settled = [[self._settled(values, at) for at, values in enumerate(row)] for row in rows]
            outputs = [
                np.concatenate(some).astype(np.float32) for some in zip(*settled, strict=True)
            ]
        except (ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"{file.path} gives something else than numbers of the same shape for every "
                f"picture: {error}"
            ) from error
        names = tuple(entry.name[5:] for entry in file.model.graph.output)
        return Answers(file.path, file.height, file.width, outputs, declared, names)

    def _settled(self, values: Floats, at: int) -> Floats:
        """One output for one picture, with its rows' number fixed where the form wants that."""
        if not self._file.filled[at] or self._form.rows_max is None:
            return values
        table = values[None] if values.ndim == 2 and values.shape[1] in (6, 7) else values
        room = np.zeros((1, self._form.rows_max, *table.shape[2:]), table.dtype)
        return np.concatenate([table, room], 1)[:, : self._form.rows_max]


def graft(file: File, form: Foreign, family: Family, answers: Answers) -> bytes:
    """The file's graph between uint8 [1, H, W, 3] RGB and its family's outputs, float32."""
    model = onnx.ModelProto()
    model.CopyFrom(file.model)
    own = model.graph
    head = _head(file)
    casts, outputs = Tail(), []
    for at, entry in enumerate(own.output):
        name = casts.add("Cast", [entry.name], f"tail/{entry.name}", to=TensorProto.FLOAT)
        if file.filled[at] and form.rows_max is not None:
            name = _filled(casts, name, answers.outputs[at].shape)
        outputs.append(name)
    tail = form.tail(outputs, answers, family)

    given = (file.input, file.size_input)
    kept = [entry for entry in own.input if entry.name not in given]
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
    own.initializer.extend([*head.constants, *casts.constants, *tail.constants])
    serialised: bytes = model.SerializeToString()
    return serialised


def _head(file: File) -> Tail:
    """From uint8 [1, H, W, 3] RGB to what the file takes, as declared."""
    head, declared = Tail(), file.declared
    last = head.add("Cast", [graph.INPUT], "head/cast", to=TensorProto.FLOAT)
    mean, std = (np.array(values, np.float32) for values in RANGES[declared.range])
    if mean.any():
        last = head.add("Sub", [last, head.constant("head/mean", mean)], "head/centred")
    if (std != 1).any():
        last = head.add("Div", [last, head.constant("head/std", std)], "head/scaled")
    if declared.channels == "bgr":
        order = head.constant("head/order", np.array([2, 1, 0], np.int64))
        last = head.add("Gather", [last, order], "head/bgr", axis=3)
    if declared.layout == "nchw":
        last = head.add("Transpose", [last], "head/planes", perm=[0, 3, 1, 2])
    head.add("Cast", [last], file.input, to=_TYPES[file.numeric_format])
    if file.size_input is not None:
        sides = np.array([[file.width, file.height]], np.int64)
        head.add("Identity", [head.constant("head/sides", sides)], file.size_input)
    return head


def _filled(casts: Tail, name: str, shape: tuple[int, ...]) -> str:
    """Rows [1, any, ...] or [any, ...] with nothing put behind them, cut off at ``shape[1]``."""
    rest = list(shape[2:])
    whole = casts.constant(f"{name}/shape", np.array([1, -1, *rest], np.int64))
    rows = casts.add("Reshape", [name, whole], f"{name}/rows")
    room = casts.constant(f"{name}/room", np.zeros((1, shape[1], *rest), np.float32))
    long = casts.add("Concat", [rows, room], f"{name}/long", axis=1)
    first = casts.constant(f"{name}/first", np.array([0], np.int64))
    last = casts.constant(f"{name}/last", np.array([shape[1]], np.int64))
    axis = casts.constant(f"{name}/axis", np.array([1], np.int64))
    return casts.add("Slice", [long, first, last, axis], f"{name}/filled")
