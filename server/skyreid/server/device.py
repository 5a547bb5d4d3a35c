"""What is known of one device, and how it is shown."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

from skyreid.contract.device import Birth, Health
from skyreid.contract.sighting import View

LAGS_KEPT, LAG_QUANTILE = 32, 0.9
"""A device's own lag is this quantile of its latest messages."""
AHEAD_S, AHEAD_MESSAGES = 1.0, 8
"""A lag below minus this is a clock's fault; so many messages have to show by how much."""
CLOCK_SET_NS = 60_000_000_000
"""A watermark that was ahead and falls by more is told of."""
RETURNS, TWIN_S = 3, 600.0
"""A device that goes back to an earlier boot so often within this time is two; a repeated message
does it once."""
AlarmKind = Literal["clash", "twin"]
"""A sighting with the number of another one; a device that is two."""


@dataclass
class Device:
    """What is known of one device. ``online`` is None until it or its will has said so."""

    id: str
    camera: str | None = None
    view: int | None = None
    model_key: str | None = None
    online: bool | None = None
    boot: str | None = None
    watermark_ns: int = 0
    """No later live sighting has ``captured_at_ns`` below this."""
    heard_at_ns: int | None = None
    """Wall time of its last message."""
    rose_at_s: float = float("-inf")
    """When its watermark last rose, on the monotonic clock of this process."""
    repeated_at_s: float = float("-inf")
    """When a live message last said less than one before."""
    lag_s: float | None = None
    """How long after capture its live messages come, see `LAG_QUANTILE`; None = not known yet."""
    lead_ns: int = round(AHEAD_S * 1e9)
    """How far beyond its last message its watermark is believed. Nothing arrives before it was
    captured; a clock that is ahead shows by how much in every message, and a single wrong or forged
    one would take the site along for as long."""
    late: bool = False
    """Whether nobody waits for it, as it is too far behind: see `Devices.horizon_ns`."""
    sightings: int = 0
    """Stored in this life of the server."""
    birth: Birth | None = None
    health: Health | None = None
    boots: deque[str] = field(default_factory=lambda: deque(maxlen=8))
    """Those before this one."""
    returned_at_s: deque[float] = field(default_factory=lambda: deque(maxlen=RETURNS))
    """When it went back to one of them."""
    alarms: dict[str, int] = field(default_factory=dict)
    """What was noticed of it, by kind, see `AlarmKind`."""
    lags_s: deque[float] = field(default_factory=lambda: deque(maxlen=LAGS_KEPT))
    """Arrival minus watermark of its latest live messages."""
    _words: dict[str, tuple[Birth | Health | None, dict[str, Any]]] = field(default_factory=dict)

    @property
    def cameras(self) -> set[str]:
        """Cameras that it says it has."""
        born = {camera.id for camera in self.birth.cameras} if self.birth else set()
        return born | ({self.camera} if self.camera else set())

    def has_spoken_of(self, at_ns: int | None) -> bool:
        """Whether it is believed that nothing live that was captured before a moment will come."""
        mark_ns = min(self.watermark_ns, (self.heard_at_ns or 0) + self.lead_ns)
        return at_ns is not None and at_ns <= mark_ns

    def to_json(self) -> dict[str, Any]:
        """As ``/v1/devices`` shows it."""
        status = {None: "unknown", True: "online", False: "offline"}[self.online]
        return {
            "device": self.id,
            "camera": self.camera,
            "view": View(self.view).word if self.view else None,
            "status": status,
            "model_key": self.model_key,
            "birth": self._said_json("birth", self.birth),
            "health": self._said_json("health", self.health),
            "watermark_ns": self.watermark_ns,
            "lag_s": None if self.lag_s is None else round(self.lag_s, 1),
            "late": self.late,
            "alarms": dict(self.alarms),
            "last_message_at_ns": self.heard_at_ns,
        }

    def _said_json(self, what: str, said: Birth | Health | None) -> dict[str, Any]:
        # A page asks for a thousand of them every few seconds: each is put into words once.
        before, words = self._words.get(what, (None, {}))
        if before is not said:
            words = {} if said is None else said.model_dump(mode="json", exclude_none=True)
            self._words[what] = said, words
        return words
