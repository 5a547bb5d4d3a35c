"""What every user of the machine reads in the process list: no password that was an option."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from pathlib import Path

_OPTION = re.compile(r"--([\w.]*(password|source)|video)", re.IGNORECASE)
"""The last is that of ``scripts/demo``, ``VIEW=SOURCE``."""
_LOGIN = re.compile(r"(rtsps?|srt)://")


def hide_secrets(arguments: Sequence[str]) -> bool:
    """Write x over passwords and cameras' URLs among this process's own arguments.

    Linux shows the memory in which the arguments lie, and the C library knows where that begins.
    For a moment they are to be seen; the environment and the settings file never show them.

    Args:
        arguments: of the command line.

    Returns:
        Whether none is shown any more; False where they lie elsewhere than expected.
    """
    secrets = _secrets(arguments)
    if not secrets:
        return True
    try:
        shown = Path("/proc/self/cmdline").read_bytes()
        begin = ctypes.c_void_p.in_dll(ctypes.CDLL(None), "program_invocation_name").value
    except (OSError, ValueError):
        return False
    if not begin or ctypes.string_at(begin, len(shown)) != shown:
        return False
    for secret in secrets:
        word = secret.encode(errors="surrogateescape")
        for found in re.finditer(re.escape(word), shown):
            ctypes.memset(begin + found.start(), ord("x"), len(word))
    return True


def _secrets(arguments: Sequence[str]) -> list[str]:
    """Values of the options that may hold one."""
    out, before = [], ""
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and _OPTION.fullmatch(name):
            out.append(value)
        elif _OPTION.fullmatch(before):
            out.append(argument)
        before = argument
    # of sources only those that know a login: the name of a file is no secret
    return [value for value in out if value and ("://" not in value or _LOGIN.search(value))]
