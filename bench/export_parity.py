"""How far the numeric formats are from torch, and how fast int8 is, a JSON row for each model.

    python bench/export_parity.py --pictures shared/data/agsim/train visa-base gsalign-base vdt-base
    python bench/export_parity.py --pictures shared/data/agsim/train recipes/vdt-tiny-synth.toml
    python bench/export_parity.py --pictures shared/data/agsim/train final.safetensors

A name is a variant with random weights, a recipe its network with random weights, another path a
checkpoint. Half of the pictures give the int8 ranges, others of other people judge. `experts` says
of each router how many of them it sends where fp32 does, and its margins. What a gate would refuse
stands under `failures`. `faster` is how much faster int8 is than fp32 on one thread of this
processor, for each batch: CPU time in turn, quartiles of the rounds' ratios. Needs 4 GB for ViSA at
base width, and minutes for each.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from skyreid.bundle.runner import OnnxRunner
from skyreid.contract.input_spec import InputSpec
from skyreid.export import bench, crops, fp16, graph, keep, parity, ranges, trace
from skyreid.export.closeness import distance
from skyreid.export.int8_trial import Judge
from skyreid.export.quantize import embedded

HEIGHT, WIDTH = 256, 128
BATCHES = (1, 2, 8)


def checkpoint_of(name: str, folder: Path) -> Path:
    """The path itself, or a checkpoint with random weights of a variant or a recipe."""
    if name.endswith(".safetensors"):
        return Path(name)
    import torch

    from skyreid.train import checkpoint, recipe
    from skyreid.train.fit import setup
    from skyreid.train.models.variants import construct, variant

    torch.manual_seed(0)
    if name.endswith(".toml"):
        read = recipe.read(Path(name))
        config, spec = setup.network_of(read, 2), read.input
    else:
        config = variant(name, height=HEIGHT, width=WIDTH, people=2)
        spec = InputSpec(height=HEIGHT, width=WIDTH)
    path = folder / "random.safetensors"
    state = construct(config).state_dict()
    checkpoint.save(path, kind="embedder", config=config, state=state, input_spec=spec)
    return path


def load(path: Path) -> tuple[trace.Traced, str]:
    """For ground cameras where the method needs to know."""
    from skyreid.contract.errors import InputError

    try:
        return trace.load(path, "any"), "any"
    except InputError:
        return trace.load(path, "ground"), "ground"


def faster(fp32: bytes, int8: bytes, pictures: NDArray[np.uint8]) -> dict[int, object]:
    """By batch, quartiles of how much faster int8 is."""
    found: dict[int, object] = {}
    with (
        OnnxRunner(fp32, name="fp32") as exact,
        OnnxRunner(int8, name="int8", quantised=True) as rounded,
    ):
        for batch in (1, BATCHES[-1]):
            fed = np.resize(pictures, (batch, *pictures.shape[1:]))
            calls = {"fp32": partial(exact.run, fed), "int8": partial(rounded.run, fed)}
            rows = bench.summary(bench.in_turn(calls, bench.ROUNDS, time.process_time), batch)
            found[batch] = rows[1]["faster_than_fp32"]
    return found


def measured(
    name: str, pictures_from: Path, count: int, method: ranges.Method
) -> dict[str, object]:
    """The row of one model."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        traced, view = load(checkpoint_of(name, Path(folder)))
    parameters = sum(p.numel() for p in traced.module.parameters())
    pictures = crops.read(pictures_from, traced.input_spec, count)
    shown, people = pictures.judge.images, pictures.judge.people
    simple = graph.simplify(trace.export(traced, shown[:2]))
    facts = graph.check(simple)
    to_torch = {}
    with OnnxRunner(simple, name="fp32") as runner:
        for batch in BATCHES:
            some = shown[:batch]
            found = parity.distance(runner.run(some), trace.ask(traced, some))
            to_torch[batch] = found["embedding"]
    del traced
    exact = embedded(simple, "fp32", shown)
    half = fp16.convert(simple)
    row: dict[str, object] = {
        "model": name,
        "view": view,
        "parameters_served": parameters,
        "pictures": len(shown),
        "nodes": facts["nodes"],
        "mean_cosine_of_two_pictures": float(np.mean(exact @ exact.T)),
        "fp32_to_torch": to_torch,
        "fp16": {**distance(embedded(half, "fp16", shown), exact, people), **fp16.check(half)},
    }
    with tqdm(total=count, desc="ranges", disable=None) as bar:
        widths = ranges.measure(simple, pictures.ranges.images, method, advance=bar.update)
    trial, kept = keep.first(
        Judge(simple, pictures.judge), widths, say=lambda line: print(line, file=sys.stderr)
    )
    row["int8"] = {"method": method, "kept_in_float": len(kept), **trial.facts["int8"]}
    row["int8_fp16"] = trial.facts["int8-fp16"]
    row["experts"] = {m: [asdict(one) for one in rows] for m, rows in trial.choices.items()}
    row["failures"] = trial.failures
    sizes = {"fp32": simple, "fp16": half, "int8": trial.for_cpu, "int8_fp16": trial.for_engines}
    row["bytes"] = {form: len(data) for form, data in sizes.items()}
    row["faster"] = faster(simple, trial.for_cpu, shown)
    row["seconds"] = round(time.monotonic() - began)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--pictures", type=Path, required=True, help="crops of people")
    parser.add_argument("--count", type=int, default=64, help="for ranges; as many judge")
    parser.add_argument("--method", choices=("minmax", "percentile"), default="minmax")
    options = parser.parse_args()
    for name in options.models:
        row = measured(name, options.pictures, options.count, options.method)
        print(json.dumps(row), flush=True)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
