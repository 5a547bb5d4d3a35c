"""Verbs of an operator on a journal: quarantine, who is let in, places, erasing, backup.

The server may be running: what is written here it reads within a moment.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skyreid.contract.errors import InputError
from skyreid.server.owner import as_owner

if TYPE_CHECKING:
    from skyreid.server.config import ServerSettings
    from skyreid.server.store.quarantine import Held, SingleKey

_WHICH = "DEVICE BOOT SEQ, as list shows them"


def add_parser(verbs: Any) -> None:
    """Add ``quarantine`` to the verbs of a command line."""
    does = "sightings on which matching failed: list, show, retry, drop"
    verb = verbs.add_parser(
        "quarantine",
        help=does,
        description="Sightings on which matching failed: stored, and not shown to it again. Retry "
        "one after a release that mends it, or drop it, which leaves it unmatched for good.",
    )
    verb.add_argument("what", choices=("list", "show", "retry", "drop"))
    verb.add_argument("settings", type=Path, help="settings file (server.toml)")
    verb.add_argument("key", nargs="*", metavar="KEY", help=_WHICH)
    verb.add_argument("--all", action="store_true", help="retry or drop every one that is held")
    verb.add_argument("--json", action="store_true", help="list one JSON object a line")
    verb.set_defaults(run=_quarantine)

    does = "devices that are let in: list, admit, forget"
    verb = verbs.add_parser(
        "devices",
        help=does,
        description="Devices that are let in: those with a camera of the site file, and those that "
        "are admitted by name. The server may be running.",
    )
    verb.add_argument("what", choices=("list", "admit", "forget"))
    verb.add_argument("settings", type=Path, help="settings file (server.toml)")
    verb.add_argument("name", nargs="*", metavar="DEVICE", help="whom to admit or forget")
    verb.set_defaults(run=_devices)

    does = "where street cameras saw people whom a drone saw too, for skyreid-edge calibrate --bias"
    verb = verbs.add_parser("places", help=does, description=does, allow_abbrev=False)
    verb.add_argument("settings", type=Path, help="settings file (server.toml)")
    verb.add_argument("camera", help="the drone's, of the site file")
    verb.add_argument(
        "--probability", type=float, default=0.95, metavar="P", help="of each link, at least"
    )
    verb.add_argument("-o", "--out", type=Path, required=True, help="table to make")
    verb.set_defaults(run=_places)

    does = "erase a person or a tracklet everywhere, and print the receipt"
    verb = verbs.add_parser(
        "erase",
        help=does,
        description="Erase a person or a tracklet: sightings, vectors, pictures, events, and the "
        "copies of the journal beside it. The server may be running. What was asked for once is "
        "carried out whatever comes between.",
    )
    verb.add_argument("settings", type=Path, help="settings file (server.toml)")
    verb.add_argument("who", help="an identity's id, or DEVICE/BOOT/CAMERA/TRACK")
    verb.add_argument("--reason", required=True, metavar="TEXT", help="stands in the receipt")
    verb.add_argument(
        "--recording",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a recording from which everybody who was ever erased goes too; may be repeated",
    )
    verb.set_defaults(run=_erase)

    does = "copy the journal to a file while the server runs"
    verb = verbs.add_parser("backup", help=does, description=does)
    verb.add_argument("settings", type=Path, help="settings file (server.toml)")
    verb.add_argument("out", type=Path, help="file to make")
    verb.set_defaults(run=_backup)

    does = "put a backup in the journal's place; who was erased since stays erased"
    verb = verbs.add_parser("restore", help=does, description=does)
    verb.add_argument("settings", type=Path, help="settings file (server.toml)")
    verb.add_argument("backup", type=Path, help="file that backup made")
    verb.set_defaults(run=_restore)


def _devices(given: argparse.Namespace) -> int:
    from skyreid.contract.topics import check_identifier
    from skyreid.server.config import read_settings
    from skyreid.server.store import beside
    from skyreid.server.store.journal import open_to_read

    settings = read_settings(given.settings, (), verb="devices")
    journal = settings.journal.path
    if given.what == "list":
        _note(settings, "devices", "list")
        with open_to_read(journal) as db:
            for name, camera, named in beside.read_all(db):
                print(f"{name}  camera {camera or 'not known'}{', admitted' if named else ''}")
        return 0
    if not given.name:
        raise InputError(f"devices {given.what}: give the names of devices")
    try:
        names = [check_identifier(name) for name in given.name]
    except ValueError as error:
        raise InputError(f"devices {given.what}: {error}") from error
    with open_to_read(journal) as db:
        known = {name for name, _, _ in beside.read_all(db)}
    if given.what == "forget" and (unknown := [name for name in names if name not in known]):
        raise InputError(f"devices forget: {', '.join(unknown)}: not known, see devices list")
    _note(settings, "devices", f"{given.what} {' '.join(names)}")
    with as_owner(journal.parent), beside.open_to_write(journal) as db:
        for name in names:
            if given.what == "admit":
                beside.admit(db, name, time.time_ns())
            else:
                beside.forget(db, name)
    print(f"{given.what}: {', '.join(names)}")
    return 0


def _places(given: argparse.Namespace) -> int:
    from skyreid.contract import files
    from skyreid.contract.site import read_site
    from skyreid.server.config import read_settings
    from skyreid.server.store.places import as_csv, seen_twice

    if not 0 < given.probability <= 1:
        raise InputError(f"--probability {given.probability:g}: above 0, and 1 at most")
    settings = read_settings(given.settings, (), verb="places")
    site = read_site(settings.site)
    if site.origin is None:
        raise InputError(f"site {site.id}: a place on the earth needs an [origin]")
    _note(settings, "export", f"places of people whom {given.camera} and a street camera saw")
    rows = seen_twice(settings.journal.path, site, given.camera, given.probability)
    text = "\n".join(as_csv(rows, site.origin)) + "\n"
    files.write(given.out, text.encode(), mode=0o600)
    print(f"{given.out}: {len(rows)} places of {len({row.person for row in rows})} people")
    return 0


def _backup(given: argparse.Namespace) -> int:
    from skyreid.server.config import read_settings
    from skyreid.server.store import backup

    settings = read_settings(given.settings, (), verb="backup")
    path = settings.journal.path
    _note(settings, "export", "backup of the journal")
    backup.backup(path, given.out)
    print(f"{path} is copied to {given.out}")
    return 0


def _restore(given: argparse.Namespace) -> int:
    from skyreid.server.audit.local import note
    from skyreid.server.config import read_settings
    from skyreid.server.store import backup, erasures

    settings = read_settings(given.settings, (), verb="restore")
    path = settings.journal.path
    note(path, settings.audit, "restore", "a backup in the journal's place")
    kept = backup.restore(given.backup, path)
    listed = len(erasures.read_erased(path))
    print(f"{given.backup} is in place as {path}; what was there is {kept or 'nothing'}")
    print(f"{listed} tracklets on {erasures.list_of(path).name}: the next start erases them again")
    return 0


def _erase(given: argparse.Namespace) -> int:
    from skyreid.contract.site import read_site
    from skyreid.server.broker.opening import opening_of
    from skyreid.server.config import read_settings
    from skyreid.server.forget import ERASE_WAIT_S, erase
    from skyreid.server.store.erasures import parse_target, read_erased
    from skyreid.server.traffic.forget import forget_in, require_whole

    who = parse_target(given.who)
    settings = read_settings(given.settings, (), verb="erase")
    journal, opener = settings.journal.path, None
    for each in given.recording:  # first: what cannot be done is said before anything is
        require_whole(each)
    if given.recording:
        site, folder = read_site(settings.site).id, settings.authority.folder
        opener = opening_of(folder, site, required=False).opener
    _note(settings, "erase", given.who, given.reason)
    with as_owner(journal.parent):
        asked = erase(journal, who, given.reason)
    if asked.state == "refused" and not given.recording:
        raise InputError(f"erase {given.who}: {asked.body['why']}")
    if asked.state not in ("done", "refused"):
        raise InputError(
            f"erasure {asked.id} is decided and not carried out within {ERASE_WAIT_S:g} s: the "
            "server goes on with it; GET /v1/erasures/N has its receipt then"
        )
    erased = read_erased(journal)
    recordings, left = dict[str, int](), list[str]()
    for each in given.recording:
        try:
            with as_owner(each):
                recordings[str(each)] = forget_in(each, erased, opener)
        except InputError as error:  # a full disk
            left.append(str(error))
    if asked.state == "refused" and not any(recordings.values()):
        nobody = f"erase {given.who}: {asked.body['why']}, and no recording had anybody erased"
        raise InputError("; ".join([nobody, *left]))
    # Refused, it is an earlier erasure, of which a recording is found only now.
    removed = {**asked.body.get("removed", {}), "recordings": recordings}
    print(json.dumps({**asked.body, "removed": removed}, indent=1))
    if left:
        raise InputError(f"{'; '.join(left)}: erase {given.who} again with it")
    return 0


def _quarantine(given: argparse.Namespace) -> int:
    from skyreid.server.config import read_settings
    from skyreid.server.store import beside, quarantine
    from skyreid.server.store.journal import open_to_read

    settings = read_settings(given.settings, (), verb="quarantine")
    journal = settings.journal.path
    if given.what in ("retry", "drop"):
        if given.all == bool(given.key) or len(given.key) not in (0, 3):
            raise InputError(f"quarantine {given.what}: give either {_WHICH}, or --all")
        key = None if given.all else _key(given.key)
        state = {"retry": "retry", "drop": "dropped"}[given.what]
        which = "all" if given.all else " ".join(given.key)
        _note(settings, "quarantine", f"{given.what} {which}")
        with as_owner(journal.parent), beside.open_to_write(journal) as db:
            count = quarantine.mark(db, key, state)
        if key is not None and not count:
            raise InputError(_nothing(key))
        print(f"{count} {'to be tried again' if state == 'retry' else 'dropped'}")
        return 0
    _note(settings, "quarantine", " ".join([given.what, *given.key]))
    with open_to_read(journal) as db:
        held = quarantine.read_held(db)
    if given.what == "list":
        for one in held:
            print(json.dumps(one.to_json()) if given.json else _line(one))
        return 0
    if len(given.key) != 3:
        raise InputError(f"quarantine show: give {_WHICH}")
    key = _key(given.key)
    for one in held:
        if one.key == key:
            print(_line(one))
            print(one.traceback, end="")
            return 0
    raise InputError(_nothing(key))


def _note(settings: ServerSettings, act: str, what: str, purpose: str = "") -> None:
    """Say it in the audit log, before it is done; a journal that is not there has none."""
    from skyreid.server.audit.local import note

    if settings.journal.path.is_file():
        note(settings.journal.path, settings.audit, act, what, purpose)


def _key(words: Sequence[str]) -> SingleKey:
    device, boot, seq = words
    if not seq.isdecimal():
        raise InputError(f"seq {seq!r} is no number: give {_WHICH}")
    return device, boot, int(seq)


def _nothing(key: SingleKey) -> str:
    return f"sighting {' '.join(map(str, key))} is not in quarantine: quarantine list shows who is"


def _line(one: Held) -> str:
    device, boot, seq = one.key
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(one.at_ns / 1e9))
    why = one.traceback.strip().rpartition("\n")[2]
    return f"{device} {boot} {seq}  {one.state} since {when}  {one.camera} {one.track}: {why}"
