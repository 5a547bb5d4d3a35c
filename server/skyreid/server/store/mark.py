"""What stands beside an open journal: how much it had stored, whatever becomes of the file.

A kill leaves it, a clean end takes it away. It is written without waiting for the disk: after a
power cut it may say too little, never too much. Beside a closed journal stands how it was left: who
finds it so need not read it whole.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from skyreid.contract import files
from skyreid.contract.errors import InputError

Counts = tuple[int, int]
"""Number of the last sighting, number of the last decision."""
_DAMAGED = b"damaged\n"


def mark_of(path: Path) -> Path:
    """The mark of the journal at ``path``."""
    return path.with_name(f"{path.name}.open")


def read_mark(path: Path) -> Counts | None:
    """What a killed server had stored; None where none was killed."""
    try:
        sightings, decisions = mark_of(path).read_text("ascii").split()
        return int(sightings), int(decisions)
    except (OSError, ValueError):
        return None


def say_damaged(path: Path) -> None:
    """Have the next start look for damage, however long that takes."""
    files.write(mark_of(path), _DAMAGED)


def is_damaged(path: Path) -> bool:
    """Whether a server found the journal damaged."""
    try:
        return mark_of(path).read_bytes() == _DAMAGED
    except OSError:
        return False


def missing(had: Counts | None, has: Counts, *, wal: bool) -> str:
    """What is gone of what a killed server had, in words; "" where nothing is.

    Args:
        had: its mark, if it left one.
        has: what is there now.
        wal: whether the file's ``-wal`` was there.
    """
    if had is None or (had[0] <= has[0] and had[1] <= has[1]):
        return ""
    lost = max(0, had[0] - has[0]), max(0, had[1] - has[1])
    why = "an older copy was put in its place" if wal else "its -wal file is missing"
    return (
        f"{lost[0]} sightings and {lost[1]} decisions that had been stored are gone: {why}; "
        "the devices do not have them any more"
    )


def closed_of(path: Path) -> Path:
    """The note of how the journal at ``path`` was left."""
    return path.with_name(f"{path.name}.closed")


def note_closed(path: Path) -> None:
    """Note size and time of a journal that was closed."""
    with suppress(OSError, InputError):  # then the next start reads all of it
        files.write(closed_of(path), _looks(path))


def forget_closed(path: Path) -> None:
    """It is open, and will be written."""
    closed_of(path).unlink(missing_ok=True)


def untouched(path: Path) -> bool:
    """Whether nobody but its server wrote the file, as far as one can see.

    After a kill its own last word is the mark, which it writes behind each transaction.
    """
    try:
        if (note := closed_of(path)).is_file():
            return note.read_bytes() == _looks(path)
        written_ns = mark_of(path).stat().st_mtime_ns
        wal = path.with_name(f"{path.name}-wal").is_file()
        return wal and path.stat().st_mtime_ns <= written_ns
    except OSError:
        return False


def _looks(path: Path) -> bytes:
    found = path.stat()
    return b"%d %d\n" % (found.st_size, found.st_mtime_ns)
