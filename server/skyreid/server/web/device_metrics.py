"""Prometheus series that are made when they are asked for: those of each device, bounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from skyreid.server.device import Device
from skyreid.server.web.health import summary
from skyreid.server.writer import Writer

if TYPE_CHECKING:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

DEVICES_MAX = 1000
"""Devices with series of their own, the first by name; beyond them they are only counted."""


class DeviceSeries:
    """A collector: reads the writer's devices at each scrape."""

    def __init__(self, writer: Writer) -> None:
        """``writer`` whose devices are shown."""
        self._writer = writer

    def describe(self) -> list[GaugeMetricFamily | CounterMetricFamily]:
        """The families without samples: they can be registered without being collected."""
        return list(_families().values())

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """The families with the samples of now."""
        families = _families()
        devices = sorted(dict(self._writer.devices.by_id).items())
        for name, device in devices[:DEVICES_MAX]:
            for family, value in _values(device).items():
                if value is not None:
                    families[family].add_metric([name], value)
        families["unlisted"].add_metric([], max(0, len(devices) - DEVICES_MAX))
        said = summary(self._writer)
        families["ready"].add_metric([], said["ready"])
        families["degraded"].add_metric([], len(said["degraded"]))
        yield from families.values()


def _families() -> dict[str, GaugeMetricFamily | CounterMetricFamily]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    def gauge(name: str, says: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(f"skyreid_device_{name}", says, labels=["device"])

    def counter(name: str, says: str) -> CounterMetricFamily:
        return CounterMetricFamily(f"skyreid_device_{name}", says, labels=["device"])

    return {
        "online": gauge("online", "1 while the device is online"),
        "heard": gauge("last_heard_timestamp_seconds", "When its last message came"),
        "lag": gauge("lag_seconds", "How long after capture its live messages come"),
        "late": gauge("late", "1 while nobody waits for it, as it is too far behind"),
        "clock": gauge("clock_error_seconds", "How far its clock may be off, as it says"),
        "certificate": gauge("certificate_days_left", "Days until its certificate ends"),
        "sealed": gauge("sealed", "1 while nothing of people lies on its disk in clear"),
        "sightings": counter("sightings", "Its sightings that were stored since the start"),
        "dropped": counter("dropped", "What it left out since it started, all reasons"),
        "ready": GaugeMetricFamily("skyreid_ready", "1 while what arrives can be stored"),
        "degraded": GaugeMetricFamily(
            "skyreid_degraded", "Reasons that /readyz gives for being degraded"
        ),
        "unlisted": GaugeMetricFamily(
            "skyreid_devices_unlisted", "Devices beyond those with series of their own"
        ),
    }


def _values(device: Device) -> dict[str, float | None]:
    health = device.health
    error_ms = None if health is None else health.clock_error_ms
    return {
        "online": None if device.online is None else float(device.online),
        "heard": None if device.heard_at_ns is None else device.heard_at_ns / 1e9,
        "lag": device.lag_s,
        "late": float(device.late),
        "clock": None if error_ms is None else error_ms / 1e3,
        "certificate": None if health is None else health.certificate_days_left,
        "sealed": None if health is None else float(health.sealed_to is not None),
        "sightings": float(device.sightings),
        "dropped": None if health is None else float(sum(health.dropped.values())),
    }
