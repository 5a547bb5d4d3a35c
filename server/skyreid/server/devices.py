"""Presence and watermarks: who is let in, who speaks, up to which capture time all of them have.

Names and floods of one client cost nothing: a device is let in for its camera or by its name, not
for talking, and says so much and no more. The right to hold the others up is earned by progress:
only a device whose watermark rises is waited for, and never longer than ``hold_s`` beyond the
device in the middle.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from skyreid.contract.device import Birth, Health
from skyreid.contract.sighting import View
from skyreid.server.counters import Metrics
from skyreid.server.device import (
    AHEAD_MESSAGES,
    AHEAD_S,
    CLOCK_SET_NS,
    LAG_QUANTILE,
    RETURNS,
    TWIN_S,
    AlarmKind,
    Device,
)
from skyreid.server.store.records import Heard

_log = logging.getLogger(__name__)

BURST_S = 30.0
"""What a device may say at once, in seconds of what it may say in the long run."""
_ALARMS: dict[AlarmKind, str] = {
    "clash": "a sighting has the number of another one: a copied spool, or a second device",
    "twin": "two devices speak with its name, or a copy of it does",
}
STRANGERS_MAX = 4_096
"""Of devices that are not let in, so many are counted."""
PARKED_MAX = 256
"""Of devices that are not let in, so many statuses are remembered."""


class Door:
    """Which devices are let in. Use from one thread at a time."""

    def __init__(
        self,
        cameras: Collection[str],
        named: Iterable[str] = (),
        *,
        is_open: bool = False,
        max_devices: int = 1_000,
        messages_per_s: float = 300.0,
    ) -> None:
        """Nobody is inside yet but by name.

        Args:
            cameras: of the site file.
            named: devices that the operator admitted.
            is_open: let in any that says which camera it has; also so without ``cameras``.
            max_devices: how many at most, the named ones apart.
            messages_per_s: of one device, in the long run.
        """
        self.named = set(named)
        """Devices that the operator admitted."""
        self._inside: set[str] = set()
        self.judge_by(
            cameras, is_open=is_open, max_devices=max_devices, messages_per_s=messages_per_s
        )
        self._left: dict[str, tuple[float, int]] = {}  # messages that are left, as of when
        self._strangers: OrderedDict[str, tuple[float, int]] = OrderedDict()  # the same
        self._parked: OrderedDict[str, bool] = OrderedDict()

    def judge_by(
        self, cameras: Collection[str], *, is_open: bool, max_devices: int, messages_per_s: float
    ) -> None:
        """Ask for something else from now on, see `Door`; who is inside has to be let in anew."""
        self._cameras, self._open = frozenset(cameras), is_open or not cameras
        self._max, self._per_s = max_devices, messages_per_s
        self._inside.clear()

    def lets_in(self, device: str, cameras: Collection[str] = ()) -> bool:
        """Whether what a device says is used; ``cameras`` are those that it says it has."""
        if device in self._inside or device in self.named:
            return True
        fits = bool(cameras) if self._open else not self._cameras.isdisjoint(cameras)
        if fits and len(self._inside) < self._max:
            self._inside.add(device)
            return True
        return False

    def park(self, device: str, online: bool) -> None:
        """Remember the status of one that is not let in yet: it says so once, and often first."""
        self._parked[device] = online
        self._parked.move_to_end(device)
        if len(self._parked) > PARKED_MAX:
            self._parked.popitem(last=False)

    def parked(self, device: str) -> bool | None:
        """What was parked for a device, once."""
        return self._parked.pop(device, None)

    def has_room(self, device: str, now_ns: int) -> bool:
        """Whether a device, let in or not, may say one more message; asking counts as saying it.

        What the broker kept while this server was away is taken in whole (`knows`).
        """
        burst = BURST_S * self._per_s
        kept = self._left if self.lets_in(device) else self._strangers
        left, since_ns = kept.get(device, (burst, now_ns))
        if left < burst:
            left = min(burst, left + max(0, now_ns - since_ns) / 1e9 * self._per_s)
        kept[device] = max(0.0, left - 1), now_ns  # also where this server's clock went back
        if len(self._strangers) > STRANGERS_MAX:  # a broker that knows no names: they cost memory
            self._strangers.popitem(last=False)
        return left >= 1

    def knows(self, device: str, cameras: Collection[str], heard_at_ns: int, now_ns: int) -> bool:
        """Whether a device of the journal is let in; it was heard last by an earlier life."""
        if not self.lets_in(device, cameras):
            return False
        away_s = max(BURST_S, (now_ns - heard_at_ns) / 1e9)
        self._left[device] = away_s * self._per_s, now_ns
        return True


@dataclass(frozen=True)
class Wait:
    """Who holds the site up."""

    device: str | None = None
    """The device that is waited for now; None = nobody is, by more than a second."""
    by_s: float = 0.0
    """How much further the site would be without it, seconds of capture time."""
    late: tuple[str, ...] = ()
    """Devices that nobody waits for, being too far behind: what they send is decided when it comes,
    out of its order."""

    def show(self, metrics: Metrics) -> None:
        """Bring its gauges up to date."""
        metrics.devices_late.set(len(self.late))
        metrics.held_up.clear()
        if self.device is not None:
            metrics.held_up.labels(self.device).set(self.by_s)

    def to_json(self) -> dict[str, Any]:
        """As ``/readyz`` and the event ``wait`` show it."""
        return {"device": self.device, "by_s": round(self.by_s, 1), "late": list(self.late)}


class Oldest:
    """For how long the oldest undecided sighting has been here. One writes, others may ask."""

    def __init__(self) -> None:
        """Nothing waits yet."""
        self._waiting: deque[tuple[float, int]] = deque()  # when fed, newest capture time of these

    def fed(self, newest_ns: int | None) -> None:
        """Sightings came, the newest captured then; None = none did."""
        if newest_ns is not None:
            self._waiting.append((time.monotonic(), newest_ns))

    def decided(self, up_to_ns: int | None) -> None:
        """All captured up to then is decided; None = all is."""
        while self._waiting and (up_to_ns is None or self._waiting[0][1] <= up_to_ns):
            self._waiting.popleft()

    def seconds(self) -> float:
        """Wall seconds; 0 where nothing waits."""
        for since, _newest_ns in self._waiting.copy():
            return time.monotonic() - since
        return 0.0


class Devices:
    """All devices of the site. Times ``now_s`` are monotonic seconds and given by the caller."""

    def __init__(
        self,
        known: Iterable[Heard],
        cameras: Sequence[str],
        *,
        stall_s: float,
        now_s: float,
        hold_s: float = 2.0,
        door: Door | None = None,
    ) -> None:
        """Start from the journal's devices and the site's cameras.

        Args:
            known: the journal's devices.
            cameras: of the site.
            stall_s: how long the others wait for a device that goes on no more.
            now_s: the time.
            hold_s: how long they wait, in capture time, beyond the device in the middle.
            door: who is let in; None = everybody.
        """
        self._wait_by(cameras, stall_s=stall_s, hold_s=hold_s)
        self._first_heard_s: float | None = None
        self.by_id: dict[str, Device] = {}
        self.wait = Wait()
        """Who holds the site up, as of the latest `horizon_ns`."""
        self.last: Device | None = None
        """The device that keeps the horizon where it is, as of then."""
        self.door = door
        """Who is let in; None = everybody."""
        self.alarms: list[tuple[str, str]] = []
        """Devices and kinds of what was noticed of them and nobody has taken yet."""
        for row in known:
            has = (row.camera,) if row.camera else ()
            if door and not door.knows(row.device, has, row.heard_at_ns, time.time_ns()):
                continue
            device = self.hear(row, now_s)
            device.lags_s.clear()  # of then, not of now
            device.lag_s = None

    def judge_by(self, cameras: Sequence[str], *, stall_s: float, hold_s: float) -> None:
        """Go by other settings from now on, see `Devices`, and by what ``door`` asks for now."""
        self._wait_by(cameras, stall_s=stall_s, hold_s=hold_s)
        for device in sorted(self.by_id.values(), key=lambda d: d.heard_at_ns or 0):
            if self.door and not self.door.lets_in(device.id, device.cameras):
                _log.warning("device %s is not let in any more", device.id)
                del self.by_id[device.id]
                if device.online is not None:
                    self.door.park(device.id, device.online)

    def _wait_by(self, cameras: Sequence[str], *, stall_s: float, hold_s: float) -> None:
        self._cameras, self._stall_s = frozenset(cameras), stall_s
        self._hold_s, self._hold_ns = hold_s, round(hold_s * 1e9)

    def take(
        self,
        heard: Sequence[Heard],
        births: Sequence[tuple[str, Birth | None]],
        healths: Sequence[tuple[str, Health]],
        statuses: Sequence[tuple[str, bool]],
        now_s: float,
    ) -> set[str]:
        """Take in what a batch of messages says; of which devices there is news."""
        for row in heard:
            self.hear(row, now_s)
        for name, birth in births:
            self.birth(name, birth, now_s)
        for name, health in healths:
            self.health(name, health, now_s)
        for name, online in statuses:
            self.status(name, online, now_s)
            _log.info("device %s device=%s", "online" if online else "offline", name)
        return {row.device for row in heard} | {name for name, _ in (*births, *statuses)}

    def hear(self, row: Heard, now_s: float) -> Device:
        """A device sent something."""
        device = self._device(row.device, now_s)
        device.heard_at_ns = max(device.heard_at_ns or 0, row.heard_at_ns)
        if row.boot is not None and row.boot != device.boot:
            self._new_boot(device, row.boot, now_s)
        if row.watermark_ns:
            self._progress(device, row, now_s)
        device.camera = row.camera or device.camera
        device.view = row.view or device.view
        device.model_key = row.model_key or device.model_key
        return device

    def status(self, name: str, online: bool, now_s: float) -> Device:
        """A device came or went."""
        device = self._device(name, now_s)
        device.online = online
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
        """Up to where everybody who is waited for has spoken; None = nobody speaks.

        Waited for are the devices that are not offline and whose watermark rose within
        ``stall_s``; one that only talks is not. Nobody waits in vain: not for a device whose own
        lag is more than ``hold_s`` above that of the device in the middle, and for none longer
        than until that one is ``hold_s`` further. Nothing arrives before it was captured: unless
        most clocks are ahead (this server's is behind then), one that is has no say in that. For
        the first ``stall_s`` after anybody spoke the cameras of the site that nobody spoke for are
        waited for too.
        """
        since_s = now_s - self._stall_s  # asked ten times a second of a thousand: no call for each
        rising = [d for d in self.by_id.values() if d.rose_at_s > since_s and d.online is not False]
        judges = [d for d in rising if d.lag_s is None or d.lag_s >= -AHEAD_S]
        if 2 * len(judges) < len(rising):
            judges = rising
        mark_ns = {d.id: min(d.watermark_ns, (d.heard_at_ns or 0) + d.lead_ns) for d in rising}
        marks = sorted((mark_ns[d.id] for d in judges), reverse=True)
        if not marks:
            self._note_late(rising, float("inf"))
            self.wait = Wait()
            return None
        middle_ns = marks[(len(marks) - 1) // 2]
        lags = sorted(d.lag_s for d in judges if d.lag_s is not None)
        limit_s = lags[(len(lags) - 1) // 2] + self._hold_s if lags else float("inf")
        self._note_late(rising, limit_s)
        waited = [d for d in rising if not d.late]
        self.last = last = min(waited or rising, key=lambda d: mark_ns[d.id])
        horizon_ns = max(mark_ns[last.id], middle_ns - self._hold_ns)
        by_s = (middle_ns - horizon_ns) / 1e9
        late = tuple(sorted(d.id for d in rising if d.late))
        self.wait = Wait(last.id, by_s, late) if by_s > 1 else Wait(late=late)
        if self._first_heard_s is not None and now_s - self._first_heard_s < self._stall_s:
            spoken_for = {d.camera for d in self.by_id.values()}
            if self._cameras - spoken_for:
                return 0
        return horizon_ns

    def model_keys(self) -> set[str]:
        """Models of the devices that are online."""
        return {d.model_key for d in list(self.by_id.values()) if d.model_key and d.online}

    def online(self) -> int:
        """How many devices are online."""
        return sum(bool(d.online) for d in list(self.by_id.values()))

    def alarm(self, device: Device, kind: AlarmKind) -> None:
        """Something about a device that an operator has to look at: said, counted, shown."""
        device.alarms[kind] = device.alarms.get(kind, 0) + 1
        self.alarms.append((device.id, kind))
        if device.alarms[kind] in (1, 10, 100) or device.alarms[kind] % 1000 == 0:
            _log.error("device %s: %s (%d so far)", device.id, _ALARMS[kind], device.alarms[kind])

    def _new_boot(self, device: Device, boot: str, now_s: float) -> None:
        if boot in device.boots:
            device.returned_at_s.append(now_s)
            if now_s - device.returned_at_s[0] < TWIN_S and len(device.returned_at_s) == RETURNS:
                self.alarm(device, "twin")
        if device.boot is not None:
            device.boots.append(device.boot)
        device.boot, device.watermark_ns = boot, 0
        device.lags_s.clear()

    def _progress(self, device: Device, row: Heard, now_s: float) -> None:
        """What a live message says of how far its device is."""
        was_ns = device.watermark_ns
        ahead = was_ns > row.heard_at_ns + round(AHEAD_S * 1e9)  # of what is said now
        if ahead and row.watermark_ns < was_ns - CLOCK_SET_NS:
            _log.warning(
                "device %s went back by %.0f s: its clock was set, or that of this server",
                device.id,
                (was_ns - row.watermark_ns) / 1e9,
            )
            device.lags_s.clear()
        elif row.watermark_ns < was_ns and not ahead:
            # What a broker had kept, minutes old, comes at once; a clock that is behind goes on.
            if now_s - device.repeated_at_s < 1:
                return
            device.repeated_at_s = now_s
        device.lags_s.append((row.heard_at_ns - row.watermark_ns) / 1e9)
        ordered = sorted(device.lags_s)
        device.lag_s = ordered[int(LAG_QUANTILE * (len(ordered) - 1))]
        shown_s = -ordered[-1] if len(ordered) >= AHEAD_MESSAGES else AHEAD_S
        device.lead_ns = round(max(AHEAD_S, shown_s) * 1e9)
        if row.watermark_ns > was_ns or ahead:  # a repeated message does not turn time back
            device.watermark_ns, device.rose_at_s = row.watermark_ns, now_s

    def _note_late(self, rising: Sequence[Device], limit_s: float) -> None:
        """Say once of a device that nobody waits for it, and once that it is waited for again."""
        for device in rising:
            late = device.lag_s is not None and device.lag_s > limit_s
            if late and not device.late:
                _log.warning(
                    "device %s comes %.1f s after capture, the limit is %.1f s: its clock is "
                    "wrong, or it is too slow; nobody waits for it",
                    device.id,
                    device.lag_s,
                    limit_s,
                )
            elif device.late and not late:
                _log.info("device %s is in step again", device.id)
            device.late = late

    def _device(self, name: str, now_s: float) -> Device:
        if self._first_heard_s is None:
            self._first_heard_s = now_s
        if name not in self.by_id:
            self.by_id[name] = Device(name, online=self.door.parked(name) if self.door else None)
        return self.by_id[name]
