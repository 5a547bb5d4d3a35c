"""What arrived from the broker, decoded and checked; the rest is dead letters. No I/O.

One bad message never harms another: what cannot be used is a ``Refused`` with a reason, and how it
began is set aside on ``rejected/{reason}``. What no later time can put right is refused for good:
its device is told to forget it, by the sequence numbers that stand beside the bytes.
"""

from __future__ import annotations

import traceback
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields

from skyreid.contract import topics
from skyreid.contract.device import Birth, Health, decode_birth, decode_health, decode_status
from skyreid.contract.errors import MessageError
from skyreid.contract.identity_event import TrackKey
from skyreid.contract.picture import decode_picture
from skyreid.contract.receipt import Receipt, Status, decode_batch_properties, ranges_of
from skyreid.contract.sighting import Lane, SightingBatch
from skyreid.contract.sighting_wire import Decoded, Unusable, decode_usable
from skyreid.contract.site import Site
from skyreid.server.broker.opening import Opening
from skyreid.server.devices import Door
from skyreid.server.store.records import Arrived, ArrivedPicture, Heard

FOR_GOOD = frozenset(
    ("size", "parse", "envelope", "sighting", "defect", "clash", "erased", "sealed")
)
"""Reasons that stay. Another schema, site file, clock or private key can be put right, and the
device still has its sightings then."""
DEFECT = "defect"
"""The reason of a message that met a defect of this server: it is told in the log."""
_IN_CLEAR = "in clear, and authority.sealed_only is set: give the device spool.sealed_to"
CLEAR = Opening()
"""Nothing is sealed."""
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

    def extend(self, later: Sorted) -> None:
        """Add what came after it."""
        for each in fields(self):
            getattr(self, each.name).extend(getattr(later, each.name))

    def refuse_erased(self, erased: Set[TrackKey], site: Site) -> None:
        """Refuse what is of erased tracklets: nothing of it is kept or passed on."""
        if not erased:
            return
        gone = [item for item in self.sightings if item.key in erased]
        if gone:
            self.sightings = [item for item in self.sightings if item.key not in erased]
        self.pictures = [picture for picture in self.pictures if picture.key not in erased]
        for item in gone:
            topic = topics.device(site.id, item.device, "sightings")
            message = Message(topic, b"", {}, item.received_at_ns)
            why = f"a sighting of {item.device} that was erased"
            self.refused.append(
                Refused(message, "erased", why, item.device, item.boot, (item.sighting.seq,), False)
            )

    def refuse_clashes(self, clashes: Sequence[Arrived], site: Site) -> None:
        """Refuse sightings whose number another one has already, which is kept."""
        gone = {id(item) for item in clashes}
        self.sightings = [item for item in self.sightings if id(item) not in gone]
        for item in clashes:
            topic, seq = topics.device(site.id, item.device, "sightings"), item.sighting.seq
            keep = not item.sealed  # what was opened here is not passed on in clear
            body = item.body if keep else b""
            message = Message(topic, body, {}, item.received_at_ns)
            why = (
                f"sighting {seq} of boot {item.boot} is another one than is stored: two devices "
                "speak with one name, or a spool was copied"
            )
            self.refused.append(
                Refused(message, "clash", why, item.device, item.boot, (seq,), keep)
            )


def sort_messages(
    messages: Iterable[Message], site: Site, door: Door | None = None, opening: Opening = CLEAR
) -> Sorted:
    """Decode and check messages in order; never raises for what is in them.

    Args:
        messages: as they came.
        site: the site file.
        door: who is let in; None = everybody, and as much as they like.
        opening: what is done with what is sealed.
    """
    out, views = Sorted(), {camera.id: camera.view for camera in site.camera}
    for message in messages:
        try:
            topic = topics.parse_device(message.topic)
            if topic.site != site.id:
                raise MessageError("topic", f"site {topic.site!r}, this server is {site.id!r}")
        except MessageError as error:
            out.refused.append(Refused(message, error.reason, str(error)))
            continue
        try:
            _sort(out, message, topic, site, views, door, opening)
        except MessageError as error:
            out.refused.append(_refused(message, error.reason, str(error), topic, site))
        except Exception:  # a defect of ours must not stop the others, now and after each restart
            out.refused.append(_refused(message, DEFECT, traceback.format_exc(), topic, site))
    return out


def refuse_defect(message: Message, error: BaseException, site: Site) -> Refused:
    """A message on which something else than its decoding failed."""
    topic = topics.parse_device(message.topic)
    return _refused(message, DEFECT, f"{type(error).__name__}: {error}", topic, site)


def _refused(
    message: Message, reason: str, detail: str, topic: topics.DeviceTopic, site: Site
) -> Refused:
    boot: str | None = None
    seqs: tuple[int, ...] = ()
    if topic.channel == "sightings" and reason in FOR_GOOD:
        boot, seqs = _beside(message)
    # A picture that must not exist is not passed on to yet another topic, nor in clear what must
    # not be in clear.
    keep = topic.channel != "picture" or site.pictures != "never"
    keep = keep and reason != "unsealed"
    return Refused(message, reason, detail, topic.device, boot, seqs, keep)


def _beside(message: Message) -> tuple[str | None, tuple[int, ...]]:
    """Boot and sequence numbers as they are said beside the bytes of a batch."""
    try:
        return decode_batch_properties(message.properties) or (None, ())
    except MessageError:  # then it is sent again, as by a device that says nothing
        return None, ()


def _sort(
    out: Sorted,
    message: Message,
    topic: topics.DeviceTopic,
    site: Site,
    views: Mapping[str, str],
    door: Door | None,
    opening: Opening,
) -> None:
    device, now = topic.device, message.received_at_ns
    if door and not door.has_room(device, now):
        raise MessageError("rate", f"device {device!r} says more than devices.messages_per_s")
    if topic.channel == "sightings":
        decoded = decode_usable(message.payload, site=site.id, device=device, opener=opening.opener)
        if opening.required and decoded.batch.sightings and not decoded.sealed:
            raise MessageError("unsealed", f"sightings {_IN_CLEAR}")
        _need_admission(door, device, {s.camera for s in decoded.batch.sightings})
        _check(decoded.batch, views, now)
        out.refused.extend(_forgettable(decoded, message))
        out.sightings.extend(_arrived(decoded, now))
        out.heard.append(_heard(decoded.batch, now))
    elif topic.channel == "birth":
        birth = decode_birth(message.payload)
        _need_admission(door, device, {c.id for c in birth.cameras} if birth else ())
        out.births.append((device, birth))
    elif door and not door.lets_in(device):
        if topic.channel != "status":
            _need_admission(door, device, ())
        door.park(device, decode_status(message.payload))  # its birth, which comes next, decides
    elif topic.channel == "picture":
        if site.pictures == "never":
            raise MessageError("policy", f"a picture from {device!r}, the site's policy is never")
        picture = decode_picture(
            message.payload, message.properties, device=device, opener=opening.opener
        )
        if opening.required and message.properties.get("schema_version") != "2":
            raise MessageError("unsealed", f"a picture {_IN_CLEAR}")
        out.pictures.append(ArrivedPicture(device, now, picture))
    elif topic.channel == "status":
        out.statuses.append((device, decode_status(message.payload)))
    else:
        out.healths.append((device, decode_health(message.payload)))
        out.heard.append(Heard(device, now))


def _need_admission(door: Door | None, device: str, cameras: Collection[str]) -> None:
    if door and not door.lets_in(device, cameras):
        has = f"camera {', '.join(sorted(cameras))}" if cameras else "no camera that it named"
        raise MessageError(
            "device",
            f"device {device!r} with {has} is not let in: add its camera to the site file, or "
            f"skyreid-server devices admit SETTINGS {device}",
        )


def _check(batch: SightingBatch, views: Mapping[str, str], received_at_ns: int) -> None:
    """What the contract alone cannot know: the time, and how the site's cameras look."""
    newest = max([batch.watermark_ns, *(s.captured_at_ns for s in batch.sightings)])
    ahead_ns = newest - received_at_ns
    if ahead_ns > CLOCK_AHEAD_MAX_NS:
        raise MessageError(
            "clock",
            f"captured {ahead_ns / 1e9:.0f} s after it arrived: the clock of the device is wrong, "
            "or that of this server",
        )
    for camera, view in {(s.camera, s.view) for s in batch.sightings}:
        if views.get(camera, view.word) != view.word:
            raise MessageError(
                "view",
                f"camera {camera!r} is {views[camera]} in the site file of the server and "
                f"{view.word} in that of the device: give both the same file",
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
            decoded.sealed,
        )
        for sighting, raw in zip(batch.sightings, decoded.raw, strict=True)
    ]


def _forgettable(decoded: Decoded, message: Message) -> list[Refused]:
    """The bad sightings of a batch, by reason, which are for the device to forget where that stays.

    The good ones are kept. A bad one is one of those named beside the batch that are not good:
    nobody vouches for the number that bad bytes say, and the device believes the answer.
    """
    out: list[Refused] = []
    for reason in sorted({each.error.reason for each in decoded.unusable}):
        bad = [each for each in decoded.unusable if each.error.reason == reason]
        out.append(_refused_of(bad, reason, decoded, message))
    return out


def _refused_of(
    bad: Sequence[Unusable], reason: str, decoded: Decoded, message: Message
) -> Refused:
    batch = decoded.batch
    whole = len(decoded.unusable) + len(batch.sightings)
    detail = f"{len(bad)} of {whole} sightings, the first: {bad[0].error}"
    if reason not in FOR_GOOD:
        return Refused(message, reason, detail, batch.device)
    seqs = tuple(each.seq for each in bad if each.seq is not None)
    boot, named = _beside(message)
    if boot == batch.boot:
        left = set(named) - {s.seq for s in batch.sightings}
        seqs = tuple({seq for seq in seqs if seq in left})
        if len(seqs) < len(bad):
            left -= {each.seq for each in decoded.unusable if each.seq is not None}
            seqs += tuple(left)
    return Refused(message, reason, detail, batch.device, batch.boot, seqs)


def receipts(stored: Sequence[Arrived], refused: Sequence[Refused]) -> list[tuple[str, Receipt]]:
    """What each device (the first of a pair) is told of its sightings, a receipt for each boot.

    ``stored`` are all sightings that are in the journal now, the repeated ones too.
    """
    seqs: dict[tuple[str, str], dict[tuple[Status, str], list[int]]] = {}
    for item in stored:
        became = seqs.setdefault((item.device, item.boot), {})
        became.setdefault((Status.STORED, ""), []).append(item.sighting.seq)
    for entry in refused:
        if entry.device is not None and entry.boot is not None and entry.seqs:
            became = seqs.setdefault((entry.device, entry.boot), {})
            became.setdefault((Status.REJECTED, entry.reason), []).extend(entry.seqs)
    return [
        (device, Receipt(boot, tuple(r for of, s in became.items() for r in ranges_of(s, *of))))
        for (device, boot), became in seqs.items()
    ]
