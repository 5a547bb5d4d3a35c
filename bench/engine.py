"""Time a bundle on this device and hold it against its golden outputs; one JSON object.

    python bench/engine.py examples/bundle/vdt-tiny --engines engines            # a Jetson, a GPU
    python bench/engine.py examples/bundle/vdt-tiny --runner onnx                # the CPU

An engine is compiled first where the directory has none. Times are of `run`, from pictures in
memory to outputs in memory, copies included; of an engine also without CUDA graphs. Power mode and
temperature stand beside them, for without those they mean nothing.
"""

import argparse
import json
import logging
import sys
import time
from pathlib import Path

import numpy as np

from skyreid.bundle.archive import open_bundle
from skyreid.bundle.runner import Execution, Runner, self_test, start
from skyreid.bundle.trt_runner import TensorRtRunner
from skyreid.contract.errors import run_command
from skyreid.edge import jetson
from skyreid.edge.app import temperature_c


def times_ms(runner: Runner, pictures: np.ndarray, rounds: int) -> dict[str, float]:
    for _ in range(5):
        runner.run(pictures)
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        runner.run(pictures)
        taken.append(1e3 * (time.perf_counter() - began))
    median = float(np.median(taken))
    return {
        "median_ms": round(median, 3),
        "p99_ms": round(float(np.quantile(taken, 0.99)), 3),
        "pictures_per_s": round(1e3 * len(pictures) / median, 1),
    }


def measured(options: argparse.Namespace) -> dict[str, object]:
    bundle = open_bundle(options.bundle)
    golden, _ = bundle.golden()
    detector = bundle.manifest.kind == "detector"
    batches = [1] if detector else options.batch
    shapes = [
        (
            n,
            *(
                options.frame
                if detector and not bundle.manifest.input.height
                else golden.shape[1:3]
            ),
            3,
        )
        for n in batches
    ]
    execution = Execution(options.runner, options.engines, frame_max=options.frame)
    began = time.perf_counter()
    with start(bundle, numeric_format=options.format, execution=execution) as runner:
        report: dict[str, object] = {
            "bundle": bundle.manifest.name,
            "kind": bundle.manifest.kind,
            "format": options.format or "preferred",
            "by": runner.by,
            "start_s": round(time.perf_counter() - began, 2),
            "lowest_cosine": dict(self_test(bundle, runner)),
        }
        rows = []
        rng = np.random.default_rng(0)
        for shape in shapes:
            pictures = rng.integers(0, 256, shape, np.uint8)
            rows.append({"shape": list(shape), **times_ms(runner, pictures, options.rounds)})
        engine = isinstance(runner, TensorRtRunner)
    report["times"] = rows
    if engine:
        with start(
            bundle,
            numeric_format=options.format,
            execution=Execution(
                options.runner, options.engines, frame_max=options.frame, graphs=False
            ),
        ) as runner:
            for row, shape in zip(rows, shapes, strict=True):
                pictures = rng.integers(0, 256, shape, np.uint8)
                row["without_graphs"] = times_ms(runner, pictures, options.rounds)
    report["temperature_c"] = temperature_c()
    for name, read in (
        ("jetpack", jetson.jetpack),
        ("tensorrt", jetson.tensorrt),
        ("gpu", jetson.gpu),
        ("memory", jetson.memory),
        ("power_mode", jetson.power_mode),
    ):
        report[name] = read()[1]
    return report


def command() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--runner", choices=("auto", "onnx", "tensorrt"), default="tensorrt")
    parser.add_argument("--engines", type=Path, help="directory of compiled engines")
    parser.add_argument("--format", choices=("fp32", "fp16", "int8"))
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--frame", type=int, nargs=2, default=[1088, 1920], metavar=("H", "W"))
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    options.frame = tuple(options.frame)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    print(json.dumps(measured(options)))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(command))
