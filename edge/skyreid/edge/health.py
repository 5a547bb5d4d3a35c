"""What the device says of itself: its birth, and its health while it runs."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from skyreid.contract.device import Birth, BirthCamera, Health, encode_health
from skyreid.contract.json_message import CONTENT_TYPE
from skyreid.contract.sighting import ModelRef
from skyreid.contract.site import Site
from skyreid.contract.version import release
from skyreid.edge.delivery.publisher import Publisher
from skyreid.edge.sighter import Identity
from skyreid.edge.video.source import GstSource


def birth_of(identity: Identity, site: Site, settings: str) -> Birth:
    """What this run is; ``settings`` are those in force, as ``contract.settings.effective``."""
    camera = {
        "id": identity.camera,
        "view": identity.view.word,
        "modality": identity.modality.word,
    }
    return Birth(
        boot=identity.boot,
        model=identity.model,
        cameras=(BirthCamera.model_validate(camera),),
        pictures=site.pictures,
        settings_sha256=hashlib.sha256(settings.encode()).hexdigest(),
        software=software_version(),
    )


def software_version() -> str:
    """``skyreid`` and its version, as installed."""
    return f"skyreid {release('edge')}"


def send_health(
    publisher: Publisher, source: GstSource, model: ModelRef, began: float, report: Health
) -> None:
    """Send what the flow reports, with what it cannot know; ``began`` is monotonic seconds."""
    uptime_s = max(time.monotonic() - began, 1e-3)
    whole = report.model_copy(
        update={
            "uptime_s": round(uptime_s, 1),
            "fps": round((report.frames or 0) / uptime_s, 2),
            "source": source.state.value,
            "lost_connections": dict(source.lost),
            "temperature_c": temperature_c(),
            "model_key": model.key,
            "broker": publisher.state,
            "broker_troubles": dict(publisher.troubles) or None,
        }
    )
    publisher.send("health", encode_health(whole), content_type=CONTENT_TYPE)


def temperature_c() -> float | None:
    """The hottest thermal zone in degrees Celsius; None where the machine does not say."""
    found = []
    for zone in Path("/sys/class/thermal").glob("thermal_zone*/temp"):
        try:
            found.append(int(zone.read_text()) / 1000)
        except (OSError, ValueError):  # a zone that is switched off cannot be read
            continue
    return max(found, default=None)
