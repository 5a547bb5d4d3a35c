"""``skyreid-server``: the command line."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from skyreid.contract.errors import run_command
from skyreid.contract.process_list import hide_secrets
from skyreid.contract.settings import effective, split_options, unrecognized
from skyreid.contract.version import add_version
from skyreid.server.admin import audit_command, token_command
from skyreid.server.admin import command as admin
from skyreid.server.bench import command as bench
from skyreid.server.certs import command as certs
from skyreid.server.collector import collect_rarely
from skyreid.server.store import command as journal
from skyreid.server.traffic import command as traffic

_WITH_SETTINGS = ("run", "check", "rebuild")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; returns the exit code (``contract.errors`` lists them)."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if arguments is None:
        os.umask(
            0o077
        )  # a journal, a backup, a recording: people are nobody else's on this machine
    hide_secrets(given)
    return run_command(lambda: _main(given))


def _main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="skyreid-server", description="The central matcher: sightings in, identities out."
    )
    add_version(parser, "server")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, does in (
        ("run", "run the server until it is told to stop"),
        ("check", "read the settings and the site, say what is wrong, change nothing"),
        ("rebuild", "decide anew who is who, from the sightings of a stopped server's journal"),
    ):
        command = verbs.add_parser(
            verb,
            help=does,
            description=does,
            epilog="options: any --section.key value",
            allow_abbrev=False,
        )
        command.add_argument("settings", type=Path, help="settings file (server.toml)")
        command.set_defaults(run=None)
        if verb == "check":
            command.add_argument("--json", action="store_true", help="print the settings in force")
    if arguments[:1] == ["evaluate"]:  # brings scipy and more: not for the daemon
        from skyreid.server.scoring import command as scoring

        scoring.add_parser(verbs)
    else:
        verbs.add_parser("evaluate", help="score recorded runs and the journal against the truth")
    journal.add_parser(verbs)
    admin.add_parser(verbs)
    token_command.add_parser(verbs)
    audit_command.add_parser(verbs)
    traffic.add_parser(verbs)
    bench.add_parser(verbs)
    certs.add_parser(verbs)
    words, options = arguments, list[str]()
    if arguments[:1] and arguments[0] in _WITH_SETTINGS:  # certs init has a --site of its own
        words, options = split_options(arguments)
    given, rest = parser.parse_known_args(words)
    rest += options
    if given.run is not None:
        if rest:
            parser.error(unrecognized(rest))
        return int(given.run(given))
    return _serve(given, rest)


def _serve(given: argparse.Namespace, rest: Sequence[str]) -> int:
    from skyreid.server import app
    from skyreid.server.config import read_settings

    if given.verb == "run":
        _log_to_stderr()
        collect_rarely()
        return app.run(lambda: read_settings(given.settings, rest, verb="run"))
    settings = read_settings(given.settings, rest, verb=given.verb)
    if given.verb == "check":
        site = app.check(settings)
        if given.json:
            print(json.dumps(json.loads(effective(settings))))
        else:
            cameras = ", ".join(f"{c.id} ({c.view})" for c in site.camera) or "none listed"
            print(f"{given.settings}: good. site {site.id}, cameras {cameras}")
            print(f"broker {settings.mqtt.url}, journal {settings.journal.path}")
            print(f"kept: {settings.retention.text()}")
        return 0
    from skyreid.server.admin.rebuilding import rebuild_log

    print(rebuild_log(settings))
    return 0


def _log_to_stderr() -> None:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)sZ %(levelname)s %(name)s: %(message)s"
    )
    logging.Formatter.converter = time.gmtime
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # else a line for each bad request


if __name__ == "__main__":
    sys.exit(main())
