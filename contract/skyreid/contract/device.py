"""What a device says of itself: birth (what it is), health (how it is), status (whether it is)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from skyreid.contract.errors import MessageError
from skyreid.contract.json_message import (
    Count,
    JsonMessage,
    Name,
    Part,
    Word,
    decode_json,
    encode_json,
)
from skyreid.contract.sighting import MAX_DIM, Modality, ModelRef
from skyreid.contract.site import PicturePolicy
from skyreid.contract.topics import check_identifier


def _modality(word: Any) -> Any:
    """A word of later releases is ``unknown``; what is no word is refused as such."""
    known = {modality.word for modality in Modality}
    return "unknown" if isinstance(word, str) and word not in known else word


ModalityWord = Annotated[
    Literal["unknown", "colour", "grey", "infrared"], BeforeValidator(_modality)
]
Counts = Annotated[dict[Annotated[str, Field(max_length=64)], Count], Field(max_length=64)]


class BirthCamera(Part):
    """A camera that a device watches."""

    id: Name
    view: Literal["aerial", "ground"]
    modality: ModalityWord = "unknown"


class Birth(JsonMessage):
    """What a device is. Retained by the broker: it holds until the next one."""

    boot: Name
    """Of the spool that it writes now."""
    model: ModelRef
    """What makes its embeddings."""
    cameras: tuple[BirthCamera, ...] = Field(min_length=1, max_length=64)
    pictures: PicturePolicy = "never"
    """The policy of its site file."""
    settings_sha256: Word = ""
    """Of the settings in force, as ``contract.settings.effective`` writes them."""
    software: Word = ""
    """Name and version, as installed."""

    @field_validator("model")
    @classmethod
    def _is_a_model(cls, value: ModelRef) -> ModelRef:
        check_identifier(value.key)
        if not 1 <= value.dim <= MAX_DIM:
            raise ValueError(f"dim is 1 to {MAX_DIM}")
        if len(value.bundle_sha256) > 200 or len(value.name) > 200:
            raise ValueError("bundle_sha256 and name have at most 200 characters")
        return value


class SpoolHealth(Part):
    """What waits on a device for its receipt."""

    sightings: Count
    bytes: Count
    oldest_age_s: float = Field(ge=0)
    """In the time that the machine was on; 0 when nothing waits."""
    clock_steps: Count | None = None
    """How often the wall clock was put right by more than a minute."""


class TelemetryHealth(Part):
    """How a drone's own word of its place fits its picture."""

    lag_ms: float = Field(ge=-1e6, le=1e6)
    """In force: milliseconds by which a pose is older than its time stamp ..."""
    lag_error_ms: float = Field(ge=0, le=1e6)
    """... and how far that may be off, one standard deviation."""
    lag_seen: bool = False
    """Whether the picture's motion told it; else the settings."""
    fault: Word | None = None
    """What cannot be used of it, does not come, or does not go with the picture, for people."""


class Health(JsonMessage):
    """How a device is; None = it does not say. Counts are since it started."""

    frames: Count | None = None
    """Number of the latest frame."""
    people: Count | None = None
    """Confirmed tracks in the latest frame that was looked at."""
    sightings: Count | None = None
    """Sightings made."""
    dropped: Counts = Field(default_factory=dict)
    """What was left out, by reason (edge/README.md)."""
    spool: SpoolHealth | None = None
    clock: Word | None = None
    """Where its capture times come from, a word of ``sighting.Clock``; later ones are kept."""
    clock_error_ms: Count | None = None
    """Of the latest frame: what is not known of its capture time, not only what jitters."""
    clock_why: Word | None = None
    """Why it is not a better clock, for people."""
    uptime_s: float | None = Field(None, ge=0)
    fps: float | None = Field(None, ge=0)
    """Frames per second since the report before."""
    source: Word | None = None
    """What the video source is doing: ``connecting``, ``streaming``, ``stalled``, ``backoff`` (it
    heals itself), ``refused`` (somebody has to do something) or ``ended``."""
    source_why: Word | None = None
    """Why it is not streaming, for people."""
    lost_connections: Counts = Field(default_factory=dict)
    """How often the source was lost, by reason."""
    temperature_c: float | None = Field(None, ge=-273.15, le=1000)
    """The hottest thermal zone, degrees Celsius."""
    model_key: Name | None = None
    broker: Word | None = None
    """``connected``, or the kind of a trouble that somebody has to mend (``broker.Trouble``)."""
    broker_troubles: Counts | None = None
    """How often there was no connection to the broker, or none any more, by kind."""
    certificate_days_left: float | None = Field(None, ge=-100_000, le=100_000)
    """Days until the device's certificate ends; it renews it by itself where it was told where."""
    telemetry: TelemetryHealth | None = None
    """Of a camera that says where it is."""
    sealed_to: Word | None = None
    """Name of the site's key that it seals to; not said = its disk has people in clear."""


def encode_birth(birth: Birth) -> bytes:
    """A birth's bytes."""
    return encode_json(birth)


def decode_birth(data: bytes) -> Birth | None:
    """Parse and check a birth; None where the device withdrew it (an empty retained message).

    Raises:
        MessageError: ``reason`` is ``birth``, ``size``, ``json`` or ``schema``.
    """
    return decode_json("birth", Birth, data) if data else None


def encode_health(health: Health) -> bytes:
    """A health message's bytes."""
    return encode_json(health)


def decode_health(data: bytes) -> Health:
    """Parse and check a health message.

    Raises:
        MessageError: ``reason`` is ``health``, ``size``, ``json`` or ``schema``.
    """
    return decode_json("health", Health, data)


def encode_status(online: bool) -> bytes:
    """The word of the ``status`` topic, also the device's will."""
    return b"online" if online else b"offline"


def decode_status(data: bytes) -> bool:
    """Whether the device is online; a withdrawn status (empty) says that it is not.

    Raises:
        MessageError: ``reason`` is ``status``.
    """
    words = {b"online": True, b"offline": False, b"": False}
    if data not in words:
        raise MessageError("status", f"{data[:40]!r} is not online or offline")
    return words[data]
