"""``skyreid-server record`` and ``replay``."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skyreid.contract.errors import SkyreidError


def add_parser(verbs: Any) -> None:
    """Add both to the verbs of a command line."""
    does = "record what the devices of a site say, with the time at which it came"
    verb = verbs.add_parser("record", help=does, description=does, allow_abbrev=False)
    verb.add_argument("settings", type=Path, help="settings file of the site (server.toml)")
    verb.add_argument("directory", type=Path, metavar="DIR", help="a new directory")
    verb.add_argument(
        "--max-mb", type=_positive, default=1000, metavar="N", help="it ends when so many are full"
    )
    verb.add_argument("--pictures", action="store_true", help="pictures of people too")
    verb.set_defaults(run=_record)

    does = "send recorded traffic to another server, for tests and post-mortems"
    verb = verbs.add_parser("replay", help=does, description=does, allow_abbrev=False)
    verb.add_argument("settings", type=Path, help="settings file of the server to replay to")
    verb.add_argument(
        "directory", type=Path, nargs="+", metavar="DIR", help="of record, or of devices"
    )
    verb.add_argument(
        "--speed",
        type=_speed,
        default=1.0,
        metavar="X",
        help="times as fast as it was; 0 as fast as the server stores",
    )
    verb.set_defaults(run=_replay)


def _record(given: argparse.Namespace) -> int:
    from skyreid.contract.site import read_site
    from skyreid.server.audit.local import note
    from skyreid.server.config import read_settings
    from skyreid.server.traffic.record import record  # not for whoever only asks for help

    settings = read_settings(given.settings, (), verb="record")
    if settings.journal.path.is_file():  # beside the site's server, which has an audit log
        note(settings.journal.path, settings.audit, "export", "recording of traffic")
    with _ending() as stop:
        tally = record(
            read_site(settings.site).id,
            settings.mqtt,
            given.directory,
            stop,
            pictures=given.pictures,
            max_bytes=given.max_mb * 1_000_000,
        )
    print(tally.text(given.directory))
    return 0


def _replay(given: argparse.Namespace) -> int:
    from skyreid.contract.site import read_site
    from skyreid.server.config import read_settings
    from skyreid.server.traffic.replay import replay

    settings = read_settings(given.settings, (), verb="replay")
    with _ending() as stop:
        outcome = replay(
            read_site(settings.site).id, settings.mqtt, given.directory, stop, speed=given.speed
        )
    print(outcome.text())
    return 0 if outcome.good else 1


@contextmanager
def _ending() -> Iterator[threading.Event]:
    """What SIGINT and SIGTERM set, and a connection that dies of a defect.

    Raises:
        SkyreidError: it died.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    stop, died = threading.Event(), threading.Event()

    def crashed(details: threading.ExceptHookArgs) -> None:
        threading.__excepthook__(details)
        died.set()
        stop.set()

    threading.excepthook = crashed
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    yield stop
    if died.is_set():
        raise SkyreidError("the connection's thread failed, see above; it is a defect")


def _positive(text: str) -> int:
    if not (text.isdecimal() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"{text}: a whole number from 1 on")
    return int(text)


def _speed(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1e6:
        raise argparse.ArgumentTypeError(f"{text}: times as fast as it was, 0 to 1e6")
    return value
