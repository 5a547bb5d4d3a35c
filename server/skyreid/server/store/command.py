"""``skyreid-server journal``: verify, repair."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skyreid.contract.files import FileLock
from skyreid.server.owner import as_owner

if TYPE_CHECKING:
    from skyreid.server.store.repair import Report


def add_parser(verbs: Any) -> None:
    """Add the verb to the command line."""
    says = "check a journal, keep what is good of a damaged one"
    journal = verbs.add_parser("journal", help=says, description=says, allow_abbrev=False)
    parts = journal.add_subparsers(dest="part", required=True, metavar="VERB")
    for name, does, run in (
        ("verify", "read every page and every row, say what is wrong; exit 1 where it is", _verify),
        ("repair", "write what is good of a damaged journal to a new file", _repair),
    ):
        part = parts.add_parser(name, help=does, description=does, allow_abbrev=False)
        part.add_argument("journal", type=Path, help="the file (journal.sqlite)")
        part.add_argument("--json", action="store_true", help="one JSON object on stdout")
        if name == "repair":
            part.add_argument("-o", "--out", type=Path, required=True, help="file to make")
            part.add_argument("--site", help="whose it is, where the file cannot say it any more")
        part.set_defaults(run=run)


def _verify(given: argparse.Namespace) -> int:
    from skyreid.server.store.repair import verify  # not for whoever only asks for help

    report = verify(given.journal)
    _print(report, given.json)
    return 1 if report.trouble else 0


def _repair(given: argparse.Namespace) -> int:
    from skyreid.server.store.repair import repair

    with (
        as_owner(given.out.parent),
        FileLock(
            given.journal.with_name(f"{given.journal.name}.lock"),
            of=f"journal {given.journal}",
            remedy="stop the server first",
        ),
    ):
        report = repair(given.journal, given.out, given.site)
    _print(report, given.json)
    return 0


def _print(report: Report, as_json: bool) -> None:
    if as_json:
        print(json.dumps(report.to_json()))
        return
    for line in report.trouble:
        print(line)
    print(report.text())
