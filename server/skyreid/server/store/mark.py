"""What stands beside an open journal: how much it had stored, whatever becomes of the file.

A kill leaves it, a clean end takes it away. It is written without waiting for the disk: after a
power cut it may say too little, never too much.
"""

from __future__ import annotations

from pathlib import Path

from skyreid.contract import files

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
