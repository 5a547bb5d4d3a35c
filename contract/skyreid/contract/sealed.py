"""Sealed records: what a device keeps of people, for the site's private key alone.

HPKE in base mode (RFC 9180): DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305, the last
because a small device has no instructions for AES. A run of a device makes one key of its own,
in memory, and one key of records from it and the site's public key; whoever has the disk has
neither. A record stands alone, so that spool, message and recording carry it as it is::

    magic 4 | key 8 | encapsulated 32 | number 8 | seq 8 | ciphertext | tag 16

``key`` names the site's key, ``encapsulated`` is the run's public key. ``number`` makes the nonce:
a counter of the `Sealer`, never one of the record's own numbers, so that no nonce comes twice under
a key whatever is sealed twice. HPKE's ``info`` has form, site and device, its ``aad`` what the
record is of, so that none passes for another's, for a later one or for a picture.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from skyreid.contract.errors import InputError, MessageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

MAGIC = b"\xffsk1"
"""Neither a protobuf message (wire type 7) nor a JPEG begins so. A later form has another one."""
_HEAD = struct.Struct(">4s8s32sQQ")
_TAG = 16
OVERHEAD_BYTES = _HEAD.size + _TAG
"""By so much a record is longer than what it seals."""
_INFO = "skyreid sealed record 1"
_SUITE = b"HPKE" + struct.pack(">HHH", 0x0020, 0x0001, 0x0003)
_KEM = b"KEM" + struct.pack(">H", 0x0020)
_RUNS_MAX = 4096
"""Runs whose key of records is remembered: to agree on one takes as long as twenty records."""
_BATCH_RUNS_MAX = 4
"""Runs whose records may be in one batch, which is of one boot: a device takes another key of the
site now and then. Else one batch could cost 32 agreements, a second of work for 10,000 records."""
_NUMBER_MAX = 1 << 63
Find = Callable[[str], "X25519PrivateKey | None"]


def about_sighting(boot: str, seq: int | None = None) -> bytes:
    """What a sealed sighting is of; without ``seq`` what comes before it."""
    return f"sighting\0{boot}\0{'' if seq is None else seq}".encode()


def about_picture(boot: str, camera: str, track: int, seq: int, captured_at_ns: int) -> bytes:
    """What a sealed picture is of."""
    return "\0".join(("picture", boot, camera, str(track), str(seq), str(captured_at_ns))).encode()


def key_name(key: X25519PublicKey) -> str:
    """By which a record says whose it is: 16 hexadecimal digits of the key's SHA-256."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def read_public_key(path: Path) -> X25519PublicKey:
    """A site's public key, PEM.

    Raises:
        InputError: it is missing, or is none.
    """
    try:
        return parse_public_key(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise InputError(
            f"{path} is no public key of X25519 in PEM; skyreid-server certs makes seal.pub"
        ) from error


def parse_public_key(pem: bytes) -> X25519PublicKey:
    """A public key of X25519 from PEM; raises ValueError for anything else."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from error
    if not isinstance(key, X25519PublicKey):
        raise ValueError("not a key of X25519")
    X25519PrivateKey.generate().exchange(key)  # nobody agrees with a point of small order
    return key


class _Records:
    """The key of records of one run of a device: HPKE's context."""

    def __init__(self, shared: bytes, encapsulated: bytes, public: bytes, info: bytes) -> None:
        """Derive it (RFC 9180, 4.1 and 5.1).

        Args:
            shared: what the two keys agree on.
            encapsulated: public key of the run.
            public: that of the site.
            info: see the module.
        """
        from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

        eae = _extract(b"", _KEM, b"eae_prk", shared)
        secret = _expand(eae, _KEM, b"shared_secret", encapsulated + public, 32)
        context = b"\0" + _extract(b"", _SUITE, b"psk_id_hash", b"")
        context += _extract(b"", _SUITE, b"info_hash", info)
        scheduled = _extract(secret, _SUITE, b"secret", b"")
        self._aead = ChaCha20Poly1305(_expand(scheduled, _SUITE, b"key", context, 32))
        self._base = int.from_bytes(_expand(scheduled, _SUITE, b"base_nonce", context, 12), "big")

    def seal(self, number: int, about: bytes, plain: bytes) -> bytes:
        return self._aead.encrypt((self._base ^ number).to_bytes(12, "big"), plain, about)

    def open(self, number: int, about: bytes, box: bytes) -> bytes:
        """Raises InvalidTag."""
        return self._aead.decrypt((self._base ^ number).to_bytes(12, "big"), box, about)


class Sealer:
    """Seals what one run of a device says. What it could be opened with is never kept."""

    def __init__(self, key: X25519PublicKey, *, site: str, device: str) -> None:
        """Seal to ``key``, as ``device`` of ``site``."""
        self._info = _info(site, device)
        self.owner = f"device {device} of site {site}"
        """As whom it seals: nobody else's word opens."""
        self.use(key)

    def use(self, key: X25519PublicKey) -> None:
        """Seal to another key of the site from now on; any thread."""
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        own = X25519PrivateKey.generate()
        encapsulated = own.public_key().public_bytes_raw()
        records = _Records(own.exchange(key), encapsulated, key.public_bytes_raw(), self._info)
        name = bytes.fromhex(key_name(key))
        # Replaced as a whole, its counter with it; the next of a counter is taken by one thread.
        self._state = records, name, encapsulated, itertools.count()

    @property
    def key(self) -> str:
        """Name of the key that it seals to."""
        return self._state[1].hex()

    def seal(self, plain: bytes, about: bytes, seq: int) -> bytes:
        """A record.

        Args:
            plain: what it is to hold.
            about: `about_sighting` or `about_picture`.
            seq: what it says in clear; it is part of ``about``.
        """
        records, name, encapsulated, numbers = self._state
        number = next(numbers)
        if number >= _NUMBER_MAX:  # three centuries of a thousand a microsecond
            raise OverflowError("no nonce is left")
        head = _HEAD.pack(MAGIC, name, encapsulated, number, seq)
        return head + records.seal(number, about, plain)


class Opener:
    """Opens records with a site's private keys."""

    def __init__(self, site: str, find: Find) -> None:
        """Of ``site``; ``find`` has its private keys, those that were replaced too, by name."""
        from cryptography.exceptions import InvalidTag

        self._site, self._find, self._invalid = site, find, InvalidTag
        self._runs: dict[tuple[bytes, bytes, str], _Records] = {}
        self._tried: dict[tuple[bytes, bytes, str], _Records] = {}  # of which nothing opened yet
        self._lock = threading.Lock()

    def open(self, record: bytes, device: str, about: bytes, *, numbered: bool = False) -> bytes:
        """What a record holds.

        Args:
            record: as it came.
            device: who sent it.
            about: what it should be of.
            numbered: whether the number that the record says is to follow ``about``.

        Raises:
            MessageError: ``key`` where its key is not here, which can be put right; ``sealed``
                where it is none, is damaged, or is of something or somebody else.
        """
        if len(record) < OVERHEAD_BYTES or not record.startswith(MAGIC):
            raise MessageError("sealed", f"{len(record)} bytes are no sealed record")
        _, name, encapsulated, number, seq = _HEAD.unpack_from(record)
        if numbered:
            about += b"%d" % seq
        run = name, encapsulated, device
        known = self._runs.get(run)
        records = known or self._tried.get(run) or self._agree(*run)
        try:
            plain = records.open(number, about, record[_HEAD.size :])
        except self._invalid:
            if known is None:  # a batch of noise with one key costs one agreement
                self._remember(self._tried, _BATCH_RUNS_MAX, run, records)
            why = f"record {seq} does not open: it is damaged, or another device's"
            raise MessageError("sealed", why) from None
        if known is None:  # only now: keys of runs that never were put none out that is
            self._remember(self._runs, _RUNS_MAX, run, records)
        return plain

    def _agree(self, name: bytes, encapsulated: bytes, device: str) -> _Records:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

        private = self._find(name.hex())
        if private is None:
            raise MessageError("key", f"sealed to key {name.hex()}, which this server has not")
        try:
            shared = private.exchange(X25519PublicKey.from_public_bytes(encapsulated))
        except ValueError:  # a point of small order
            raise MessageError("sealed", "the key of its run is none") from None
        public = private.public_key().public_bytes_raw()
        return _Records(shared, encapsulated, public, _info(self._site, device))

    def _remember(
        self,
        place: dict[tuple[bytes, bytes, str], _Records],
        most: int,
        run: tuple[bytes, bytes, str],
        records: _Records,
    ) -> None:
        with self._lock:
            while run not in place and len(place) >= most:  # the one that was agreed on first
                del place[next(iter(place))]
            place[run] = records


def open_sightings(
    opener: Opener | None, records: Iterable[bytes], device: str, boot: str
) -> tuple[list[tuple[bytes, bytes]], list[tuple[int | None, MessageError]]]:
    """What sealed sightings hold, with the record; and of those that do not open number and why.

    The number is None where a record says none; nobody vouches for it. Without an ``opener`` none
    opens.
    """
    plain: list[tuple[bytes, bytes]] = []
    runs: set[bytes] = set()
    closed: list[tuple[int | None, MessageError]] = []
    about = about_sighting(boot)
    for record in records:
        try:
            if opener is None:
                raise MessageError("key", "sealed, and this server has no private keys")
            runs.add(record[4:44])
            if len(runs) > _BATCH_RUNS_MAX:
                raise MessageError("sealed", f"of more than {_BATCH_RUNS_MAX} runs in one batch")
            plain.append((opener.open(record, device, about, numbered=True), record))
        except MessageError as error:
            whole = len(record) >= OVERHEAD_BYTES and record.startswith(MAGIC)
            closed.append((int(_HEAD.unpack_from(record)[4]) if whole else None, error))
    return plain, closed


def _info(site: str, device: str) -> bytes:
    return "\0".join((_INFO, site, device)).encode()


def _extract(salt: bytes, suite: bytes, label: bytes, data: bytes) -> bytes:
    """LabeledExtract of RFC 9180, 4; HKDF-Extract of RFC 5869 is an HMAC."""
    import hmac

    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + data, "sha256")


def _expand(secret: bytes, suite: bytes, label: bytes, data: bytes, length: int) -> bytes:
    """LabeledExpand of RFC 9180, 4; at most 32 bytes are the first block of RFC 5869."""
    import hmac

    said = struct.pack(">H", length) + b"HPKE-v1" + suite + label + data
    return hmac.digest(secret, said + b"\x01", "sha256")[:length]
