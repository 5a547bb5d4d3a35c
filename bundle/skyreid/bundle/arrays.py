"""Arrays of an npz that nobody vouches for: sizes first, then content; nothing of a pickle."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import BundleError

MAX_BYTES = 1 << 30
"""Of all arrays of a file, inflated: golden pictures are few."""
_DAMAGED = (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, TypeError)


def read_arrays(data: bytes, name: str) -> dict[str, NDArray[Any]]:
    """The arrays of an npz by their names.

    Args:
        data: content of the file.
        name: what to call it in messages.

    Raises:
        BundleError: it is no npz, larger than `MAX_BYTES`, or a header is not its content's.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                raise BundleError(f"{name} is larger than {MAX_BYTES} bytes, inflated")
            return {
                entry.filename.removesuffix(".npy"): _array(archive.read(entry))
                for entry in archive.infolist()
            }
    except _DAMAGED as error:
        raise BundleError(f"{name} is no npz: {error}") from error


def _array(data: bytes) -> NDArray[Any]:
    """One array; a header may claim terabytes, so its size is compared before any is allocated."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    else:
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise ValueError("an array's header is not that of its content")
    file.seek(0)
    return np.lib.format.read_array(file, allow_pickle=False)
