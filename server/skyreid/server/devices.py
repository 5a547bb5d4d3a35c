"""Presence and watermarks: which devices speak, up to which capture time all of them have."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from skyreid.contract.device import Birth, Health
from skyreid.contract.sighting import View
from skyreid.server.store.records import Heard

_log = logging.getLogger(__name__)


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
    moved_at_s: float = 0.0
    """When its watermark last rose, on the monotonic clock of this process (or it came online)."""
    behind: bool = False
    """Whether nobody waits for it, see `Devices.horizon_ns`."""
    birth: Birth | None = None
    health: Health | None = None

    def to_json(self) -> dict[str, Any]:
        """As ``/v1/devices`` shows it."""
        status = {None: "unknown", True: "online", False: "offline"}[self.online]
        return {
            "device": self.id,
            "camera": self.camera,
            "view": View(self.view).word if self.view else None,
            "status": status,
            "model_key": self.model_key,
            "birth": _json(self.birth),
            "health": _json(self.health),
            "watermark_ns": self.watermark_ns,
            "last_message_at_ns": self.heard_at_ns,
        }


class Devices:
    """All devices of the site. Times ``now_s`` are monotonic seconds and given by the caller."""

    def __init__(
        self,
        known: Iterable[Heard],
        cameras: Sequence[str],
        *,
        stall_s: float,
        window_s: float,
        now_s: float,
    ) -> None:
        """Start from the journal's devices and the site's cameras.

        Args:
            known: the journal's devices.
            cameras: of the site.
            stall_s: how long the others wait for a device that goes on no more.
            window_s: how far back the matcher looks.
            now_s: the time.
        """
        self._stall_s = stall_s
        self._window_ns = round(window_s * 1e9)
        self._first_heard_s: float | None = None
        self._cameras = frozenset(cameras)
        self.by_id: dict[str, Device] = {}
        for row in known:
            self.hear(row, now_s)

    def hear(self, row: Heard, now_s: float) -> Device:
        """A device sent something."""
        device = self._device(row.device, now_s)
        device.heard_at_ns = max(device.heard_at_ns or 0, row.heard_at_ns)
        if row.boot is not None and row.boot != device.boot:
            device.boot, device.watermark_ns, device.moved_at_s = row.boot, 0, now_s
        if row.watermark_ns > device.watermark_ns:
            device.watermark_ns, device.moved_at_s = row.watermark_ns, now_s
        device.camera = row.camera or device.camera
        device.view = row.view or device.view
        device.model_key = row.model_key or device.model_key
        return device

    def status(self, name: str, online: bool, now_s: float) -> Device:
        """A device came or went."""
        device = self._device(name, now_s)
        device.online = online
        if online:
            device.moved_at_s = now_s
        return device

    def birth(self, name: str, birth: Birth | None, now_s: float) -> Device:
        """A device said what it is, or withdrew it (None)."""
        device = self._device(name, now_s)
        device.birth = birth
        if birth is not None:
            device.model_key = birth.model.key
            device.camera = birth.cameras[0].id
            device.view = int(View.of(birth.cameras[0].view))
        return device

    def health(self, name: str, health: Health, now_s: float) -> Device:
        """A device said how it is."""
        device = self._device(name, now_s)
        device.health = health
        return device

    def horizon_ns(self, now_s: float) -> int | None:
        """Up to where everybody who is expected to speak has spoken; None = nobody is.

        Expected are the devices that are not offline and whose watermark rose within ``stall_s``
        (one that says that it lives, and has lost its camera, holds nobody up), and for
        the first ``stall_s`` after anybody spoke the cameras of the site that nobody spoke for.
        Nobody waits for a device whose clock is behind the newest by more than the matcher looks
        back: its sightings could be compared with nobody's anyway.
        """
        holding = [d for d in self.by_id.values() if self._holds(d, now_s)]
        newest = max((d.watermark_ns for d in holding), default=0)
        marks = []
        for device in holding:
            behind = 0 < device.watermark_ns < newest - self._window_ns
            if behind and not device.behind:
                _log.warning(
                    "device %s is %.0f s behind the newest: its clock is wrong, or it is too slow; "
                    "nobody waits for it",
                    device.id,
                    (newest - device.watermark_ns) / 1e9,
                )
            device.behind = behind
            if not behind:
                marks.append(device.watermark_ns)
        if self._first_heard_s is not None and now_s - self._first_heard_s < self._stall_s:
            spoken_for = {d.camera for d in self.by_id.values()}
            if self._cameras - spoken_for:
                marks.append(0)
        return min(marks, default=None)

    def model_keys(self) -> set[str]:
        """Models of the devices that are online."""
        return {d.model_key for d in self.by_id.values() if d.model_key and d.online}

    def online(self) -> int:
        """How many devices are online."""
        return sum(bool(d.online) for d in self.by_id.values())

    def _holds(self, device: Device, now_s: float) -> bool:
        return device.online is not False and now_s - device.moved_at_s < self._stall_s

    def _device(self, name: str, now_s: float) -> Device:
        if self._first_heard_s is None:
            self._first_heard_s = now_s
        if name not in self.by_id:
            self.by_id[name] = Device(name, moved_at_s=now_s)
        return self.by_id[name]


def _json(said: Birth | Health | None) -> dict[str, Any]:
    return {} if said is None else said.model_dump(mode="json", exclude_none=True)
