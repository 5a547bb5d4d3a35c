r"""Recorded traffic: MQTT messages of devices with the time at which they were said or came.

One file, ``DIR/traffic.bin``, of a site (``skyreid-server record``) or of one device
(``skyreid-edge run --record``, beside the other parts of a recorded run)::

    b"skyreid traffic 1\n", then for each message
    uint32 LE CRC-32 of all that follows of it | uint32 LE length of the header | int64 LE
    nanoseconds | uint32 LE length of the payload | header, JSON in ASCII: topic, user properties
    | payload, as it was

It only grows, message by message: a kill costs at most the one that is being written.
"""

from __future__ import annotations

import fcntl
import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from skyreid.contract.errors import InputError

TRAFFIC = "traffic.bin"
MAGIC = b"skyreid traffic 1\n"
_CHECK = struct.Struct("<I")
_SIZES = struct.Struct("<IqI")
_PART_MAX = 1 << 28
"""Bytes of a header and of a payload, at most: those of the largest packet of MQTT."""


@dataclass(frozen=True)
class Recorded:
    """One message. ``at_ns``: when it was received, by the clock of whoever recorded it."""

    at_ns: int
    topic: str
    payload: bytes
    properties: Mapping[str, str] = field(default_factory=dict)
    """User properties."""


class TrafficWriter:
    """Writes ``traffic.bin``; one writer. Messages survive a kill once ``flush`` has returned."""

    def __init__(self, directory: Path) -> None:
        """Begin a recording; the directory is made.

        Raises:
            InputError: there is one already, or it cannot be made.
        """
        path = self._path = directory / TRAFFIC
        try:
            directory.mkdir(parents=True, exist_ok=True)
            # Held open for the recording, closed in close(): not a job for a with block.
            self._file = open(path, "xb")
        except FileExistsError as error:
            raise InputError(
                f"recording {directory}: there is one already, give a new directory"
            ) from error
        except OSError as error:
            raise InputError(f"recording {path}: {error.strerror}") from error
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # who rewrites it keeps off
        self.size_bytes = 0
        """Of the file, with what is not flushed yet."""
        self.add(MAGIC)
        self.flush()

    @staticmethod
    def encode(message: Recorded) -> bytes:
        """The bytes of one message, to be given to ``add``."""
        said = {"topic": message.topic, "properties": dict(message.properties)}
        header = json.dumps(said).encode("ascii")
        sizes = _SIZES.pack(len(header), message.at_ns, len(message.payload))
        rest = sizes + header + message.payload
        return _CHECK.pack(zlib.crc32(rest)) + rest

    def add(self, encoded: bytes) -> None:
        """Append what ``encode`` made.

        Raises:
            InputError: the disk does not take it.
        """
        with self._saying():
            self._file.write(encoded)
        self.size_bytes += len(encoded)

    def flush(self) -> None:
        """Hand everything to the system.

        Raises:
            InputError: the disk does not take it.
        """
        with self._saying():
            self._file.flush()

    def close(self) -> None:
        """Flush and end; again is fine.

        Raises:
            InputError: the disk does not take it.
        """
        with self._saying():
            self._file.close()

    @contextmanager
    def _saying(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"recording {self._path}: {error.strerror}") from error

    def __enter__(self) -> TrafficWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read_traffic(directory: Path) -> Iterator[Recorded]:
    """Every recorded message in order; one cut short by a kill ends the iteration.

    Raises:
        InputError: there is no recording, or it is damaged before its end.
    """
    path = directory / TRAFFIC
    try:
        stream = open(path, "rb")
    except OSError as error:
        raise InputError(f"recording {path}: {error.strerror}") from error
    with stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise InputError(f"recording {path}: it does not begin with {MAGIC.decode().strip()}")
        number = 0
        while len(head := stream.read(_CHECK.size + _SIZES.size)) == _CHECK.size + _SIZES.size:
            number += 1
            (check,) = _CHECK.unpack_from(head)
            header_bytes, at_ns, payload_bytes = _SIZES.unpack_from(head, _CHECK.size)
            if max(header_bytes, payload_bytes) > _PART_MAX:
                raise InputError(f"recording {path}: message {number} is damaged")
            body = stream.read(header_bytes + payload_bytes)
            if len(body) < header_bytes + payload_bytes:
                return
            if zlib.crc32(body, zlib.crc32(head[_CHECK.size :])) != check:
                raise InputError(f"recording {path}: message {number} is damaged")
            header, payload = body[:header_bytes], body[header_bytes:]
            try:
                topic, properties = _read_header(header)
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise InputError(
                    f"recording {path}: message {number} has no topic and user properties"
                ) from error
            yield Recorded(at_ns, topic, payload, properties)


def _read_header(header: bytes) -> tuple[str, dict[str, str]]:
    """Topic and user properties. The checksum says that they were written, not that they are text.

    Raises:
        ValueError, RecursionError: it is no JSON.
        KeyError, TypeError: it is another one.
    """
    said = json.loads(header)
    topic, properties = said["topic"], said["properties"]
    if not isinstance(topic, str) or not isinstance(properties, dict):
        raise TypeError("topic or properties")
    if not all(isinstance(value, str) for value in properties.values()):
        raise TypeError("a property")
    return topic, properties
