"""Files that are whole or not there, whatever happens to the process or the power meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write what shall be at `path`, which holds the old content until the block ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.touch()
    mode = partial.stat().st_mode
    yield partial
    partial.chmod(mode)  # as any new file's; a library may have made another file of this name
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name is an entry of the folder
    finally:
        os.close(folder)


def write(path: Path, content: bytes) -> None:
    """Put `content` at `path`, which holds the old content until it holds all of the new one."""
    with replacing(path) as partial:
        partial.write_bytes(content)
