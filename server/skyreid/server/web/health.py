"""The health of the product, not of the process: what is degraded, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skyreid.server.writer import Writer

DECIDED_WITHIN_S = 30.0
"""A sighting that waits longer for its decision is a trouble."""


def degraded(said: Mapping[str, Any]) -> list[str]:
    """What is wrong while the process is well, from what the writer says of itself."""
    reasons = list(said["notices"])
    if not said["broker_connected"]:
        reasons.append("broker: not connected, devices keep their sightings")
    if said["fault"] is not None:
        reasons.append(f"journal: {said['fault']}, nothing is acknowledged")
    if said["oldest_undecided_s"] > DECIDED_WITHIN_S:
        holder = said["wait"]["device"]
        reasons.append(
            f"matching: a sighting waits for its decision for {said['oldest_undecided_s']:.0f} s"
            + (f", {holder} holds the site up" if holder else "")
        )
    if said["quarantined"]:
        reasons.append(
            f"matching: it failed on {said['quarantined']} sightings, which are set aside; "
            "skyreid-server quarantine shows them"
        )
    if said["appearance_uninformative"]:
        views = ", ".join(said["appearance_uninformative"])
        reasons.append(
            f"matching: appearance_uninformative ({views}): whom place says to be one person look "
            "no more alike than strangers, so looks count nothing; is it the right bundle, and are "
            "the poses right?"
        )
    return reasons


def summary(writer: Writer) -> dict[str, Any]:
    """What ``/readyz`` says.

    ``ready``: what arrives can be stored. A broker that is lost later is ``degraded`` and no more:
    the page must stay reachable then.
    """
    connected = writer.broker.connected
    said = {
        "ready": writer.storing and writer.broker.was_connected,
        "notices": list(writer.notices),
        "fault": writer.fault,
        "oldest_undecided_s": round(writer.oldest.seconds(), 1),
        "broker_connected": connected,
        "journal_writable": writer.storing,
        "sightings": writer.stored,
        "queued": len(writer.queue),
        "undecided": writer.undecided,
        "quarantined": writer.quarantined,
        "settled": writer.settled,
        "appearance_uninformative": list(writer.uninformative),
        "identities": len(writer.state.identities),
        "devices": len(writer.devices.by_id),
        "devices_online": writer.devices.online(),
        "wait": writer.devices.wait.to_json(),
    }
    return {**said, "degraded": degraded(said)}
