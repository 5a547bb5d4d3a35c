"""Gauges of a writer that are read when somebody asks for them, not set at each of its steps."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from skyreid.server.counters import Metrics
from skyreid.server.writer import Writer

if TYPE_CHECKING:
    from prometheus_client import Gauge


def watch(writer: Writer, metrics: Metrics) -> None:
    """Have the gauges ask ``writer``; Prometheus does so from another thread."""
    devices = writer.devices
    metrics.queue.set_function(lambda: len(writer.queue))
    metrics.undecided.set_function(lambda: writer.undecided)
    metrics.quarantined.set_function(lambda: writer.quarantined)
    metrics.identities.set_function(lambda: len(writer.state.identities))
    metrics.broker_connected.set_function(lambda: writer.broker.connected)
    metrics.waiting.set_function(writer.oldest.seconds)
    metrics.outbox.set_function(lambda: writer.outbox.waiting)
    metrics.listeners.set_function(lambda: len(writer.hub))
    metrics.model_keys.set_function(lambda: len(devices.model_keys()))
    metrics.devices_online.set_function(devices.online)


def watch_certificate(path: Path, gauge: Gauge) -> None:
    """Have the gauge of its days ask a certificate, which may be renewed meanwhile."""
    gauge.set_function(lambda: days_left(path))


def days_left(path: Path) -> float:
    """Days until a certificate in PEM ends; NaN where it cannot be read."""
    from cryptography import x509

    try:
        end = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return float("nan")
    return (end - datetime.now(timezone.utc)).total_seconds() / 86_400
