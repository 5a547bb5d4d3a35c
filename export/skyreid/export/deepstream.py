"""For DeepStream: a float NCHW model, and the part of nvtracker's settings that makes it run right.

nvtracker crops a person's box out of the frame, resizes it and feeds ``netScaleFactor * (pixel -
offsets[channel])`` as float32 [N, 3, H, W]. Its one factor cannot stand for three standard
deviations, so gain and offset stay in the graph, and the settings hand pixels over as they are:
factor 1, offsets 0, which are its defaults too. The embedding leaves the graph L2-normalised.

Keys and their meaning: NVIDIA's guide to Gst-nvtracker, ReID module, DeepStream 9.2.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from skyreid.bundle.archive import FOR_DEEPSTREAM
from skyreid.bundle.manifest import model_key
from skyreid.contract.errors import BundleError, GateError, InputError
from skyreid.contract.files import new_folder
from skyreid.contract.input_spec import InputSpec
from skyreid.export import golden, graph, parity, trace

INPUT = "planes"
MODEL = "model.onnx"
FACTS = "export.json"
VERSION = "9.2"
"""Of DeepStream, whose guide the settings were written by."""


def export_deepstream(
    checkpoint: Path,
    out: Path,
    *,
    view: trace.View,
    name: str,
    batch_max: int = 32,
    pictures_from: Path | None = None,
    licence: str = "Apache-2.0",
    say: Callable[[str], None] = lambda line: None,
) -> Path:
    """Export an embedder's checkpoint for nvtracker.

    Args:
        checkpoint: what `skyreid-train fit` wrote.
        out: the directory to make; it must not exist. It is no bundle.
        view: which cameras it serves.
        name: of the model, for people.
        batch_max: people of one call, nvtracker's ``batchSize``.
        pictures_from: directory of pictures to compare on; drawn ones where it is None.
        licence: SPDX expression of the weights.
        say: receives a line per stage.

    Returns:
        `out`, which holds the model, the settings and what was measured.

    Raises:
        InputError: an argument, the checkpoint or a picture cannot be used.
        GateError: fed as nvtracker feeds it, the model differs from the checkpoint by more than
            `parity.TORCH_LIMIT`; nothing has been written.
    """
    if not 1 <= batch_max <= trace.LARGEST_BATCH:
        raise InputError(f"--batch-max {batch_max}: 1 to {trace.LARGEST_BATCH} is possible")
    if out.exists():
        raise BundleError(f"{out} exists already: remove it, or write to another directory")
    say(f"read {checkpoint}")
    traced = trace.load(checkpoint, view)
    if traced.kind != "embedder":
        raise InputError(f"--io deepstream: nvtracker takes an embedder, {checkpoint} is not one")
    spec = traced.input_spec
    pictures = golden.draw(spec) if pictures_from is None else golden.read(pictures_from, spec)

    say(f"export the embedder to ONNX, opset {graph.OPSET}")
    kit = graph.simplify(trace.export(traced, pictures[:2]))
    graph.check(kit)
    model = planes_in(kit)

    batches = parity.batches(batch_max)
    say(f"compare with torch at batches {batches}")
    measured = {}
    for batch in batches:
        some = np.resize(pictures, (batch, *pictures.shape[1:]))
        apart = parity.distance(run(model, as_fed(some)), trace.ask(traced, some))
        what = f"DeepStream's input against torch at batch {batch}"
        parity.require(what, apart, parity.TORCH_LIMIT)
        measured[f"batch {batch}"] = apart
    dim = int(trace.ask(traced, pictures[:1])["embedding"].shape[1])
    facts = {
        "kind": "deepstream",
        "deepstream": VERSION,
        "name": name,
        "model_key": model_key(traced.checkpoint_sha256, spec, dim),
        "view": view,
        "input": spec.model_dump(mode="json"),
        "embedding_dim": dim,
        "checkpoint_sha256": traced.checkpoint_sha256,
        "licence": licence,
        "against_torch": measured,
    }
    say(f"write {out}")
    _write(
        out,
        {
            MODEL: model,
            FOR_DEEPSTREAM: settings(spec, dim, batch_max).encode(),
            FACTS: (json.dumps(facts, indent=1) + "\n").encode(),
        },
    )
    return out


def planes_in(data: bytes) -> bytes:
    """The kit's graph with another beginning: float32 [N, 3, H, W] instead of uint8 [N, H, W, 3].

    What the kit's graph does first, a Cast and a Transpose, is left out; all else is the same.

    Raises:
        GateError: the graph begins otherwise.
    """
    model = onnx.load_from_string(data)
    nodes = list(model.graph.node)
    casts = [n for n in nodes if n.op_type == "Cast" and n.input[0] == graph.INPUT]
    turns = [n for n in nodes if casts and casts[0].output[0] in n.input]
    if len(casts) != 1 or len(turns) != 1 or not _is_nhwc_to_nchw(turns[0]):
        raise GateError("the graph does not begin with one Cast and one Transpose to NCHW")
    for node in nodes:
        if node.op_type == "Shape" and graph.INPUT in node.input and not _asks_for_batch(node):
            raise GateError(f"Shape {node.output[0]} asks for more than the batch")
        for place, read in enumerate(node.input):
            if read in (graph.INPUT, turns[0].output[0]):
                node.input[place] = INPUT
    kept = [n for n in nodes if n is not casts[0] and n is not turns[0]]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    entry = model.graph.input[0]
    batch, height, width, channels = (
        d.dim_param or d.dim_value for d in entry.type.tensor_type.shape.dim
    )
    shape = [batch, channels, height, width]
    entry.CopyFrom(onnx.helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, shape))
    del model.graph.value_info[:]  # of what is gone
    onnx.checker.check_model(model, full_check=True)
    serialised: bytes = model.SerializeToString()
    return serialised


def as_fed(
    pictures: NDArray[np.uint8], factor: float = 1.0, offsets: tuple[float, ...] = (0.0, 0.0, 0.0)
) -> NDArray[np.float32]:
    """What nvtracker makes of uint8 [N, H, W, 3] crops: float32 [N, 3, H, W]."""
    shifted = pictures.astype(np.float32) - np.asarray(offsets, np.float32)
    return np.ascontiguousarray((np.float32(factor) * shifted).transpose(0, 3, 1, 2))


def run(model: bytes, planes: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """The outputs of `planes_in`'s graph by name, by ONNX Runtime."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {INPUT: planes}), strict=True))


def settings(spec: InputSpec, embedding_dim: int, batch_max: int) -> str:
    """The ``ReID`` section for a tracker's YAML file."""
    lines = (
        ("reidType", "2", "re-associate lost tracks; 1: NvDeepSORT's association, 3: both"),
        ("batchSize", f"{batch_max}", "people of one call"),
        ("workspaceSize", "1000", "of TensorRT's builder, MB"),
        ("reidFeatureSize", f"{embedding_dim}", ""),
        ("reidHistorySize", "100", "embeddings kept of a track"),
        ("inferDims", f"[3, {spec.height}, {spec.width}]", "channels, rows, columns"),
        ("networkMode", "0", "FP32, which was compared; 1 is FP16: compare it first"),
        ("inputOrder", "0", "NCHW"),
        ("colorFormat", "0", "RGB"),
        ("offsets", "[0.0, 0.0, 0.0]", "mean and deviation are in the graph"),
        ("netScaleFactor", "1.0", "pixels 0 to 255 go in as they are"),
        ("keepAspc", "0", "crops are stretched, as in training"),
        ("addFeatureNormalization", "0", "the embedding leaves the graph with length 1"),
        ("outputReidTensor", "1", "embeddings into the user meta, for what comes behind"),
        ("onnxFile", f'"{MODEL}"', "beside the tracker's file; older DeepStream: the whole path"),
        ("modelEngineFile", f'"{MODEL}_b{batch_max}_gpu0_fp32.engine"', "written there at first"),
    )
    said = [f"  {key}: {value}" + (f"  # {why}" if why else "") for key, value, why in lines]
    head = f"# nvtracker, DeepStream {VERSION}: put in the place of ReID in the tracker's file."
    return "\n".join([head, "ReID:", *said]) + "\n"


def _is_nhwc_to_nchw(node: onnx.NodeProto) -> bool:
    order = [list(a.ints) for a in node.attribute if a.name == "perm"]
    return node.op_type == "Transpose" and order == [[0, 3, 1, 2]]


def _asks_for_batch(node: onnx.NodeProto) -> bool:
    return {a.name: a.i for a in node.attribute}.get("end") == 1


def _write(out: Path, files: dict[str, bytes]) -> None:
    """All of them, or nothing."""
    with new_folder(out) as draft:
        for name, data in files.items():
            (draft / name).write_bytes(data)
