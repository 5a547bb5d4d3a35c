"""Revoked means now: no connection opens any more, and the one that is open ends.

mosquitto reads the revocation list at SIGHUP, for connections that are made from then on. One that
is open it leaves alone: it is ended by taking its place, with a certificate of some minutes under
its name, for one client id has one connection (MQTT 5.0, 3.1.4-3).
"""

from __future__ import annotations

import time

from skyreid.contract.broker import BrokerSection
from skyreid.contract.errors import InputError
from skyreid.contract.topics import command
from skyreid.server.broker.ingest import Broker, Queue
from skyreid.server.certs import mosquitto
from skyreid.server.certs.authority import Authority

KICK_S = 30.0
SETTLE_S = 1.0
"""mosquitto acts on a signal within a turn of its loop, which is shorter."""


def revoke(authority: Authority, device: str, broker: str) -> int:
    """Take a device's certificates back and end its connection; how many there were.

    Raises:
        InputError: it has none; or the broker could not be told, and what is to be done.
    """
    count = authority.revoke(device)
    if not mosquitto.reload(authority):
        raise InputError(
            f"device {device!r} is revoked in {authority.path('crl.pem')}, and the broker does not "
            "know it: reload it (systemctl reload mosquitto), then revoke once more to end the "
            "connection that is open"
        )
    time.sleep(SETTLE_S)
    _kick(authority, device, broker)
    return count


def _kick(authority: Authority, device: str, url: str) -> None:
    authority.impersonate(device)
    pem, key = authority.path("kick.pem"), authority.path("kick.key")
    try:
        section = BrokerSection(url=url, ca=authority.path("ca.pem"), certificate=pem, key=key)
        place = Broker(
            authority.site,
            section.address[:2],
            Queue(1, 1),
            tls=section.tls(),
            login=None,
            keepalive_s=30,
            session_expiry_s=0,
            on_taken=lambda _mid: None,
            on_dropped=lambda _count: None,
            on_trouble=lambda _trouble: None,
            client_id=device,
            filters=[command(authority.site, device, "receipt")],
        )
    finally:
        pem.unlink(missing_ok=True)
        key.unlink(missing_ok=True)
    place.start()
    try:
        end_s = time.monotonic() + KICK_S
        while not place.was_connected:
            if time.monotonic() > end_s:
                raise InputError(
                    f"device {device!r} is revoked and cannot connect again, but {url} could not "
                    "be asked to end the connection that is open: restart the broker"
                )
            time.sleep(0.05)
    finally:
        place.stop()
