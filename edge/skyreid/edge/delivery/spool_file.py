"""The file behind a spool: opened, set aside where it is damaged, with room kept on its disk.

Also the spool's time. Age is what a clock that is put right must not change, so it is no wall
time: it goes on with the machine's uptime, over restarts of the process, and stands still while the
machine is off, because nobody knows for how long that was.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import shutil
import sqlite3
import stat
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from skyreid.contract.errors import InputError, SkyreidError, reason
from skyreid.contract.files import FileLock
from skyreid.contract.migration import migrate, require_newest
from skyreid.contract.sealed import Sealer
from skyreid.edge.delivery.migrations import STEPS, check_own
from skyreid.edge.delivery.sealing import is_sealed, seal_file

log = logging.getLogger(__name__)

RESERVE_BYTES = 1 << 20
AGAIN_S = 60.0
"""What could not be sealed is tried so often."""
_LEAST_RESERVE_BYTES = 64 << 10
_PAGES_MAX = (1 << 30) - 1
_HEADER = b"SQLite format 3\0"
_BESIDE = ("-wal", "-shm", "-journal")


@dataclass(frozen=True)
class Stats:
    """What a spool holds."""

    sightings: int
    bytes: int
    pictures: int
    oldest_age_s: float
    """Of the oldest sighting, in the spool's time; 0 when there is none."""
    boots: int


running_ns = functools.partial(
    time.clock_gettime_ns, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
)
"""Nanoseconds since the machine started, sleep included where the system counts it."""


def resume(kept: str | None) -> int:
    """What to add to ``running_ns`` for the spool's time: that of ``kept``, going on from there.

    Raises:
        ValueError: ``kept`` is not what was kept.
    """
    now = running_ns()
    if kept is None:
        return time.time_ns() - now
    try:
        last = json.loads(kept)
        same = last["machine"] == MACHINE != ""
        at_ns = int(last["at_ns"]) + (max(now - int(last["running_ns"]), 0) if same else 0)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(f"its time is {kept!r:.80}") from error
    if not 0 <= at_ns < 1 << 63:
        raise ValueError(f"its time is {at_ns!s:.40} ns")
    return at_ns - now


def _machine() -> str:
    """One start of the machine; empty where the system does not tell them apart."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


MACHINE = _machine()


def check_place(path: Path) -> None:
    """Refuse a path where no spool can be, before anything is opened or made.

    Raises:
        InputError: it is no file, or none can be read or made there.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise InputError(f"spool {path} is not a file: spool.path names one, made when absent")
    except FileNotFoundError:
        folder = next(parent for parent in path.absolute().parents if os.path.exists(parent))
        if not os.path.isdir(folder) or not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(
                f"spool {path} cannot be made: {folder} is not to be written"
            ) from None
    except OSError as error:
        raise InputError(f"spool {path} cannot be used: {error.strerror}") from error
    except ValueError as error:  # a NUL in the path
        raise InputError(f"spool {str(path)!r} cannot be used: {error}") from error


class Reserve:
    """A file that only takes up room, to be given back when the disk is full.

    A deletion needs room too, for the log that makes it whole or nothing: without any, the receipts
    that would empty the spool could not be taken.
    """

    def __init__(self, spool: Path) -> None:
        self._path = spool.with_name(f"{spool.name}.reserve")
        self._tried_s = -1e9

    def make(self, *, now: bool = False) -> None:
        """Take the room, or half of what is left; once in half a minute, or ``now``."""
        if not now and time.monotonic() - self._tried_s < 30.0:
            return
        self._tried_s = time.monotonic()
        if self.held:
            return
        size = min(RESERVE_BYTES, shutil.disk_usage(self._path.parent).free // 2 // 4096 * 4096)
        try:
            if size < _LEAST_RESERVE_BYTES:
                return
            with open(self._path, "wb") as stream:
                stream.write(bytes(size))
                os.fsync(stream.fileno())
        except OSError as error:
            log.info("no room is reserved beside the spool error=%s", error)

    @property
    def held(self) -> bool:
        """Whether there is any."""
        return self._path.exists() and self._path.stat().st_size >= _LEAST_RESERVE_BYTES

    def give_back(self) -> bool:
        """Whether that gave room."""
        held = self.held
        self._path.unlink(missing_ok=True)
        self._tried_s = time.monotonic()
        return held


class SpoolFile:
    """The SQLite file of a spool, its lock and its reserve; a boot of it."""

    def __init__(self, path: Path, sealer: Sealer | None = None) -> None:
        """Open or make it, and begin a boot. A damaged one is set aside by name first.

        ``sealer`` seals what it has in clear; None = that may lie there.

        Raises:
            InputError: it cannot be opened, is another program's or of a later release, or another
                process has it.
        """
        check_place(path)
        self.path = Path(os.path.realpath(path))  # the lock is the file's, whatever it is called
        self.set_aside = 0
        """Damaged files that were set aside."""
        self.sealed = False
        """Whether nothing of people lies in clear, here or in a file that was set aside."""
        self.seal_tried_s: float | None = None
        """When it was tried to seal what is in clear; None where nothing of people is."""
        lock = self.path.with_name(f"{self.path.name}.lock")
        # A lock of one that was killed, or the reserve, says whose it is when the file cannot.
        beside = (lock, self.path.with_name(f"{self.path.name}.reserve"))
        ours = any(map(os.path.exists, beside))  # a name that is too long is the lock's to refuse
        self._lock = FileLock(
            lock, of=f"spool {self.path}", remedy="give each device its own spool.path"
        )
        self.reserve = Reserve(self.path)
        try:
            self._open(ours=ours)
            try:
                self.counter, self.kept = self._begin()
            except sqlite3.Error as error:
                if not self.is_full(error):
                    raise
                self.make_room()
                self.counter, self.kept = self._begin()
            self._sealer = sealer
            self._seal()
        except InputError:
            self.close()
            raise
        except sqlite3.Error as error:
            self.close()
            # Full, locked or read-only: what is in it is good, and is to stay.
            remedy = ": move it away to start an empty one" if is_damage(error) else ""
            remedy = ": make room on its disk" if self.is_full(error) else remedy
            raise InputError(f"spool {self.path} cannot be used ({error}){remedy}") from error
        self.reserve.make()

    def renew(self, error: Exception) -> None:
        """Set a damaged file aside in the middle of a run and go on with a new one.

        Raises:
            SkyreidError: no new one can be made.
        """
        self.db.close()
        try:
            self._aside(error)
            self._open(ours=True)
            with self.db:
                self.db.execute("INSERT INTO spool VALUES ('counter', ?)", (str(self.counter),))
                # Ids go on above all that were ever handed out.
                self.db.execute(
                    "INSERT INTO sqlite_sequence (name, seq) VALUES ('sighting', ?)",
                    (self.set_aside << 40,),
                )
                if self.sealed:  # so is what was set aside
                    self.db.execute("INSERT INTO spool VALUES ('sealed', '')")
            self._seal()
        except (OSError, sqlite3.Error) as again:
            raise SkyreidError(
                f"spool {self.path} cannot be made anew: {reason(again, self.path)}"
            ) from again

    def make_room(self) -> None:
        """On a full disk: give the reserve back, and let file and log stay as large as they are.

        The log begins anew where it lies, and what is new goes into the place of what is deleted.
        """
        self.reserve.give_back()
        try:
            self.db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        except sqlite3.Error as error:
            if not self.is_full(error):
                raise
        (pages,) = self.db.execute("PRAGMA page_count").fetchone()
        self.db.execute(f"PRAGMA max_page_count = {pages}").fetchall()

    def grow_again(self) -> bool:
        """Whether there is room again, and a reserve of it."""
        self.reserve.make()
        if self.reserve.held:
            self.db.execute(f"PRAGMA max_page_count = {_PAGES_MAX}").fetchall()
        return self.reserve.held

    def is_full(self, error: Exception) -> bool:
        """Whether the disk has no room left."""
        return _is_full(error, self.path)

    def close(self) -> None:
        """Let another process have it."""
        if hasattr(self, "db"):
            self.db.close()
            self.reserve.make(now=True)  # in the room that its log had
        self._lock.close()

    def _open(self, *, ours: bool) -> None:
        while True:
            try:
                self.db = _open(self.path)
                return
            except (sqlite3.Error, ValueError) as error:  # text that is none
                if is_damage(error) and (ours or _looks_like_one(self.path)):
                    self._aside(error)
                elif not (self.is_full(error) and self.reserve.give_back()):
                    raise

    def _begin(self) -> tuple[int, str | None]:
        """Count a boot; the count, and the time that was kept."""
        known = dict(self.db.execute("SELECT name, value FROM spool"))
        written = str(known.get("counter", "0"))
        counter = int(written) + 1 if written.isdecimal() and len(written) < 12 else 1
        with self.db:
            self.db.execute("INSERT OR REPLACE INTO spool VALUES ('counter', ?)", (str(counter),))
        return counter, known.get("time")

    def seal_again(self) -> None:
        """Seal what a full disk, or somebody who read the file, kept in clear; now and then.

        Raises:
            sqlite3.Error: it cannot be written.
        """
        if self.seal_tried_s is None or time.monotonic() - self.seal_tried_s < AGAIN_S:
            return
        if shutil.disk_usage(self.path.parent).free < 2 * self.path.stat().st_size:
            self.seal_tried_s = time.monotonic()  # to write it anew takes as much
        else:
            self._seal()

    def _seal(self) -> None:
        self.seal_tried_s = None if self._sealer is None else time.monotonic()
        try:
            self.sealed = seal_file(self.db, self.path, self._sealer)
        except sqlite3.Error as error:
            if not self.is_full(error):
                raise
            log.error("spool %s: the disk is full, what it has in clear is not sealed", self.path)
        else:
            if is_sealed(self.db):
                self.seal_tried_s = None

    def _aside(self, error: Exception) -> None:
        """Rename it, so that a new one can begin and somebody can look at the old."""
        now = datetime.now(timezone.utc)
        aside = self.path.with_name(f"{self.path.name}.damaged-{now:%Y%m%dT%H%M%S.%fZ}")
        os.replace(self.path, aside)
        for end in _BESIDE:
            beside = self.path.with_name(self.path.name + end)
            if beside.exists():
                os.replace(beside, aside.with_name(aside.name + end))
        self.set_aside += 1
        log.error(
            "spool %s is damaged (%s): it was set aside as %s, and what it held and the server "
            "has not is only there; a new one begins",
            self.path,
            error,
            aside.name,
        )


def _open(path: Path) -> sqlite3.Connection:
    wal = path.with_name(path.name + "-wal")
    unclean = wal.exists() and wal.stat().st_size > 0
    # check_same_thread off: opened by the main thread, then owned by the one that sends.
    db = sqlite3.connect(path, timeout=5.0, check_same_thread=False)
    try:
        check_own(db, path)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        if unclean:  # the power went, perhaps
            (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(found)
        migrate(db, STEPS, what=f"spool {path}")
    except BaseException:
        db.close()
        raise
    return db


def is_damage(error: Exception) -> bool:
    """The file is not what was written: malformed, no database, or text that is none."""
    text = "decode to UTF-8" in str(error)
    return text or type(error) is sqlite3.DatabaseError or isinstance(error, ValueError | TypeError)


def _is_full(error: Exception, path: Path) -> bool:
    if not isinstance(error, sqlite3.OperationalError):
        return False
    # What cannot be mapped or made for want of room has another name.
    return "full" in str(error) or shutil.disk_usage(path.parent).free < _LEAST_RESERVE_BYTES


def _looks_like_one(path: Path) -> bool:
    with open(path, "rb") as stream:
        head = stream.read(len(_HEADER))
    return head in (_HEADER, bytes(len(_HEADER)))


def read_stats(path: Path) -> Stats:
    """Look into a spool without taking it; a running process may have it.

    Raises:
        InputError: there is none, or it is damaged.
    """
    if not path.is_file():
        raise InputError(f"spool {path} does not exist")
    try:
        database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        try:
            check_own(database, path)
            by = "run skyreid-edge run with it"
            require_newest(database, STEPS, what=f"spool {path}", by=by)
            kept = database.execute("SELECT value FROM spool WHERE name = 'time'").fetchone()
            return stats_of(database, running_ns() + resume(kept[0] if kept else None))
        finally:
            database.close()
    except (sqlite3.Error, ValueError, KeyError, TypeError) as error:
        raise InputError(f"spool {path} cannot be read: {error}") from error


def stats_of(database: sqlite3.Connection, now_ns: int) -> Stats:
    """What an open spool holds."""
    count, size, boots, oldest = database.execute(
        "SELECT count(*), total(length(bytes)), count(DISTINCT boot),"
        " min(CASE typeof(stored_at_ns) WHEN 'integer' THEN stored_at_ns END) FROM sighting"
    ).fetchone()
    pictures = database.execute("SELECT count(*) FROM picture").fetchone()[0]
    age_s = max((now_ns - oldest) / 1e9, 0.0) if oldest else 0.0
    return Stats(int(count), int(size), int(pictures), age_s, int(boots))
