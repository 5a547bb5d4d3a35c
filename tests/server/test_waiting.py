"""One device that is late, flaps or has a wrong clock, with real processes: the others go on."""

import time
from collections.abc import Callable
from typing import Any

from skyreid.contract.sighting import Ground, Sighting
from skyreid.contract.sighting_wire import encode_sighting
from skyreid.server.store.journal import Journal
from skyreid.server.store.records import Arrived, Heard


class Street:
    """Devices of one plaza that see somebody each half second; latencies until it is decided."""

    def __init__(self, server: Any, device: Callable[..., Any], make: Any) -> None:
        self.server, self._make = server, make
        self._device = device
        self._devices: dict[str, Any] = {}
        self._seq = 0

    def see(
        self, name: str, camera: str, *, ahead_s: float = 0.0, person: int = 0, at_ns: int = 0
    ) -> None:
        """One more person (or one by number) before a camera whose clock is ``ahead_s`` ahead.

        It is ``at_ns`` there, or the time that it is.
        """
        if name not in self._devices:
            self._devices[name] = self._device(name)
        self._seq += 1
        now_ns = (at_ns or time.time_ns()) + round(ahead_s * 1e9)
        sighting = self._make.sighting(
            self._seq + 1000,
            camera=camera,
            person=person or 1000 + self._seq,
            captured_at_ns=now_ns,
            first_seen_ns=now_ns,
            ground=Ground(float(person or self._seq) * 3, 0.0, 0.1, 0.0, 0.1),
        )
        payload = self._make.payload([sighting], device=name, watermark_ns=now_ns)
        self._devices[name].send("sightings", payload)

    def say(self, name: str, channel: str, payload: bytes) -> None:
        if name not in self._devices:
            self._devices[name] = self._device(name)
        self._devices[name].send(channel, payload)

    def decided(self) -> int:
        return sum(len(i["tracklets"]) for i in self.identities())

    def identities(self) -> list[Any]:
        return list(self.server.get("/v1/identities?limit=500").json()["identities"])


GOOD = (("uav1", "cam1"), ("street1", "cam6"))


def test_devices_that_flap_boot_or_lag_do_not_stop_the_site(
    server: Any, device: Callable[..., Any], make: Any, wait: Callable[..., Any]
) -> None:
    # Nothing is forgiven for want of news: only progress decides whom the others wait for.
    server.start("--matching.stall_s", "3600")
    street = Street(server, device, make)
    for turn in range(16):
        if turn % 4 == 0:
            street.say("flap", "status", b"online")
            beat = make.payload([], device="loop", boot=f"{turn}-x", watermark_ns=0)
            street.say("loop", "sightings", beat)
        street.see("slow", "cam6", ahead_s=-20)
        for name, camera in GOOD:
            street.see(name, camera)
        time.sleep(0.1)
    for _ in range(3):
        time.sleep(0.6)
        for name, camera in GOOD:
            street.see(name, camera)
    wait("all but the last are decided", lambda: street.decided() >= 16 * 3)
    wait_said = server.get("/readyz").json()["wait"]
    assert (wait_said["device"], wait_said["late"]) == (None, ["slow"])
    devices = {d["device"]: d for d in server.get("/v1/devices").json()["devices"]}
    assert (devices["slow"]["late"], devices["uav1"]["late"]) == (True, False)
    assert devices["slow"]["lag_s"] >= 20
    text = server.get("/metrics").text
    assert "skyreid_devices_late 1.0" in text
    late = next(x for x in text.splitlines() if x.startswith("skyreid_sightings_late_total "))
    assert float(late.split()[1]) >= 10
    assert server.log.read_text().count("device slow comes ") == 1


def test_a_clock_that_was_an_hour_ahead_once_harms_nothing_afterwards(
    server: Any, device: Callable[..., Any], make: Any, wait: Callable[..., Any]
) -> None:
    """What a server believed whose clock was wrong is in its journal; then it was put right."""
    journal = Journal(server.journal, "plaza", pictures_max_bytes=1)
    ahead_ns = time.time_ns() + 3600 * 10**9
    for name, camera in GOOD:
        early: Sighting = make.sighting(
            1, camera=camera, track=900, captured_at_ns=ahead_ns, first_seen_ns=ahead_ns
        )
        body = encode_sighting(early)
        arrived = Arrived(name, "1-abcd", 1, "key", 16, ahead_ns, early, body)
        heard = Heard(name, ahead_ns, "1-abcd", ahead_ns, camera, int(early.view), "key")
        journal.store([arrived], [heard])
    journal.close()
    server.start("--matching.stall_s", "5")
    street = Street(server, device, make)
    wait("those of that hour are decided", lambda: street.decided() == 2)
    # Seen at moments of its own, however busy the machine is.
    began_ns = time.time_ns()
    for person in range(1, 21):
        for name, camera in GOOD:
            street.see(name, camera, person=person, at_ns=began_ns + person * 50_000_000)
        time.sleep(0.05)
    for name, _ in GOOD:
        street.say(name, "status", b"offline")
    wait("all is decided", lambda: server.get("/readyz").json()["settled"])
    wait("those of now are decided", lambda: street.decided() == 42)
    both = [i for i in street.identities() if len({t["device"] for t in i["tracklets"]}) == 2]
    now = [i for i in both if all(t["track"] > 1000 for t in i["tracklets"])]
    assert len(now) == 20
    assert "went back by 3" in server.log.read_text()
