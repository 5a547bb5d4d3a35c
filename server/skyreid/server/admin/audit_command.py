"""``skyreid-server audit``: verify, show."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from skyreid.contract.errors import InputError


def add_parser(verbs: Any) -> None:
    """Add ``audit`` to the verbs of a command line."""
    says = "who looked, searched, exported and erased: verify, show"
    audit = verbs.add_parser("audit", help=says, description=says, allow_abbrev=False)
    parts = audit.add_subparsers(dest="part", required=True, metavar="VERB")
    for name, does, run in (
        ("verify", "is every line as it was written; exit 1 and which, where one is not", _verify),
        ("show", "print the lines", _show),
    ):
        part = parts.add_parser(name, help=does, description=does, allow_abbrev=False)
        part.add_argument("settings", type=Path, help="settings file (server.toml)")
        part.set_defaults(run=run)
        if name == "verify":
            part.add_argument(
                "--anchor", type=Path, metavar="FILE", help="heads that left the machine"
            )
        else:
            part.add_argument("--after", type=int, default=0, metavar="N", help="only later lines")
            part.add_argument("--who", metavar="NAME", help="only of this token")
            part.add_argument(
                "--act", metavar="WORD", help="only this: search, picture, erase, ..."
            )
            part.add_argument("--json", action="store_true", help="as they stand in the file")


def _verify(given: argparse.Namespace) -> int:
    from skyreid.contract.site import read_site
    from skyreid.server.audit.log import folder_of
    from skyreid.server.audit.verify import read_anchors, too_early, verify
    from skyreid.server.config import read_settings

    settings = read_settings(given.settings, (), verb="audit")
    folder = folder_of(settings.journal.path)
    anchors = []
    if given.anchor is not None:
        anchors = read_anchors(given.anchor, read_site(settings.site).id)
    verdict = verify(folder, anchors)
    audit = settings.audit
    explained, cut = too_early(anchors, folder, audit.keep_d, audit.max_mb << 20)
    verdict.wrong += cut
    for note in [*verdict.notes, *explained]:
        print(f"note: {note}")
    for wrong in verdict.wrong:
        print(f"wrong: {wrong}", file=sys.stderr)
    against = f"{verdict.anchors} heads outside" if given.anchor else "no head outside (--anchor)"
    state = "tampered with" if verdict.wrong else "good"
    n, own = verdict.head
    print(f"{folder}: {state}. lines {verdict.first} to {n}, head {own}, against {against}")
    return 1 if verdict.wrong else 0


def _show(given: argparse.Namespace) -> int:
    from skyreid.server.audit.line import read_line
    from skyreid.server.audit.local import note
    from skyreid.server.audit.log import folder_of, segments
    from skyreid.server.audit.verify import lines
    from skyreid.server.config import read_settings

    settings = read_settings(given.settings, (), verb="audit")
    folder = folder_of(settings.journal.path)
    if segments(folder):  # who looked after whom is about people, too
        about = [f"{key} {getattr(given, key)}" for key in ("after", "who", "act")]
        which = ", ".join(each for each in about if not each.endswith((" None", " 0")))
        note(settings.journal.path, settings.audit, "audit", f"show {which}".strip())
    for place, raw in lines(folder):
        try:
            line = read_line(raw)
        except InputError:
            print(f"{place}: no line of an audit log", file=sys.stderr)
            continue
        said = line.said
        if line.n <= given.after or given.who not in (None, said.get("who")):
            continue
        if given.act not in (None, said.get("act")):
            continue
        print(json.dumps(said) if given.json else _text(said))
    return 0


def _text(said: dict[str, Any]) -> str:
    who = said.get("who", "") + (f" ({said['role']})" if said.get("role") else "")
    parts = [str(said["n"]), str(said.get("at")), who, str(said.get("act"))]
    parts += [str(said[key]) for key in ("what", "answer") if key in said]
    parts += [f"{key} {said[key]!r}" for key in ("purpose", "case", "peer") if key in said]
    return "  ".join(part for part in parts if part)
