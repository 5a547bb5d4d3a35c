"""The demo: the whole chain over a clip with known truth, or over your own videos."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from chain import Chain, ChainError, Ended
from clip import clip_chain
from settings_files import DETECTOR, ROOT
from summary import as_text, summarise
from videos import COMMON_ZERO_NS, read_videos

from skyreid.contract.errors import InputError, SkyreidError
from skyreid.contract.process_list import hide_secrets
from skyreid.contract.site import read_site
from skyreid.server.scoring.command import score
from skyreid.server.scoring.report import as_json, as_table

RUN_DATA = ("server", "edge", "runs", "logs", "broker", "authority", "devices")
"""Folders of a run, with people in them; what remains are the settings."""


def main() -> int:
    """Parse, run, report; exit 0 when the whole chain ran to its end."""
    options = _parser().parse_args()
    hide_secrets(sys.argv)
    try:
        require_writable(options.json)
        work, made_here = folder_of_run(options.out)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    keep = options.keep
    done = False
    try:
        code = demo(options, work)
        done = True
        return code
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ChainError as error:
        keep = True
        print(f"\nthe demo failed: {error}", file=sys.stderr)
        return 1
    except Ended as end:
        print("\nstopped", file=sys.stderr)
        return 128 + end.number
    finally:
        if keep:
            print(f"kept in {work}")
        else:
            for folder in RUN_DATA:
                shutil.rmtree(work / folder, ignore_errors=True)
            if done and options.video:
                (work / "broker").mkdir()
            elif options.out is None or (made_here and not done):
                shutil.rmtree(work, ignore_errors=True)


def folder_of_run(out: Path | None) -> tuple[Path, bool]:
    """Where to write, an empty folder, and whether it was made here.

    Raises:
        InputError: ``out`` is not empty, or can be no folder.
    """
    if out is None:
        return Path(tempfile.mkdtemp(prefix="skyreid-demo-")), True
    try:
        made_here = not out.exists()
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise InputError(f"--out {out}: is not empty, name a new folder")
    except OSError as error:
        raise InputError(f"--out {out}: {error.strerror}") from error
    return out.absolute(), made_here


def require_writable(report: Path | None) -> None:
    """Raise `InputError` where the report cannot be written, before minutes of work."""
    if report is None:
        return
    try:
        with report.open("a"):
            pass
    except OSError as error:
        raise InputError(f"--json {report}: {error.strerror}") from error


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """End with 2; a refused word may be a camera's URL with its login, so none is repeated."""
        said, url, _ = message.partition("://")
        super().error(f"{said}{url}..." if url else message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="scripts/demo", description=__doc__, allow_abbrev=False)
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--clip",
        type=Path,
        default=ROOT / "examples/clip",
        metavar="DIR",
        help="another clip of the same form (default: examples/clip): cam*.mp4, gt/, calib.json",
    )
    what.add_argument(
        "--video",
        action="append",
        default=[],
        metavar="VIEW=SOURCE[@START]",
        help="your own, once for each camera: VIEW is aerial or ground (with --site one of its "
        "cameras), SOURCE a file or rtsp://, START when it began: 2026-11-29T10:00:00Z, seconds on "
        "a clock that all share, or unknown (default: what an MP4 says, else unknown)",
    )
    parser.add_argument(
        "--site", type=Path, metavar="FILE", help="site file, with poses, of --video"
    )
    parser.add_argument(
        "--detector",
        type=Path,
        default=DETECTOR,
        metavar="NAME|FILE",
        help="a name of skyreid-export catalogue (yolox-nano), a bundle (folder or zip), or a bare "
        ".onnx with --family",
    )
    parser.add_argument(
        "--accept-licence", action="store_true", help="of a catalogue's detector that asks for it"
    )
    parser.add_argument("--family", help="of a bare .onnx: yolox, for one")
    parser.add_argument(
        "--tiles",
        type=int,
        nargs=2,
        default=(1, 1),
        metavar=("ROWS", "COLUMNS"),
        help="of the detector: 2 2 finds smaller people and takes four times as long",
    )
    parser.add_argument(
        "--headless",
        action="store_true",
        help="end after the report instead of keeping the page open",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON")
    parser.add_argument(
        "--no-geometry",
        action="store_true",
        help="a clip without its cameras' poses: appearance and time only",
    )
    parser.add_argument(
        "--secure",
        action="store_true",
        help="with an authority, certificates of broker and devices, TLS and log-in of the page",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: /tmp)")
    parser.add_argument("--keep", action="store_true", help="keep journal, recordings and logs")
    return parser


def demo(options: argparse.Namespace, work: Path) -> int:
    """Run the chain in ``work`` and report."""
    begun = time.monotonic()
    if not options.video:
        if options.site is not None:
            raise InputError("--site: is for --video; a clip has its own poses")
    elif options.no_geometry:
        raise InputError("--no-geometry: is for a clip; --video has no poses but those of --site")
    site = None if options.site is None else read_site(options.site)
    videos = read_videos(options.video, site)  # before a detector is fetched
    detector = find_detector(options, work)
    chosen: dict[str, Any] = {"detector": detector, "tiles": tuple(options.tiles)}
    chosen["secure"] = options.secure
    evaluate: Callable[[Chain], dict[str, Any]]
    if options.video:
        path = None if options.site is None else options.site.absolute()
        chain = Chain(videos, work, site=path, **chosen)
        evaluate = look_back
        for video in videos:
            print(f"{video.camera} ({video.view}): {video.name}, {_start(video)}")
        policy = "always" if site is None else site.pictures
    else:
        chain = clip_chain(options.clip, work, geometry=not options.no_geometry, **chosen)
        policy = "always"

        def evaluate(chain: Chain) -> dict[str, Any]:
            return score_clip(chain, options.clip)

        views = ", ".join(f"{camera} ({view})" for camera, view in chain.cameras.items())
        print(f"clip {options.clip}: {views}")
    for number in (signal.SIGINT, signal.SIGTERM):  # its parts live in sessions of their own
        signal.signal(number, chain.end)
    try:
        chain.start_broker()
        chain.start_server()
        if policy == "always":
            print("pictures: always (this demo shows people's pictures; a site's default is never)")
        page = chain.address
        if chain.secured is not None:
            page = chain.secured.link()
            print(f"secured: certificates of {chain.secured.authority}, which no browser knows yet")
        print(f"the page: {page}", flush=True)
        if not options.headless:
            webbrowser.open(page)
        for camera in chain.cameras:
            chain.start_edge(camera)
        watch(chain)
        report = evaluate(chain)
        report["seconds"] = round(time.monotonic() - begun, 1)
        if options.json:
            options.json.write_text(json.dumps(report, indent=1) + "\n")
        if not options.headless:
            print(f"\nthe page stays at {chain.address} until you press Ctrl-C", flush=True)
            while True:
                time.sleep(1.0)
                chain.check()
        return 0
    finally:
        chain.stop()


def find_detector(options: argparse.Namespace, work: Path) -> Path:
    """The detector's bundle: as it is, of the catalogue, or made of a bare ``.onnx``.

    Raises:
        InputError: it is not there, or cannot be made a bundle.
    """
    given: Path = options.detector
    bare = given.suffix.lower() == ".onnx"
    if options.family is not None and not bare:
        raise InputError("--family: is for a bare .onnx; a bundle and the catalogue say their own")
    if given.exists() and not bare:
        return given.absolute()
    if bare and not given.exists():
        raise InputError(f"--detector {given}: there is no such file")
    if bare and options.family is None:
        raise InputError(f"--detector {given}: a bare .onnx needs --family (yolox, for one)")
    if not bare and given.name != str(given):
        raise InputError(f"--detector {given}: there is no such bundle")
    made = ["bundle", str(given), "--kind", "detector", "--family", str(options.family)]
    verb = [*made, "--name", given.stem] if bare else ["get", str(given)]
    print(f"making a bundle of {given}, which takes some seconds", flush=True)
    if options.accept_licence and not bare:
        verb.append("--accept-licence")
    command = [sys.executable, "-m", "skyreid.export", *verb, "-o", str(work / "detector")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stderr.strip().splitlines()
    if done.returncode != 0:
        why = re.sub(r"^error( \(\w+\))?: ", "", (said or ["no reason was given"])[-1])
        raise InputError(f"--detector {given}: {why}")
    for line in said:
        if line.startswith(("licence", "trained on")):
            print(f"  {line}")
    return work / "detector"


def _start(video: Any) -> str:
    if video.live:
        return "live"
    if not video.dated:
        return "its start is not known"
    if video.start_of == "seconds":
        return f"from second {(video.start_ns - COMMON_ZERO_NS) / 1e9:g} of the common clock"
    seconds = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(video.start_ns / 1e9))
    return f"from {seconds} UTC" + (" as the file says" if video.start_of == "container" else "")


def watch(chain: Chain) -> None:
    """Show progress until every device has ended and the server has decided everything.

    A live video has no end: Ctrl-C ends it, and what was seen until then is reported.
    """
    if any(video.live for video in chain.videos):
        print("live: press Ctrl-C for the summary", flush=True)
    first: dict[str, int] = {}
    try:
        while any(part.alive for part in chain.edges.values()):
            chain.check()
            show(progress(chain, first))
            time.sleep(0.5)
        chain.check()
    except Ended:
        if not any(video.live for video in chain.videos):
            raise
        chain.resume()
        for part in chain.edges.values():
            part.stop()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        server = chain.get("/readyz") or {}
        if server.get("settled"):
            show("all decided")
            print()
            return
        time.sleep(0.2)
    raise ChainError(f"the server did not decide everything within 60 s: {chain.get('/readyz')}")


def progress(chain: Chain, first: dict[str, int]) -> str:
    """One line: how far each camera is, and what the server has; remembers in ``first``."""
    devices = (chain.get("/v1/devices") or {}).get("devices", [])
    reached = {d["camera"]: d.get("watermark_ns") or 0 for d in devices}
    parts = []
    for video in chain.videos:
        now_ns = reached.get(video.camera, 0)
        since_ns = video.start_ns or first.setdefault(video.camera, now_ns) or now_ns
        first[video.camera] = since_ns
        done_s = max(0.0, (now_ns - since_ns) / 1e9)
        if not chain.edges[video.camera].alive:
            said = "100%"
        elif video.length_s:
            said = f"{min(done_s / video.length_s, 1.0):4.0%}"
        else:
            said = f"{done_s:4.0f} s"
        parts.append(f"{video.camera} {said}")
    identities = (chain.get("/v1/identities?limit=1") or {}).get("total", 0)
    return "  ".join(parts) + f"  identities {identities}"


def show(line: str) -> None:
    """Draw the progress line; on a pipe one line every time would be noise, so none."""
    if sys.stdout.isatty():
        print(f"\r{line:<100}", end="", flush=True)


def look_back(chain: Chain) -> dict[str, Any]:
    """What was found in videos without truth; print it, with how to go on, and return it."""
    report = summarise(chain)
    print(as_text(report), end="")
    bin_ = Path(sys.executable).parent
    server = chain.work / "server.toml"
    devices = [chain.work / f"{video.camera}.toml" for video in chain.videos]
    report["settings"] = [str(chain.site or chain.work / "site.toml")]
    report["settings"] += [str(path) for path in (server, *devices)]
    broker = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    commands = [[broker, "-c", str(chain.work / "mosquitto.conf")]]
    commands.append([str(bin_ / "skyreid-server"), "run", str(server)])
    commands += [[str(bin_ / "skyreid-edge"), "run", str(path)] for path in devices]
    report["commands"] = [shlex.join(command) for command in commands]
    print("settings of this run")
    for path in report["settings"]:
        print(f"  {path}")
    print("the same for good: broker, server, and a device for each video")
    for command in report["commands"]:
        print(f"  {command}")
    if chain.site is None:
        print('set pictures = "never" in site.toml unless you must see them')
    return report


def score_clip(chain: Chain, clip: Path) -> dict[str, Any]:
    """Score the run against the clip's truth: print the table, return the numbers."""
    runs = [chain.run_directory(camera) for camera in chain.cameras]
    try:
        authority = None if chain.secured is None else chain.secured.authority
        report = score(clip, runs, chain.journal, authority)
    except SkyreidError as error:
        raise ChainError(str(error)) from error
    print(as_table(report), end="")
    return as_json(report)


if __name__ == "__main__":
    sys.exit(main())
