"""A file of known size and SHA-256 from the internet: resumed, and never read before it is whole.

Only https, redirects too. What has arrived lies beside the file's place (``.part``) and is gone on
with, after a cut, a Ctrl-C or a full disk, for what arrives is nothing before its digest is right.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import ssl
import time
from collections.abc import Callable, Sequence
from email.message import Message
from pathlib import Path
from typing import IO, Any, NoReturn
from urllib import error, parse, request

from tqdm import tqdm

from skyreid.contract.errors import InputError, PlatformError
from skyreid.contract.files import FileLock
from skyreid.export.catalogue import Pinned

TIMEOUT_S = 30.0
"""Without a byte; then it is asked for the rest."""
TRIES = 3
"""In a row that bring nothing new."""
_CHUNK_BYTES = 1 << 16
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_OTHER_PLACE = "fetch it on another machine and give it with --file"


class _Cut(Exception):
    """The connection ended or stood still before the file did."""


def fetch(
    pinned: Pinned,
    path: Path,
    *,
    context: ssl.SSLContext | None = None,
    timeout_s: float = TIMEOUT_S,
    pause_s: float = 1.0,
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Let `path` hold the file; nothing is done where it does already.

    Args:
        pinned: the file.
        path: its place; its folder is made.
        context: of TLS; None = this machine's authorities.
        timeout_s: without a byte.
        pause_s: before the next try, longer each time.
        say: receives a line where something has to be said.

    Raises:
        InputError: it is another file, the address is none of https, or there is no room.
        PlatformError: it cannot be reached, or ended early again and again; what came is kept.
    """
    part = path.with_name(f"{path.name}.part")
    with FileLock(
        path.with_name(f"{path.name}.lock"),
        f"download {path}",
        waiting=lambda who: say(f"wait for {who}, which has the download {path}"),
    ):
        if path.exists():
            if is_right(path, pinned):
                return
            say(f"{path} is another file than the catalogue's: fetched again")
        empty, before = 0, _size(part)
        while True:
            try:
                _pull(pinned, part, context, timeout_s, say)
                break
            except _Cut as cut:
                empty = 0 if _size(part) > before else empty + 1
                before = _size(part)
                if empty == TRIES:
                    raise PlatformError(
                        f"{pinned.address}: {cut}; {before:,} of {pinned.size:,} bytes are kept in "
                        f"{part}: run it again to go on there, or {_OTHER_PLACE}"
                    ) from cut
                say(f"{pinned.address}: {cut}; once more from byte {before:,} on")
                time.sleep(pause_s * (1 + empty))
        try:
            identify(part, [pinned], pinned.address)
        except InputError:
            part.unlink()
            raise
        part.replace(path)


def identify(path: Path, files: Sequence[Pinned], what: str) -> Pinned:
    """Which of some pinned files a file is, by size and digest.

    Raises:
        InputError: it is none of them, or cannot be read; `what` it is called in the message.
    """
    try:
        size = path.stat().st_size
        likely = [one for one in files if one.size == size]
        if not likely:
            sizes = " or ".join(f"{one.size:,}" for one in files)
            raise InputError(f"{what} is {size:,} bytes, expected are {sizes}: another file")
        digest = sha256_of(path)
    except OSError as wrong:
        raise InputError(f"{path}: {wrong.strerror}") from wrong
    for one in likely:
        if one.sha256 == digest:
            return one
    digests = " or ".join(one.sha256 for one in likely)
    raise InputError(
        f"{what} has SHA-256 {digest}, expected is {digests}: another file, nothing of it was read"
    )


def is_right(path: Path, pinned: Pinned) -> bool:
    """Whether a file has the pinned size and digest."""
    try:
        identify(path, [pinned], str(path))
    except InputError:
        return False
    return True


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


class _OnlyHttps(request.HTTPRedirectHandler):
    """Follows nowhere but to https."""

    def redirect_request(
        self, req: request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> request.Request | None:
        try:
            _require_https(newurl, f"{req.full_url} leads to")
        except InputError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _require_https(address: str, what: str = "address") -> None:
    if parse.urlsplit(address).scheme != "https":
        raise InputError(f"{what} {address}: only https is followed; {_OTHER_PLACE}")


def _open(asked: request.Request, context: ssl.SSLContext | None, timeout_s: float) -> Any:
    """The response; an opener that knows no other scheme than https."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        request.HTTPSHandler(context=context or ssl.create_default_context()),
        request.HTTPDefaultErrorHandler(),
        request.HTTPErrorProcessor(),
        _OnlyHttps(),
    ):
        opener.add_handler(handler)
    return opener.open(asked, timeout=timeout_s)


def _pull(
    pinned: Pinned,
    part: Path,
    context: ssl.SSLContext | None,
    timeout_s: float,
    say: Callable[[str], None],
) -> None:
    """Bring `part` from what it is to its full size.

    Raises:
        _Cut: before that.
        InputError, PlatformError: as `fetch`.
    """
    done = _size(part)
    if done > pinned.size:
        part.unlink()
        done = 0
    if done == pinned.size:
        return
    if shutil.disk_usage(part.parent).free < pinned.size - done:
        raise InputError(f"{part.parent}: no room for {pinned.size - done:,} more bytes")
    _require_https(pinned.address)
    asked = request.Request(pinned.address, headers={"Accept-Encoding": "identity"})
    if done:
        asked.add_header("Range", f"bytes={done}-")
    try:
        with _open(asked, context, timeout_s) as response:
            at = _begins_at(response.status, response.headers, done, pinned)
            if at != done:
                say(f"{pinned.address}: does not go on where it ended; from the start")
            _write(response, part, at, pinned)
    except error.HTTPError as refused:
        with refused:
            _refused(refused, part, pinned)
    except (ssl.SSLCertVerificationError, ssl.CertificateError) as wrong:
        raise PlatformError(f"{pinned.address}: {wrong}") from wrong
    except error.URLError as wrong:
        if isinstance(wrong.reason, ssl.SSLCertVerificationError):
            raise PlatformError(f"{pinned.address}: {wrong.reason}; {_OTHER_PLACE}") from wrong
        raise _Cut(f"cannot be reached ({wrong.reason})") from wrong
    except (OSError, http.client.HTTPException) as wrong:
        raise _Cut(f"ended early ({wrong or type(wrong).__name__})") from wrong
    if _size(part) < pinned.size:
        raise _Cut("ended early")


def _begins_at(status: int, headers: Message, done: int, pinned: Pinned) -> int:
    """The byte that the response begins with.

    Raises:
        InputError: it is of a file of another size.
    """
    at = done if status == 206 else 0
    whole = headers.get("Content-Length")
    if status == 206:
        first, _, total = headers.get("Content-Range", "").partition("/")
        if not first.startswith(f"bytes {done}-"):
            raise _Cut("answers with another part than was asked for")
        whole = None if total == "*" else total
    if whole is not None and whole != str(pinned.size):
        raise InputError(
            f"{pinned.address} is {whole} bytes, expected are {pinned.size:,}: another file"
        )
    return at


def _write(response: Any, part: Path, at: int, pinned: Pinned) -> None:
    """Append what comes, from byte `at` on."""
    name = pinned.address.rpartition("/")[2]
    bar = tqdm(total=pinned.size, initial=at, unit="B", unit_scale=True, desc=name, disable=None)
    with bar, _opened(part, at) as stream:  # unbuffered: a Ctrl-C loses nothing
        while chunk := response.read1(_CHUNK_BYTES):  # what has come, however little
            at += len(chunk)
            if at > pinned.size:
                stream.close()
                part.unlink()
                raise InputError(
                    f"{pinned.address} is more than {pinned.size:,} bytes: another file"
                )
            _append(stream, chunk, part, pinned)
            bar.update(len(chunk))


def _opened(part: Path, at: int) -> IO[bytes]:
    try:
        stream = part.open("ab" if at else "wb", buffering=0)
    except OSError as wrong:
        _no_room(wrong, part, pinned=None)
    return stream


def _append(stream: IO[bytes], chunk: bytes, part: Path, pinned: Pinned) -> None:
    view = memoryview(chunk)
    try:
        while view:
            view = view[stream.write(view) :]
    except OSError as wrong:
        _no_room(wrong, part, pinned)


def _no_room(wrong: OSError, part: Path, pinned: Pinned | None) -> NoReturn:
    kept = "" if pinned is None else f"; {_size(part):,} of {pinned.size:,} bytes are kept there"
    raise InputError(f"cannot write {part}: {os.strerror(wrong.errno or 0)}{kept}") from wrong


def _refused(refused: error.HTTPError, part: Path, pinned: Pinned) -> NoReturn:
    """What an answer with an error means."""
    if refused.code == 416:  # there is no such part: what lies here is of another file
        part.unlink(missing_ok=True)
        raise _Cut("has no such part")
    if refused.code in _BUSY:
        raise _Cut(f"is busy ({refused.code} {refused.reason})")
    raise InputError(
        f"{pinned.address}: {refused.code} {refused.reason}; {_OTHER_PLACE}"
    ) from refused


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
