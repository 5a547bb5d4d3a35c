"""What the device says of itself: its birth, and its health while it runs."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

from skyreid.contract.device import Birth, BirthCamera, Health, TelemetryHealth, encode_health
from skyreid.contract.errors import InputError
from skyreid.contract.json_message import CONTENT_TYPE
from skyreid.contract.sighting import ModelRef
from skyreid.contract.site import Site
from skyreid.contract.version import release
from skyreid.edge.delivery.publisher import Publisher
from skyreid.edge.delivery.renewal import days_left
from skyreid.edge.sighter import Identity
from skyreid.edge.video.source import GstSource, State

log = logging.getLogger(__name__)

_WORDS = 200
"""Characters of a reason, as the message takes them."""


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


class Reporter:
    """Sends what the flow reports, with what it cannot know."""

    def __init__(
        self,
        publisher: Publisher,
        source: GstSource,
        model: ModelRef,
        certificate: Path | None = None,
        sealed_to: Callable[[], str | None] = lambda: None,
        telemetry: Callable[[], TelemetryHealth | None] = lambda: None,
    ) -> None:
        """Set up when the run begins.

        Args:
            publisher: sends it.
            source: whose state is told.
            model: what makes the embeddings.
            certificate: the device's; None = it has none.
            sealed_to: name of the key to which all that lies on the disk is sealed; None = it is
                not, or not all of it.
            telemetry: how it fits the picture; None = the camera has none.
        """
        self._certificate, self._sealed_to = certificate, sealed_to
        self._telemetry = telemetry
        self._publisher, self._source, self._model = publisher, source, model
        self._began = self._told_at = time.monotonic()
        self._frames = 0

    def send(self, report: Health) -> None:
        """Send one report; its frames per second are those since the one before."""
        now, frames = time.monotonic(), report.frames or 0
        fps = (frames - self._frames) / max(now - self._told_at, 1e-3)
        self._told_at, self._frames = now, frames
        source = self._source
        whole = report.model_copy(
            update={
                "uptime_s": round(now - self._began, 1),
                "fps": round(fps, 2),
                "clock_why": source.clock_why[:_WORDS] or None,
                "source": source.condition,
                "source_why": source.why[:_WORDS] or None,
                "lost_connections": dict(source.lost),
                "temperature_c": temperature_c(),
                "model_key": self._model.key,
                "broker": self._publisher.state,
                "broker_troubles": dict(self._publisher.troubles) or None,
                "certificate_days_left": self._days_left(),
                "sealed_to": self._sealed_to(),
                "telemetry": self._telemetry(),
            }
        )
        self._publisher.send("health", encode_health(whole), content_type=CONTENT_TYPE)

    def _days_left(self) -> float | None:
        if self._certificate is None:
            return None
        try:
            return round(days_left(self._certificate), 2)
        except InputError:
            return None


def temperature_c() -> float | None:
    """The hottest thermal zone in degrees Celsius; None where the machine does not say."""
    found = []
    for zone in Path("/sys/class/thermal").glob("thermal_zone*/temp"):
        try:
            found.append(int(zone.read_text()) / 1000)
        except (OSError, ValueError):  # a zone that is switched off cannot be read
            continue
    return max(found, default=None)


class StateLog:
    """Logs what a source says of its state, one line a change.

    A camera that is away for a day would else be worth 17,000 of them.
    """

    def __init__(self) -> None:
        self._lost = ""

    def tell(self, state: State, why: str) -> None:
        """Take a change of state, from the reading thread."""
        trouble = state in (State.BACKOFF, State.REFUSED)
        if state is State.STREAMING:
            self._lost = ""
        if why == self._lost if trouble else self._lost and state is State.CONNECTING:
            return
        if trouble:
            self._lost = why
        log.log(
            logging.WARNING if trouble else logging.INFO, "source state=%s %s", state.value, why
        )
