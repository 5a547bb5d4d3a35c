"""How fast a recipe trains: pictures a second, memory and MFU, in bf16, eager and compiled.

    python bench/train_gpu.py                         # visa-base and visa-small, on a GPU
    python bench/train_gpu.py recipes/visa-base-cargo.toml --people 2 --steps 2 --compile off

One JSON object a line on stdout for each recipe and form. A step is forward, losses, backward,
clipping and the optimiser's step on random pictures that lie on the device already: neither reading
nor augmentation is in it. Its time is the median over --steps after --warm-up ones; the first
step, which compiles, is told apart. How many cores have to augment beside it, so that it never
waits, is `cores_to_feed`: pictures a second times the CPU of one, `augment_cpu_ms`.

Model FLOP utilisation (Chowdhery et al., PaLM, arXiv:2204.02311) is the floating-point operations
of the matrix products and convolutions of forward and backward, as torch's FlopCounterMode sees
them with scaled dot products written out, divided by time and by the device's dense bf16 peak. They
are counted on a few pictures and scaled: all but the losses' distances grow in proportion. Without
a known peak (--peak-tflops) there is no MFU, as on a CPU.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from skyreid.contract.errors import SettingsError, run_command
from skyreid.train import recipe
from skyreid.train.fit import optimise
from skyreid.train.fit.embedder import augmentation
from skyreid.train.fit.setup import network_of
from skyreid.train.models import variants
from skyreid.train.models.method import Method
from skyreid.train.recipe import Recipe

ROOT = Path(__file__).resolve().parents[1]
DEFAULT = ("visa-base-cargo", "visa-small-synth")
CLASSES = 2500

# Dense bf16 without sparsity, 10^12 a second, from the makers' data sheets; by part of the name.
PEAKS = {
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "RTX 4090": 165.2,
    "L4": 121.0,
}

Step = Callable[[], Tensor]


def build(settings: Recipe, device: torch.device) -> Method:
    """A recipe's network with random weights."""
    torch.manual_seed(0)
    network = variants.construct(network_of(settings, CLASSES), settings.loss)
    return network.to(device).train()


def batch(
    settings: Recipe, people: int, crops: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Random pictures float32 [B, 3, H, W], classes and views int64 [B], half of them aerial."""
    count = people * crops
    generator = torch.Generator().manual_seed(1)
    size = (count, 3, settings.input.height, settings.input.width)
    return (
        torch.randn(size, generator=generator).to(device),
        torch.arange(count, device=device) // crops,
        torch.arange(count, device=device) % 2,
    )


def loss_of(network: Method, images: Tensor, people: Tensor, views: Tensor) -> Tensor:
    """The sum of the terms; the trunk in bf16, necks and losses in fp32, as `fit` has it."""
    with torch.autocast(images.device.type, torch.bfloat16):
        rows = network.see(images, views)
    terms = network.judge({name: part.float() for name, part in rows.items()}, people, views)
    return torch.stack(list(terms.values())).sum()


def flops_per_picture(settings: Recipe, device: torch.device) -> float:
    """Floating-point operations of forward and backward for one picture."""
    network = build(settings, device)
    parts = batch(settings, 2, 2, device)
    original = F.scaled_dot_product_attention

    def written_out(query: Tensor, key: Tensor, value: Tensor, **rest: Any) -> Tensor:
        if rest:
            raise SettingsError(f"attention with {sorted(rest)} is not counted")
        scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
        mixed: Tensor = scores.softmax(-1) @ value
        return mixed

    F.scaled_dot_product_attention = written_out  # type: ignore[assignment]
    try:
        with FlopCounterMode(display=False) as counter:
            torch.autograd.backward(loss_of(network, *parts))
    finally:
        F.scaled_dot_product_attention = original
    return float(counter.get_total_flops()) / len(parts[0])


def step_of(
    settings: Recipe, parts: tuple[Tensor, ...], device: torch.device, backend: str | None
) -> Step:
    """One optimiser step; compiled by `backend` unless that is None."""
    network = build(settings, device)
    total: Callable[..., Tensor] = loss_of
    if backend is not None:
        torch._dynamo.reset()
        total = torch.compile(loss_of, backend=backend, dynamic=False)
    optimiser = optimise.build(network, settings.optimiser)

    def step() -> Tensor:
        optimiser.zero_grad()
        loss = total(network, *parts)
        torch.autograd.backward(loss)
        optimise.clip(optimiser, settings.optimiser)
        optimiser.step()
        return loss.detach()

    return step


def timed(step: Step, device: torch.device) -> tuple[float, float]:
    """Seconds of a step, the device's work included, and its loss."""
    began = time.perf_counter()
    loss = step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    value = float(loss)
    return time.perf_counter() - began, value


def augment_cpu_s(settings: Recipe) -> float:
    """Seconds of CPU that the recipe's augmentation takes for a picture; see bench/augment.py."""
    size = (64, settings.input.height, settings.input.width, 3)
    images = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    how, taken = augmentation(settings), []
    rows = how.batch(images, 0, 0, range(len(images)))
    for number in range(5):
        began = time.thread_time()
        how.fill(rows, images, number, 0, range(len(images)))
        taken.append(time.thread_time() - began)
    return sorted(taken)[2] / len(images)


def peak_memory_gib(device: torch.device) -> float:
    """Of the device since the last reset; on a CPU of this process since it began."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def peak_of(device: torch.device, given: float | None) -> tuple[str, float | None]:
    """The device's name and its dense bf16 peak in 10^12 operations a second, where known."""
    if device.type != "cuda":
        return device.type, given
    name = torch.cuda.get_device_name(device)
    known = next((peak for part, peak in PEAKS.items() if part in name), None)
    return name, known if given is None else given


def measure(
    settings: Recipe,
    device: torch.device,
    *,
    people: int | None,
    steps: int,
    warm_up: int,
    backend: str | None,
    peak_tflops: float | None,
) -> dict[str, Any]:
    """One row."""
    parts = batch(settings, people or settings.batch.people, settings.batch.crops, device)
    flops = flops_per_picture(settings, device)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    step = step_of(settings, parts, device, backend)
    first_s, _ = timed(step, device)
    for _ in range(warm_up):
        timed(step, device)
    taken = [timed(step, device) for _ in range(steps)]
    median_s = sorted(seconds for seconds, _ in taken)[len(taken) // 2]
    name, peak = peak_of(device, peak_tflops)
    rate, augment_s = len(parts[0]) / median_s, augment_cpu_s(settings)
    return {
        "variant": settings.model.variant,
        "input": [settings.input.height, settings.input.width],
        "device": name,
        "torch": torch.__version__,
        "batch": len(parts[0]),
        "dtype": "bf16",
        "compiled": backend or "no",
        "steps": steps,
        "images_per_s": round(rate, 2),
        "step_ms": round(1e3 * median_s, 2),
        "first_step_s": round(first_s, 2),
        "memory_gib": round(peak_memory_gib(device), 3),
        "gflop_per_image": round(flops / 1e9, 5),
        "tflop_per_s": round(flops * rate / 1e12, 3),
        "peak_tflop_per_s": peak,
        "augment_cpu_ms": round(1e3 * augment_s, 6),
        "cores_to_feed": round(rate * augment_s, 6),
        "mfu": None if peak is None else round(flops * rate / 1e12 / peak, 4),
        "loss": round(taken[-1][1], 4),
    }


def main() -> int:
    return run_command(_run)


def _run() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", type=Path, metavar="RECIPE.toml")
    parser.add_argument("--people", type=int, help="in a batch; default the recipe's")
    parser.add_argument("--steps", type=int, default=20, help="that are timed")
    parser.add_argument("--warm-up", type=int, default=5, help="steps behind the first, not timed")
    parser.add_argument("--compile", choices=("both", "on", "off"), default="both")
    parser.add_argument("--backend", default="inductor", help="of torch.compile")
    parser.add_argument("--peak-tflops", type=float, help="dense bf16, for a device not known here")
    parser.add_argument("--device", help="default cuda where there is one")
    options = parser.parse_args()
    if options.steps < 1 or options.warm_up < 0:
        raise SettingsError("--steps must be 1 or more and --warm-up 0 or more")
    if options.people is not None and options.people < 2:
        raise SettingsError(f"--people {options.people}: a triplet needs somebody else, 2 or more")
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.set_float32_matmul_precision("high")
    forms = {"both": (None, options.backend), "on": (options.backend,), "off": (None,)}
    for path in options.recipes or [ROOT / "recipes" / f"{name}.toml" for name in DEFAULT]:
        settings = recipe.read(path)
        for backend in forms[options.compile]:
            row = measure(
                settings,
                device,
                people=options.people,
                steps=options.steps,
                warm_up=options.warm_up,
                backend=backend,
                peak_tflops=options.peak_tflops,
            )
            print(json.dumps({"recipe": path.name, **row}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
