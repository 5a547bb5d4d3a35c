"""A journal checked, and what is good of a damaged one kept.

Every row of the log and every sighting has a checksum, and numbers have no gaps: so what is good is
known row by row, and what is lost can be counted.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from skyreid.contract.errors import InputError, MessageError, SkyreidError
from skyreid.contract.files import FileLock
from skyreid.contract.migration import tables
from skyreid.contract.picture import Picture
from skyreid.contract.sighting_wire import decode_sighting
from skyreid.server.matching import identity
from skyreid.server.matching.identity import Decision
from skyreid.server.store import salvage, snapshots
from skyreid.server.store.faults import DamagedJournal, damaged_journal, fault_of
from skyreid.server.store.journal import (
    HAD_TOKENS,
    Journal,
    checksum,
    insert,
    note_tracklets,
    open_to_read,
    put_decision,
)
from skyreid.server.store.mark import (
    Counts,
    closed_of,
    is_damaged,
    mark_of,
    missing,
    read_mark,
    untouched,
)
from skyreid.server.store.pictures import put_picture
from skyreid.server.store.records import Arrived, ArrivedPicture
from skyreid.server.store.snapshots import Snapshots

_log = logging.getLogger(__name__)

WHOLE_MAX_BYTES = 256 << 20
"""A start checks the trees of a file up to this size; of a larger one only every row."""
_ROW_BYTES_MIN = 64
"""Of a sighting or a decision; all of them are larger."""
_REBUILT = {"sighting", "tracklet", "decision", "picture", "event", "meta", "sqlite_sequence"}


@dataclass
class Report:
    """What a journal has, and what is wrong with it or was lost."""

    sightings: int = 0
    unchecked: int = 0
    """Of these from before there were checksums: they decode, and say what their columns say."""
    decisions: int = 0
    pictures: int = 0
    events: int = 0
    lost_sightings: int = 0
    lost_decisions: int = 0
    unfit_decisions: int = 0
    """Good, but not without those that are lost; their tracklets are decided anew."""
    trouble: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return dict(vars(self))

    def text(self) -> str:
        """For people and for the log, in one line."""
        lost = [
            f"{count} {what}"
            for count, what in (
                (self.lost_sightings, "sightings"),
                (self.lost_decisions, "decisions"),
                (self.unfit_decisions, "decisions that do not fit without those"),
            )
            if count
        ]
        return (
            f"{self.sightings} sightings ({self.unchecked} from before checksums), "
            f"{self.decisions} decisions, {self.pictures} pictures, {self.events} events; "
            f"lost: {', '.join(lost) or 'nothing that was counted'}"
        )


def verify(path: Path, *, whole: bool = True) -> Report:
    """Read every row of a journal, and (``whole``) every page; the server may be running.

    Raises:
        InputError: there is no journal of this version.
    """
    report = Report()
    try:
        with open_to_read(path) as db:
            if whole:
                said = [str(row[0]) for row in db.execute("PRAGMA integrity_check(10)")]
                report.trouble += [line for line in said if line != "ok"]
            bad = [0, 0]
            for row in db.execute("SELECT * FROM sighting"):
                good = _sighting_of(row[0], row)
                report.sightings += good is not None
                report.unchecked += good is not None and row[13] is None
                bad[0] += good is None
            draft: list[tuple[int, Decision]] = []
            for row in db.execute("SELECT * FROM decision ORDER BY id"):
                decision = _decision_of(row[0], row)
                report.decisions += decision is not None
                bad[1] += decision is None
                if decision is not None:
                    draft.append((row[0], decision))
            report.pictures, report.events = (
                int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
                for table in ("picture", "event")
            )
            for count, what in zip(bad, ("sightings", "decisions"), strict=True):
                if count:
                    report.trouble.append(f"{count} {what} are not as they were written")
            if (why := snapshots.check(db)) is not None:
                report.trouble.append(why)
            else:
                try:
                    Snapshots(db, db).start(lambda after: (d for n, d in draft if n > after))
                except (InputError, MessageError) as error:
                    report.trouble.append(f"the log does not fit together: {error}")
    except UnicodeDecodeError as error:  # in what SQLite says of it
        report.trouble.append(f"text in it is not as it was written: {error}")
    except DamagedJournal as error:
        report.trouble.append(str(error).split("; restore", 1)[0])
    return report


def repair(path: Path, target: Path, site: str | None = None) -> Report:
    """Write what is good of a damaged journal to a new file.

    Args:
        path: the damaged one; it is only read.
        target: must not exist.
        site: whose it is, where the file cannot say it any more.

    Raises:
        DamagedJournal: nothing of a journal is in it.
        InputError: ``target`` exists, or nobody knows the site.
    """
    if target.exists():
        raise InputError(f"{target} exists: choose another name")
    meta = dict(_rows_of(path, "SELECT key, value FROM meta"))
    site = meta.get("site", site)
    if site is None:
        raise InputError(f"journal {path} does not say whose it is: give --site")
    report = Report()
    first = int(meta.get("gapless_after", 0))  # from there on numbers have no gaps
    log: dict[int, tuple[int, str, Decision]] = {}
    events: dict[tuple[int, int], tuple[str, str, int]] = {}
    journal = Journal(target, site, pictures_max_bytes=1 << 62)
    try:
        with journal.writing() as db:
            for number, values in salvage.rows(path):
                sighting = _sighting_of(number, values)
                decision = _decision_of(number, values)
                if sighting is not None:
                    if insert(db, sighting, number):
                        note_tracklets(db, (sighting,))
                        report.sightings += 1
                    if len(values) < 14 or values[13] is None:
                        report.unchecked += 1
                        first = max(first, number)
                elif decision is not None:
                    log[number] = (values[1], values[2], decision)
                elif (picture := _picture_of(values)) is not None:
                    report.pictures += put_picture(db, picture) > 0
                elif (event := _event_of(values)) is not None:
                    events[event[:2]] = (
                        *event[2:],
                        values[5] or events.get(event[:2], (0, 0, 0))[2],
                    )
            if not report.sightings and not log:
                raise damaged_journal(path, "nothing of a journal can be found in it")
            (last,) = db.execute("SELECT coalesce(max(id), 0) FROM sighting").fetchone()
            had = read_mark(path) or _given(path, last, max(log, default=0))
            (there,) = db.execute("SELECT count(*) FROM sighting WHERE id > ?", (first,)).fetchone()
            forgotten = int(meta.get("forgotten", 0))  # on purpose
            report.lost_sightings = max(0, max(last, had[0]) - first - there - forgotten)
            if forgotten:
                db.execute("INSERT INTO meta VALUES ('forgotten', ?)", (forgotten,))
            if HAD_TOKENS in meta:
                db.execute("INSERT INTO meta VALUES (?, ?)", (HAD_TOKENS, meta[HAD_TOKENS]))
            for table in sorted(tables(db) - _REBUILT):
                _copy(path, db, table)
            if snapshots.check(db) is not None:
                snapshots.clear(db)  # the log says it, as far as it is left
            whole = Snapshots(db, db)
            state = whole.start(lambda after: iter(())).state
            forgotten = int(meta.get("forgotten_decisions", 0))
            if forgotten:
                db.execute("INSERT INTO meta VALUES ('forgotten_decisions', ?)", (forgotten,))
            there = max(max(log, default=0), had[1], whole.at)
            report.lost_decisions = max(0, there - len(log) - forgotten)
            for number in sorted(log):
                decided_at_ns, body, decision = log[number]
                try:
                    if number > whole.at:
                        state, _ = identity.apply(state, decision)
                except InputError:
                    report.unfit_decisions += 1
                    continue
                report.decisions += 1
                put_decision(db, number, decided_at_ns, body)
            report.events = len(events)
            db.executemany(
                "INSERT INTO event (decision, number, identity, body, taken) VALUES (?,?,?,?,?)",
                [(*name, *events[name]) for name in sorted(events)],
            )
            if report.lost_sightings:  # once
                db.execute("UPDATE meta SET value = ? WHERE key = 'gapless_after'", (last,))
                db.execute("UPDATE meta SET value = 0 WHERE key = 'forgotten'")
    except BaseException:
        journal.close()
        for suffix in ("", "-wal", "-shm", ".closed"):
            target.with_name(f"{target.name}{suffix}").unlink(missing_ok=True)
        raise
    journal.close()
    return report


def _given(path: Path, *found: int) -> Counts:
    """The last numbers that a closed journal gave, as it says, which rows that are lost had too.

    What a damaged page says is believed as far as so many rows found room in the file.
    """
    numbers = list(found)
    room = path.stat().st_size // _ROW_BYTES_MIN
    uri = f"{path.resolve().as_uri()}?mode=ro"
    with suppress(sqlite3.Error), closing(sqlite3.connect(uri, uri=True)) as db:
        given = dict(db.execute("SELECT name, seq FROM sqlite_sequence"))
        for place, table in enumerate(("sighting", "decision")):
            number = given.get(table)
            if isinstance(number, int) and found[place] < number <= found[place] + room:
                numbers[place] = number
    return numbers[0], numbers[1]


def open_sound(
    path: Path, site: str, *, pictures_max_bytes: int, events_kept: int
) -> tuple[Journal, str]:
    """Open a journal; of a damaged one what is good, with the damaged file kept beside it.

    Returns:
        the journal, and what was lost, in words ("" = nothing)

    Raises:
        InputError: as for `Journal`, and where nothing is good.
    """
    lost, had = "", read_mark(path)
    if not path.exists() and (new := _repaired_of(path)).is_file():
        new.rename(path)  # a kill came between the two last steps of a repair
        lost = f"the journal was damaged and is repaired; the damaged file is beside {path}"
        _log.error("%s", lost)
    wal = path.with_name(f"{path.name}-wal").exists()
    if path.is_file() and path.stat().st_size:
        with FileLock(
            path.with_name(f"{path.name}.lock"),
            of=f"journal {path}",
            remedy="one server writes a journal",
        ):
            trouble: list[str] = []
            if is_damaged(path) or not untouched(path):
                whole = path.stat().st_size <= WHOLE_MAX_BYTES or is_damaged(path)
                with suppress(InputError):  # of another version, or no journal: said below
                    trouble = verify(path, whole=whole).trouble
            if trouble:
                lost = _keep_good(path, site, trouble[0])
    journal = Journal(path, site, pictures_max_bytes=pictures_max_bytes, events_kept=events_kept)
    gone = missing(had, journal.last, wal=wal)
    if gone and not lost:
        _log.error("journal %s: %s", path, gone)
    return journal, lost or gone


def _keep_good(path: Path, site: str, why: str) -> str:
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    kept = path.with_name(f"{path.name}.damaged-{stamp}")
    new = _repaired_of(path)
    for suffix in ("", "-wal", "-shm", ".closed"):  # of a repair that was killed
        new.with_name(f"{new.name}{suffix}").unlink(missing_ok=True)
    _log.error("journal %s is damaged: %s; keeping what is good of it", path, why)
    report = repair(path, new, site)
    for suffix in ("-wal", ""):
        old = path.with_name(f"{path.name}{suffix}")
        if old.exists() and old.stat().st_size:
            old.rename(kept.with_name(f"{kept.name}{suffix}"))
    for suffix in ("-wal", "-shm"):
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)
    mark_of(path).unlink(missing_ok=True)
    closed_of(new).unlink(missing_ok=True)
    new.rename(path)
    said = f"the journal was damaged and is repaired: {report.text()}; the damaged file is {kept}"
    _log.error("%s", said)
    return said


def _repaired_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.repaired")


def _sighting_of(number: int, values: tuple[Any, ...]) -> Arrived | None:
    """The sighting of a row, if the row is one and is as it was written."""
    if len(values) not in (13, 14) or not isinstance(values[12], bytes):
        return None
    crc = values[13] if len(values) == 14 else None
    if crc is not None and crc != checksum(values[1:12], values[12]):
        return None
    device, boot, seq, lane, model_key, dim, camera, track, revision = values[1:10]
    try:
        s = decode_sighting(values[12], dim)
    except (SkyreidError, TypeError, ValueError):
        return None
    says = (s.seq, s.camera, s.track, s.revision, s.captured_at_ns)
    if number < 1 or says != (seq, camera, track, revision, values[10]):
        return None
    return Arrived(device, boot, lane, model_key, dim, values[11], s, values[12])


def _decision_of(number: int, values: tuple[Any, ...]) -> Decision | None:
    if len(values) not in (3, 4) or not isinstance(values[2], str):
        return None
    crc = values[3] if len(values) == 4 else None
    if not isinstance(values[1], int):
        return None
    if crc is not None and crc != checksum((number, values[1]), values[2].encode()):
        return None
    try:
        return Decision.from_json(values[2])
    except (SkyreidError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _picture_of(values: tuple[Any, ...]) -> ArrivedPicture | None:
    if len(values) != 8 or not isinstance(values[7], bytes):
        return None
    device, boot, camera, track, seq, captured_at_ns, received_at_ns, jpeg = values
    if not (jpeg.startswith(b"\xff\xd8") and jpeg.endswith(b"\xff\xd9")):
        return None
    picture = Picture(boot, camera, track, seq, captured_at_ns, jpeg)
    return ArrivedPicture(device, received_at_ns, picture)


def _event_of(values: tuple[Any, ...]) -> tuple[int, int, str, str] | None:
    if len(values) != 6 or not isinstance(values[4], str):
        return None
    _id, decision, number, name, body, _taken = values
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or said.get("id") != f"{decision}-{number}":
        return None
    return decision, number, name, body


def _rows_of(path: Path, query: str) -> Iterator[tuple[Any, ...]]:
    """Rows as long as they can be read."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            yield from db.execute(query)
    except UnicodeDecodeError:
        return
    except sqlite3.Error as error:
        if fault_of(error) == "locked":
            raise InputError(f"journal {path}: {error}") from error


def _copy(path: Path, db: sqlite3.Connection, table: str) -> None:
    columns = len(db.execute(f"PRAGMA table_info({table})").fetchall())
    places = ", ".join("?" * columns)
    for row in _rows_of(path, f"SELECT * FROM {table}"):
        if len(row) == columns:
            db.execute(f"INSERT OR IGNORE INTO {table} VALUES ({places})", row)
