"""What somebody does on this machine, by a command beside the server, in its audit log."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from skyreid.contract.errors import InputError
from skyreid.server.audit.line import Entry
from skyreid.server.audit.log import AuditLog
from skyreid.server.audit.options import AuditOptions
from skyreid.server.owner import as_owner


def note(journal: Path, options: AuditOptions, act: str, what: str, purpose: str = "") -> None:
    """Write it down, to the disk, before it is done.

    Raises:
        InputError: it cannot be written: then it is not to be done.
    """
    with as_owner(journal.parent):
        log = AuditLog.of(journal, options)
        try:
            log.append(Entry(act, f"local:{_user()}", what=what, purpose=purpose), durable=True)
        except OSError as error:
            raise InputError(
                f"audit log beside {journal}: {error.strerror or error}; nothing was done"
            ) from error
        finally:
            log.close()


def _user() -> str:
    """Who is logged in: sudo says for whom it acts."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())
    behind = os.environ.get("SUDO_USER", "")
    return f"{name} for {behind}" if behind else name
