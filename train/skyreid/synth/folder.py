"""Where a data set may be written."""

from __future__ import annotations

from pathlib import Path

from skyreid.contract.errors import InputError


def make_new_folder(path: Path) -> None:
    """Make a folder for a data set; an old set must not shine through a new one.

    Raises:
        InputError: there is a file, or a folder that is not empty, or it cannot be made.
    """
    try:
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise InputError(f"{path} exists and is not empty: name a new folder or remove it")
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} cannot be made ({error.strerror}): name another") from error
