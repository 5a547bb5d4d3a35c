"""``skyreid-server token``: create, link, list, revoke."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skyreid.contract.errors import InputError
from skyreid.server.access.roles import Role
from skyreid.server.access.tokens import DAYS, LINK_MINUTES
from skyreid.server.audit.local import note
from skyreid.server.owner import as_owner

if TYPE_CHECKING:
    from skyreid.server.access.tokens import Tokens
    from skyreid.server.config import ServerSettings


def add_parser(verbs: Any) -> None:
    """Add ``token`` to the verbs of a command line."""
    says = "who may ask the API and the page: create, link, list, revoke"
    token = verbs.add_parser("token", help=says, description=says, allow_abbrev=False)
    parts = token.add_subparsers(dest="part", required=True, metavar="VERB")
    for name, does, run in (
        ("create", "make a token and print it, once", _create),
        ("link", "print an address that logs the page in, once", _link),
        ("list", "who has a token, which role, until when", _list),
        ("revoke", "take tokens back; the next request with one is refused", _revoke),
    ):
        part = parts.add_parser(name, help=does, description=does, allow_abbrev=False)
        part.add_argument("settings", type=Path, help="settings file (server.toml)")
        part.set_defaults(run=run)
        if name in ("create", "link"):
            part.add_argument("name", help="whose it is")
        if name == "revoke":
            part.add_argument("name", nargs="+", help="whose it is")
        if name == "create":
            roles = [role.word for role in Role]
            part.add_argument("--role", required=True, choices=roles, help="what it may")
            part.add_argument("--days", type=float, default=DAYS, help="until it ends")


def _create(given: argparse.Namespace) -> int:
    from skyreid.server.store.beside import note_tokens

    settings, tokens = _read(given)
    first = not tokens.made
    _note(settings, f"create {given.name}, {given.role}, {given.days:g} days")
    with as_owner(settings.journal.path.parent):
        if settings.journal.path.is_file():  # else its first start does
            note_tokens(settings.journal.path)
        print(tokens.create(given.name, Role.of(given.role), given.days))
    said = "this is shown once; give it as `Authorization: Bearer TOKEN`, or to the page"
    if first:
        said += "; from now on nobody is let in without one"
    print(said, file=sys.stderr)
    return 0


def _link(given: argparse.Namespace) -> int:
    settings, tokens = _read(given)
    http = settings.http
    address = f"{'http' if http.certificate is None else 'https'}://{http.host}:{http.port}"
    if http.address_file is not None and http.address_file.is_file():
        address = http.address_file.read_text().strip()
    if http.names and http.certificate is not None:
        scheme, _, rest = address.partition("://")
        address = f"{scheme}://{http.names[0]}:{rest.rpartition(':')[2]}"
    _note(settings, f"link {given.name}")
    with as_owner(settings.journal.path.parent):
        print(f"{address}/#link={tokens.make_link(given.name)}")
    print(f"good once, for {LINK_MINUTES} minutes", file=sys.stderr)
    return 0


def _list(given: argparse.Namespace) -> int:
    from datetime import datetime, timezone

    now = datetime.now(timezone.utc)
    for token in _read(given)[1].listed():
        end = token.end[:16].replace("T", " ")
        print(f"{token.name}  {token.role}  until {end} UTC  {token.trouble(now) or 'good'}")
    return 0


def _revoke(given: argparse.Namespace) -> int:
    settings, tokens = _read(given)
    failed = []
    for name in given.name:  # one that cannot be must keep no other in
        try:
            _note(settings, f"revoke {name}")
            with as_owner(settings.journal.path.parent):
                print(f"{name}: {tokens.revoke(name)} revoked")
        except InputError as error:
            failed.append(str(error))
    if failed:
        raise InputError("; ".join(failed))
    return 0


def _read(given: argparse.Namespace) -> tuple[ServerSettings, Tokens]:
    from skyreid.server.access.tokens import Tokens, file_of
    from skyreid.server.config import read_settings

    settings = read_settings(given.settings, (), verb="token")
    settings.journal.path.parent.mkdir(parents=True, exist_ok=True)
    return settings, Tokens(file_of(settings.journal.path))


def _note(settings: ServerSettings, what: str) -> None:
    note(settings.journal.path, settings.audit, "token", what)
