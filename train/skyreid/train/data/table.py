"""Own people told by a table, CSV or Parquet: a row for each picture.

Columns `path` (relative to the table's folder), `person`, `camera` or `view`, and where wanted
`split`, `tracklet` and `altitude_m`, in letters of any case. A CSV is UTF-8.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from skyreid.contract.errors import InputError, reason
from skyreid.train.data.lists import on_disk
from skyreid.train.data.own import Row
from skyreid.train.data.pattern import FIELDS

SUFFIXES = (".csv", ".tsv", ".parquet")


def is_table(path: Path) -> bool:
    """Whether what a user names is a table and no folder."""
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def read(path: Path) -> tuple[list[Row], tuple[str, ...], dict[str, list[Path]]]:
    """The rows; the columns that say nothing here; and the pictures that are refused, by reason.

    Raises:
        InputError: when it cannot be read, or lacks a column.
    """
    columns, lines = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
    twice = [name for name, count in Counter(columns).items() if name and count > 1]
    if twice:
        raise InputError(f"{path} has the column {', '.join(twice)} twice: which one counts?")
    lacking = [name for name in ("path", "person") if name not in columns]
    if not {"camera", "view"} & set(columns):
        lacking.append("camera or view")
    if lacking:
        raise InputError(
            f"{path} lacks the column {', '.join(lacking)}; its first row has to name them and "
            f"has {', '.join(columns) or 'nothing'}"
        )
    used = [name for name in FIELDS if name in columns]
    rows: dict[Path, Row] = {}
    refused: dict[str, list[Path]] = {}
    for line in lines:
        picture = on_disk(path.parent / line["path"])
        row = Row(picture, **{name: line[name] for name in used})
        if not line["path"] or not picture.is_file():
            refused.setdefault("missing file", []).append(picture)
        elif rows.setdefault(picture, row) != row:
            refused.setdefault("two rows that differ", []).append(picture)
    return list(rows.values()), tuple(c for c in columns if c not in ("path", *FIELDS)), refused


def _csv(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Separated by commas, semicolons or tabs, whichever the first line has most of."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        first = text.partition("\n")[0]
        # Lines are the table's own business: one may end within a cell in quotes.
        reader = csv.DictReader(
            io.StringIO(text, newline=""),
            delimiter=max(",;\t", key=first.count),
            restval="",
            restkey="",
            strict=True,  # a quote that is never closed would swallow the rows behind it
        )
        columns = [_column(name) for name in reader.fieldnames or ()]
        reader.fieldnames = columns
        lines = [dict(line) for line in reader]
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {path}: it is not UTF-8; save it as that") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except csv.Error as error:
        raise InputError(f"cannot read {path}: {error}; is a quote never closed?") from error
    for number, line in enumerate(lines, start=2):
        if "" in line:
            raise InputError(f"{path}: row {number} has more cells than there are columns")
    return columns, [{name: cell.strip() for name, cell in line.items()} for line in lines]


def _parquet(path: Path) -> tuple[list[str], Sequence[Mapping[str, str]]]:
    """See `_csv`; numbers become words, a missing value the empty one."""
    from pyarrow import ArrowException
    from pyarrow.parquet import read_table

    try:
        table = read_table(path)
    except (OSError, ArrowException) as error:
        raise InputError(f"cannot read {path}: {reason(error, path)}") from error
    columns = [_column(name) for name in table.column_names]
    words: dict[str, list[str]] = {}
    for name, column in zip(columns, table.columns, strict=True):
        if name not in ("path", *FIELDS):
            continue
        try:
            words[name] = [_word(cell) for cell in column.to_pylist()]
        except (TypeError, UnicodeDecodeError):
            raise InputError(
                f"{path}: column {name} is of {column.type} and not of words or numbers"
            ) from None
    lines = [dict(zip(words, cells, strict=True)) for cells in zip(*words.values(), strict=True)]
    return columns, lines


def _column(name: str) -> str:
    """A column's name as it is known here, where it is."""
    known = name.strip().lower()
    return known if known in ("path", *FIELDS) else name.strip()


def _word(cell: Any) -> str:
    if cell is None or cell != cell:  # not a number: nobody's name
        return ""
    if isinstance(cell, list | dict):
        raise TypeError
    if isinstance(cell, bytes):  # as words are that nobody said to be words
        cell = cell.decode()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()
