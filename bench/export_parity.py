"""How far the numeric formats are from torch, a JSON row for each model.

    python bench/export_parity.py --pictures shared/data/agsim/train visa-base gsalign-base vdt-base
    python bench/export_parity.py --pictures shared/data/agsim/train final.safetensors

A name is a variant with random weights, a path a checkpoint. Half of the pictures give the int8
ranges, the others judge. Where a graph chooses (experts, patches), `choices` says of each TopK how
many pictures keep all of its choices in int8, and how far the others' embeddings move. Needs 4 GB
for ViSA at base width, and minutes for each.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from tqdm import tqdm

from skyreid.bundle.runner import OnnxRunner
from skyreid.contract.input_spec import InputSpec
from skyreid.export import fp16, graph, int8, parity, ranges, trace
from skyreid.export.batched import run_onnx
from skyreid.export.closeness import cosines, distance

HEIGHT, WIDTH = 256, 128
BATCHES = (1, 2, 8)


def checkpoint_of(name: str, folder: Path) -> Path:
    """The path itself, or a variant's checkpoint with random weights."""
    if name.endswith(".safetensors"):
        return Path(name)
    import torch

    from skyreid.train import checkpoint
    from skyreid.train.models.variants import construct, variant

    torch.manual_seed(0)
    config = variant(name, height=HEIGHT, width=WIDTH, people=2)
    path = folder / "random.safetensors"
    state = construct(config).state_dict()
    spec = InputSpec(height=HEIGHT, width=WIDTH)
    checkpoint.save(path, kind="embedder", config=config, state=state, input_spec=spec)
    return path


def load(path: Path) -> tuple[trace.Traced, str]:
    """For ground cameras where the method needs to know."""
    from skyreid.contract.errors import InputError

    try:
        return trace.load(path, "any"), "any"
    except InputError:
        return trace.load(path, "ground"), "ground"


def embedded(model: bytes, pictures: NDArray[np.uint8], name: str) -> NDArray[np.float32]:
    """Rows of all pictures, float32 [N, D]."""
    return run_onnx(model, pictures, name=name, quantised="int8" in name)["embedding"]


def chosen(model: bytes, pictures: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    """What every TopK of a graph chooses, sorted: int64 [N, ..., k]."""
    graph = onnx.load_from_string(model)
    names = [node.output[1] for node in graph.graph.node if node.op_type == "TopK"]
    if not names:
        return []
    kind = onnx.TensorProto.INT64
    graph.graph.output.extend(onnx.helper.make_tensor_value_info(n, kind, None) for n in names)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    given = session.get_inputs()[0].name
    rows = [
        session.run(names, {given: pictures[start : start + 8]})
        for start in tqdm(range(0, len(pictures), 8), desc="choices", disable=None)
    ]
    return [np.sort(np.concatenate(parts), axis=-1) for parts in zip(*rows, strict=True)]


def choices(
    exact: bytes, rounded: bytes, pictures: NDArray[np.uint8], similar: NDArray[np.float64]
) -> list[dict[str, object]]:
    """By TopK: how many it takes, whose choices stay, and the worst of both sorts of pictures.

    Args:
        exact: the fp32 graph.
        rounded: the same in int8.
        pictures: uint8 [N, H, W, 3].
        similar: float64 [N], cosines of both graphs' embeddings.
    """
    table = []
    for before, after in zip(chosen(exact, pictures), chosen(rounded, pictures), strict=True):
        kept = (before == after).reshape(len(pictures), -1).all(1)
        table.append(
            {
                "takes": before.shape[-1],
                "pictures_kept": int(kept.sum()),
                "min_cosine_kept": float(similar[kept].min()) if kept.any() else None,
                "min_cosine_changed": float(similar[~kept].min()) if not kept.all() else None,
            }
        )
    return table


def measured(
    name: str, pictures_from: Path, count: int, judge: int | None, method: ranges.Method
) -> dict[str, object]:
    """The row of one model."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        traced, view = load(checkpoint_of(name, Path(folder)))
    parameters = sum(p.numel() for p in traced.module.parameters())
    pictures = ranges.read(pictures_from, traced.input_spec, count)
    if judge is not None:
        spread = np.linspace(0, count - 1, judge).round().astype(int)
        pictures = replace(pictures, judge=pictures.judge[spread])
    simple = graph.simplify(trace.export(traced, pictures.judge[:2]))
    facts = graph.check(simple)
    to_torch = {}
    with OnnxRunner(simple, name="fp32") as runner:
        for batch in BATCHES:
            some = pictures.judge[:batch]
            found = parity.distance(runner.run(some), trace.ask(traced, some))
            to_torch[batch] = found["embedding"]
    del traced
    exact = embedded(simple, pictures.judge, "fp32")
    half = fp16.convert(simple)
    row: dict[str, object] = {
        "model": name,
        "view": view,
        "parameters_served": parameters,
        "pictures": len(pictures.judge),
        "nodes": facts["nodes"],
        "mean_cosine_of_two_pictures": float(np.mean(exact @ exact.T)),
        "fp32_to_torch": to_torch,
        "fp16": {**distance(embedded(half, pictures.judge, "fp16"), exact), **fp16.check(half)},
    }
    with tqdm(total=count, desc="ranges", disable=None) as bar:
        found = ranges.measure(simple, pictures.ranges, method, advance=bar.update)
    rounded = int8.quantise(simple, found)
    by_int8 = embedded(rounded, pictures.judge, "int8")
    sizes = {"fp32": len(simple), "fp16": len(half), "int8": len(rounded)}
    row["int8"] = {
        **distance(by_int8, exact),
        **int8.check(rounded),
        "method": method,
        "choices": choices(simple, rounded, pictures.judge, cosines(by_int8, exact)),
    }
    both = fp16.convert(rounded)
    row["int8_fp16"] = distance(embedded(both, pictures.judge, "int8-fp16"), exact)
    row["bytes"] = {**sizes, "int8_fp16": len(both)}
    row["seconds"] = round(time.monotonic() - began)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--pictures", type=Path, required=True, help="crops of people")
    parser.add_argument("--count", type=int, default=64, help="for ranges; as many judge")
    parser.add_argument("--judge", type=int, help="of those, how many are asked (default: all)")
    parser.add_argument("--method", choices=("minmax", "percentile"), default="minmax")
    options = parser.parse_args()
    for name in options.models:
        row = measured(name, options.pictures, options.count, options.judge, options.method)
        print(json.dumps(row), flush=True)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
