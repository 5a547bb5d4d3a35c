"""Inputs guided by coverage (atheris, libFuzzer) for every decoder of ``fuzz_decoders``.

    pip install atheris
    TMPDIR=/dev/shm python bench/fuzz_guided.py --seconds 3600 --seed 7 --finds finds    # all
    python bench/fuzz_guided.py --seconds 60 --only klv

Each has an equal share of the time; what is read as a file is read eight times as often where files
are memory. Only what is ours is instrumented, so that it begins within seconds; what is a find, and
what is not, says ``fuzz.py``. A find ends nothing: what came first of each kind is kept. Each
decoder has a process of its own, as libFuzzer has one set of counters; what kills that process is a
find too. Exit code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["skyreid"]):
    import fuzz
    import fuzz_decoders

_LENGTH_MIN = 8192
"""Bytes that an input may grow to, where no seed is longer."""
_KEPT = 20
"""Inputs of a decoder that are written down."""


def _child(
    name: str, decode: fuzz_decoders.Decode, seeds: list[bytes], until: float, seed: int, said: Path
) -> None:
    """Feed one decoder until the clock says `until`, write what came of it, and end the process."""
    outcome = fuzz.Outcome()
    known: set[str] = set()

    def give(data: bytes) -> None:
        fuzz.one(name, decode, data, outcome)
        while len(outcome.finds) > len(known):
            kind = str(outcome.finds[-1]["said"]).split(": ")[0]
            if kind in known or len(known) == _KEPT:
                outcome.finds.pop()
                break
            known.add(kind)
        if time.monotonic() >= until:
            used = resource.getrusage(resource.RUSAGE_SELF)
            facts = {"resident_mb": round(used.ru_maxrss / 1024, 1)}
            said.write_text(json.dumps({**vars(outcome), **facts}))
            os._exit(0)

    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(seeds):
            (Path(folder) / str(number)).write_bytes(data)
        longest = max(_LENGTH_MIN, *map(len, seeds))
        found = f"-artifact_prefix={said.parent}/"
        atheris.Setup(
            [sys.argv[0], f"-max_len={longest}", f"-seed={seed}", found, folder],
            give,
        )
        atheris.Fuzz()


def guided(
    name: str, decode: fuzz_decoders.Decode, seeds: list[bytes], seconds: float, seed: int
) -> tuple[dict[str, object], list[bytes]]:
    """What came of `seconds` of one decoder, and the inputs that were finds."""
    with tempfile.TemporaryDirectory() as name_of_folder:
        folder = Path(name_of_folder)
        said, log = folder / "said.json", folder / "log"
        began = time.monotonic()
        cpu_s = _children_s()
        child = os.fork()
        if not child:
            stream = os.open(log, os.O_WRONLY | os.O_CREAT)
            os.dup2(stream, 2)
            try:
                _child(name, decode, seeds, began + seconds, seed, said)
            finally:  # whatever happens, the child never goes on as its parent
                traceback.print_exc()
                os._exit(3)
        _, status = os.waitpid(child, 0)
        text = log.read_text(errors="replace")
        covered = re.findall(r"cov: (\d+)", text)
        facts: dict[str, object] = {"decoder": name, "covered": int(covered[-1]) if covered else 0}
        facts["cpu_s"] = round(_children_s() - cpu_s, 1)
        if said.exists():
            outcome = json.loads(said.read_text())
            finds = outcome.pop("finds")
            facts |= outcome
        else:
            why = re.findall(r"ERROR: .*", text) or ["libFuzzer does not say why"]
            finds = [{"said": f"ended with {os.waitstatus_to_exitcode(status)}: {why[0]}"}]
            left = [
                path for kind in ("crash", "oom", "timeout") for path in folder.glob(f"{kind}-*")
            ]
            finds[0]["input"] = left[0].read_bytes().hex() if left else ""
        facts["finds"] = [find["said"] for find in finds]
        return facts, [bytes.fromhex(find["input"]) for find in finds]


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Run; one JSON object a decoder on stdout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="libFuzzer's")
    parser.add_argument("--only", nargs="+", help="decoders by name")
    parser.add_argument("--seconds", type=float, default=60, help="of all, an equal share each")
    parser.add_argument("--finds", type=Path, help="directory for the inputs that were finds")
    options = parser.parse_args()
    total = found = 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        chosen = fuzz_decoders.decoders(Path(folder))
        if options.only:
            chosen = {name: chosen[name] for name in options.only}
        for name, (decode, seeds) in chosen.items():
            share_s = options.seconds / len(chosen)
            facts, finds = guided(name, decode, seeds, share_s, options.seed)
            print(json.dumps(facts), flush=True)
            total += int(str(facts.get("inputs", 0)))
            found += len(finds)
            if options.finds:
                options.finds.mkdir(exist_ok=True)
                for number, data in enumerate(finds):
                    (options.finds / f"{name.replace(' ', '-')}.{number}.bin").write_bytes(data)
    seconds = round(time.monotonic() - began, 1)
    print(json.dumps({"seed": options.seed, "inputs": total, "finds": found, "seconds": seconds}))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
