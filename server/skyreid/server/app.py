"""Puts the parts together and runs them: broker thread, writer thread, HTTP thread."""

from __future__ import annotations

import hashlib
import logging
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

from skyreid.bundle.archive import open_bundle
from skyreid.bundle.signature import ANYONE, Trust
from skyreid.contract import files
from skyreid.contract.errors import (
    InputError,
    MessageError,
    PlatformError,
    SettingsError,
    SkyreidError,
)
from skyreid.contract.identity_event import CONTENT_TYPE
from skyreid.contract.settings import effective
from skyreid.contract.site import Site, read_site
from skyreid.server.broker.ingest import Broker, Queue
from skyreid.server.broker.opening import Opening, opening_of
from skyreid.server.broker.outbox import Outbox
from skyreid.server.config import ServerSettings
from skyreid.server.counters import Metrics
from skyreid.server.devices import Devices, Door
from skyreid.server.entrance import Entrance, check_entrance
from skyreid.server.gauges import watch, watch_certificate, watch_list
from skyreid.server.isolation import told
from skyreid.server.live import Hub
from skyreid.server.matching.matcher import Matcher
from skyreid.server.matching.priors import Normals, lacking
from skyreid.server.people.asking import People
from skyreid.server.reload import Reload
from skyreid.server.store.faults import DamagedJournal, damaged_journal
from skyreid.server.store.gallery import Gallery, gallery_of
from skyreid.server.store.journal import Journal
from skyreid.server.store.repair import open_sound
from skyreid.server.web.answers import Lookup, ShownSite
from skyreid.server.web.connections import BACKLOG
from skyreid.server.writer import Writer

_log = logging.getLogger(__name__)


def check(settings: ServerSettings) -> Site:
    """Everything that can be known to be wrong before anything runs.

    Raises:
        SkyreidError: something is.
    """
    _need("fastapi", "paho.mqtt", "prometheus_client", "scipy", "uvicorn")
    site = read_site(settings.site)
    ShownSite.of(site)  # reads the poses
    score_priors(settings.matching.bundle, settings.trust)
    settings.mqtt.tls()
    check_entrance(settings)
    opening_for(settings, site)
    if settings.http.port:
        _listen(settings.http.host, settings.http.port).close()
    return site


def run(read: Callable[[], ServerSettings]) -> int:
    """Run until SIGINT or SIGTERM; 0 then, 1 after a defect.

    Args:
        read: reads the settings; once more at each SIGHUP.

    Raises:
        SkyreidError: it cannot start.
    """
    orders: SimpleQueue[Literal["stop", "reload"]] = SimpleQueue()
    signal.signal(signal.SIGHUP, lambda *_: orders.put("reload"))
    settings = read()
    site = check(settings)
    _log.info("settings %s", effective(settings))
    digest = hashlib.sha256(effective(settings).encode()).hexdigest()
    listening = _listen(settings.http.host, settings.http.port)
    host, port = listening.getsockname()[:2]
    scheme = "http" if settings.http.certificate is None else "https"
    address = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
    journal, lost = open_sound(
        settings.journal.path,
        site.id,
        pictures_max_bytes=settings.pictures.max_mb << 20,
        events_kept=settings.journal.events_kept,
    )
    if settings.http.address_file is not None:
        settings.http.address_file.unlink(missing_ok=True)  # of a server that was killed
    metrics, hub = Metrics(), Hub(settings.http.events_queue)
    queue = Queue(settings.mqtt.queue_messages, settings.mqtt.queue_mb << 20)
    broker = Broker(
        site.id,
        settings.mqtt.address[:2],
        queue,
        tls=settings.mqtt.tls(),
        login=settings.mqtt.login,
        keepalive_s=settings.mqtt.keepalive_s,
        session_expiry_s=settings.mqtt.session_expiry_s,
        on_taken=lambda mid: outbox.confirm(mid),
        on_dropped=DroppedAlarm(metrics),
        on_trouble=lambda kind: metrics.broker_trouble.labels(kind).inc(),
        replayed=settings.mqtt.replayed,
    )
    outbox = Outbox(
        journal,
        site.id,
        lambda topic, body: broker.publish(topic, body, properties={}, content_type=CONTENT_TYPE),
    )
    writer = make_writer(settings, site, journal, queue, broker, outbox, hub, metrics)
    writer.notices = (f"journal: {lost}",) if lost else ()
    metrics.journal_lost.set(bool(lost))
    if settings.mqtt.certificate is not None:
        watch_certificate(settings.mqtt.certificate, metrics.certificate_days)
    if settings.http.certificate is not None:
        watch_certificate(settings.http.certificate, metrics.http_certificate_days)
    certificates = watch_list(
        writer, metrics, settings.mqtt.address, settings.authority.folder, settings.mqtt.certificate
    )
    lookup = Lookup(settings.journal.path, ShownSite.of(site))

    def publish(topic: str, body: str) -> bool:
        broker.publish(topic, body, properties={}, content_type="application/json")
        return broker.connected  # where it is not, what was said waits for it

    entrance = Entrance(settings, site.id, writer, lookup, hub, metrics, publish)
    http = entrance.http
    reload = Reload(
        settings,
        site,
        read,
        lambda new: score_priors(new.matching.bundle, new.trust),
        writer,
        lookup,
        metrics,
        entrance.renew,
        entrance.note,
    )
    stop = threading.Event()
    failed: list[str] = []
    damaged: list[DamagedJournal] = []

    def end() -> None:
        stop.set()
        orders.put("stop")

    def crashed(details: threading.ExceptHookArgs) -> None:
        """A thread that dies of an error, the connection's too, is the end of the server."""
        name = details.thread.name if details.thread else "unknown"
        error = (details.exc_type, details.exc_value, details.exc_traceback)
        if isinstance(details.exc_value, DamagedJournal):
            _log.error("%s; it is closed, and the next start keeps what is good", details.exc_value)
            damaged.append(details.exc_value)
        else:
            _log.error("the %s thread failed", name, exc_info=error)  # type: ignore[arg-type]
        failed.append(name)
        end()

    def serve() -> None:
        try:
            http.run([listening])
        except SystemExit as error:  # how uvicorn says that it could not start
            raise RuntimeError("the HTTP server did not start") from error

    threading.excepthook = crashed
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: end())
    threads = [
        threading.Thread(target=writer.run, name="writer"),
        threading.Thread(target=serve, name="http"),
    ]
    entrance.start(f"settings {digest}")
    broker.start()
    if settings.mqtt.address.secure:
        certificates.start()
    for thread in threads:
        thread.start()
    try:
        while not http.started and not stop.wait(0.02):
            pass
        if not failed:
            _announce(address, settings.http.address_file, site)
        while orders.get() == "reload":
            reload(stop)
    finally:
        _log.info("stopping")
        certificates.stop()
        hub.close()
        http.should_exit = True
        writer.stop()
        for thread in threads:
            thread.join()
        entrance.stop()
        broker.stop()
        journal.close()
        if settings.http.address_file is not None:
            settings.http.address_file.unlink(missing_ok=True)
    if damaged:
        raise damaged[0]
    if failed:
        raise SkyreidError(f"the {failed[0]} thread failed, see the log; it is a defect")
    return 0


def make_writer(
    settings: ServerSettings,
    site: Site,
    journal: Journal,
    queue: Queue,
    broker: Broker,
    outbox: Outbox,
    hub: Hub,
    metrics: Metrics,
) -> Writer:
    """The writer where the journal's log left off.

    Raises:
        InputError: the journal is damaged, or its log does not fit together.
    """
    options = settings.matching
    with readable(settings.journal.path):
        start = journal.start()
        priors = score_priors(options.bundle, settings.trust)
        if missing := lacking(priors):
            _log.warning(
                "matching.bundle %s: its manifest does not say how looks without colours compare "
                "(%s), so before and after a switch to infrared looks say little; "
                "skyreid-export priors measures it",
                options.bundle,
                ", ".join(missing),
            )
        matcher = Matcher(options, start.state, priors)
        matcher.recall = partial(told, journal)
        cameras = [camera.id for camera in site.camera]
        door = Door(
            cameras,
            journal.aside.admitted(),
            is_open=settings.devices.admission == "open",
            max_devices=settings.devices.max,
            messages_per_s=settings.devices.messages_per_s,
        )
        devices = Devices(
            journal.devices(),
            cameras,
            stall_s=options.stall_s,
            now_s=time.monotonic(),
            hold_s=options.hold_s,
            door=door,
        )
        writer = Writer(
            site,
            queue,
            journal,
            matcher,
            devices,
            broker,
            outbox,
            hub,
            metrics,
            Gallery(gallery_of(journal.path), last=journal.last[0]),
            None if settings.mqtt.replayed else settings.retention,
            opening_for(settings, site),
            partial(People, options=settings.people, priors=priors),
            batch_messages=settings.journal.batch_messages,
            batch_wait_s=settings.journal.batch_wait_ms / 1000,
            period_s=options.period_s,
            micro_batch_s=options.batch_s,
        )
        watch(writer, metrics)
        writer.gallery.take(journal.sightings_after(writer.gallery.through, ()))
        writer.begin(start)
        writer.forgetting.erase_asked()  # what a kill came between
        writer.forgetting.erase_listed()
    _log.info(
        "journal open path=%s sightings=%d identities=%d",
        settings.journal.path,
        writer.stored,
        len(writer.state.identities),
    )
    return writer


@contextmanager
def readable(journal: Path) -> Iterator[None]:
    """Say of a journal that turns out to be damaged while it is read that it is."""
    try:
        yield
    except (sqlite3.DatabaseError, MessageError) as error:
        raise damaged_journal(journal, error) from error


def opening_for(settings: ServerSettings, site: Site) -> Opening:
    """How sealed messages are opened.

    Raises:
        SettingsError: a private key cannot be read.
    """
    authority = settings.authority
    return opening_of(authority.folder, site.id, required=authority.sealed_only)


def score_priors(bundle: Path | None, trust: Trust = ANYONE) -> dict[str, Normals]:
    """Where score calibration starts: what a bundle's manifest says; nothing without a bundle.

    Raises:
        BundleError: the bundle cannot be used.
        SettingsError: it has no score priors.
    """
    if bundle is None:
        return {}
    manifest = open_bundle(bundle, trust).manifest
    if not manifest.score_priors:
        raise SettingsError(
            f"matching.bundle {bundle}: its manifest has no score priors; "
            "export it again, or leave the key out"
        )
    return {
        pair: Normals(p.same_mean, p.same_std, p.different_mean, p.different_std)
        for pair, p in manifest.score_priors.items()
    }


class DroppedAlarm:
    """Says once for each rise that the broker drops messages: it must never."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics, self._last = metrics, 0

    def __call__(self, dropped: int) -> None:
        self._metrics.broker_dropped.set(dropped)
        if dropped > self._last:
            _log.error(
                "the broker says it dropped %d messages since it started; "
                "its settings must be those of docker/mosquitto.conf",
                dropped,
            )
        self._last = dropped


def _need(*modules: str) -> None:
    from importlib.util import find_spec

    for module in modules:
        try:
            found = find_spec(module) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            raise PlatformError(f"{module} is not installed: pip install 'skyreid[server]'")


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, so that a busy port is said before anything starts."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with ExitStack() as on_failure:
            listening = on_failure.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen(BACKLOG)
            on_failure.pop_all()
    except OSError as error:
        raise InputError(
            f"http.host {host!r} port {port}: {error.strerror}; choose another, port 0 is any"
        ) from error
    return listening


def _announce(address: str, file: Path | None, site: Site) -> None:
    _log.info("page and API address=%s pictures=%s", address, site.pictures)
    if site.pictures != "never":
        _log.warning(
            "pictures of people are kept and shown: the site's policy is %s", site.pictures
        )
    if file is not None:
        files.write(file, f"{address}\n".encode())
