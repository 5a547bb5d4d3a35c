"""kill -9 of devices, broker and server at random; then whether what is recorded is stored.

    python bench/kills.py WORK --kills 200 --seed 1
    python bench/kills.py WORK --kills 100 --of broker server

Real processes: mosquitto with docker/mosquitto.conf, skyreid-server, and three devices without
eyes, which say 60 sightings a second, or what the machine gives them (``said_per_s``), through the
spool, outbox and connection of every device. A killed device starts anew with its spool; in the end
each runs until nothing waits; what waits longer is ``left``, and not ``lost``. A consumer listens
to identities all the while, as docs/messages.md says how. Prints one JSON object; exit code 1 where
something was lost, doubled, out of order or left, or an event was never told or told in two ways.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sqlite3
import sys
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
from clip import clip_chain
from settings_files import ROOT, SITE

from skyreid.contract.device import Birth, BirthCamera
from skyreid.contract.recording import Recorder, RunInfo, read_sightings
from skyreid.contract.sighting import Box, Clock, Kind, ModelRef, Sighting, View
from skyreid.contract.sighting_wire import encode_sighting
from skyreid.edge.delivery.outbox import Outbox
from skyreid.edge.delivery.publisher import Publisher
from skyreid.edge.delivery.rows import Row
from skyreid.edge.delivery.spool import Spool
from skyreid.edge.flow import Flow, FlowOptions, Stop
from skyreid.edge.recorded import record_said
from skyreid.edge.sighter import Identity, Said
from skyreid.edge.video.frame import Frame

DEVICES = 3
DIM = 64
MODEL = ModelRef("0123456789abcdef", DIM, "b" * 64, "kills")
FRAME_S, ROWS = 0.1, 2  # 60 sightings a second of all
WEIGHTS = {"device": 7, "broker": 2, "server": 1}
Key = tuple[str, str, int]


class Nothing:
    """Frames of nothing, ten a second."""

    dropped: dict[str, int] = {}  # noqa: RUF012

    def silent_s(self) -> float:
        """It never hangs."""
        return 0.0

    def frames(self, stop: threading.Event) -> Generator[Frame, None, None]:
        picture = np.zeros((8, 8, 3), np.uint8)
        number, began_s = 0, time.monotonic()
        # By the clock: to wait between frames is to be late by what each of them takes.
        while not stop.wait(max(0.0, began_s + (number + 1) * FRAME_S - time.monotonic())):
            number += 1
            yield Frame.of_rgb(picture, number=number, captured_at_ns=time.time_ns())


class Talks:
    """A few people in every frame, each for half a minute."""

    def __init__(self, camera: str, view: View) -> None:
        self._view = view
        self._camera, self._seq, self._dice = camera, 0, np.random.default_rng(len(camera))

    def look(self, frame: Frame) -> Said:
        rows = []
        for k in range(ROWS):
            self._seq += 1
            vector = self._dice.normal(size=DIM).astype(np.float32)
            sighting = Sighting(
                seq=self._seq,
                camera=self._camera,
                view=self._view,
                track=frame.number // 300 * ROWS + k,
                revision=frame.number % 300,
                kind=Kind.UPDATE,
                first_seen_ns=frame.captured_at_ns,
                captured_at_ns=frame.captured_at_ns,
                clock=Clock.NTP,
                clock_error_ms=1,
                box=Box(0, 0, 4, 8, 8, 8),
                quality=0.5,
                crops=1,
                embedding=vector / np.linalg.norm(vector),
                spread=1.0,
            )
            rows.append(Row(self._seq, frame.captured_at_ns, encode_sighting(sighting)))
        return Said(tuple(rows), (), frame.captured_at_ns + 1, ROWS)

    def finish(self) -> Said:
        return Said((), (), time.time_ns())


def device(
    port: int, name: str, view: View, spool_path: Path, record: Path, *, talks: bool
) -> None:
    """A device without eyes, until SIGTERM; ``talks`` False: only until nothing waits."""
    stop = Stop()
    signal.signal(signal.SIGTERM, lambda *_: stop.ask())
    with Spool(spool_path) as spool:
        publisher = Publisher(("127.0.0.1", port), site=SITE, device=name)
        outbox = Outbox(spool, site=SITE, device=name, model=MODEL)
        options = FlowOptions(drain_timeout_s=300.0, stop_timeout_s=2.0 if talks else 300.0)
        flow = Flow(Nothing(), Talks(name, view), spool, outbox, MODEL, options)
        info = RunInfo(site=SITE, device=name, boot=spool.boot, camera=name, view=view.word,
                       source="nothing", start_ns=1, model_key=MODEL.key)  # fmt: skip
        with Recorder(record, info) as recorder:
            who = Identity(SITE, name, spool.boot, name, view, MODEL)
            flow.on_stored = lambda rows: record_said(recorder, who, rows)
            if not talks:
                stop.ask()
            camera = BirthCamera.model_validate({"id": name, "view": view.word})
            publisher.start(Birth(boot=spool.boot, model=MODEL, cameras=(camera,)), flow.notify)
            flow.run(stop)
            publisher.stop()


class Consumer:
    """Whoever follows identities: events of the broker by id, with each way they were told."""

    def __init__(self, port: int) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

        self.heard: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._client = Client(
            CallbackAPIVersion.VERSION2, client_id="follower", protocol=MQTTProtocolVersion.MQTTv5
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda c, *_: c.subscribe(f"skyreid/v1/{SITE}/identity/#", 1)
        self._client.on_message = lambda _c, _d, message: self._take(message.payload.decode())
        self._client.connect_async("127.0.0.1", port, clean_start=False)
        self._client.loop_start()

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, body: str) -> None:
        self.heard[json.loads(body)["id"]][body] += 1


class Field:
    """The chain, its devices, and what was done to them."""

    def __init__(self, work: Path, seed: int, of: Sequence[str] = tuple(WEIGHTS)) -> None:
        self.chain = clip_chain(ROOT / "examples/clip", work)
        self.dice, self._of = random.Random(seed), list(of)
        self._told: dict[str, object] = {}
        self._talked_s = 0.0
        self.names = list(self.chain.cameras)[:DEVICES]
        self.records: list[Path] = []
        self.killed: Counter[str] = Counter()

    def start_device(self, name: str, *, talks: bool = True) -> None:
        record = self.chain.work / "kills" / f"{len(self.records)}-{name}"
        self.records.append(record)
        self.chain.spool(name).parent.mkdir(exist_ok=True)
        command = [sys.executable, __file__, "--device", name, self.chain.cameras[name]]
        command += [
            str(self.chain.broker_port),
            str(self.chain.spool(name)),
            str(record),
            "talks" if talks else "drains",
        ]
        self.chain.edges[name] = self.chain._start(name, command)

    def run(self, kills: int) -> None:
        """Start all, kill so many, and let everybody finish."""
        chain, dice = self.chain, self.dice
        chain.start_broker()
        consumer = Consumer(chain.broker_port)
        chain.start_server()
        began_s = time.monotonic()
        for name in self.names:
            self.start_device(name)
        while sum(self.killed.values()) < kills:
            time.sleep(dice.uniform(0.3, 2.0))
            what = dice.choices(self._of, [WEIGHTS[part] for part in self._of])[0]
            self.killed[what] += 1
            with open(chain.work / "logs" / "kills.log", "a") as log:
                print(f"{time.time():.3f} {what}", file=log)
            if what == "device":
                name = dice.choice(self.names)
                chain.kill(chain.edges[name])
                self.start_device(name)
            elif what == "broker":
                assert chain.broker is not None
                chain.kill(chain.broker)
                time.sleep(dice.uniform(0.1, 1.5))
                chain.start_broker()
            else:
                assert chain.server is not None
                chain.kill(chain.server)
                chain.start_server()
        end = time.monotonic() + 120
        while not all((self._latest(name) / "run.json").exists() for name in self.names):
            assert time.monotonic() < end, "a device does not start"
            time.sleep(0.1)
        time.sleep(2.0)
        for name in self.names:
            code = chain.edges[name].stop(60.0)
            assert code == 0, chain.edges[name].tail(30)
            self.start_device(name, talks=False)
        self._talked_s = time.monotonic() - began_s
        for name in self.names:
            assert chain.edges[name].process.wait(320) == 0, chain.edges[name].tail(30)
        end_s = time.monotonic() + 600
        while self._rows("SELECT 1 FROM event WHERE taken = 0 LIMIT 1") or not (
            (chain.get("/readyz") or {}).get("settled")
        ):
            assert time.monotonic() < end_s, "not all was decided and told"
            time.sleep(0.5)
        self._told = self._events(consumer)
        consumer.stop()

    def _rows(self, sql: str) -> list[Any]:
        db = sqlite3.connect(f"file:{self.chain.journal}?mode=ro", uri=True)
        try:
            return db.execute(sql).fetchall()
        finally:
            db.close()

    def _events(self, consumer: Consumer) -> dict[str, object]:
        """What the log has against what was told: by the broker, or asked for afterwards."""
        rows = self._rows("SELECT decision, number, body FROM event ORDER BY id")
        log = {f"{decision}-{number}": body for decision, number, body in rows}
        again: set[str] = set()
        address = f"{self.chain.address}/v1/events?after=0-0"
        with urllib.request.urlopen(address, timeout=60) as stream:
            while len(again) < len(log) and (line := stream.readline()):
                if line.startswith(b"id: "):
                    again.add(line[4:].decode().strip())
        heard = consumer.heard
        return {
            "events": len(log),
            "events_heard": len(heard),
            "events_repeated": sum(sum(bodies.values()) - 1 for bodies in heard.values()),
            "events_missing": len(log.keys() - heard.keys() - again),
            "events_told_otherwise": sum(
                set(bodies) != {log.get(name)} for name, bodies in heard.items()
            ),
        }

    def _latest(self, name: str) -> Path:
        """Where the device records now."""
        return [record for record in self.records if record.name.endswith(f"-{name}")][-1]

    def recorded(self) -> Counter[Key]:
        """What the devices said."""
        return Counter(
            (batch.device, batch.boot, sighting.seq)
            for record in self.records
            if (record / "traffic.bin").exists()
            for batch in read_sightings(record)
            for sighting in batch.sightings
        )

    def outcome(self) -> dict[str, object]:
        """What was said against what is stored."""
        said = self.recorded()
        last: dict[tuple[str, str], int] = {}
        for name, boot, seq in said:
            last[name, boot] = max(seq, last.get((name, boot), 0))
        db = sqlite3.connect(f"file:{self.chain.journal}?mode=ro", uri=True)
        rows = db.execute("SELECT device, boot, seq, lane FROM sighting ORDER BY id").fetchall()
        (whole,) = db.execute("PRAGMA integrity_check").fetchone()
        db.close()
        stored = {(name, boot, seq) for name, boot, seq, _ in rows}
        extra = stored - set(said)
        reached: dict[tuple[str, int], tuple[int, int]] = {}
        disorder = 0
        for name, boot, seq, lane in rows:
            place = int(boot.split("-")[0]), seq
            disorder += place < reached.get((name, lane), (0, 0))
            reached[name, lane] = max(place, reached.get((name, lane), (0, 0)))
        waiting: set[Key] = set()
        for name in self.names:
            spool = sqlite3.connect(f"file:{self.chain.spool(name)}?mode=ro", uri=True)
            waiting |= {(name, *row) for row in spool.execute("SELECT boot, seq FROM sighting")}
            spool.close()
        return {
            "kills": dict(self.killed),
            "recorded": len(said),
            "stored": len(stored),
            "lost": len(set(said) - stored - waiting),
            "recorded_twice": sum(count > 1 for count in said.values()),
            "stored_twice": len(rows) - len(stored),
            # On disk, and killed before the recording had it: the last of its boot.
            "stored_and_not_yet_recorded": len(extra),
            "of_these_not_the_last": sum(
                seq <= last.get((name, boot), 0) for name, boot, seq in extra
            ),
            "out_of_order": disorder,
            "left": len(waiting),
            "journal": whole,
            "said_per_s": round(len(said) / max(self._talked_s, 1e-9), 1),
            **self._told,
        }


BAD = (
    "lost",
    "recorded_twice",
    "stored_twice",
    "of_these_not_the_last",
    "out_of_order",
    "left",
    "events_missing",
    "events_told_otherwise",
)


def main() -> int:
    """Kill, and say what came of it."""
    if sys.argv[1:2] == ["--device"]:
        name, view, port, spool, record, how = sys.argv[2:]
        device(int(port), name, View.of(view), Path(spool), Path(record), talks=how == "talks")
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--of", nargs="+", choices=tuple(WEIGHTS), default=tuple(WEIGHTS))
    given = parser.parse_args()
    field = Field(given.work, given.seed, given.of)
    try:
        field.run(given.kills)
        outcome = field.outcome()
    finally:
        field.chain.stop()
    print(json.dumps(outcome, indent=1))
    return int(any(outcome[name] for name in BAD) or outcome["journal"] != "ok")


if __name__ == "__main__":
    sys.exit(main())
