"""Atomic write and lock: files and folders that are whole or not there, and that one process has.

**Atomic write** (`write`, `replacing`, `new_folder`): what is new is written into a temporary
beside its place, brought to the disk (fsync), renamed, and the folder that holds the new name is
brought to the disk too. A kill or a power cut leaves the old or the new, never half of one. A
temporary that a killed process left is written over by the next writer. A symbolic link is followed
and stays one; a device or a pipe is refused, because a file would take its place.

**Lock** (`FileLock`): flock on a file of its own. The kernel gives it back when the process dies,
however it dies, so that nothing has to be cleaned up.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from skyreid.contract.errors import InputError, reason


class FileLock:
    """A lock that one process (or one thread of it) has until `close`; also a context manager."""

    def __init__(
        self,
        path: Path,
        of: str,
        remedy: str = "",
        *,
        waiting: Callable[[str], None] | None = None,
    ) -> None:
        """Take the lock.

        Args:
            path: of the file, which is there while somebody has the lock; its folder is made.
            of: what is locked, for the error: "spool /var/lib/skyreid/spool.db".
            remedy: what to do when another has it, for the error.
            waiting: is told who has it, and then it is waited for; without, that is an error.

        Raises:
            InputError: another process has it, and who; or the file cannot be made.
        """
        self._path = path
        self._handle: int | None = None
        try:
            self._handle = _take(path, waiting)
        except _Held as held:
            tail = f": {remedy}" if remedy else ""
            raise InputError(f"{of} is in use by {held}{tail}") from None
        except (FileExistsError, NotADirectoryError):
            raise InputError(f"{of} cannot be used: {path.parent} is no folder") from None
        except OSError as error:
            raise InputError(f"{of} cannot be used: {path}: {reason(error, path)}") from error

    def close(self) -> None:
        """Give it back; harmless where it was already, and another may have it."""
        if self._handle is not None:
            _give_back(self._path, self._handle)
            self._handle = None

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Held(Exception):
    """The lock is another's; says whose."""


def _take(path: Path, waiting: Callable[[str], None] | None) -> int:
    """The handle of the file at `path`, locked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        # Not through a link: what somebody else put there is written over otherwise.
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            _wait(handle, waiting)
            if _is_at(path, handle):
                with suppress(OSError):  # also on a full disk: the name is for people
                    program = Path(sys.argv[0]).name or "python"
                    os.ftruncate(handle, 0)
                    os.pwrite(handle, f"process {os.getpid()} ({program})".encode(), 0)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # whoever had it took the file away, and there may be a new one


def _wait(handle: int, waiting: Callable[[str], None] | None) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        who = os.pread(handle, 200, 0).decode("utf-8", "replace") or "another process"
        if waiting is None:
            raise _Held(who) from None
        waiting(who)
        fcntl.flock(handle, fcntl.LOCK_EX)


def _is_at(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _give_back(path: Path, handle: int) -> None:
    with suppress(OSError):  # a place that has become read-only keeps the file: no harm
        path.unlink()  # while it is ours: afterwards it may be another's
    os.close(handle)


def write(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Atomic write: `path` holds what it held, or all of `data`.

    `mode` is the file's from its first byte on; None = as any new file's.

    Raises:
        InputError: it cannot be written: a full disk, a read-only place; nothing has changed then.
    """
    with replacing(path, mode=mode) as partial:
        partial.write_bytes(data)


@contextmanager
def replacing(path: Path, *, mode: int | None = None) -> Iterator[Path]:
    """Atomic write by somebody who wants a path: the file to fill, which takes the place of `path`.

    `path` holds the old content until the block ends, and for good where it ends with an error.
    Its folder is made. Two that write the same path at once do it one after the other.

    Raises:
        InputError: it cannot be written: a full disk, a read-only place; nothing has changed then.
            So does an OSError of the block.
    """
    with _turn(path) as (place, partial):
        partial.write_bytes(b"")
        if mode is not None:
            partial.chmod(mode)
        mode = partial.stat().st_mode
        yield partial
        partial.chmod(mode)  # as any new file's; a library may have made another file of this name
        _sync(partial)
        partial.replace(place)
        _sync(place.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder that is there with all that the block puts into it, or not at all.

    Raises:
        InputError: it cannot be written, or there is something at `path`; an empty folder may be.
            So does an OSError of the block.
    """
    with _turn(path) as (place, partial):
        partial.mkdir()
        yield partial
        for folder, _, names in os.walk(partial):
            for name in names:
                _sync(Path(folder) / name)
            _sync(Path(folder))
        partial.rename(place)
        _sync(place.parent)


@contextmanager
def _turn(path: Path) -> Iterator[tuple[Path, Path]]:
    """The place to fill, and the name of its temporary, where nothing is; nor after an error."""
    place = Path(os.path.realpath(path))
    # os.path: a folder that may not be looked into is an error of the write, further down.
    is_other = os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))
    if is_other or not place.name:
        raise InputError(f"cannot write {path}: it is no file; nothing was changed")
    partial = place.with_name(f".{place.name}.partial")
    lock = place.with_name(f".{place.name}.lock")
    try:
        handle = _take(lock, waiting=lambda who: None)
        try:
            _remove(partial)  # of a process that was killed
            yield place, partial
        except BaseException:
            with suppress(OSError):
                _remove(partial)  # on a full disk it would keep the disk full
            raise
        finally:
            _give_back(lock, handle)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; nothing was changed"
        ) from error


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
