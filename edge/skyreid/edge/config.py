"""Settings of ``skyreid-edge``: every key, its unit and its default."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_serializer, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from skyreid.bundle.signature import Trust
from skyreid.contract.broker import BrokerSection
from skyreid.contract.enrolment import service_of
from skyreid.contract.settings import Seconds, Section, Settings, load
from skyreid.contract.site import Identifier
from skyreid.edge.delivery.options import OutboxOptions
from skyreid.edge.people.options import CollectorOptions, TrackerOptions
from skyreid.edge.telemetry.options import TelemetryOptions
from skyreid.edge.video.kind import Login
from skyreid.edge.video.pipeline import shown

PROGRAM = "skyreid-edge"


class DeviceSection(Section):
    """Who is speaking."""

    id: Identifier
    """Name of the device; with TLS it equals the CN of its certificate."""


class CameraSection(Section):
    """The one camera of this process."""

    id: Identifier
    """One of the cameras of the site file, which says where it looks from."""
    source: str
    """A path, ``file:///path``, ``rtsp://HOST/STREAM``, ``rtsps://HOST/STREAM``, MPEG-TS that comes
    to ``udp://ADDRESS:PORT`` (of this machine, or a group: ``udp://239.1.2.3:5004?iface=eth0``) or
    over ``srt://HOST:PORT`` (or ``srt://:PORT``, to be called), or ``test://640x480@10`` (10 s of a
    pattern). A relative path starts from the settings file."""
    username: str | None = None
    """Login of an RTSP camera, any characters as they are; of SRT the stream's id."""
    password: SecretStr | None = None
    """Better given in the environment, as ``SKYREID_EDGE_CAMERA__PASSWORD``. Of SRT the passphrase,
    10 to 79 characters."""
    track: int | None = Field(None, ge=1, le=64)
    """Number of the video to take where a file or a camera has several, from 1. Without it the
    largest of a file, the first of a camera."""
    modality: Literal["unknown", "colour", "grey", "infrared"] = "unknown"
    """What its pixels are, said of every sighting. ``unknown``: colour or grey, as measured, as a
    camera for day and night changes by itself."""
    file_start_ns: int | None = Field(None, gt=0, le=1 << 62)
    """UTC capture time of a file's first frame, nanoseconds; the same for all cameras of a
    recording. Without it the file is taken to start now, and the server compares its times with
    those of no other camera."""
    file_start_error_ms: int = Field(0, ge=0, le=3_600_000)
    """How many milliseconds off ``file_start_ns`` may be."""
    fps_max: float = Field(0.0, ge=0, le=1000)
    """Frames per second that are looked at; 0 = all. The others are counted as dropped."""
    pace: Literal["fast", "real"] = "fast"
    """A file as fast as the machine allows, or at the speed at which it was filmed."""
    transport: Literal["auto", "tcp", "udp"] = "auto"
    """How RTSP carries the pictures. ``auto``: tcp, and udp where the camera refuses it."""
    latency_ms: int = Field(100, ge=0, le=10_000)
    """Milliseconds for which packets of RTSP are put in order, and those of SRT sent again."""
    tls_ca: Path | None = None
    """Authority of an ``rtsps://`` camera's certificate, PEM; relative to the settings file.
    Without it those of this machine."""
    tls_fingerprint: str | None = None
    """SHA-256 of the camera's own certificate, 64 hexadecimal digits with or without colons: then
    no authority and no name is asked for, which is what a self-signed one needs."""
    tls_verify: bool = True
    """false: any certificate will do. Whoever sits on the line can then be the camera."""
    connect_s: Seconds = Field(15.0, gt=0)
    """Seconds from connecting to a live source to its first encoded picture."""
    first_frame_s: Seconds = Field(30.0, gt=0)
    """Seconds from there, of a file from its opening, to the first whole frame."""
    stall_s: Seconds = Field(3.0, gt=0)
    """Seconds without a frame after which a live source is connected anew."""

    @field_validator("fps_max")
    @classmethod
    def _is_a_rate(cls, value: float) -> float:
        if 0 < value < 0.001:
            raise ValueError("0 for all, or at least 0.001")
        return value

    @field_validator("tls_fingerprint")
    @classmethod
    def _is_a_digest(cls, value: str | None) -> str | None:
        digits = None if value is None else value.replace(":", "").lower()
        if digits is not None and not re.fullmatch("[0-9a-f]{64}", digits):
            raise ValueError("64 hexadecimal digits, as openssl x509 -fingerprint -sha256 prints")
        return digits

    @model_validator(mode="after")
    def _fits(self) -> CameraSection:
        passphrase = self.source.startswith("srt://")
        if self.password is not None and self.username is None and not passphrase:
            raise ValueError("password needs username")
        ways = (self.tls_ca is not None, self.tls_fingerprint is not None, not self.tls_verify)
        if any(ways) and not self.source.startswith("rtsps://"):
            raise ValueError("tls_ca, tls_fingerprint and tls_verify are for an rtsps:// source")
        if sum(ways) > 1:
            raise ValueError("give one of tls_ca, tls_fingerprint and tls_verify = false")
        return self

    @property
    def login(self) -> Login | None:
        """For the camera, where it stands in keys of its own."""
        if self.username is None and self.password is None:
            return None
        secret = "" if self.password is None else self.password.get_secret_value()
        return Login(self.username or "", secret)

    @field_serializer("source", when_used="json")
    def _shown(self, source: str) -> str:
        return shown(source)  # the settings in force are logged at every start


class DetectorSection(Section):
    """What finds people in a frame."""

    model: Path
    """A detector bundle of any family, directory or zip; relative to the settings."""
    score_min: float | None = Field(None, ge=0, le=1)
    """Detections below it are not looked at; none = the bundle's own."""
    tiles: tuple[int, int] = (1, 1)
    """Rows and columns of overlapping tiles; more find smaller people and take longer."""
    threads: int = Field(1, ge=1, le=64)
    """CPU threads of one detection."""

    @field_validator("tiles")
    @classmethod
    def _is_a_grid(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not all(1 <= count <= 8 for count in value):
            raise ValueError("rows and columns are 1 to 8 each")
        return value


class EmbedderSection(Section):
    """What turns crops into embeddings."""

    bundles: tuple[Path, ...] = Field(min_length=1)
    """Bundles that together are one model; the one for this camera's view is used. Relative to
    the settings file."""
    threads: int = Field(1, ge=1, le=64)
    """CPU threads of one call."""


class RunnerSection(Section):
    """What executes detector and embedder."""

    kind: Literal["auto", "onnx", "tensorrt"] = "auto"
    """``tensorrt``: an engine, compiled for this device when it starts; ``onnx``: ONNX Runtime on
    the CPU; ``auto``: an engine where TensorRT, pycuda and a GPU are, else the CPU."""
    engines: Path = Path("engines")
    """Directory where compiled engines are kept, made when absent; relative to the settings
    file."""
    frame_max: tuple[int, int] = (1088, 1920)
    """Height and width in pixels of the largest picture that the detector's engine takes, filled
    up to multiples of 16. ONNX Runtime takes any."""

    @field_validator("frame_max")
    @classmethod
    def _is_aligned(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not all(256 <= side <= 8192 and side % 16 == 0 for side in value):
            raise ValueError("height and width are multiples of 16 from 256 to 8192")
        return value


class MqttSection(BrokerSection, OutboxOptions):
    """The broker, and how eagerly is sent."""

    keepalive_s: int = Field(20, ge=5, le=3600)
    """Seconds of silence after which a ping is sent."""
    inflight_max: int = Field(64, ge=1, le=1000)
    """Messages on their way to the broker at once."""
    drain_timeout_s: Seconds = Field(30.0, ge=0)
    """Seconds at the end of a file to wait for the last receipts; what remains stays in the spool
    and is delivered by the next run."""
    stop_timeout_s: Seconds = Field(5.0, ge=0)
    """The same after SIGINT or SIGTERM."""
    enrolment: str | None = None
    """``HOST:PORT`` of ``skyreid-server certs serve``: certificate and key are renewed there at two
    thirds of their life, in place, and the site's key to seal to is asked for once a day."""

    @model_validator(mode="after")
    def _renews_what_there_is(self) -> MqttSection:
        if self.enrolment is not None:
            service_of(self.enrolment)
            if self.certificate is None or self.ca is None:
                raise ValueError("enrolment needs ca, certificate and key: there is none to renew")
        return self


class SpoolSection(Section):
    """Where sightings wait for their receipt."""

    path: Path
    """SQLite file, made when absent; relative to the settings file. One for each device."""
    max_mb: float = Field(256.0, gt=0, le=1e9)
    """Megabytes of sightings and pictures; beyond it the oldest are dropped and counted."""
    max_age_h: float = Field(24.0, gt=0, le=100_000)
    """Hours after which they are dropped and counted."""
    sealed_to: Path | None = None
    """The site's public key, PEM (``seal.pub``, which ``skyreid-edge enrol`` brings); relative to
    the settings file. Sightings and pictures are sealed to it before they touch the disk, and only
    the server opens them. Without it they lie there in clear."""


class HealthSection(Section):
    """What the device says about itself."""

    period_s: Seconds = Field(30.0, gt=0)
    """Seconds between two health messages."""


class EdgeSettings(Settings):
    """The whole of ``edge.toml``."""

    model_config = SettingsConfigDict(env_prefix="SKYREID_EDGE_")

    site: Path
    """Site file; relative to the settings file."""
    device: DeviceSection
    camera: CameraSection
    detector: DetectorSection
    embedder: EmbedderSection
    spool: SpoolSection
    runner: RunnerSection = RunnerSection()
    trust: Trust = Trust()
    tracker: TrackerOptions = TrackerOptions()
    crops: CollectorOptions = CollectorOptions()
    telemetry: TelemetryOptions = TelemetryOptions()
    mqtt: MqttSection = MqttSection()
    health: HealthSection = HealthSection()


def read_settings(path: Path, options: Sequence[str], *, verb: str) -> EdgeSettings:
    """Read the settings; relative paths are made to start from the file's directory.

    Raises:
        SettingsError: see ``contract.settings.load``.
    """
    settings = load(EdgeSettings, path, options, program=f"{PROGRAM} {verb}")
    base = path.absolute().parent
    return settings.model_copy(
        update={
            "site": base / settings.site,
            "detector": _with(settings.detector, model=base / settings.detector.model),
            "embedder": _with(
                settings.embedder, bundles=tuple(base / p for p in settings.embedder.bundles)
            ),
            "runner": _with(settings.runner, engines=base / settings.runner.engines),
            "trust": settings.trust.below(base),
            "camera": _with(settings.camera, tls_ca=_below(base, settings.camera.tls_ca)),
            "telemetry": _with(
                settings.telemetry,
                source=_table_below(base, settings.telemetry.source),
                lens=_below(base, settings.telemetry.lens),
                terrain=_below(base, settings.telemetry.terrain),
            ),
            "spool": _with(
                settings.spool,
                path=base / settings.spool.path,
                sealed_to=_below(base, settings.spool.sealed_to),
            ),
            "mqtt": settings.mqtt.below(base),
        }
    )


def _table_below(base: Path, source: str) -> str:
    return str(base / source) if source.endswith(".csv") else source


def _below(base: Path, path: Path | None) -> Path | None:
    return None if path is None else base / path


def _with(section: Section, **values: object) -> Section:
    return section.model_copy(update=values)
