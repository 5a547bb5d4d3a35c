"""Snapshots: the state as of a decision, in tables of the journal, and what matching held then.

A start reads the latest one and the log after it. It is brought forward in place, by what changed
since, in one transaction; so an erasure is in it at once, and a kill leaves the old or the new one.
Who is in it is read when somebody asks (`Shelf`): a start costs the same however many there are.
Every row has a checksum.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import weakref
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from skyreid.contract.identity_event import Match, Return, TrackKey
from skyreid.contract.sighting_wire import decode_sighting
from skyreid.server.matching import identity
from skyreid.server.matching.checked import NOTHING_CHECKED, Checked
from skyreid.server.matching.identity import Decision, Identity, State
from skyreid.server.matching.shelf import Shelf
from skyreid.server.matching.tracklets import Tracklet
from skyreid.server.store.quarantine import SingleKey

CACHED = 20_000
"""Entries of one map that are kept in memory once they were read."""
TABLES = ("snapshot", "snapshot_identity", "snapshot_track", "snapshot_alias", "snapshot_window")
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class Held:
    """What matching had in hand at the moment of a snapshot."""

    window: Sequence[Tracklet]
    waiting: Sequence[SingleKey]
    """Sightings that were taken in and not decided."""
    window_s: float
    """How long the window was."""
    sighting: int
    """Number of the last sighting that was shown to matching."""


@dataclass(frozen=True)
class Start:
    """Where a start begins."""

    state: State
    """As of the snapshot, with the log's tail folded in."""
    held: Held | None
    """None: there is no snapshot."""


class _Before(Generic[K, V]):
    """One map of a snapshot, for ever as it was: what is overwritten in the file it remembers."""

    def __init__(self, file: _File, table: _Table[K, V], count: int) -> None:
        self._file, self._table, self._count = file, table, count
        self._remembered: dict[K, V | None] = {}
        table.alive.add(self)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[K]:
        if not self._count:
            return iter(())
        with self._file.lock:
            keys = dict.fromkeys(self._table.keys())
            for key, value in self._remembered.items():
                if value is None:
                    keys.pop(key, None)
                else:
                    keys[key] = None
        return iter(list(keys))

    def get(self, key: K) -> V | None:
        if not self._count:
            return None
        with self._file.lock:
            if key in self._remembered:
                return self._remembered[key]
            return self._table.get(key)

    def remember(self, key: K, value: V | None) -> None:
        """Before the file changes: what it says of a key now."""
        self._remembered.setdefault(key, value)


class _Table(Generic[K, V]):
    """A table of the snapshot: rows of (key columns, text, crc)."""

    def __init__(
        self,
        db: sqlite3.Connection,
        name: str,
        columns: Callable[[K], tuple[object, ...]],
        key_of: Callable[[tuple[Any, ...]], K],
        value_of: Callable[[str], V],
        text_of: Callable[[V], str],
    ) -> None:
        self._db, self._name, self._columns = db, name, columns
        self._key_of, self._value_of, self._text_of = key_of, value_of, text_of
        names = [row[1] for row in db.execute(f"PRAGMA table_info({name})")][:-2]
        self._names = ", ".join(names)
        self._where = f"({self._names}) = ({', '.join('?' * len(names))})"
        self._places = ", ".join("?" * (len(names) + 2))
        self._cache: dict[K, V | None] = {}
        self.alive: weakref.WeakSet[_Before[K, V]] = weakref.WeakSet()

    def get(self, key: K) -> V | None:
        if key in self._cache:
            return self._cache[key]
        row = self._db.execute(
            f"SELECT body, crc FROM {self._name} WHERE {self._where}", self._columns(key)
        ).fetchone()
        value: V | None = None
        if row is not None:
            if row[1] != _sum(self._columns(key), row[0]):
                raise sqlite3.DatabaseError(f"{self._name}: a malformed row")
            value = self._value_of(row[0])
        self._keep(key, value)
        return value

    def keys(self) -> Iterator[K]:
        rows = self._db.execute(f"SELECT {self._names} FROM {self._name}").fetchall()
        return map(self._key_of, rows)

    def _keep(self, key: K, value: V | None) -> None:
        if len(self._cache) >= CACHED:
            self._cache.clear()
        self._cache[key] = value

    def remember(self, changes: Sequence[tuple[K, V | None]]) -> None:
        """Let older values of this map remember what is about to be overwritten."""
        alive = list(self.alive)
        for key, _ in changes if alive else ():
            value = self.get(key)
            for each in alive:
                each.remember(key, value)

    def write(self, db: sqlite3.Connection, changes: Sequence[tuple[K, V | None]]) -> None:
        for key, value in changes:
            columns = self._columns(key)
            if value is None:
                db.execute(f"DELETE FROM {self._name} WHERE {self._where}", columns)
            else:
                text = self._text_of(value)
                row = (*columns, text, _sum(columns, text))
                db.execute(f"INSERT OR REPLACE INTO {self._name} VALUES ({self._places})", row)

    def changed(self, changes: Sequence[tuple[K, V | None]]) -> None:
        for key, value in changes:
            self._keep(key, value)


class _File:
    """The snapshot's maps on one connection, which is for it alone. From any thread."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.lock = threading.RLock()
        self.identities: _Table[str, Identity] = _Table(
            db, "snapshot_identity", _alone, _first, read_identity, identity_text
        )
        self.tracks: _Table[TrackKey, str] = _Table(
            db, "snapshot_track", _columns, lambda row: TrackKey(*row), str, str
        )
        self.aliases: _Table[str, str] = _Table(db, "snapshot_alias", _alone, _first, str, str)


class Snapshots:
    """The journal's snapshot: ``start`` from it, ``bring`` it forward. From the writer's thread."""

    def __init__(self, db: sqlite3.Connection, reader: sqlite3.Connection) -> None:
        """``db`` writes; ``reader`` is for reading what states refer to, from any thread."""
        self._db, self._file = db, _File(reader)
        self.at = self.sightings = 0
        """The decision and the sighting of the latest."""

    def start(self, log: Callable[[int], Iterator[Decision]]) -> Start:
        """The state: what the snapshot says, and the ``log`` after a decision folded into it.

        Raises:
            InputError: they do not fit together.
            sqlite3.Error: it is damaged.
        """
        said = read_head(self._db)
        if said is None:
            return Start(identity.replay(log(0)), None)
        self.at, self.sightings = said["decision"], said["sighting"]
        state = self._state(said, said["identities"], said["tracks"], said["aliases"])
        waiting = [(device, boot, seq) for device, boot, seq in said["waiting"]]
        held = Held(self._window(), waiting, said["window_s"], said["sighting"])
        return Start(identity.replay(log(self.at), state), held)

    def bring(self, db: sqlite3.Connection, state: State, decision: int, held: Held) -> None:
        """Bring it forward to a state (within a transaction): call ``brought`` once it is written.

        Args:
            db: the transaction's.
            state: the fold of the log up to ``decision``.
            decision: number of the last one.
            held: what matching has in hand.
        """
        head = {
            **_moment(state),
            "decision": decision,
            "sighting": held.sighting,
            "identities": len(state.identities),
            "tracks": len(state.tracks),
            "aliases": len(state.aliases),
            "erased": sorted(state.erased),
            "erased_tracks": [key.to_json() for key in sorted(state.erased_tracks)],
            "waiting": list(held.waiting),
            "window_s": held.window_s,
        }
        with self._file.lock:
            for table, changes in self._changes(state):
                table.remember(changes)
                table.write(db, changes)
        _write_window(db, held.window)
        text = json.dumps(head, separators=(",", ":"))
        db.execute("DELETE FROM snapshot")
        db.execute("INSERT INTO snapshot VALUES (1, ?, ?)", (text, _sum((), text)))

    def brought(self, state: State, decision: int, held: Held) -> State:
        """The same state, with nothing in memory that is stored now."""
        with self._file.lock:
            for table, changes in self._changes(state):
                table.changed(changes)
            self.at, self.sightings = decision, held.sighting
            counts = len(state.identities), len(state.tracks), len(state.aliases)
        return self._state(_moment(state), *counts, state.erased, state.erased_tracks)

    def _changes(self, state: State) -> list[tuple[_Table[Any, Any], list[tuple[Any, Any]]]]:
        maps = (
            (self._file.identities, state.identities),
            (self._file.tracks, state.tracks),
            (self._file.aliases, state.aliases),
        )
        return [
            (table, list(each.changes() if isinstance(each, Shelf) else each.items()))
            for table, each in maps
        ]

    def _state(
        self,
        said: dict[str, Any],
        identities: int,
        tracks: int,
        aliases: int,
        erased: frozenset[str] | None = None,
        erased_tracks: frozenset[TrackKey] | None = None,
    ) -> State:
        if erased is None or erased_tracks is None:
            erased = frozenset(said["erased"])
            erased_tracks = frozenset(map(TrackKey.from_json, said["erased_tracks"]))
        file = self._file
        people: _Before[str, Identity] = _Before(file, file.identities, identities)
        of: _Before[TrackKey, str] = _Before(file, file.tracks, tracks)
        absorbed: _Before[str, str] = _Before(file, file.aliases, aliases)
        shelves = Shelf(people), Shelf(of), Shelf(absorbed)
        postponed = tuple(said.get("postponed", ()))  # an older one does not say
        counts = (
            said.get(name) for name in ("checked", "checked_returns")
        )  # nor does one of these
        checked = [NOTHING_CHECKED if text is None else Checked.read(text) for text in counts]
        return State(*shelves, erased, erased_tracks, said["at_ns"], postponed, *checked)

    def _window(self) -> list[Tracklet]:
        rows = self._db.execute(
            "SELECT s.device, s.boot, s.camera, s.track, s.model_key, s.dim, s.body, w.path, w.crc "
            "FROM snapshot_window w JOIN sighting s ON s.id = w.sighting WHERE s.dim > 0 "
            "ORDER BY w.sighting"
        )
        out = []
        for device, boot, camera, track, model_key, dim, body, path, crc in rows:
            if crc != zlib.crc32(path):
                raise sqlite3.DatabaseError("snapshot_window: a malformed row")
            points = np.frombuffer(path, np.float64).reshape(-1, 6).copy()
            key = TrackKey(device, boot, camera, track)
            out.append(Tracklet(key, model_key, decode_sighting(body, dim), points))
        return out


def read_head(db: sqlite3.Connection) -> dict[str, Any] | None:
    """What the snapshot says of itself; None where there is none.

    Raises:
        sqlite3.DatabaseError: it is not as it was written.
    """
    row = db.execute("SELECT body, crc FROM snapshot").fetchone()
    if row is None:
        return None
    if row[1] != _sum((), row[0]):
        raise sqlite3.DatabaseError("snapshot: a malformed row")
    head: dict[str, Any] = json.loads(row[0])
    return head


def identity_text(identity: Identity) -> str:
    """One line; equal identities give equal text."""
    members = [[k.to_json(), m and m.to_json()] for k, m in identity.members.items()]
    whole = [identity.id, identity.founded_ns, members, identity.aliases]
    whole += [[link.to_json() for link in identity.links]] if identity.links else []
    return json.dumps(whole, sort_keys=True, separators=(",", ":"))


def read_identity(text: str) -> Identity:
    """Inverse of ``identity_text``."""
    name, founded_ns, members, aliases, *links = json.loads(text)
    return Identity(
        name,
        founded_ns,
        {TrackKey.from_json(k): Match.from_json(m) if m else None for k, m in members},
        tuple(aliases),
        tuple(Return.from_json(link) for link in (links[0] if links else ())),
    )


def check(db: sqlite3.Connection) -> str | None:
    """What is wrong with the snapshot: every row is read."""
    try:
        head = read_head(db)
        for name, count in (
            ("snapshot_identity", "identities"),
            ("snapshot_track", "tracks"),
            ("snapshot_alias", "aliases"),
        ):
            rows = 0
            for *columns, body, crc in db.execute(f"SELECT * FROM {name}"):
                rows += 1
                if crc != _sum(tuple(columns), body):
                    return f"a row of {name} is not as it was written"
            if rows != (head or {}).get(count, 0):
                return f"{name} has {rows} rows, the snapshot says {(head or {}).get(count, 0)}"
    except (sqlite3.Error, UnicodeDecodeError, ValueError) as error:
        return f"the snapshot cannot be read: {error}"
    return None


def clear(db: sqlite3.Connection) -> None:
    """Have no snapshot (within a transaction)."""
    for table in TABLES:
        db.execute(f"DELETE FROM {table}")


def _moment(state: State) -> dict[str, Any]:
    return {
        "at_ns": state.at_ns,
        "postponed": state.postponed,
        "checked": state.checked.text,
        "checked_returns": state.checked_returns.text,
    }


def _write_window(db: sqlite3.Connection, window: Sequence[Tracklet]) -> None:
    db.execute("DELETE FROM snapshot_window")
    for t in window:
        path = np.ascontiguousarray(t.path, np.float64).tobytes()
        db.execute(
            "INSERT OR REPLACE INTO snapshot_window SELECT id, ?, ? FROM sighting "
            "WHERE (device, boot, seq) = (?, ?, ?)",
            (path, zlib.crc32(path), t.key.device, t.key.boot, t.sighting.seq),
        )


def _sum(columns: tuple[object, ...], text: str) -> int:
    return zlib.crc32("\0".join((*map(str, columns), text)).encode("utf-8", "replace"))


def _alone(key: str) -> tuple[object, ...]:
    return (key,)


def _first(row: tuple[Any, ...]) -> str:
    return str(row[0])


def _columns(key: TrackKey) -> tuple[object, ...]:
    return key.device, key.boot, key.camera, key.track
