"""``skyreid-edge``: the command line."""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from skyreid.contract.errors import InputError, run_command
from skyreid.contract.process_list import hide_secrets
from skyreid.contract.settings import split_options, unrecognized
from skyreid.contract.version import add_version


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code: 0 done, 1 failed, 2 bad input, 3 gate, 4 environment."""
    if arguments is None:
        os.umask(0o077)  # spool, recording, still: people are nobody else's on this machine
    return run_command(lambda: _main(sys.argv[1:] if arguments is None else arguments))


def _main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="skyreid-edge",
        description="The device: video in, sightings of people out.",
        allow_abbrev=False,
    )
    add_version(parser, "edge")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    with_settings = {
        "run": "watch the camera and tell the server, until the file ends or SIGINT or SIGTERM",
        "check": "open everything but the camera and the broker, say what would run",
        "preview": "show on loopback what the camera sees, whom it finds and which crops are kept",
        "pipeline": "print the GStreamer pipeline",
        "calibrate": "say what known places in stills tell of a drone's camera and telemetry",
        "bench": "say what a device's CPU time goes into on this machine, on a file",
        "doctor": "say what this machine has and lacks",
        "spool": "say what waits for a receipt",
    }
    for verb, does in with_settings.items():
        command = verbs.add_parser(
            verb,
            help=does,
            description=does,
            epilog="options: any --section.key value",
            allow_abbrev=False,
        )
        if verb == "doctor":
            command.add_argument("settings", type=Path, nargs="?", help="edge.toml: its broker too")
        else:
            command.add_argument("settings", type=Path, help="settings file (edge.toml)")
        if verb == "run":
            command.add_argument("--record", type=Path, metavar="DIR", help="write a recorded run")
            command.add_argument("--quiet", action="store_true", help="no progress")
        if verb == "check":
            command.add_argument(
                "--landmark",
                type=_place,
                action="append",
                default=[],
                metavar="LAT,LON",
                help="draw it, and the ground's metres, on a picture (--still); again for another",
            )
        if verb in ("check", "preview"):
            command.add_argument(
                "--still",
                type=Path,
                default=Path("landmark.png") if verb == "check" else None,
                metavar="PNG",
                help="write one picture instead of showing",
            )
            command.add_argument(
                "--after",
                type=_seconds,
                default=3.0,
                metavar="S",
                help="seconds of the video before the still",
            )
        if verb == "preview":
            command.add_argument(
                "--port", type=_port, default=8090, metavar="N", help="on loopback; 0 is any"
            )
        if verb == "calibrate":
            which = command.add_mutually_exclusive_group(required=True)
            for name, asks in (
                ("--boresight", "how the camera is turned against its gimbal, for good"),
                ("--bias", "what the telemetry of one flight is off by"),
            ):
                which.add_argument(name, type=Path, metavar="CSV", help=asks)
            command.add_argument(
                "--run",
                type=Path,
                metavar="DIR",
                help="recorded run that the places of --bias are of, by skyreid-server places",
            )
        if verb == "bench":
            command.add_argument("--frames", type=int, default=80, metavar="N", help="of a pass")
            command.add_argument("--rounds", type=int, default=5, metavar="N", help="of passes")
            command.add_argument(
                "--growth-frames",
                type=int,
                default=2000,
                metavar="N",
                help="after which memory is compared",
            )
        if verb in ("bench", "check", "doctor", "spool"):
            command.add_argument("--json", action="store_true", help="one JSON object on stdout")
    _add_install_service(verbs)
    _add_enrol(verbs)
    _add_plan(verbs)
    _add_gst(verbs)
    hide_secrets(arguments)
    words, options = split_options(arguments)
    given, rest = parser.parse_known_args(words)
    rest += options
    if given.verb not in with_settings:
        if rest:
            parser.error(unrecognized(rest))
        return int(given.run(given))
    if given.verb == "doctor":
        return _doctor(given, rest)
    from skyreid.edge.config import read_settings

    settings = read_settings(given.settings, rest, verb=given.verb)
    here = given.settings.absolute().parent
    if given.verb == "spool":
        return _spool(settings.spool.path, as_json=given.json)
    from skyreid.edge import app

    if given.verb == "calibrate":
        return _calibrate(settings, given)
    if given.verb == "pipeline":
        print(app.find_source(settings, settings_directory=here)[3])
        return 0
    _log_to_stderr()  # before the models are opened: compiling their engines takes minutes
    if given.verb in ("run", "check"):
        from skyreid.edge.delivery.spool_file import check_place

        check_place(settings.spool.path)
    plan = app.plan(settings, settings_directory=here)
    if given.verb == "check":
        _print_plan(plan, as_json=given.json)
        if not given.landmark:
            return 0
        from skyreid.edge.preview import preview

        marks = given.landmark
        return preview(plan, port=0, still=given.still, after_s=given.after, landmarks=marks)
    if given.verb == "preview":
        from skyreid.edge.preview import preview

        return preview(plan, port=given.port, still=given.still, after_s=given.after)
    if given.verb == "bench":
        return _bench(plan, given)
    return app.run(plan, record=given.record, progress=not given.quiet)


def _calibrate(settings: Any, given: argparse.Namespace) -> int:
    from skyreid.contract.site import read_site
    from skyreid.edge import app, calibrate

    site = read_site(settings.site)
    table = given.boresight or given.bias
    terrain, options = app.terrain_of(settings, site), settings.telemetry
    if given.run is not None:
        if given.bias is None:
            raise InputError(f"--run {given.run}: is for --bias, whose places people are")
        of = given.run, settings.camera.id, site.origin, terrain
        seen, away = calibrate.read_people(table, *of)
        if away:
            print(f"{away} of {away + len(seen)} rows are of no moment of {given.run}")
        print("\n".join(calibrate.bias_of_people(seen, options)))
        return 0
    places = calibrate.read_places(table, settings.camera.id, site.origin, terrain)
    found = calibrate.boresight(places) if given.bias is None else calibrate.bias(places, options)
    print("\n".join(found[1]))
    return 0


def _place(text: str) -> tuple[float, float]:
    latitude, longitude = map(_number, text.partition(",")[::2])
    if not (abs(latitude) <= 90 and abs(longitude) <= 180):
        raise argparse.ArgumentTypeError(f"{text}: LATITUDE,LONGITUDE in degrees")
    return latitude, longitude


def _seconds(text: str) -> float:
    if not 0 <= _number(text) <= 1e9:
        raise argparse.ArgumentTypeError(f"{text}: seconds from 0 on")
    return _number(text)


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text}: a port is 0 to 65535")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _bench(plan: Any, given: argparse.Namespace) -> int:
    from skyreid.edge.bench import measure

    for option in ("frames", "rounds", "growth_frames"):
        if getattr(given, option) < 1:
            said = f"--{option.replace('_', '-')} {getattr(given, option)}"
            raise InputError(f"{said}: a whole number from 1 on")
    facts = measure(
        plan, frames=given.frames, rounds=given.rounds, growth_frames=given.growth_frames
    )
    if given.json:
        print(json.dumps({name: round(value, 4) for name, value in facts.items()}))
        return 0
    for name, value in facts.items():
        print(f"{name:<20} {value:.4g}")
    return 0


def _add_install_service(verbs: Any) -> None:
    does = "write the systemd unit of a device (as root), or take it away"
    command = verbs.add_parser("install-service", help=does, description=does, allow_abbrev=False)
    command.add_argument("--root", type=Path, default=Path("/"), help="of an image that is made")
    command.add_argument(
        "--program", type=Path, help="the command to run (default: of this environment)"
    )
    command.add_argument("--remove", action="store_true", help="take it away again")
    command.set_defaults(run=_install_service)


def _install_service(given: argparse.Namespace) -> int:
    from skyreid.edge import service

    if given.remove:
        print("systemctl disable --now 'skyreid-edge@*' first, if it runs", file=sys.stderr)
        for path in service.remove(given.root):
            print(f"removed {path}")
        return 0
    for path in service.install(given.root, given.program):
        print(f"wrote {path}")
    print(
        "next: systemd-sysusers && systemctl daemon-reload; settings in /etc/skyreid/edge.toml, "
        "then systemctl enable --now skyreid-edge@edge"
    )
    return 0


def _add_enrol(verbs: Any) -> None:
    does = "make this device's key, and get its certificate with a token of skyreid-server certs"
    command = verbs.add_parser("enrol", help=does, description=does, allow_abbrev=False)
    command.add_argument("token", help="one word; - reads it from standard input")
    command.add_argument(
        "--out",
        type=Path,
        default=Path("."),
        help="folder of device.key, device.pem, ca.pem and seal.pub",
    )
    command.set_defaults(run=_enrol)


def _enrol(given: argparse.Namespace) -> int:
    from skyreid.contract.enrolment import address_of
    from skyreid.edge.enrol import enrol

    token = enrol(sys.stdin.read() if given.token == "-" else given.token, given.out)
    folder = given.out.resolve()
    print(f'[device]\nid = "{token.device}"\n\n[mqtt]\nurl = "{token.broker}"')
    for key, name in (("ca", "ca.pem"), ("certificate", "device.pem"), ("key", "device.key")):
        print(f"{key} = {json.dumps(str(folder / name))}")
    print(f"enrolment = {json.dumps(address_of(token.host, token.port))}")
    if (folder / "seal.pub").exists():
        print(f"\n[spool]\nsealed_to = {json.dumps(str(folder / 'seal.pub'))}")
    return 0


def _add_plan(verbs: Any) -> None:
    does = "say how large people are from a height, and what the rendered world expects of that"
    command = verbs.add_parser("plan", help=does, description=does, allow_abbrev=False)
    command.add_argument("--height", type=float, required=True, metavar="M", help="above people")
    command.add_argument("--pitch", type=float, required=True, metavar="DEG", help="downwards")
    command.add_argument("--hfov", type=float, required=True, metavar="DEG", help="of the lens")
    command.add_argument("--width", type=int, default=1920, metavar="PX", help="of the picture")
    command.add_argument(
        "--bundle", type=Path, action="append", default=[], help="to run there; again for another"
    )
    command.add_argument("--table", type=Path, help="of skyreid-train altitude, for other bundles")
    command.set_defaults(run=_plan)


def _plan(given: argparse.Namespace) -> int:
    from skyreid.edge import altitude

    table = altitude.shipped() if given.table is None else altitude.read(given.table)
    camera = altitude.Camera(given.pitch, given.hfov, given.width)
    print("\n".join(altitude.lines(table, camera, given.height, given.bundle)))
    return 0


def _add_gst(verbs: Any) -> None:
    does = "run a GStreamer pipeline that has reidembed in it, as gst-launch-1.0 does"
    command = verbs.add_parser("gst-launch", help=does, description=does, allow_abbrev=False)
    command.add_argument("pipeline", nargs="+", metavar="WORD", help="elements with ! between")
    command.add_argument(
        "-m", "--messages", action="store_true", help="print element messages on stdout"
    )
    command.add_argument(
        "-e",
        "--eos-on-shutdown",
        action="store_true",
        help="at SIGINT or SIGTERM end the stream first, so that files and tracklets are finished",
    )
    command.set_defaults(run=_gst)
    does = "print the pads and properties of reidembed, which gst-inspect-1.0 does not know"
    command = verbs.add_parser("gst-inspect", help=does, description=does, allow_abbrev=False)
    command.add_argument("element", nargs="?", default="reidembed", help="reidembed")
    command.set_defaults(run=_gst)


def _gst(given: argparse.Namespace) -> int:
    from skyreid.edge.element.launch import inspect, launch

    if given.verb == "gst-inspect":
        print("\n".join(inspect(given.element)))
        return 0
    _log_to_stderr()
    return launch(given.pipeline, say_messages=given.messages, eos_at_signal=given.eos_on_shutdown)


def _print_plan(plan: object, *, as_json: bool) -> None:
    from skyreid.edge.app import Plan
    from skyreid.edge.summary import describe

    assert isinstance(plan, Plan)
    facts = describe(plan)
    if as_json:
        print(json.dumps(facts))
        return
    for name, value in facts.items():
        print(f"{name:<10} {value}")


def _doctor(given: argparse.Namespace, rest: Sequence[str]) -> int:
    from skyreid.edge.doctor import Device, examine

    device, engines_needed = None, False
    if given.settings is not None:
        from skyreid.contract.site import read_site
        from skyreid.edge.config import read_settings

        settings = read_settings(given.settings, rest, verb="doctor")
        site, to = read_site(settings.site).id, settings.spool.sealed_to
        device = Device(site, settings.device.id, settings.mqtt, to)
        engines_needed = settings.runner.kind == "tensorrt"
    findings = examine(device, engines_needed=engines_needed)
    if given.json:
        print(json.dumps({f.name: {"good": f.good, "detail": f.detail} for f in findings}))
    else:
        for f in findings:
            print(f"{'good' if f.good else 'LACK'}  {f.name:<12} {f.detail}")
    return 0 if all(f.good or not f.needed for f in findings) else 4


def _spool(path: Path, *, as_json: bool) -> int:
    from dataclasses import asdict

    from skyreid.edge.delivery.spool_file import read_stats

    stats = read_stats(path)
    if as_json:
        print(json.dumps(asdict(stats)))
    else:
        print(
            f"{path}: {stats.sightings} sightings ({stats.bytes} bytes) of {stats.boots} boots, "
            f"the oldest {stats.oldest_age_s:.0f} s old; {stats.pictures} pictures"
        )
    return 0


def _log_to_stderr() -> None:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)sZ %(levelname)s %(name)s: %(message)s"
    )
    logging.Formatter.converter = time.gmtime


if __name__ == "__main__":
    sys.exit(main())
