"""Which release is installed: of a role's own wheel, or of the whole house."""

from __future__ import annotations

import argparse
from importlib.metadata import PackageNotFoundError, version


def release(role: str) -> str:
    """``0.1.0``, as installed; ``unknown`` for a checkout that is not."""
    for name in (f"skyreid-{role}", "skyreid"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "unknown"


def add_version(parser: argparse.ArgumentParser, role: str) -> None:
    """``--version`` of a role's command."""
    said = f"%(prog)s {release(role)}"
    parser.add_argument("--version", action="version", version=said, help="say it and end")
