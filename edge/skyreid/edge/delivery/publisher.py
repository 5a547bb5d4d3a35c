"""Keeps a connection to the broker: one after the other, and never gives up.

A broker that cannot be reached is not an error: it is said once for each reason and counted, and
tried again for ever: soon where that may help, rarely where somebody has to do something first.
"""

from __future__ import annotations

import logging
import random
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from skyreid.contract.broker import Trouble
from skyreid.contract.device import Birth
from skyreid.contract.topics import DeviceChannel
from skyreid.edge.delivery.connection import Connection, Down, Event, Who, require_paho

log = logging.getLogger(__name__)

SOON_S, RARELY_S = (1.0, 30.0), (15.0, 120.0)
"""First and longest pause before the next try, where it may help and where somebody must act."""
SETTLED_S = 60.0
"""A connection that lasted as long, or brought a receipt, was a good one."""
REMEMBERED_S = 600.0
"""So long ``state`` names a trouble of a broker that can be reached."""
_COMES_AND_GOES = frozenset(("same_name", "packet_limit"))


class Publisher:
    """Keeps one MQTT 5 connection after the other."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        site: str,
        device: str,
        tls: ssl.SSLContext | None = None,
        login: tuple[str, str] | None = None,
        keepalive_s: int = 20,
        inflight_max: int = 64,
    ) -> None:
        """Set up; nothing is opened yet.

        Args:
            address: host and port of the broker.
            site: of the topics.
            device: of the topics and the client's name.
            tls: what a TLS connection is made with; None = without.
            login: name and password.
            keepalive_s: seconds of silence after which a ping is sent.
            inflight_max: QoS 1 messages on their way at once.

        Raises:
            PlatformError: paho-mqtt 2 is not installed.
        """
        require_paho()
        self._given = (address, site, device, login, keepalive_s, inflight_max)
        self.tls = tls
        """What the next connection is made with."""
        self._leaving = threading.Event()
        self._current: Connection | None = None
        self._keeper: threading.Thread | None = None
        self._told: Trouble | None = None
        self._told_at_s = 0.0
        self.troubles: Counter[str] = Counter()
        """How often there was no connection, or none any more, by kind of `Trouble`."""

    def start(self, birth: Birth, notify: Callable[[Event], None]) -> None:
        """Connect in the background, and again whenever the connection is lost.

        Args:
            birth: what this device is; said at each connection.
            notify: takes the events, from the thread of the connection; must not block.
        """
        client_id = f"skyreid-edge-{self._given[2]}"
        who = Who(*self._given, tls=None, client_id=client_id, birth=birth)
        # A daemon: a name server that does not answer must not hold up the end of the process.
        self._keeper = threading.Thread(
            target=self._keep, args=(who, notify), name="broker", daemon=True
        )
        self._keeper.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """Say ``offline`` and leave in good order, within twice ``timeout_s``."""
        connection = self._current
        if connection is not None and connection.introduced:
            connection.say_offline(timeout_s)
        self._leaving.set()
        if self._keeper is not None:
            self._keeper.join(timeout_s)

    def send(self, channel: DeviceChannel, payload: bytes, *, content_type: str) -> None:
        """Send a message that nobody waits for (QoS 0), where there is a connection."""
        connection = self._current
        if connection is not None and connection.ready:
            connection.send(channel, payload, qos=0, content_type=content_type)

    @property
    def state(self) -> str:
        """``connected``, ``away``, or the kind of a trouble that somebody has to mend.

        It is named for as long as it lasts; where it comes and goes, for ten minutes more.
        """
        told = self._told
        if told is not None and told.human and time.monotonic() - self._told_at_s < REMEMBERED_S:
            return told.kind
        connection = self._current
        return "connected" if connection is not None and connection.ready else "away"

    def _trouble(self, trouble: Trouble) -> None:
        """Count it; say it in one line where it is another than before."""
        self.troubles[trouble.kind] += 1
        before, self._told, self._told_at_s = self._told, trouble, time.monotonic()
        if before != trouble:
            end = "until it answers"
            if trouble.human:
                end = "until somebody mends that; it is tried rarely"
            host, port = self._given[0]
            log.warning(
                "broker %s:%d %s; sightings wait in the spool %s", host, port, trouble.why, end
            )

    def _keep(self, who: Who, notify: Callable[[Event], None]) -> None:
        retain, pause_s = True, 0.0
        while not self._leaving.is_set():
            connection = Connection(
                replace(who, tls=self.tls),
                retain=retain,
                notify=notify,
                on_ready=self._connected,
                complain=self._trouble,
            )
            self._current = connection
            began_s = time.monotonic()
            trouble = connection.live(self._leaving)
            self._current = None
            if connection.ready:
                notify(Down())
            if self._leaving.is_set():
                return
            if connection.retain_refused:  # it says so instead of answering
                retain = False
                continue
            self._trouble(trouble)
            if connection.receipts or time.monotonic() - began_s > SETTLED_S:
                pause_s = 0.0
            first_s, longest_s = RARELY_S if trouble.human else SOON_S
            pause_s = min(max(2 * pause_s, first_s), longest_s)
            self._leaving.wait(pause_s * random.uniform(0.5, 1.0))

    def _connected(self) -> None:
        if self._told is not None and self._told.kind not in _COMES_AND_GOES:
            self._told = None
        log.info("broker connected address=%s:%d", *self._given[0])


def ask_broker(
    address: tuple[str, int],
    *,
    site: str,
    device: str,
    tls: ssl.SSLContext | None,
    login: tuple[str, str] | None,
    timeout_s: float = 15.0,
) -> tuple[bool, str]:
    """Whether a device would get in: the whole handshake, by a client of another name.

    Returns:
        Whether it would, and what the broker said of itself, or why not.

    Raises:
        PlatformError: paho-mqtt 2 is not installed.
    """
    require_paho()
    done = threading.Event()
    # Another name than the device's, which may be running: a broker gives a name's connection away.
    name = f"skyreid-edge-{device}-doctor"
    who = Who(address, site, device, login, 20, 1, tls=tls, client_id=name, birth=None)
    connection = Connection(
        who,
        retain=True,
        notify=lambda event: None,
        on_ready=done.set,
        complain=lambda about: None,
    )
    timer = threading.Timer(timeout_s, done.set)
    timer.start()
    try:
        trouble = connection.live(done)
    finally:
        timer.cancel()
    if connection.ready:
        return True, f"accepts {device}: {connection.granted}"
    return False, trouble.why
