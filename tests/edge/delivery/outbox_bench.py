"""An outbox with a spool and clocks that a test sets, and a link that remembers what was sent."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from skyreid.contract.broker import Trouble
from skyreid.contract.receipt import Range, Receipt, Status, decode_batch_properties
from skyreid.contract.sighting import Lane, ModelRef, SightingBatch
from skyreid.contract.sighting_wire import decode_batch
from skyreid.edge.delivery.options import OutboxOptions
from skyreid.edge.delivery.outbox import WINDOW, Outbox
from skyreid.edge.delivery.rows import Row
from skyreid.edge.delivery.spool import Spool


@dataclass
class FakeLink:
    """Remembers what was sent."""

    batches: list[SightingBatch] = field(default_factory=list)
    pictures: list[tuple[bytes, Mapping[str, str]]] = field(default_factory=list)
    sent: int = 0
    unacknowledged_max: int = 1000
    packet_bytes: int = 1 << 28
    troubles: list[Trouble] = field(default_factory=list)

    def room(self, channel: str, properties: Mapping[str, str] | None = None) -> int:
        said = sum(len(k) + len(v) + 5 for k, v in (properties or {}).items())
        return self.packet_bytes - said

    def hang_up(self, why: Trouble) -> None:
        self.troubles.append(why)

    def complain(self, about: Trouble) -> None:
        self.troubles.append(about)

    def send(
        self,
        channel: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        properties: Mapping[str, str] | None = None,
        content_type: str | None = None,
    ) -> int:
        self.sent += 1
        assert len(payload) <= self.room(channel, properties)
        if channel == "picture":
            assert content_type == "image/jpeg"
            self.pictures.append((payload, dict(properties or {})))
        else:
            batch = decode_batch(payload, site="square", device="dev1")
            said = decode_batch_properties(properties or {})
            assert said == (
                (batch.boot, tuple(s.seq for s in batch.sightings)) if batch.sightings else None
            )
            self.batches.append(batch)
        return self.sent

    def flat(self, lane: Lane) -> list[int]:
        return [seq for group in self.seqs(lane) for seq in group]

    def seqs(self, lane: Lane) -> list[list[int]]:
        return [[s.seq for s in b.sightings] for b in self.batches if b.lane is lane if b.sightings]


class Bench:
    """An outbox with a spool and clocks that a test sets."""

    def __init__(self, path: Path, model: ModelRef, row: Callable[[int], Row]) -> None:
        self.path, self.model, self.row = path, model, row
        self.now_s = 1000.0
        self.options, self.window = OutboxOptions(), WINDOW
        self.link = FakeLink()

    def wall_ns(self) -> int:
        return int((self.now_s + 1_700_000_000) * 1e9)

    def open(self) -> None:
        self.spool = Spool(self.path)
        self.outbox = Outbox(
            self.spool,
            site="square",
            device="dev1",
            model=self.model,
            options=self.options,
            window=self.window,
            monotonic=lambda: self.now_s,
            wall_ns=self.wall_ns,
        )

    def say(self, first: int, last: int) -> None:
        self.spool.append([self.row(n) for n in range(first, last + 1)], self.model)

    def receipt(
        self, first: int, last: int, *, boot: str = "", status: Status = Status.STORED
    ) -> dict[str, int]:
        """What was dropped."""
        span = Range(first, last, status, "view" if status is Status.REJECTED else "")
        believed = self.outbox.receipt(Receipt(boot or self.spool.boot, (span,)))
        return self.spool.append((), self.model, settled=believed)

    def taken(self) -> None:
        """The broker acknowledges whatever it was given."""
        for message in range(self.link.sent + 1):
            self.outbox.acknowledged(message)

    def after(self, seconds: float) -> None:
        self.now_s += seconds
        self.outbox.pump()
