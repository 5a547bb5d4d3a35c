"""The device, put together: settings in, parts out, and the run from start to end."""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skyreid.contract.camera import CameraPoses
from skyreid.contract.enrolment import service_of
from skyreid.contract.recording import Recorder
from skyreid.contract.sealed import Sealer, read_public_key
from skyreid.contract.settings import effective
from skyreid.contract.sighting import CLOCK_UNKNOWN_MS, Modality, View
from skyreid.contract.site import Site, SiteCamera, poses_of, read_site
from skyreid.edge.config import EdgeSettings
from skyreid.edge.delivery.outbox import Outbox
from skyreid.edge.delivery.pictures import encode_picture
from skyreid.edge.delivery.publisher import Publisher
from skyreid.edge.delivery.renewal import Keeper, Renewal, keeping, settle
from skyreid.edge.delivery.sealing import keep_no_core
from skyreid.edge.delivery.spool import Spool
from skyreid.edge.ending import GRACE_S, leave, stopped_by_signals
from skyreid.edge.flow import Flow, FlowOptions, Stop
from skyreid.edge.health import Reporter, StateLog, birth_of
from skyreid.edge.recorded import record_said, run_info
from skyreid.edge.service import Watch
from skyreid.edge.sighter import (
    Detector,
    FrameDetector,
    Identity,
    Poses,
    Sighter,
)
from skyreid.edge.telemetry import feeds
from skyreid.edge.video.clock import FileClock, LiveClock
from skyreid.edge.video.kind import Access, Source
from skyreid.edge.video.pipeline import build, parse_source
from skyreid.edge.video.platform import probe
from skyreid.edge.video.rtsp import is_secure, trust
from skyreid.edge.video.source import GstSource, Limits, State, check_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

    from skyreid.bundle.embedder import Embedder
    from skyreid.edge.people.collector import Collector
    from skyreid.edge.people.terrain import Terrain
    from skyreid.edge.people.tracker import Tracker

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """Everything that was checked before a run starts; nothing is open but files that were read."""

    settings: EdgeSettings
    site: Site
    camera: SiteCamera
    view: View
    poses: CameraPoses | None
    source: Source
    pipeline: str
    detector: Detector
    embedder: Embedder
    terrain: Terrain | None = None
    """None = the ground is flat."""
    seal_key: X25519PublicKey | None = None
    """Of the site, to which everything about people is sealed; None = it is not."""


def plan(settings: EdgeSettings, *, settings_directory: Path) -> Plan:
    """Check the settings against the world and open the models.

    Raises:
        SettingsError: the site file or a key is wrong.
        InputError: the video is missing.
        BundleError: a bundle cannot be used.
        GateError: a bundle's self-test failed.
        PlatformError: a library or plugin is missing.
        EngineError: TensorRT cannot build or load an engine.
    """
    import cv2

    from skyreid.bundle.detector import open_detector
    from skyreid.bundle.embedder import Embedder
    from skyreid.bundle.runner import Execution
    from skyreid.edge.people.quality import with_looks
    from skyreid.edge.people.tiling import tiled

    site, camera, source, pipeline = find_source(settings, settings_directory=settings_directory)
    if source.kind == "file":
        check_file(source.target)
    if settings.camera.tls_ca is not None:
        trust(settings.camera.tls_ca)
    view = View.of(camera.view)
    feeds.check(settings.telemetry, site, camera)
    terrain = terrain_of(settings, site)
    if settings.mqtt.certificate is not None and settings.mqtt.key is not None:
        settle(settings.mqtt.certificate, settings.mqtt.key)
    settings.mqtt.tls()  # its files are read, nothing is connected
    to = settings.spool.sealed_to
    seal_key = None if to is None else read_public_key(to)
    r = settings.runner
    execution = Execution(r.kind, r.engines, frame_max=r.frame_max)
    # What OpenCV does here takes a millisecond at most; its own threads spin between two calls.
    cv2.setNumThreads(1)
    finder = open_detector(
        settings.detector.model,
        score_min=settings.detector.score_min,
        threads=settings.detector.threads,
        trust=settings.trust,
        execution=execution,
    )
    return Plan(
        settings=settings,
        site=site,
        camera=camera,
        view=view,
        poses=poses_of(camera),
        source=source,
        pipeline=pipeline,
        detector=FrameDetector(tiled(finder, settings.detector.tiles), with_looks),
        embedder=Embedder(
            settings.embedder.bundles,
            view=view,
            threads=settings.embedder.threads,
            trust=settings.trust,
            execution=execution,
        ),
        terrain=terrain,
        seal_key=seal_key,
    )


def terrain_of(settings: EdgeSettings, site: Site) -> Terrain | None:
    """The ground about a site; None = it is flat.

    Raises:
        InputError: it cannot be read, or does not hold the site's origin.
    """
    from skyreid.edge.people.terrain import read_terrain

    path = settings.telemetry.terrain
    return None if path is None or site.origin is None else read_terrain(path, site.origin)


def find_source(
    settings: EdgeSettings, *, settings_directory: Path
) -> tuple[Site, SiteCamera, Source, str]:
    """The site, this camera of it, what it reads and the GStreamer pipeline that reads it.

    Raises:
        SettingsError: the site file or a key is wrong.
        PlatformError: GStreamer or an element is missing.
    """
    site = read_site(settings.site)
    camera = site.find_camera(settings.camera.id)
    c, klv = settings.camera, settings.telemetry.source == "klv"
    source = parse_source(c.source, relative_to=settings_directory, login=c.login)
    pipeline = build(source, probe(), latency_ms=c.latency_ms, transport=c.transport, klv=klv)
    return site, camera, source, pipeline


def run(plan: Plan, *, record: Path | None = None, progress: bool = True) -> int:
    """Run the device until its file ends or it is asked to stop; returns the exit code."""
    settings = plan.settings
    log.info("settings %s", effective(settings))
    start_ns = settings.camera.file_start_ns or time.time_ns()
    if not plan.source.live and settings.camera.file_start_ns is None:
        log.warning(
            "camera.file_start_ns is not set: the file is taken to start now, and its times are "
            "compared with those of no other camera"
        )
    if is_secure(plan.source) and not settings.camera.tls_verify:
        log.warning("camera.tls_verify is false: whoever sits on the line can be the camera")
    publisher = _publisher(plan)  # before anything is written: it may lack its library or a file
    stop = Stop()
    with ExitStack() as open_things:
        sealer = sealer_of(plan)
        if sealer is not None:
            keep_no_core()
        limit_s = settings.mqtt.stop_timeout_s + GRACE_S
        open_things.enter_context(stopped_by_signals(stop, within_s=limit_s))
        spool = open_things.enter_context(
            Spool(
                settings.spool.path,
                max_bytes=int(settings.spool.max_mb * 1e6),
                max_age_h=settings.spool.max_age_h,
                sealer=sealer,
            )
        )
        identity = Identity(
            plan.site.id,
            settings.device.id,
            spool.boot,
            plan.camera.id,
            plan.view,
            plan.embedder.model,
            Modality.of(settings.camera.modality),
        )
        recorder = None
        if record is not None:
            by = settings.telemetry.displacement
            info = run_info(identity, plan.source.name, start_ns, by)
            recorder = open_things.enter_context(Recorder(record, info))
        watch = Watch()
        tell = watch.telling(StateLog().tell)
        flow = _flow(plan, publisher, spool, sealer, identity, recorder, start_ns, progress, tell)
        publisher.start(birth_of(identity, plan.site, effective(settings)), flow.notify)
        try:
            open_things.enter_context(keeping(_keeper(settings, publisher, sealer)))
            with watch.over(lambda: (flow.outcome.rounds, flow.outcome.frames)):
                outcome = flow.run(stop)
        finally:
            publisher.stop()
        dropped = flow.left_out()
        if recorder is not None:
            recorder.close(
                frames=outcome.frames,
                sightings=outcome.sightings,
                dropped=dropped,
                seconds=round(outcome.seconds, 3),
            )
        log.info(
            "end frames=%d sightings=%d seconds=%.1f remaining=%d dropped=%s",
            outcome.frames,
            outcome.sightings,
            outcome.seconds,
            outcome.remaining,
            json.dumps(dropped),
        )
        if outcome.remaining:
            log.warning(
                "%d sightings have no receipt yet; they are kept in %s and delivered by the next "
                "run with this spool",
                outcome.remaining,
                settings.spool.path,
            )
    if flow.left_behind:
        log.error("a thread that hangs inside GStreamer is left behind")
        leave(0)
    return 0


def _publisher(plan: Plan) -> Publisher:
    mqtt = plan.settings.mqtt
    return Publisher(
        mqtt.address[:2],
        site=plan.site.id,
        device=plan.settings.device.id,
        tls=mqtt.tls(),
        login=mqtt.login,
        keepalive_s=mqtt.keepalive_s,
        inflight_max=mqtt.inflight_max,
    )


def _keeper(settings: EdgeSettings, publisher: Publisher, sealer: Sealer | None) -> Keeper | None:
    """What renews the certificate; None where it is not told where."""
    mqtt = settings.mqtt
    if mqtt.enrolment is None or mqtt.ca is None or mqtt.certificate is None or mqtt.key is None:
        return None

    def renewed() -> None:
        publisher.tls = mqtt.tls()

    renewal = Renewal(service_of(mqtt.enrolment), mqtt.ca, mqtt.certificate, mqtt.key)
    to = settings.spool.sealed_to
    return Keeper(renewal, mqtt.certificate, on_renewed=renewed, sealed_to=to, sealer=sealer)


def _flow(
    plan: Plan,
    publisher: Publisher,
    spool: Spool,
    sealer: Sealer | None,
    identity: Identity,
    recorder: Recorder | None,
    start_ns: int,
    progress: bool,
    tell: Callable[[State, str], None],
) -> Flow:
    settings, model, policy = plan.settings, identity.model, plan.site.pictures
    mqtt = settings.mqtt
    sighter = sighter_of(plan, identity, start_ns, recorder, sealer)
    source = source_of(plan, start_ns, tell)
    outbox = Outbox(
        spool,
        site=identity.site,
        device=identity.device,
        model=model,
        options=mqtt,
        keep_pictures=policy == "on_request",
    )
    options = FlowOptions(
        live=plan.source.live,
        fps_max=settings.camera.fps_max,
        real_pace=settings.camera.pace == "real",
        drain_timeout_s=mqtt.drain_timeout_s,
        stop_timeout_s=mqtt.stop_timeout_s,
        health_period_s=settings.health.period_s,
        pictures_wanted=policy == "always",
        pictures_allowed=policy != "never",
        progress=progress and not plan.source.live,
    )
    health = Reporter(
        *(publisher, source, model, mqtt.certificate),
        sealed_to=lambda: sealer.key if sealer is not None and spool.sealed else None,
        telemetry=sighter.follower.telemetry,
    )
    flow = Flow(source, sighter, spool, outbox, model, options, send_health=health.send)
    if recorder is not None:
        flow.on_stored = functools.partial(record_said, recorder, identity)
    return flow


def sighter_of(
    plan: Plan,
    identity: Identity,
    start_ns: int,
    recorder: Recorder | None = None,
    sealer: Sealer | None = None,
) -> Sighter:
    """What makes sightings of the camera's frames, with everything the settings say."""
    shot = None if plan.poses is None else plan.poses.models[0]
    return Sighter(
        identity,
        plan.detector,
        functools.partial(_follow, plan),
        recorder=recorder,
        encode_picture=None if plan.site.pictures == "never" else encode_picture,
        poses=_poses(plan, start_ns),
        frame_size=None if shot is None else (shot.width_px, shot.height_px),
        live=plan.source.live,
        sealer=sealer,
    )


def sealer_of(plan: Plan) -> Sealer | None:
    """What seals for one run; None where the device does not seal."""
    if plan.seal_key is None:
        return None
    return Sealer(plan.seal_key, site=plan.site.id, device=plan.settings.device.id)


def source_of(
    plan: Plan, start_ns: int, tell: Callable[[State, str], None] | None = None
) -> GstSource:
    """The camera, not opened yet; `tell` takes changes of its state, the log else."""
    settings, c = plan.settings, plan.settings.camera
    return GstSource(
        plan.pipeline,
        plan.source,
        LiveClock() if plan.source.live else FileClock(start_ns, _start_error_ms(settings)),
        limits=Limits(c.connect_s, c.first_frame_s, c.stall_s),
        access=Access(c.transport, c.track, c.tls_ca, c.tls_fingerprint, c.tls_verify),
        on_state=tell or StateLog().tell,
    )


def _start_error_ms(settings: EdgeSettings) -> int:
    """How far off a file's start may be."""
    if settings.camera.file_start_ns is None:
        return CLOCK_UNKNOWN_MS
    return settings.camera.file_start_error_ms


def _poses(plan: Plan, start_ns: int) -> Poses | None:
    from skyreid.edge.people.ground import MIDDLE_M, KnownPoses

    if plan.poses is not None:
        return KnownPoses(plan.poses, None if plan.source.live else start_ns)
    return feeds.poses_from(plan.settings.telemetry, plan.site.origin, plane_m=MIDDLE_M)


def _follow(plan: Plan) -> tuple[Tracker, Collector]:
    from skyreid.edge.people.collector import Collector
    from skyreid.edge.people.tracker import Tracker

    tracker = Tracker(plan.settings.tracker)
    collector = Collector(
        plan.embedder.embed,
        plan.embedder.spec,
        camera=plan.camera.id,
        view=plan.view,
        modality=Modality.of(plan.settings.camera.modality),
        options=plan.settings.crops,
        terrain=plan.terrain,
        like_min=plan.embedder.like_min,
    )
    return tracker, collector
