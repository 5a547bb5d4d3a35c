"""What is joined of a recording that comes hours late, beside one that comes live.

::

    python bench/backfill.py CLIP RUN... [--hours 2] [--bundle DIR] [--json]

RUN as for ``bench/matching.py``. Each time a broker and a server of their own, as processes. Live:
in real time. Late: from the backfill lane, as it was captured so many hours ago, while every device
says now and then that it sees nobody. Pairs of one aerial and one ground tracklet are counted, as
they stand in the server's log once nothing is left to be decided.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from matching import read

from skyreid.contract import topics
from skyreid.contract.identity_event import TrackKey
from skyreid.contract.receipt import batch_properties
from skyreid.contract.recording import read_sightings
from skyreid.contract.sighting import Lane, ModelRef, Sighting, SightingBatch, View
from skyreid.contract.sighting_wire import MAX_SIGHTINGS, encode_batch
from skyreid.server.bench.chain import Chain, send, wait
from skyreid.server.bench.events import NOBODY_RETURNS
from skyreid.server.bench.load import SITE
from skyreid.server.broker.decoding import Message
from skyreid.server.scoring.metrics import score_cross_view
from skyreid.server.store.journal import Journal

SAYS_EVERY_S = 0.2
QUIET_S = 2.0
"""Of a live delivery: how long the devices go on after the end."""
Row = tuple[str, str, ModelRef, Sighting]


def rows_of(runs: list[Path]) -> list[Row]:
    """In order of capture."""
    rows = [
        (batch.device, batch.boot, batch.model, s)
        for run in runs
        for batch in read_sightings(run)
        for s in batch.sightings
    ]
    return sorted(rows, key=lambda row: (row[3].captured_at_ns, row[0], row[3].seq))


class Delivery:
    """A broker and a server that are told a recording."""

    def __init__(self, folder: Path, rows: list[Row], settings: str = "") -> None:
        """Nothing runs yet; ``rows`` are in order of capture."""
        self._rows, self._journal = rows, folder / "journal.sqlite"
        cameras = {s.camera: s.view.word for _, _, _, s in rows}
        self._chain = Chain(folder, cameras, NOBODY_RETURNS + settings)
        self._boots = {device: boot for device, boot, _, _ in rows}
        self._models = {device: model for device, _, model, _ in rows}

    def live(self) -> Mapping[TrackKey, str]:
        """Who is who, told as it happens."""
        with self._chain as chain:
            chain.start_server()
            with chain.publisher() as client:
                coming = self._from(time.time_ns() + 10**9)
                end_ns = coming[-1][3].captured_at_ns + round(QUIET_S * 1e9)
                while (now_ns := time.time_ns()) < end_ns:
                    ready = [row for row in coming if row[3].captured_at_ns <= now_ns]
                    coming = coming[len(ready) :]
                    self._say(client, ready, Lane.LIVE, now_ns)
                    time.sleep(SAYS_EVERY_S)
                self._wait(client, speak=False)
        return self._told()

    def late(self, hours: float) -> Mapping[TrackKey, str]:
        """The same, told so many hours later."""
        with self._chain as chain:
            chain.start_server()
            with chain.publisher() as client:
                self._say(client, [], Lane.LIVE, time.time_ns())
                ago_ns = round(hours * 3600e9)
                self._say(client, self._from(time.time_ns() - ago_ns), Lane.BACKFILL, 0)
                self._wait(client, speak=True)
        return self._told()

    def _from(self, begin_ns: int) -> list[Row]:
        """As if it had begun then."""
        offset_ns = begin_ns - self._rows[0][3].captured_at_ns
        out = []
        for device, boot, model, s in self._rows:
            first_ns, at_ns = s.first_seen_ns + offset_ns, s.captured_at_ns + offset_ns
            pauses = tuple(pause.later(offset_ns) for pause in s.pauses)
            moved = replace(s, first_seen_ns=first_ns, captured_at_ns=at_ns, pauses=pauses)
            out.append((device, boot, model, moved))
        return out

    def _say(self, client: Any, rows: list[Row], lane: Lane, mark_ns: int) -> None:
        """What each device says of some sightings; live also where it has none."""
        of: dict[str, list[Sighting]] = {d: [] for d in self._boots} if lane is Lane.LIVE else {}
        for device, _, _, sighting in rows:
            of.setdefault(device, []).append(sighting)
        for device, some in of.items():
            for at in range(0, max(len(some), 1), MAX_SIGHTINGS):
                chosen = tuple(some[at : at + MAX_SIGHTINGS])
                last = at + MAX_SIGHTINGS >= len(some)
                mark = mark_ns if last or lane is not Lane.LIVE else chosen[-1].captured_at_ns
                boot, model = self._boots[device], self._models[device]
                now_ns = time.time_ns()
                batch = SightingBatch(SITE, device, boot, lane, now_ns, model, chosen, mark)
                beside = batch_properties(boot, [s.seq for s in chosen])
                topic = topics.device(SITE, device, "sightings")
                send(client, Message(topic, encode_batch(batch), beside, now_ns))

    def _wait(self, client: Any, *, speak: bool) -> None:
        """Until all is decided for good; the devices ``speak`` meanwhile, or are gone."""

        def done() -> bool:
            if speak:
                self._say(client, [], Lane.LIVE, time.time_ns())
            said = json.loads(self._chain.get("/readyz"))
            if said["sightings"] < len(self._rows) or said["undecided"]:
                return False
            gone = b"\nskyreid_match_unsettled_blocks 0.0" in self._chain.get("/metrics")
            return gone and (speak or said["settled"])

        wait(done, "everything is decided", every_s=SAYS_EVERY_S)

    def _told(self) -> Mapping[TrackKey, str]:
        journal = Journal(self._journal, SITE, pictures_max_bytes=1)
        tracks = dict(journal.start().state.tracks.items())
        journal.close()
        return tracks


def score(
    names: Mapping[Any, str], person: Mapping[Any, int | None], view: Mapping[Any, View]
) -> dict[str, int]:
    """Pairs that are joined, those of them that are right, and those that there are."""
    above = [key for key in person if view[key] is View.AERIAL]
    below = [key for key in person if view[key] is View.GROUND]
    found = score_cross_view(names, person, above, below)
    return {"pairs": found.pairs, "right": found.right, "possible": found.possible}


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--bundle", type=Path, help="its score priors start the calibration")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    folders: list[Path] = []
    for path in args.runs:
        inside = sorted(p.parent for p in path.glob("*/run.json"))
        folders += [path] if (path / "run.json").exists() else inside
    told, person, _ = read(args.clip, folders)
    view = {TrackKey(d, b, s.camera, s.track): s.view for d, b, _, s in told}
    rows = rows_of(folders)
    settings = f'[matching]\nbundle = "{args.bundle.resolve()}"\n' if args.bundle else ""
    found: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        found["live"] = score(Delivery(Path(folder), rows, settings).live(), person, view)
    with tempfile.TemporaryDirectory() as folder:
        late = Delivery(Path(folder), rows, settings).late(args.hours)
        found["late"] = score(late, person, view)
    if args.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:6} {value}")


if __name__ == "__main__":
    main()
