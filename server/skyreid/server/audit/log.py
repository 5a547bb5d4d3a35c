"""The audit log on disk: lines are only appended, by the server and by commands beside it.

A folder with files of some megabytes, named by the number of their first line. Each append takes
the folder's lock, so that two processes continue one chain. A line is with the kernel before the
answer it tells of leaves (``kill -9`` loses none), and on the disk within a second, or at once
where that was asked for. What retention takes is whole files from the beginning; before, a line
says through which number and with which hash.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from skyreid.contract.errors import InputError
from skyreid.server.audit.line import CUT, FIRST, TORN, Entry, Head, Line, read_line, torn
from skyreid.server.audit.line import write_line as _write_line
from skyreid.server.audit.options import AuditOptions

_log = logging.getLogger(__name__)
SEGMENT_BYTES = 4 << 20
DAY_NS = 86_400 * 10**9
_TAIL_BYTES = 1 << 16


def folder_of(journal: Path) -> Path:
    """The audit log beside a journal."""
    return journal.with_name(f"{journal.name}.audit")


def segments(folder: Path) -> list[Path]:
    """Its files, the oldest first."""
    return sorted(folder.glob("audit-*.jsonl"))


class AuditLog:
    """Appends; safe from any thread, and beside other processes."""

    def __init__(
        self,
        folder: Path,
        *,
        keep_d: float = 365.0,
        max_bytes: int = 1_000 << 20,
        segment_bytes: int = SEGMENT_BYTES,
        now_ns: Callable[[], int] = time.time_ns,
        age_ns: Callable[[], int] | None = None,
    ) -> None:
        """Open it, or make it.

        Without ``age_ns``, by which lines grow old, nothing is let go of: a command that begins
        while the clock is wrong knows no better, and the server will.

        Raises:
            InputError: the folder cannot be used.
        """
        self._folder, self._keep_ns, self._max_bytes = folder, int(keep_d * DAY_NS), max_bytes
        self._segment_bytes, self._now_ns, self._age_ns = segment_bytes, now_ns, age_ns
        self._thread = threading.Lock()
        self._file, self._path, self._forgot, self._end = -1, folder, folder, 0
        self._head, self._dirty = Head(0, FIRST), False
        self._begun_ns, self._said_ns = 0, now_ns()
        try:
            if not folder.is_dir():
                folder.mkdir(parents=True, mode=0o700)
                _give(folder, folder)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._lock = os.open(folder / "lock", flags, 0o600)
            _give(self._lock, folder)
        except OSError as error:
            raise InputError(f"audit log {folder}: {error.strerror}") from error

    @classmethod
    def of(
        cls, journal: Path, options: AuditOptions, age_ns: Callable[[], int] | None = None
    ) -> AuditLog:
        """That beside a journal; ``age_ns`` is the server's alone.

        Raises:
            InputError: the folder cannot be used.
        """
        max_bytes = options.max_mb << 20
        return cls(folder_of(journal), keep_d=options.keep_d, max_bytes=max_bytes, age_ns=age_ns)

    def append(self, entry: Entry, *, durable: bool = False) -> Head:
        """Add a line; ``durable``: on the disk when this returns.

        Raises:
            OSError: it is not written, and nothing of it is.
        """
        with self._thread, self._locked():
            self._continue()
            now_ns = self._now_ns()
            if self._end >= self._segment_bytes or (
                self._end and now_ns // DAY_NS != self._begun_ns // DAY_NS
            ):
                self._begin(now_ns)
            if self._age_ns is not None and self._path != self._forgot:  # whoever has begun it
                self._forgot = self._path
                # Not older than the line before says, too: a server may start while the clock is
                # years ahead.
                self._forget(now_ns, min(self._age_ns(), self._said_ns))
            head = self._put(entry, now_ns)
            if durable:
                self._bring()
            return head

    def head(self) -> Head:
        """The last line's number and hash, whoever wrote it.

        Raises:
            OSError: it cannot be read.
        """
        with self._thread, self._locked():
            self._continue()
            return self._head

    def sync(self) -> None:
        """Bring what was appended to the disk.

        Raises:
            OSError: the disk does not take it.
        """
        with self._thread:
            if self._dirty:
                self._bring()

    def close(self) -> None:
        """Bring everything to the disk and give the files back; a line later is an error."""
        with suppress(OSError):
            self.sync()
        with self._thread:
            for handle in (self._file, self._lock):
                if handle >= 0:
                    os.close(handle)
            self._file = self._lock = -1

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _continue(self) -> None:
        """Know the last line, which may be another process's; close one that is unfinished."""
        if self._file >= 0 and os.fstat(self._file).st_size == self._end and not self._followed():
            return
        found = segments(self._folder)
        if not found:
            if self._file >= 0:  # somebody took the folder's files away: verify says which
                os.close(self._file)
            self._file = -1
            self._begin(self._now_ns())
            return
        self._open(found[-1])
        with open(self._path, "rb") as file:
            first = file.readline()
            file.seek(max(0, self._end - _TAIL_BYTES))
            tail = file.read()
        self._begun_ns, known = _at_ns(first) or self._now_ns(), self._head
        whole, _, fragment = tail.rpartition(b"\n")
        for raw in reversed(whole.split(b"\n")):
            with suppress(InputError):
                line = read_line(raw)
                self._head, self._said_ns = Head(line.n, line.hash), _time_of(line)
                break
        else:
            if len(found) > 1 and not whole:  # only just begun
                self._head = _last_of(found[-2]) or self._head
        if self._head.n < known.n or (self._head.n == known.n and self._head.hash != known.hash):
            # Others only add. What was cut off, or put back to an earlier state, must stay missing.
            _log.error(
                "audit log %s: line %d was the last and is not any more: somebody changed the log",
                self._folder,
                known.n,
            )
            self._head = known
        if fragment:
            # What it says was asked for and perhaps answered; what is left of it stays to be seen.
            self._write(b"\n")
            with suppress(InputError):
                line = read_line(fragment)
                if line.sound and (line.n, line.prev) == (self._head.n + 1, self._head.hash):
                    self._head = Head(line.n, line.hash)  # only its end was missing
                    return
            self._put(Entry(TORN, what=torn(fragment)), self._now_ns())

    def _followed(self) -> bool:
        """Whether another process has begun the next file, or this one's was taken away."""
        try:
            now = os.stat(self._path)
        except FileNotFoundError:
            return True
        if not os.path.samestat(now, os.fstat(self._file)):
            return True
        return self._folder.stat().st_mtime_ns != self._folder_ns

    def _open(self, path: Path) -> None:
        if self._file >= 0:
            self._bring()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fresh = not path.exists()
        opened = os.open(path, flags, 0o600)
        if self._file >= 0:  # not before: a number that is closed is another's file the next moment
            os.close(self._file)
        self._file, self._path = opened, path
        if fresh:
            _give(self._file, self._folder)
            _sync(self._folder)
        self._end = os.fstat(self._file).st_size
        self._folder_ns = self._folder.stat().st_mtime_ns

    def _begin(self, now_ns: int) -> None:
        self._open(self._folder / f"audit-{self._head.n + 1:012d}.jsonl")
        self._begun_ns = now_ns

    def _put(self, entry: Entry, now_ns: int) -> Head:
        raw, head = _write_line(entry, self._head, now_ns)
        self._write(raw)
        self._head, self._said_ns = head, now_ns
        return head

    def _write(self, raw: bytes) -> None:
        try:
            if os.write(self._file, raw) != len(raw):
                raise OSError(28, "No space left on device")
        except OSError:
            os.ftruncate(self._file, self._end)  # ours alone: nobody else could write meanwhile
            raise
        self._end += len(raw)
        self._dirty = True

    def _bring(self) -> None:
        os.fsync(self._file)
        self._dirty = False

    def _forget(self, now_ns: int, known_ns: int) -> None:
        """Let go of whole files that are too old, or of the oldest where there is too much."""
        found = segments(self._folder)[:-1]
        sizes = [path.stat().st_size for path in found]
        total, due = sum(sizes), 0
        for number, size in enumerate(sizes):
            last = _last_line(found[number])
            old = last is not None and known_ns - _time_of(last) > self._keep_ns
            if not old and total <= self._max_bytes - self._segment_bytes:
                break
            total, due = total - size, number + 1
        if not due:
            return
        through = _last_of(found[due - 1]) or Head(0, FIRST)
        self._put(Entry(CUT, what=f"through {through.n} {through.hash}"), now_ns)
        self._bring()  # or a power cut leaves neither the lines nor the word of them
        for path in found[:due]:
            path.unlink()
        self._folder_ns = self._folder.stat().st_mtime_ns


def _last_line(path: Path) -> Line | None:
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        tail = file.read()
    for raw in reversed(tail.split(b"\n")):
        with suppress(InputError):
            return read_line(raw)
    return None


def _last_of(path: Path) -> Head | None:
    line = _last_line(path)
    return None if line is None else Head(line.n, line.hash)


def _at_ns(raw: bytes) -> int:
    try:
        return _time_of(read_line(raw.rstrip(b"\n")))
    except InputError:
        return 0


def _time_of(line: Line) -> int:
    """When a line was written, ns since 1970 UTC; 0 where it does not say."""
    return time_ns(line.said.get("at"))


def time_ns(at: object) -> int:
    """``2026-11-30T01:02:03.123456Z`` in ns since 1970 UTC; 0 for anything else."""
    from datetime import datetime, timezone

    try:
        moment = datetime.strptime(str(at), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    except ValueError:
        return 0
    return int(moment.timestamp()) * 10**9 + moment.microsecond * 1000


def _give(made: Path | int, folder: Path) -> None:
    """What a server that is root makes is its folder's owner's: commands run as somebody else."""
    if os.geteuid() == 0:
        owner = folder.parent.stat() if made == folder else folder.stat()
        os.chown(made, owner.st_uid, owner.st_gid, follow_symlinks=isinstance(made, int))


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
