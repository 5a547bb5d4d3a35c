"""What arrived from the broker, decoded and checked; the rest is dead letters. No I/O.

One bad message never harms another: what cannot be used is a ``Refused`` with a reason, and its
original bytes are set aside on ``rejected/{reason}``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from skyreid.contract import topics
from skyreid.contract.device import Birth, Health, decode_birth, decode_health, decode_status
from skyreid.contract.errors import MessageError
from skyreid.contract.picture import decode_picture
from skyreid.contract.receipt import Status
from skyreid.contract.sighting import Lane, SightingBatch
from skyreid.contract.sighting_wire import Decoded, decode_usable
from skyreid.contract.site import Site
from skyreid.server.store.records import Arrived, ArrivedPicture, Heard

CLOCK_AHEAD_MAX_NS = 60_000_000_000
"""A capture time further ahead of its arrival is not the time: it would hold up the whole site."""


@dataclass(frozen=True)
class Message:
    """One MQTT message as it came; ``generation`` tells connections apart (see ``ingest``)."""

    topic: str
    payload: bytes
    properties: Mapping[str, str]
    received_at_ns: int
    mid: int = 0
    qos: int = 0
    generation: int = 0


@dataclass(frozen=True)
class Refused:
    """A message that cannot be used. ``keep_payload`` is False where policy forbids passing it on.

    ``seqs`` are the sightings that the device may forget (REJECTED), with their ``boot``.
    """

    message: Message
    reason: str
    detail: str
    device: str | None = None
    boot: str | None = None
    seqs: tuple[int, ...] = ()
    keep_payload: bool = True


@dataclass
class Sorted:
    """A batch of messages, by what they are."""

    sightings: list[Arrived] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    pictures: list[ArrivedPicture] = field(default_factory=list)
    births: list[tuple[str, Birth | None]] = field(default_factory=list)
    """Device and what it says that it is; None where it withdrew it."""
    statuses: list[tuple[str, bool]] = field(default_factory=list)
    """Device and whether it is online."""
    healths: list[tuple[str, Health]] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


def sort_messages(messages: Iterable[Message], site: Site) -> Sorted:
    """Decode and check messages in order; never raises for what is in them."""
    out = Sorted()
    for message in messages:
        try:
            topic = topics.parse_device(message.topic)
            if topic.site != site.id:
                raise MessageError("topic", f"site {topic.site!r}, this server is {site.id!r}")
        except MessageError as error:
            out.refused.append(Refused(message, error.reason, str(error)))
            continue
        try:
            _sort(out, message, topic, site)
        except MessageError as error:
            out.refused.append(
                Refused(
                    message,
                    error.reason,
                    str(error),
                    topic.device,
                    # A picture that must not exist is not passed on to yet another topic.
                    keep_payload=topic.channel != "picture" or site.pictures != "never",
                )
            )
    return out


def _sort(out: Sorted, message: Message, topic: topics.DeviceTopic, site: Site) -> None:
    device, now = topic.device, message.received_at_ns
    if topic.channel == "sightings":
        decoded = decode_usable(message.payload, site=site.id, device=device)
        _check(decoded.batch, site, now)
        out.refused.extend(_forgettable(decoded, message))
        out.sightings.extend(_arrived(decoded, now))
        out.heard.append(_heard(decoded.batch, now))
    elif topic.channel == "picture":
        if site.pictures == "never":
            raise MessageError("policy", f"a picture from {device!r}, the site's policy is never")
        picture = decode_picture(message.payload, message.properties)
        out.pictures.append(ArrivedPicture(device, now, picture))
    elif topic.channel == "status":
        out.statuses.append((device, decode_status(message.payload)))
    elif topic.channel == "birth":
        out.births.append((device, decode_birth(message.payload)))
    else:
        out.healths.append((device, decode_health(message.payload)))
        out.heard.append(Heard(device, now))


def _check(batch: SightingBatch, site: Site, received_at_ns: int) -> None:
    """What the contract alone cannot know: the time, and the site's cameras."""
    newest = max([batch.watermark_ns, *(s.captured_at_ns for s in batch.sightings)])
    ahead_ns = newest - received_at_ns
    if ahead_ns > CLOCK_AHEAD_MAX_NS:
        raise MessageError(
            "clock",
            f"captured {ahead_ns / 1e9:.0f} s after it arrived: the clock of the device is wrong, "
            "or that of this server",
        )
    views = {camera.id: camera.view for camera in site.camera}
    for s in batch.sightings:
        if views.get(s.camera, s.view.word) != s.view.word:
            raise MessageError(
                "view",
                f"camera {s.camera!r} is {views[s.camera]} in the site file of the server and "
                f"{s.view.word} in that of the device: give both the same file",
            )


def _heard(batch: SightingBatch, received_at_ns: int) -> Heard:
    last = batch.sightings[-1] if batch.sightings else None
    live = batch.lane == Lane.LIVE
    captured = max((s.captured_at_ns for s in batch.sightings), default=0)
    return Heard(
        batch.device,
        received_at_ns,
        batch.boot if live else None,  # what was saved up says nothing about the present
        (batch.watermark_ns or captured) if live else 0,
        last.camera if last else None,
        int(last.view) if last else None,
        batch.model.key,
    )


def _arrived(decoded: Decoded, received_at_ns: int) -> list[Arrived]:
    batch = decoded.batch
    return [
        Arrived(
            batch.device,
            batch.boot,
            int(batch.lane),
            batch.model.key,
            batch.model.dim,
            received_at_ns,
            sighting,
            raw,
        )
        for sighting, raw in zip(batch.sightings, decoded.raw, strict=True)
    ]


def _forgettable(decoded: Decoded, message: Message) -> list[Refused]:
    """The bad sightings of a batch, which are for the device to forget; the good ones are kept.

    Everything else that may be wrong (another schema, another site file, a clock) can be put right,
    and the device still has it then. So it has one whose bytes do not even say which it is.
    """
    bad, batch = decoded.unusable, decoded.batch
    if not bad:
        return []
    seqs = tuple(each.seq for each in bad if each.seq is not None)
    whole = len(bad) + len(batch.sightings)
    detail = f"{len(bad)} of {whole} sightings, the first: {bad[0].error}"
    return [Refused(message, "sighting", detail, batch.device, batch.boot, seqs)]


def receipts(
    stored: Sequence[Arrived], refused: Sequence[Refused]
) -> dict[tuple[str, str], dict[Status, list[int]]]:
    """Sequence numbers by (device, boot) and what became of them.

    ``stored`` are all sightings that are in the journal now, the repeated ones too.
    """
    out: dict[tuple[str, str], dict[Status, list[int]]] = {}
    for item in stored:
        by_status = out.setdefault((item.device, item.boot), {})
        by_status.setdefault(Status.STORED, []).append(item.sighting.seq)
    for entry in refused:
        if entry.device is not None and entry.boot is not None and entry.seqs:
            by_status = out.setdefault((entry.device, entry.boot), {})
            by_status.setdefault(Status.REJECTED, []).extend(entry.seqs)
    return out
