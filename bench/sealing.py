"""What sealing costs: a device's path and the server's ingest, in clear and sealed, side by side.

    python bench/sealing.py --rounds 15

The two are run in turns within one process, CPU time of it: `median_of_turns_percent` is what a
turn was dearer, on a busy machine by some percent more or less. What sealing itself takes,
`each_us` a sighting, is measured alone too, and `share_percent` is that of the whole path in
clear. Device: frames of the example clip through decoder, tracker, crops and sightings, the
networks' answers replayed, into a spool on the disk; that is what a device costs beside its
networks, so the share of the whole is smaller still. Server: messages decoded, checked and stored
in a journal. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from threading import Event

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from settings_files import DETECTOR, EMBEDDER, ROOT

from skyreid.contract.sealed import Opener, Sealer, about_sighting, key_name, open_sightings
from skyreid.contract.sighting_wire import decode_usable, encode_raw_batch
from skyreid.contract.site import Site
from skyreid.edge import app, bench
from skyreid.edge.config import EdgeSettings
from skyreid.edge.delivery.spool import Spool
from skyreid.edge.people.quality import with_looks
from skyreid.edge.people.tiling import Finder
from skyreid.edge.sighter import FrameDetector, Identity
from skyreid.server.bench.load import A_MESSAGE, BOOT, DEVICE, SITE, batches
from skyreid.server.broker.decoding import CLEAR, Message, sort_messages
from skyreid.server.broker.opening import Opening
from skyreid.server.store.journal import Journal

KEY = X25519PrivateKey.generate()
MESSAGES, A_TRANSACTION = 128, 64


def cpu_s() -> float:
    """CPU seconds of all threads of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def cost(work: Callable[[], object]) -> float:
    """CPU seconds of some work."""
    began = cpu_s()
    work()
    return cpu_s() - began


def ratio(
    clear: Callable[[], object], sealed: Callable[[], object], rounds: int
) -> dict[str, float]:
    """By how much the sealed one is dearer; both in turns, each turn begun by the other one."""
    clear(), sealed()
    pairs = []
    for turn in range(rounds):
        if turn % 2:
            second, first = cost(sealed), cost(clear)
        else:
            first, second = cost(clear), cost(sealed)
        pairs.append((first, second))
    least = [min(side) for side in zip(*pairs, strict=True)]
    middle = statistics.median(100 * (second / first - 1) for first, second in pairs)
    return {
        "clear_cpu_s": round(least[0], 4),
        "sealed_cpu_s": round(least[1], 4),
        "median_of_turns_percent": round(middle, 2),
    }


def alone(work: Callable[[], object], each: int) -> float:
    """Microseconds of CPU of one of ``each``, the least of many tries."""
    tries = []
    for _ in range(30):
        began = time.process_time()
        for _ in range(50):
            work()
        tries.append(time.process_time() - began)
    return 1e6 * min(tries) / 50 / each


def plan_of(folder: Path) -> app.Plan:
    """The device of the example clip's first camera."""
    (folder / "site.toml").write_text('id = "bench"\n[[camera]]\nid = "cam1"\nview = "aerial"\n')
    settings = EdgeSettings.model_validate(
        {
            "site": folder / "site.toml",
            "device": {"id": DEVICE},
            "camera": {
                "id": "cam1",
                "source": str(ROOT / "examples/clip/cam1.mp4"),
                "file_start_ns": 1_700_000_000_000_000_000,
            },
            "detector": {"model": DETECTOR},
            "embedder": {"bundles": [EMBEDDER]},
            "spool": {"path": folder / "spool.db"},
        }
    )
    return app.plan(settings, settings_directory=folder)


def device(folder: Path, frames: int, rounds: int) -> dict[str, float]:
    """A device's path beside its networks."""
    plan = plan_of(folder)
    recorded = bench._Recorded([], [], [])
    recording = bench._Recording(plan, recorded)
    bench._pass(plan, frames, recording)
    count = 0

    def path(sealer: Sealer | None) -> None:
        nonlocal count
        count = 0
        said = bench._Replayed(recorded, recording)
        finder: Finder = said
        stand_in = replace(plan, detector=FrameDetector(finder, with_looks), embedder=said)  # type: ignore[arg-type]
        with tempfile.TemporaryDirectory() as place, Spool(Path(place) / "s.db") as spool:
            who = Identity(SITE, DEVICE, spool.boot, "cam1", plan.view, recording.model)
            sighter = app.sighter_of(stand_in, who, 1, None, sealer)
            stream = app.source_of(plan, 1, lambda state, why: None).frames(Event())
            for frame in islice(stream, frames):
                made = sighter.look(frame)
                frame.release()
                if made.rows:
                    count += len(made.rows)
                    spool.append(made.rows, recording.model)
            stream.close()

    sealer = Sealer(KEY.public_key(), site=SITE, device=DEVICE)
    facts = ratio(lambda: path(None), lambda: path(sealer), rounds)
    plain = bytes(600)  # as long as a sighting of 192 numbers
    each = alone(lambda: sealer.seal(plain, about_sighting(BOOT, 7), 7), 1)
    return {"frames": frames, "sightings": count, **facts, **share(each, count, facts)}


def share(each_us: float, count: int, facts: dict[str, float]) -> dict[str, float]:
    """What sealing or opening takes, and of the whole."""
    percent = 100 * each_us * count / 1e6 / facts["clear_cpu_s"]
    return {"each_us": round(each_us, 2), "share_percent": round(percent, 2)}


def sealed(messages: list[Message]) -> list[Message]:
    """The same messages, as a device that seals says them."""
    sealer = Sealer(KEY.public_key(), site=SITE, device=DEVICE)
    out = []
    for message in messages:
        decoded = decode_usable(message.payload, site=SITE, device=DEVICE)
        records = [
            sealer.seal(raw, about_sighting(BOOT, s.seq), s.seq)
            for s, raw in zip(decoded.batch.sightings, decoded.raw, strict=True)
        ]
        out.append(replace(message, payload=encode_raw_batch(decoded.batch, records)))
    return out


def ingest(rounds: int) -> dict[str, float]:
    """Messages decoded, checked and stored."""
    site, clear = Site(id=SITE), batches(MESSAGES)
    opener = Opener(SITE, {key_name(KEY.public_key()): KEY}.get)

    def store(load: list[Message], opening: Opening) -> None:
        with tempfile.TemporaryDirectory() as folder:
            journal = Journal(Path(folder) / "j.sqlite", SITE, pictures_max_bytes=1)
            for start in range(0, len(load), A_TRANSACTION):
                batch = sort_messages(load[start : start + A_TRANSACTION], site, None, opening)
                assert not batch.refused
                journal.store(batch.sightings, batch.heard, ())
            journal.close()

    other = sealed(clear)
    facts = ratio(lambda: store(clear, CLEAR), lambda: store(other, Opening(opener)), rounds)
    size = sum(len(m.payload) for m in other) / sum(len(m.payload) for m in clear)
    larger = round(100 * (size - 1), 1)
    sealer, count = Sealer(KEY.public_key(), site=SITE, device=DEVICE), MESSAGES * A_MESSAGE
    plain = bytes(600)
    records = [sealer.seal(plain, about_sighting(BOOT, n), n) for n in range(A_MESSAGE)]
    each = alone(lambda: open_sightings(opener, records, DEVICE, BOOT), A_MESSAGE)
    facts |= share(each, count, facts)
    return {"sightings": count, "larger_percent": larger, **facts}


def main() -> int:
    """Measure, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--frames", type=int, default=60)
    given = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        facts = {
            "ingest": ingest(given.rounds),
            "device": device(Path(folder), given.frames, given.rounds),
        }
    print(json.dumps({**facts, "seconds": round(time.monotonic() - began, 1)}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
