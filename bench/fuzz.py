"""Mutated inputs for every decoder of what strangers write: only errors of ours may come out.

Seeds are the corpus (``tests/corpus``) and what is encoded here. Every input follows from a seed, a
decoder's name and a number alone, so that a find can be made again:

    python bench/fuzz.py --seconds 3600 --finds finds      # all decoders in turn
    python bench/fuzz.py --only klv --count 100000 --seed 7

``fuzz_guided.py`` lets coverage choose instead.

A find is another exception, a call of more than 1 s of CPU, or memory that stays. Exit code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fuzz_decoders import Decode, decoders

from skyreid.contract.errors import SkyreidError

_TURN_S = 0.5
"""CPU seconds of a decoder until the next one has its turn."""
CPU_MAX_S = 1.0
"""Of one call. The slowest good input takes 20 ms; others' load does not count."""

EDGES = (
    *(b"", b"\0", b"\xff" * 8, b"\x7f" * 9, b"\x80" * 10, b"\xff" * 9 + b"\x01", b"\xed\xa0\x80"),
    *(b"\xef\xbb\xbf", b"[" * 900, b"{", b'"', b"\\ud800", b"-1", b"1e999", b"NaN", b"9" * 40),
    *(b"\r\n", b",", b"/../", b"true", b"null", struct.pack("<d", float("nan"))),
    *(struct.pack("<f", float("inf")), struct.pack(">I", 1 << 31), struct.pack("<q", -1)),
)


def mutated(seed: bytes, dice: random.Random) -> bytes:
    """One to eight changes: bits, bytes, runs cut out, doubled, moved, and what often breaks."""
    data = bytearray(seed)
    for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
        size = len(data)
        at = dice.randrange(size + 1)
        kind = dice.randrange(8)
        if kind == 0 and size:
            data[dice.randrange(size)] ^= 1 << dice.randrange(8)
        elif kind == 1 and size:
            data[dice.randrange(size)] = dice.randrange(256)
        elif kind == 2:
            data[at:at] = dice.choice(EDGES)
        elif kind == 3:
            del data[at : at + dice.randrange(1, 30)]
        elif kind == 4 and size:
            data[at:at] = data[max(0, at - dice.randrange(1, 40)) : at]
        elif kind == 5:
            edge = dice.choice(EDGES)
            data[at : at + len(edge)] = edge
        elif kind == 6:
            del data[at:]
        elif size:
            length, source, target = dice.randrange(1, 30), dice.randrange(size), at
            data[target : target + length] = data[source : source + length]
    return bytes(data)


@dataclass
class Outcome:
    """What became of one decoder's inputs."""

    inputs: int = 0
    accepted: int = 0
    worst_ms: float = 0.0
    finds: list[dict[str, object]] = field(default_factory=list)


ALLOWED: dict[str, tuple[type[Exception], ...]] = {"manifest": (ValueError,)}
"""What else a decoder may raise: the manifest's caller turns pydantic's error into ours."""


def one(name: str, decode: Decode, data: bytes, outcome: Outcome) -> None:
    """Give one input to a decoder, and note what came of it."""
    began = time.thread_time()
    said = ""
    try:
        decode(data)
        outcome.accepted += 1
    except SkyreidError:
        pass
    except Exception as error:
        if not isinstance(error, ALLOWED.get(name, ())):
            at = traceback.extract_tb(error.__traceback__)[-1]
            said = f"{type(error).__name__} at {Path(at.filename).name}:{at.lineno}: {error!s:.200}"
    cpu_s = time.thread_time() - began
    outcome.inputs += 1
    outcome.worst_ms = max(outcome.worst_ms, 1000 * cpu_s)
    if not said and cpu_s > CPU_MAX_S:
        said = f"{cpu_s:.1f} s of CPU"
    if said:
        outcome.finds.append({"decoder": name, "said": said, "input": data.hex()})


def inputs(name: str, seeds: list[bytes], seed: int, first: int = 0) -> Iterator[bytes]:
    """The decoder's inputs of a seed, from number `first` on, without an end."""
    while True:
        dice = random.Random(f"{seed}/{name}/{first}")
        yield mutated(dice.choice(seeds), dice)
        first += 1


def resident_mb() -> float:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> int:
    """Run; one JSON object a decoder on stdout."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", nargs="+", help="decoders by name")
    parser.add_argument("--count", type=int, help="inputs of each decoder")
    parser.add_argument("--seconds", type=float, default=60, help="of all, where no count is given")
    parser.add_argument("--finds", type=Path, help="directory for the inputs that were finds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        chosen = decoders(Path(folder))
        if options.only:
            chosen = {name: chosen[name] for name in options.only}
        outcomes = {name: Outcome() for name in chosen}
        streams = {name: inputs(name, seeds, options.seed) for name, (_, seeds) in chosen.items()}
        for name, (decode, _) in chosen.items():  # what is imported and cached comes first
            one(name, decode, next(streams[name]), outcomes[name])
        began, before_mb = time.monotonic(), resident_mb()
        most = options.count or sys.maxsize
        while True:
            for name, (decode, _) in chosen.items():
                until = time.thread_time() + _TURN_S
                while time.thread_time() < until and outcomes[name].inputs < most:
                    one(name, decode, next(streams[name]), outcomes[name])
            least = min(outcome.inputs for outcome in outcomes.values())
            if least >= most or (not options.count and time.monotonic() - began >= options.seconds):
                break
    for name, outcome in outcomes.items():
        facts = {"inputs": outcome.inputs, "accepted": outcome.accepted}
        said = sorted({str(find["said"]) for find in outcome.finds})
        print(json.dumps({"decoder": name, **facts, "worst_ms": outcome.worst_ms, "finds": said}))
        for number, find in enumerate(outcome.finds[:20]):
            if options.finds:
                options.finds.mkdir(exist_ok=True)
                data = bytes.fromhex(str(find["input"]))
                (options.finds / f"{name.replace(' ', '-')}.{number}.bin").write_bytes(data)
    total = sum(outcome.inputs for outcome in outcomes.values())
    found = sum(len(outcome.finds) for outcome in outcomes.values())
    print(
        json.dumps(
            {
                "seed": options.seed,
                "inputs": total,
                "finds": found,
                "seconds": round(time.monotonic() - began, 1),
                "resident_mb": [round(before_mb, 1), round(resident_mb(), 1)],
            }
        )
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
