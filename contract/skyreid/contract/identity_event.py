"""What the world is told of an identity: CloudEvents 1.0 JSON on ``identity/{identity}``.

Written by the server alone, read by whoever listens; the HTTP API shows a match and the key of a
tracklet in the same form. Versions: ``type`` begins with ``skyreid.v1``; within it keys and kinds
of events are only ever added, and a listener passes over those it does not know.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, NamedTuple

CONTENT_TYPE = "application/cloudevents+json"
LinkState = Literal["accepted", "tentative"]
ReturnState = Literal["accepted", "tentative", "undone"]
EventType = Literal["assigned", "tentative", "merged", "split", "erased", "returned"]

_MEASURES = {
    "appearance": "similarity",
    "place": "distance_m",
    "time": "gap_s",
    "clock": "error_s",
}
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


class TrackKey(NamedTuple):
    """What names a tracklet for ever: one track of one camera in one life of a device.

    A tuple, as it is hashed and compared some twenty times for every sighting that a server takes.
    """

    device: str
    boot: str
    camera: str
    track: int

    def to_json(self) -> dict[str, Any]:
        """As a JSON object with the fields' names."""
        return {
            "device": self.device,
            "boot": self.boot,
            "camera": self.camera,
            "track": self.track,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrackKey:
        """Inverse of ``to_json``."""
        return cls(data["device"], data["boot"], data["camera"], int(data["track"]))

    def identity_id(self, generation: int = 0) -> str:
        """8 characters of Crockford's base 32 (40 bits) that this tracklet gives an identity.

        ``generation`` counts the identities that the tracklet has founded before: a split never
        takes an id that was in use.
        """
        text = f"{self.device}/{self.boot}/{self.camera}/{self.track}/{generation}"
        bits = int.from_bytes(hashlib.sha256(text.encode()).digest()[:5], "big")
        return "".join(_CROCKFORD[bits >> shift & 31] for shift in range(35, -1, -5))


@dataclass(frozen=True)
class Evidence:
    """One reason for or against a link, as a log-likelihood ratio (natural logarithm).

    ``value`` is what was measured: a cosine for ``appearance``, metres for ``place``, seconds for
    ``time``, nothing for ``prior``. ``clock`` is no reason (its ratio is 0) but says what time is
    worth between the two cameras: both clocks' errors in seconds, None where they are unrelated.

    Looks were held against ``strangers`` pairs of this site that are known to be two people, of
    which ``as_alike`` look as alike as these or more.
    """

    kind: Literal["appearance", "place", "time", "clock", "prior"]
    llr: float
    value: float | None = None
    strangers: int | None = None
    as_alike: int | None = None

    def to_json(self) -> dict[str, Any]:
        """``{"kind", "similarity" | "distance_m" | "gap_s" | "error_s", "llr"}``.

        Of looks that were held against strangers with ``{"strangers", "as_alike"}``.
        """
        measured = {} if self.value is None else {_MEASURES[self.kind]: self.value}
        held = {"strangers": self.strangers, "as_alike": self.as_alike} if self.strangers else {}
        return {"kind": self.kind, **measured, "llr": self.llr, **held}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evidence:
        """Inverse of ``to_json``."""
        kind = data["kind"]
        held = (data.get("strangers"), data.get("as_alike"))
        return cls(kind, data["llr"], data.get(_MEASURES.get(kind, "")), *held)


@dataclass(frozen=True)
class Match:
    """Why a tracklet is in an identity: how sure, against which tracklet, on what evidence."""

    state: LinkState
    probability: float
    """Posterior, 0 to 1, that the link is right."""
    other: TrackKey
    """The member of the identity that speaks most clearly."""
    evidence: tuple[Evidence, ...]

    def to_json(self) -> dict[str, Any]:
        """``{"state", "probability", "with", "evidence"}``, as the HTTP API shows it."""
        return {
            "state": self.state,
            "probability": self.probability,
            "with": self.other.to_json(),
            "evidence": [e.to_json() for e in self.evidence],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Match:
        """Inverse of ``to_json``."""
        return cls(
            data["state"],
            data["probability"],
            TrackKey.from_json(data["with"]),
            tuple(Evidence.from_json(e) for e in data["evidence"]),
        )


@dataclass(frozen=True)
class Return:
    """Why an identity may be a person who had left: how sure, and by which tracklet of each.

    It joins nothing: both identities keep their ids and their tracklets, and it can be undone.
    """

    state: ReturnState
    probability: float
    """Posterior, 0 to 1, that the two are one person."""
    track: TrackKey
    """Of who came."""
    other: TrackKey
    """Of who had left."""
    gap_s: float
    """From when the one was last seen to when the other was seen first, s."""
    told_from: int
    """How many people it could have been."""
    similarity: float | None
    """Cosine of the two, each less the mean look of its camera; None where one is forgotten."""
    views: tuple[str, str]
    """From where who came was seen, and who had left: ``aerial`` or ``ground``."""
    reason: str = ""
    """Why it is not accepted, for people to read."""

    def to_json(self) -> dict[str, Any]:
        """As the HTTP API and events show it."""
        return {
            "state": self.state,
            "probability": self.probability,
            "track": self.track.to_json(),
            "with": self.other.to_json(),
            "gap_s": self.gap_s,
            "told_from": self.told_from,
            "similarity": self.similarity,
            "views": list(self.views),
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Return:
        """Inverse of ``to_json``."""
        later, earlier = data["views"]
        return cls(
            data["state"],
            data["probability"],
            TrackKey.from_json(data["track"]),
            TrackKey.from_json(data["with"]),
            data["gap_s"],
            data["told_from"],
            data["similarity"],
            (later, earlier),
            data["reason"],
        )


@dataclass(frozen=True)
class Event:
    """What changed for whoever follows an identity. ``other`` is the second identity, if any.

    Of ``returned`` it is the one that had left, and ``person`` the id by which ``identity`` is
    known from now on.
    """

    type: EventType
    identity: str
    at_ns: int
    tracks: tuple[TrackKey, ...] = ()
    other: str | None = None
    match: Match | None = None
    link: Return | None = None
    person: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The event's data as a JSON object."""
        data: dict[str, Any] = {
            "type": self.type,
            "identity": self.identity,
            "at_ns": self.at_ns,
            "tracks": [t.to_json() for t in self.tracks],
        }
        if self.other is not None:
            data["other"] = self.other
        if self.match is not None:
            data["match"] = self.match.to_json()
        if self.link is not None:
            data["return"] = self.link.to_json()
        if self.person is not None:
            data["person"] = self.person
        return data


def encode_event(event: Event, *, site: str, decision: int, number: int, decided_at_ns: int) -> str:
    """An event as CloudEvents 1.0 JSON.

    Args:
        event: what happened.
        site: where.
        decision: number of the decision in the log that caused it.
        number: which of that decision's events, from 0; with ``decision`` the event's id.
        decided_at_ns: wall time of the decision.
    """
    moment = datetime.fromtimestamp(decided_at_ns / 1e9, timezone.utc)
    return json.dumps(
        {
            "specversion": "1.0",
            "id": f"{decision}-{number}",
            "source": f"skyreid/{site}",
            "type": f"skyreid.v1.identity.{event.type}",
            "subject": event.identity,
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "datacontenttype": "application/json",
            "data": event.to_json(),
        },
        separators=(",", ":"),
    )
