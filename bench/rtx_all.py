"""Parse and build every method, view and numeric format at base width with TensorRT-RTX.

    python bench/rtx_all.py --json rtx.jsonl [--only visa gsalign] [--size base]

No GPU is needed and nothing is executed: TensorRT-RTX is a proxy for the TensorRT of a Jetson, not
a proof. Weights are random, pictures 256 x 128, strides and options those of each method's authors,
batches 1 to 32. Rows that the file already has are not made again. Seconds are of this process on
the CPU, for the machine may be doing other things beside.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnx
import torch

from skyreid.bundle.archive import open_bundle
from skyreid.bundle.engine import Profile, build, load_api
from skyreid.contract.errors import SkyreidError
from skyreid.contract.input_spec import InputSpec
from skyreid.export import fp16, golden, graph, int8, trace
from skyreid.train.models.registry import methods
from skyreid.train.models.variants import construct, variant
from skyreid.train.serving import Embedder

HEIGHT, WIDTH, BATCH = 256, 128, 32
FORMATS: dict[str, Callable[[bytes], bytes]] = {
    "fp32": lambda fp32: fp32,
    "fp16": fp16.convert,
    "int8": lambda fp32: fp16.convert(quantised(fp32)),  # float16 around it, as engines are built
}


def quantised(fp32: bytes) -> bytes:
    """With ranges that were not measured: they change what is computed, not what is built."""
    return int8.quantise(fp32, dict.fromkeys(int8.quantised_inputs(onnx.load_from_string(fp32)), 8))


def views_of(method: str, size: str) -> tuple[str, ...]:
    """What a method is exported for: each view by itself where it embeds them differently."""
    with torch.device("meta"):
        network = construct(variant(f"{method}-{size}", height=HEIGHT, width=WIDTH, people=2))
    return ("aerial", "ground") if network.needs_view else ("any",)


def exported(method: str, size: str, view: str) -> bytes:
    torch.manual_seed(0)
    config = variant(f"{method}-{size}", height=HEIGHT, width=WIDTH, people=2)
    network = construct(config).eval()
    spec = InputSpec(height=HEIGHT, width=WIDTH)
    served = Embedder(network.serving(None if view == "any" else view), spec)
    served = served.eval().requires_grad_(False)
    del network
    traced = trace.Traced("embedder", served, spec, {}, "0" * 64)
    simple = graph.simplify(trace.export(traced, golden.draw(spec)[:2]))
    graph.check(simple)
    return simple


def kept(folder: Path | None, method: str, size: str, view: str) -> bytes:
    """Exported, or as an earlier run left it."""
    if folder is None:
        return exported(method, size, view)
    path = folder / f"{method}-{size}-{view}.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(exported(method, size, view))
    return path.read_bytes()


def built(model: bytes, profile: Profile, name: str) -> dict[str, object]:
    """One row: what came of it."""
    _, trt = load_api()
    row: dict[str, object] = {
        "name": name,
        "tensorrt_rtx": str(trt.__version__),
        "nodes": len(onnx.load_from_string(model).graph.node),
        "onnx_mb": round(len(model) / 1e6, 1),
    }
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        made = build(model, profile, trt=trt, name=name)
    except SkyreidError as error:
        return {**row, "error": str(error)}
    return {
        **row,
        "cpu_s": round(time.process_time() - cpu, 1),
        "wall_s": round(time.perf_counter() - wall, 1),
        "layers": made.layers,
        "plan_mb": round(len(made.plan) / 1e6, 1),
    }


def table(rows: list[dict[str, object]]) -> str:
    lines = [
        "| graph | nodes | ONNX MB | parse and build, CPU s | layers | plan MB |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        if "error" in row:
            lines.append(
                f"| {row['name']} | {row['nodes']} | {row['onnx_mb']} | {row['error']} | | |"
            )
        else:
            cells = ("name", "nodes", "onnx_mb", "cpu_s", "layers", "plan_mb")
            lines.append("| " + " | ".join(str(row[cell]) for cell in cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="rows, one JSON a line; added to")
    parser.add_argument("--only", nargs="*", default=[*methods(), "detector"], metavar="METHOD")
    parser.add_argument("--graphs", type=Path, help="directory that keeps the exported fp32 graphs")
    parser.add_argument("--size", default="base", choices=("base", "small", "tiny"))
    parser.add_argument(
        "--detector", type=Path, default=Path(__file__).parents[1] / "examples/bundle/detector"
    )
    options = parser.parse_args()
    rows = (
        [json.loads(line) for line in options.json.read_text().splitlines()]
        if (options.json.exists())
        else []
    )
    done = {row["name"] for row in rows}

    def add(name: str, model: Callable[[], bytes], profile: Profile) -> None:
        if name in done:
            return
        rows.append(built(model(), profile, name))
        with options.json.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        print(json.dumps(rows[-1]), flush=True)

    size = (HEIGHT, WIDTH, 3)
    embedder = Profile((1, *size), (BATCH // 4, *size), (BATCH, *size))
    for method in options.only:
        if method == "detector":
            model = open_bundle(options.detector).model("fp32")
            frames = Profile((1, 64, 64, 3), (1, 1088, 1920, 3), (1, 1088, 1920, 3))
            for name in ("fp32", "fp16"):
                add(f"detector/{name}", partial(FORMATS[name], model), frames)
            continue
        for view in views_of(method, options.size):
            names = {form: f"{method}-{options.size}/{view}/{form}" for form in FORMATS}
            if done >= set(names.values()):
                continue
            fp32 = kept(options.graphs, method, options.size, view)
            for form, name in names.items():
                add(name, partial(FORMATS[form], fp32), embedder)
    print(table(rows))


if __name__ == "__main__":
    main()
