"""Gauges of a writer that are read when somebody asks for them, not set at each of its steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from skyreid.contract.broker import Address
from skyreid.server.broker.standing import Standing, Watcher, days_left, list_age, look
from skyreid.server.counters import Metrics
from skyreid.server.writer import Writer

if TYPE_CHECKING:
    from prometheus_client import Gauge


def watch(writer: Writer, metrics: Metrics) -> None:
    """Have the gauges ask ``writer``; Prometheus does so from another thread."""
    devices = writer.devices
    metrics.queue.set_function(lambda: len(writer.queue))
    metrics.undecided.set_function(lambda: writer.undecided)
    metrics.unsettled.set_function(lambda: writer.unsettled)
    metrics.uninformative.set_function(lambda: len(writer.uninformative))
    metrics.quarantined.set_function(lambda: writer.quarantined)
    metrics.identities.set_function(lambda: len(writer.state.identities))
    metrics.broker_connected.set_function(lambda: writer.broker.connected)
    metrics.waiting.set_function(writer.oldest.seconds)
    metrics.outbox.set_function(lambda: writer.outbox.waiting)
    metrics.listeners.set_function(lambda: len(writer.hub))
    metrics.model_keys.set_function(lambda: len(devices.model_keys()))
    metrics.devices_online.set_function(devices.online)
    people = writer.people
    rate = metrics.returns_rate
    rate.labels("configured").set_function(lambda: people.options.fpir)
    rate.labels("measured").set_function(lambda: people.measured.rate(people.options.fpir))
    metrics.returns_waiting.set_function(
        lambda: people.waiting.due if people.options.returns else 0
    )
    metrics.returns_measured.set_function(lambda: len(people.measured))
    metrics.seal_keys.set(writer.opening.keys)


def watch_certificate(path: Path, gauge: Gauge) -> None:
    """Have the gauge of its days ask a certificate, which may be renewed meanwhile."""
    gauge.set_function(lambda: days_left(path))


def watch_list(
    writer: Writer,
    metrics: Metrics,
    broker: Address,
    authority: Path | None,
    certificate: Path | None,
) -> Watcher:
    """What looks whether the broker keeps to the revocation list, not started; `Standing` says it.

    ``writer`` has it among its notices.
    """
    if authority is not None:
        metrics.revocation_age.set_function(lambda: list_age(authority / "crl.pem"))
    kept = writer.notices

    def stands(standing: Standing, notices: list[str]) -> None:
        known = standing.in_force
        metrics.revocation_in_force.set(float("nan") if known is None else known)
        writer.notices = (*kept, *notices)

    return Watcher(lambda: look(broker, authority, certificate), stands)
