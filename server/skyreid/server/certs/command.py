"""``skyreid-server certs``: init, device, serve, renew, rotate, revoke, list; and ``lost``."""

from __future__ import annotations

import argparse
import csv
import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skyreid.contract.errors import InputError, reason

if TYPE_CHECKING:
    from skyreid.server.certs.authority import Authority
    from skyreid.server.certs.lost import Lost

DAYS = 365
KEEP_DAYS = 90


def add_parser(verbs: Any) -> None:
    """Add ``certs`` and ``lost`` to the verbs of a command line."""
    says = "a device is gone: revoke it, and say what it could hold that is not here"
    lost = verbs.add_parser("lost", help=says, description=says, allow_abbrev=False)
    lost.add_argument("settings", type=Path, help="settings file (server.toml)")
    lost.add_argument("name", help="device.id")
    lost.add_argument("--json", action="store_true", help="print one JSON object")
    lost.set_defaults(run=_lost)
    says = "a small authority of one site: certificates of its broker, server and devices"
    certs = verbs.add_parser("certs", help=says, description=says, allow_abbrev=False)
    parts = certs.add_subparsers(dest="part", required=True, metavar="VERB")
    for name, does, run in (
        ("init", "make the authority, and mosquitto's settings for it", _init),
        ("device", "let devices enrol: a token each, good once and for a day", _device),
        ("serve", "sign for devices that enrol, until it is told to stop", _serve),
        ("renew", "new certificates of broker and server", _renew),
        ("rotate", "a new key for devices to seal to; the old one opens what they have", _rotate),
        ("revoke", "take a device's certificates back, and end its connection", _revoke),
        ("list", "who has a certificate, until when", _list),
    ):
        part = parts.add_parser(name, help=does, description=does, allow_abbrev=False)
        part.add_argument("folder", type=Path, help="folder of the authority")
        part.set_defaults(run=run)
        if name == "init":
            part.add_argument("--site", required=True, help="id of the site file")
            part.add_argument(
                "--host", required=True, action="append", help="name or address of the broker"
            )
            part.add_argument("--port", type=int, default=8883, help="of the broker")
            says = "folder of mosquitto 2.1's plugins, to be used instead of acl_file and its file"
            part.add_argument("--plugins", type=Path, metavar="DIR", help=says)
        if name in ("init", "renew", "serve"):
            part.add_argument("--days", type=int, default=DAYS, help="life of a certificate")
        if name in ("device", "revoke"):
            part.add_argument("name", nargs="+" if name == "revoke" else "*", help="device.id")
        if name == "device":
            part.add_argument("--csv", type=Path, help="names, the first column of a file")
            part.add_argument("--enrol-port", type=int, default=8884, help="of certs serve")
        if name == "rotate":
            says = "days (2 or more) after which a replaced key is deleted, with what only it opens"
            part.add_argument("--keep-days", type=int, default=KEEP_DAYS, help=says)
        if name == "serve":
            part.add_argument("--listen", default="0.0.0.0", help="address to listen on")
            part.add_argument("--enrol-port", type=int, default=8884, help="port to listen on")
            part.add_argument(
                "--device", action="append", default=[], help="make its token first, as device does"
            )


def _init(given: argparse.Namespace) -> int:
    from skyreid.server.certs import mosquitto
    from skyreid.server.certs.authority import Authority
    from skyreid.server.certs.key_files import write_open
    from skyreid.server.certs.seal_keys import rotate

    _port(given.port)
    authority = Authority.make(given.folder, given.site, given.host, _days(given))
    plugins = None if given.plugins is None else given.plugins.absolute()
    conf = mosquitto.settings(authority, given.port, plugins)
    write_open(authority.path("mosquitto.conf"), conf.encode())
    write_open(authority.path("acl"), mosquitto.access_list(authority).encode())
    write_open(
        authority.path("broker.url"), f"mqtts://{_host(given.host[0])}:{given.port}".encode()
    )
    rotate(authority)
    has = mosquitto.make_home(authority)
    folder = authority.folder.resolve()
    print(f"{folder}: ca.key signs for the site, seal/ opens what its devices hold; keep a copy of")
    print("        both where nobody else gets it")
    print(f"broker: mosquitto -c {folder}/mosquitto.conf")
    if not has:
        print(f"        its user writes in {folder}/{mosquitto.OWN} and reads {folder}/broker.key")
    print("server.toml, the lines of these sections:")
    print(f'\n[mqtt]\nurl = "{_url(authority)}"\nca = {json.dumps(f"{folder}/ca.pem")}')
    print(_pair(folder, "server"))
    print(f"\n[http]\n{_pair(folder, 'http')}")
    print(f"\n[authority]\nfolder = {json.dumps(str(folder))}")
    return 0


def _pair(folder: Path, name: str) -> str:
    """A certificate and its key, as settings."""
    at = (json.dumps(f"{folder}/{name}.{end}") for end in ("pem", "key"))
    return "certificate = {}\nkey = {}".format(*at)


def _device(given: argparse.Namespace) -> int:
    from skyreid.server.certs.authority import Authority

    names = list(given.name)
    if given.csv is not None:
        try:
            with open(given.csv, newline="", encoding="utf-8") as file:
                names += [row[0].strip() for row in csv.reader(file) if row and row[0].strip()]
        except (OSError, ValueError, csv.Error) as error:
            raise InputError(f"{given.csv}: {reason(error, given.csv)}") from error
    if not names:
        raise InputError("certs device: give names of devices, or --csv")
    _print_tokens(Authority(given.folder), names, _port(given.enrol_port))
    return 0


def _print_tokens(authority: Authority, names: list[str], port: int) -> None:
    from skyreid.contract.enrolment import Token, encode_token

    url = _url(authority)
    host = url.removeprefix("mqtts://").rpartition(":")[0].strip("[]")
    ca = authority.ca_der()
    for name, secret in zip(names, authority.add_tokens(names), strict=True):
        token = Token(host=host, port=port, broker=url, device=name, secret=secret, ca=ca)
        print(f"{name} {encode_token(token)}", flush=True)


def _serve(given: argparse.Namespace) -> int:
    import signal
    import threading

    from skyreid.server.certs.authority import Authority
    from skyreid.server.certs.service import Enrolment

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    address = given.listen, _port(given.enrol_port)
    authority = Authority(given.folder)
    service = Enrolment(authority, address, _days(given))
    _print_tokens(authority, given.device, address[1])
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    thread = threading.Thread(target=service.serve_forever, name="enrolment")
    thread.start()
    logging.getLogger(__name__).info("devices enrol at %s:%d", *address)
    stop.wait()
    service.shutdown()
    thread.join()
    service.server_close()
    return 0


def _renew(given: argparse.Namespace) -> int:
    from skyreid.server.certs import mosquitto
    from skyreid.server.certs.authority import Authority

    authority = Authority(given.folder)
    authority.renew(_days(given))
    told = "it knows" if mosquitto.reload(authority) else "reload it (systemctl reload mosquitto)"
    print(f"broker, server and API have new certificates. broker: {told}; server: restart it")
    return 0


def _rotate(given: argparse.Namespace) -> int:
    from skyreid.server.certs.authority import Authority
    from skyreid.server.certs.seal_keys import KEEP_DAYS_MIN, rotate

    if given.keep_days < KEEP_DAYS_MIN:
        raise InputError(
            f"--keep-days {given.keep_days}: {KEEP_DAYS_MIN} at least; for up to a day devices "
            "seal to the key before, and have to deliver that, too"
        )
    name, gone = rotate(Authority(given.folder), given.keep_days)
    print(f"devices seal to key {name} from their next word with certs serve on")
    print(f"keep a copy of {given.folder}/seal: without {name}.key nobody opens what devices hold")
    for each in gone:
        print(f"key {each} is deleted: what is sealed to it nobody opens any more")
    return 0


def _revoke(given: argparse.Namespace) -> int:
    from skyreid.server.certs.authority import Authority
    from skyreid.server.certs.revocation import revoke

    authority = Authority(given.folder)
    failed = []
    for name in given.name:  # one that cannot be must keep no other in
        try:
            print(f"{name}: {revoke(authority, name, _url(authority))} certificates revoked")
        except InputError as error:
            failed.append(str(error))
    if failed:
        raise InputError("; ".join(failed))
    return 0


def _lost(given: argparse.Namespace) -> int:
    from skyreid.server.audit.local import note
    from skyreid.server.certs.authority import Authority
    from skyreid.server.certs.lost import what_it_could_hold
    from skyreid.server.certs.revocation import revoke
    from skyreid.server.config import read_settings

    settings = read_settings(given.settings, (), verb="lost")
    folder, journal = settings.authority.folder, settings.journal.path
    failed: list[InputError] = []
    try:
        if journal.is_file():
            note(journal, settings.audit, "devices", f"lost {given.name}")
    except InputError as error:  # which keeps nobody from revoking it
        failed.append(error)
    try:  # first of all: every minute counts
        if folder is None:
            raise InputError("authority.folder is not set: whose certificates is it to revoke?")
        authority = Authority(folder)  # a copy without ca.key revokes nobody, and says so
        revoked = revoke(authority, given.name, _url(authority))
    except InputError as error:
        failed.append(error)
        revoked = 0
    try:
        found = what_it_could_hold(journal, given.name, time.time_ns())
    except InputError as error:
        failed.append(error)
    else:
        _tell(given, found, revoked, settings.authority.sealed_only)
    if failed:
        raise InputError("; ".join(map(str, failed)))
    return 0


def _tell(given: argparse.Namespace, found: Lost, revoked: int, sealed: bool) -> None:
    since, until = (
        time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(ns / 1e9))
        for ns in (found.since_ns, found.until_ns)
    )
    if given.json:
        said = {"revoked": revoked, "since": since, "until": until, "hours": round(found.hours, 2)}
        said |= {"people_max": found.tracklets_max, "missing": found.missing}
        said |= {"erased": found.erased, "sealed_only": sealed}
        print(json.dumps({"device": found.device, **said}))
        return
    print(f"{found.device}: {revoked} certificates revoked")
    print(f"it could hold what it saw from {since} to {until}, {found.hours:.1f} h")
    print(
        f"  at most about {found.tracklets_max} people (tracklets), at {found.tracklets_per_hour} "
        "in the fullest hour that it had; its spool keeps spool.max_age_h of them"
    )
    print(f"  and {found.missing} sightings of before, which never arrived")
    if found.erased:
        print(f"    or arrived and were erased: of {found.erased} tracklets of it all were")
    if sealed:
        print("authority.sealed_only is set: what it had in clear was refused, and stayed with it")
    print("whether they are sealed its health said: sealed_to in /v1/devices")


def _list(given: argparse.Namespace) -> int:
    from skyreid.server.certs.authority import Authority

    for each in Authority(given.folder).listed():
        print(f"{each['name']}  until {each['end']}{'  revoked' if 'revoked' in each else ''}")
    return 0


def _url(authority: Authority) -> str:
    try:
        return authority.path("broker.url").read_text().strip()
    except OSError as error:
        raise InputError(f"authority {authority.folder}: broker.url: {error.strerror}") from error


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _days(given: argparse.Namespace) -> int:
    if not 1 <= given.days <= 3650:
        raise InputError(f"--days {given.days}: from 1 to 3650")
    return int(given.days)


def _port(port: int) -> int:
    if not 1 <= port <= 65_535:
        raise InputError(f"port {port}: from 1 to 65535")
    return port
