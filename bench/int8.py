"""INT8 against fp32 on this CPU, side by side in one run, one thread.

    python bench/int8.py BUNDLE [--batch 8] [--rounds 15] [--json FILE]

BUNDLE holds both formats (skyreid-export quantize). The two are run in turn; what counts is CPU
time, and the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from skyreid.bundle.archive import open_bundle
from skyreid.bundle.runner import OnnxRunner, start

_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "avx512_bf16", "asimddp")


def cpu_flags() -> list[str]:
    """Which of the instruction sets that matter here this CPU has."""
    words = set(Path("/proc/cpuinfo").read_text().split())
    return [flag for flag in _FLAGS if flag in words]


def cpu_ms(runner: OnnxRunner, pictures: np.ndarray) -> float:
    began = time.process_time()
    runner.run(pictures)
    return 1000 * (time.process_time() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    bundle = open_bundle(options.bundle)
    golden, _ = bundle.golden()
    pictures = np.resize(golden, (options.batch, *golden.shape[1:]))
    with start(bundle, numeric_format="fp32") as fp32, start(bundle, numeric_format="int8") as int8:
        for _ in range(3):
            fp32.run(pictures), int8.run(pictures)
        rows = [(cpu_ms(fp32, pictures), cpu_ms(int8, pictures)) for _ in range(options.rounds)]
    ratios = sorted(a / b for a, b in rows)
    before, after = (float(np.median(column)) for column in zip(*rows, strict=True))
    report = {
        "bundle": bundle.manifest.name,
        "batch": options.batch,
        "fp32_ms": before,
        "int8_ms": after,
        "ratio": ratios[len(ratios) // 2],
        "ratio_quartiles": [ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]],
        "cpu": cpu_flags(),
    }
    print(
        f"{report['bundle']}, batch {options.batch}, one thread, CPU with {' '.join(report['cpu'])}"
        f": fp32 {before:.1f} ms, int8 {after:.1f} ms, {report['ratio']:.2f}x "
        f"(quartiles {report['ratio_quartiles'][0]:.2f} to {report['ratio_quartiles'][1]:.2f})"
    )
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
