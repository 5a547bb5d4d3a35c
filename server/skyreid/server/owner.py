"""Whose a store is: root acts in it as its owner, and does not run a server there.

What root makes beside a journal (a lock, a mark, a segment, the journal itself after a repair) its
owner could not write any more.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from skyreid.contract.errors import InputError


@contextmanager
def as_owner(folder: Path) -> Iterator[None]:
    """As root, act as whose folder it is; for a command, which has one thread.

    What root makes there is the server's then, and no link that somebody who took the server over
    has put there leads root to another's file.
    """
    if os.geteuid() != 0 or not folder.is_dir():  # else whoever makes it says what is wrong
        yield
        return
    owner, group, groups = folder.stat(), os.getegid(), os.getgroups()
    os.setgroups([owner.st_gid])
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def refuse_root(journal: Path) -> None:
    """Refuse to open a journal as root where it is another's; `as_owner` is who may.

    Raises:
        InputError: it is.
    """
    folder = journal.parent
    if os.geteuid() or not folder.is_dir() or not (owner := folder.stat().st_uid):
        return
    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError:
        name = f"#{owner}"
    raise InputError(
        f"journal {journal} is user {name}'s, who could not write any more what root writes there: "
        f"run it as that user (sudo -u {name} ...), or give {folder} to root"
    )
