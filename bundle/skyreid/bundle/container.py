"""Where a bundle's files lie: a directory, or a zip of it; names and sizes before any content.

Nothing of a container is believed: what is no plain file is refused (a link leads to bytes that are
somebody else's, a pipe never ends), and nothing is read or inflated beyond the size it may have.
"""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Protocol

from skyreid.bundle.ownership import stranger
from skyreid.contract.errors import BundleError

EXPLANATION = "README.md"
"""May lie in a bundle, for people, and is no part of it."""
MAX_FILES = 64
MAX_NAME = 100
RATIO_MAX = 100
"""To which a file of a zip may inflate; weights hardly shrink at all."""
_NO_ZIP = (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)
"""What zipfile raises for bytes that are none, or a damaged one: it has no class for it."""


class Container(Protocol):
    """A bundle's files, unread."""

    sizes: dict[str, int]
    """Bytes by posix name, as the container says."""
    stranger: str
    """Who else may change them; empty where nobody may."""

    def read(self, name: str) -> bytes:
        """Content of a file, as long as `sizes` says or shorter."""
        ...


@contextmanager
def opened(path: Path) -> Iterator[Container]:
    """The container at `path`.

    Raises:
        BundleError: there is none, or something in it is no plain file of a plain name.
    """
    try:
        if path.is_dir():
            yield _Directory(path)
        else:
            with path.open("rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise BundleError(f"{path} is neither a directory nor a file")
                with zipfile.ZipFile(file) as archive:
                    yield _Zip(path, archive, stranger(os.fstat(file.fileno())))
    except FileNotFoundError as error:
        raise BundleError(f"bundle {path} does not exist") from error
    except _NO_ZIP as error:
        raise BundleError(
            f"{path} is neither a bundle directory nor a zip of one that is whole: {error}"
        ) from error


class _Directory:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.sizes: dict[str, int] = {}
        said = stranger(path.stat())
        self.stranger = f"{path}: {said}" if said else ""
        self._list(path, "")

    def _list(self, folder: Path, prefix: str) -> None:
        with os.scandir(folder) as entries:
            for entry in entries:
                name, found = prefix + entry.name, entry.stat(follow_symlinks=False)
                if name == EXPLANATION:
                    continue
                if stat.S_ISLNK(found.st_mode):
                    raise BundleError(f"bundle {self._path}: {name} is a symbolic link: copy it")
                said = stranger(found)
                if said and not self.stranger:
                    self.stranger = f"{self._path / name}: {said}"
                if stat.S_ISDIR(found.st_mode) and not prefix:
                    self._list(folder / entry.name, f"{name}/")
                elif stat.S_ISREG(found.st_mode):
                    _add(self.sizes, self._path, name, found.st_size)
                else:
                    raise BundleError(f"bundle {self._path}: {name} is no file")

    def read(self, name: str) -> bytes:
        # It may have become a link or a pipe since it was listed.
        handle = os.open(self._path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise BundleError(f"bundle {self._path}: {name} is no file")
            return file.read(self.sizes[name])


class _Zip:
    def __init__(self, path: Path, archive: zipfile.ZipFile, stranger: str) -> None:
        self._archive = archive
        self.stranger = f"{path}: {stranger}" if stranger else ""
        self.sizes: dict[str, int] = {}
        entries = [entry for entry in archive.infolist() if not entry.filename.endswith("/")]
        self._prefix = _common_directory([entry.filename for entry in entries])
        for entry in entries:
            name = entry.filename[len(self._prefix) :]
            if name == EXPLANATION:
                continue
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise BundleError(f"bundle {path}: {name} is a symbolic link: zip the file")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise BundleError(f"bundle {path}: {name} is neither stored nor deflated")
            if entry.file_size > RATIO_MAX * entry.compress_size + (1 << 20):
                raise BundleError(
                    f"bundle {path}: {name} inflates from {entry.compress_size} bytes to "
                    f"{entry.file_size}: that is no model"
                )
            _add(self.sizes, path, name, entry.file_size)

    def read(self, name: str) -> bytes:
        with self._archive.open(self._prefix + name) as file:  # no more than its size, see zipfile
            return file.read()


def _add(sizes: dict[str, int], path: Path, name: str, size: int) -> None:
    parts = name.split("/")
    if len(name) > MAX_NAME or not name.isprintable() or {"", ".", ".."} & set(parts):
        raise BundleError(f"bundle {path}: {name[:MAX_NAME]!r} is no name of a bundle's file")
    if name in sizes:
        raise BundleError(f"bundle {path}: {name} is in it twice")
    if len(sizes) == MAX_FILES:
        raise BundleError(f"bundle {path} holds more than {MAX_FILES} files")
    sizes[name] = size


def _common_directory(names: list[str]) -> str:
    roots = {PurePosixPath(name).parts[:1] for name in names}
    if len(roots) == 1 and all("/" in name for name in names):
        return f"{roots.pop()[0]}/"
    return ""
