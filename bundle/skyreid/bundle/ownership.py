"""Who else may change a file: what a stranger may write is not what somebody checked.

The rule of ssh for its keys: a file is its user's or root's, and nobody else may write it. Groups
that the user is a member of may, for that is how many systems make every file; not where a compiled
engine lies (`engine_cache`), which is code.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


def stranger(found: os.stat_result, *, own_groups: bool = True) -> str:
    """Who but this user and root may write something, and the remedy; empty where nobody may.

    Args:
        found: of its stat.
        own_groups: whether the groups of this user may.
    """
    if found.st_uid not in (0, os.geteuid()):
        return f"it belongs to user {found.st_uid}: chown it"
    if found.st_mode & stat.S_IWOTH:
        return "everybody may write it: chmod o-w"
    ours = own_groups and found.st_gid in {0, os.getegid(), *os.getgroups()}
    if found.st_mode & stat.S_IWGRP and not ours:
        return f"group {found.st_gid} may write it: chmod g-w"
    return ""


def strange_parent(path: Path) -> str:
    """The first folder above `path` in which a stranger may rename what is there; else empty.

    A folder where everybody may make files, and only their owner rename them (``/tmp``), is none.
    """
    for folder in Path(os.path.realpath(path)).parents:
        found = folder.stat()
        said = "" if found.st_mode & stat.S_ISVTX and found.st_uid == 0 else stranger(found)
        if said:
            return f"{folder}, above it: {said}"
    return ""
