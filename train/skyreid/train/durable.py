"""Files that are whole or not there, whatever happens to the process or the power meanwhile."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from skyreid.contract.errors import SettingsError, SkyreidError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write what shall be at `path`, which holds the old content until the block ends.

    Raises:
        SkyreidError: when it cannot be written; what there was of it is removed again.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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
    except (OSError, SafetensorError) as error:
        _forget(partial)  # on a full disk it would keep the disk full
        raise SkyreidError(f"cannot write {path}: {error}; the old one is as it was") from error
    except BaseException:
        _forget(partial)
        raise


def _forget(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """A folder that no other process has in this way; it is made where it is not there.

    Raises:
        SettingsError: when another process has it.
        SkyreidError: when nothing can be written there.
    """
    lock = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    except OSError as error:
        raise SkyreidError(f"cannot write to {folder}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SettingsError(f"another run writes to {folder}; give another --out") from error
        yield  # closing the file gives the lock back


def write(path: Path, content: bytes) -> None:
    """Put `content` at `path`, which holds the old content until it holds all of the new one."""
    with replacing(path) as partial:
        partial.write_bytes(content)
