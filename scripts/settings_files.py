"""The settings of a chain: broker, site, server and one device for each video."""

from __future__ import annotations

import json
import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from videos import Video

from skyreid.contract.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
DETECTOR = ROOT / "examples/bundle/detector"
EMBEDDER = ROOT / "examples/bundle/vdt-tiny"
SITE = "demo"


@dataclass(frozen=True)
class Plan:
    """What runs, and where. ``site`` None: one is written, with ``notice`` and ``poses``."""

    videos: tuple[Video, ...]
    work: Path
    site: Path | None
    notice: str
    poses: Path | None
    detector: Path
    embedder: Path
    tiles: tuple[int, int]
    broker_port: int
    http_port: int


def write_settings(plan: Plan) -> None:
    """Write ``mosquitto.conf``, ``site.toml``, ``server.toml`` and ``CAMERA.toml`` each."""
    work = plan.work
    (work / "broker").mkdir(exist_ok=True)
    shipped = (ROOT / "docker" / "mosquitto.conf").read_text()
    (work / "mosquitto.conf").write_text(
        shipped.replace("listener 1883 ", f"listener {plan.broker_port} ")
        + f"persistence_location {work / 'broker'}/\n"
        + at_our_user(),
        encoding="utf-8",
    )
    site = plan.site
    if site is None:
        site = work / "site.toml"
        site.write_text(_site(plan), encoding="utf-8")
    broker = q(f"mqtt://127.0.0.1:{plan.broker_port}")
    (work / "server.toml").write_text(
        f"site = {q(site)}\n[mqtt]\nurl = {broker}\n"
        f"[journal]\npath = {q(work / 'server' / 'journal.db')}\n"
        f"[http]\nport = {plan.http_port}\n"
        f"[matching]\nbundle = {q(plan.embedder)}\n"
        # Files that are played beside each other: their devices start one after the other.
        + ("" if all(video.live for video in plan.videos) else "hold_s = 30.0\n"),
        encoding="utf-8",
    )
    for video in plan.videos:
        device = work / f"{video.camera}.toml"
        device.touch(mode=0o600)  # a camera's login may stand in it
        device.write_text(_device(plan, video, site, broker), encoding="utf-8")


def at_our_user() -> str:
    """A line of mosquitto's settings: Debian's drops to its own user when started by root.

    It could then not write to our folders.
    """
    return f"user {pwd.getpwuid(os.getuid()).pw_name}\n"


def _site(plan: Plan) -> str:
    lines = [f"id = {q(SITE)}", 'pictures = "always"', f"notice = {q(plan.notice)}"]
    for video in plan.videos:
        lines += ["[[camera]]", f"id = {q(video.camera)}", f"view = {q(video.view)}"]
        if plan.poses is not None:
            lines.append(f"poses = {q(plan.poses)}")
    return "\n".join(lines) + "\n"


def _device(plan: Plan, video: Video, site: Path, broker: str) -> str:
    start = ""
    if video.start_ns is not None:
        start = f"file_start_ns = {video.start_ns}\nfile_start_error_ms = {video.error_ms}\n"
    return (
        f"site = {q(site)}\n"
        f"[device]\nid = {q('device-' + video.camera)}\n"
        f"[camera]\nid = {q(video.camera)}\n"
        f"source = {q(video.source)}\n{start}"
        f"[detector]\nmodel = {q(plan.detector)}\ntiles = {list(plan.tiles)}\n"
        f"[embedder]\nbundles = [{q(plan.embedder)}]\n"
        f"[mqtt]\nurl = {broker}\n"
        f"[spool]\npath = {q(plan.work / 'edge' / f'{video.camera}.db')}\n"
    )


def q(value: object) -> str:
    """A TOML basic string, which unlike one of JSON knows no surrogate pairs, nor a bare DEL.

    Raises:
        InputError: it is the name of a file, and no UTF-8.
    """
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError as wrong:
        raise InputError(f"{text!r}: its name is no UTF-8; rename it") from wrong
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
