"""A file of the catalogue over a bad line: cut, slow, wrong, led elsewhere, resumed, no room."""

import hashlib
import os
import signal
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from file_server import DATA, Server, begin, cut

from skyreid.contract.errors import InputError, PlatformError, SkyreidError
from skyreid.export import download
from skyreid.export.catalogue import Pinned
from skyreid.export.download import fetch

SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "tls").mkdir()
    made = Server(tmp_path / "tls")
    yield made
    made.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "model.onnx"


def pull(server: Server, place: Path, **other: str | int) -> list[str]:
    """Fetch it as the catalogue would; what was said."""
    said: list[str] = []
    facts = {"address": server.address, "sha256": SHA256, "size": len(DATA), "found_in": "here"}
    fetch(
        Pinned(**{**facts, **other}),
        place,
        context=server.context,
        timeout_s=2,
        pause_s=0,
        say=said.append,
    )
    return said


def part_of(place: Path) -> Path:
    return place.with_name("model.onnx.part")


def left(place: Path) -> list[str]:
    return sorted(path.name for path in place.parent.iterdir())


def refuse(code: int) -> Callable[[BaseHTTPRequestHandler, int], None]:
    return lambda handler, first: handler.send_error(code)


def lead(to: str) -> Callable[[BaseHTTPRequestHandler, int], None]:
    def how(handler: BaseHTTPRequestHandler, first: int) -> None:
        handler.send_response(302)
        handler.send_header("Location", to)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return how


def test_a_file_arrives_whole_and_is_not_fetched_twice(server: Server, place: Path) -> None:
    pull(server, place)
    assert place.read_bytes() == DATA
    assert left(place) == ["model.onnx"]
    pull(server, place)
    assert server.asked == [None]


def test_a_file_that_rotted_in_the_cache_is_fetched_again(server: Server, place: Path) -> None:
    pull(server, place)
    place.write_bytes(DATA[:-1] + bytes([DATA[-1] ^ 1]))
    said = pull(server, place)
    assert place.read_bytes() == DATA
    assert "is another file than the catalogue's" in said[0]


def test_a_line_that_is_cut_is_gone_on_with(server: Server, place: Path) -> None:
    server.behave = [cut(100_000), cut(100_001), cut(250_000)]
    said = pull(server, place)
    assert place.read_bytes() == DATA
    assert server.asked == [None, "bytes=100000-", "bytes=100001-", "bytes=250000-"]
    assert "ended early; once more from byte 100,000 on" in said[0]


def test_a_server_that_stands_still_is_asked_for_the_rest(server: Server, place: Path) -> None:
    released = threading.Event()

    def stand(handler: BaseHTTPRequestHandler, first: int) -> None:
        cut(1000)(handler, first)
        handler.wfile.flush()
        released.wait(30)

    server.behave = [stand]
    pull(server, place)
    released.set()
    assert place.read_bytes() == DATA
    assert server.asked == [None, "bytes=1000-"]


def test_a_line_that_is_always_cut_ends_in_one_line_and_the_next_run_goes_on(
    server: Server, place: Path
) -> None:
    server.behave = [cut(1000)] * (download.TRIES + 1)
    with pytest.raises(PlatformError, match=r"1,000 of 300,000 bytes are kept .* --file"):
        pull(server, place)
    assert part_of(place).stat().st_size == 1000
    assert not place.exists()
    pull(server, place)
    assert place.read_bytes() == DATA
    assert server.asked[-1] == "bytes=1000-"


def test_a_ctrl_c_leaves_what_came(server: Server, place: Path) -> None:
    # Whoever runs tests in the background of a shell has Ctrl-C ignored for them.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt(handler: BaseHTTPRequestHandler, first: int) -> None:
        cut(200_000)(handler, first)
        handler.wfile.flush()
        while not part_of(place).exists() or part_of(place).stat().st_size < 200_000:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.5)

    server.behave = [interrupt]
    try:
        with pytest.raises(KeyboardInterrupt):
            pull(server, place)
    finally:
        signal.signal(signal.SIGINT, before)
    assert part_of(place).read_bytes() == DATA[:200_000]
    pull(server, place)
    assert place.read_bytes() == DATA
    assert server.asked == [None, "bytes=200000-"]


def test_a_server_that_knows_no_ranges_begins_again(server: Server, place: Path) -> None:
    def from_the_start(handler: BaseHTTPRequestHandler, first: int) -> None:
        begin(handler, 0, len(DATA))
        handler.wfile.write(DATA)

    server.behave = [cut(1000), from_the_start]
    said = pull(server, place)
    assert place.read_bytes() == DATA
    assert "from the start" in said[1]


def test_a_part_of_something_else_is_dropped(server: Server, place: Path) -> None:
    place.parent.mkdir()
    part_of(place).write_bytes(bytes(400_000))
    pull(server, place)
    assert place.read_bytes() == DATA
    assert server.asked == [None]


def test_a_part_that_the_server_knows_nothing_of_is_dropped(server: Server, place: Path) -> None:
    place.parent.mkdir()
    part_of(place).write_bytes(DATA[:1000])
    server.behave = [refuse(416)]
    pull(server, place)
    assert server.asked == ["bytes=1000-", None]


def test_wrong_bytes_are_never_a_file(server: Server, place: Path) -> None:
    server.data = bytes(len(DATA))
    with pytest.raises(InputError, match=r"has SHA-256 .*, expected is .* nothing of it was read"):
        pull(server, place)
    assert left(place) == []


def test_a_rotten_part_is_found_out_at_the_end(server: Server, place: Path) -> None:
    place.parent.mkdir()
    part_of(place).write_bytes(bytes(1000))
    with pytest.raises(InputError, match="expected is"):
        pull(server, place)
    assert left(place) == []
    pull(server, place)
    assert place.read_bytes() == DATA


@pytest.mark.parametrize("size", [1, len(DATA) - 1, len(DATA) + 1])
def test_another_size_is_refused_before_a_byte_is_written(
    server: Server, place: Path, size: int
) -> None:
    with pytest.raises(InputError, match="another file"):
        pull(server, place, size=size)
    assert left(place) == []


def test_a_server_that_says_no_size_is_stopped_at_the_expected_one(
    server: Server, place: Path
) -> None:
    def endless(handler: BaseHTTPRequestHandler, first: int) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(DATA + b"x")

    server.behave = [endless]
    with pytest.raises(InputError, match=r"more than 300,000 bytes"):
        pull(server, place)
    assert left(place) == []


def test_redirects_are_followed_over_https_with_the_part(server: Server, place: Path) -> None:
    server.behave = [cut(1000), lead(server.address + "?elsewhere")]
    pull(server, place)
    assert place.read_bytes() == DATA
    assert server.asked == [None, "bytes=1000-", "bytes=1000-"]


@pytest.mark.parametrize(
    "to", ["http://localhost/model.onnx", "file:///etc/passwd", "ftp://localhost/x", "data:,x"]
)
def test_a_redirect_to_anything_else_is_refused(server: Server, place: Path, to: str) -> None:
    server.behave = [lead(to)]
    with pytest.raises(InputError) as caught:
        pull(server, place)
    assert "\n" not in str(caught.value)
    assert left(place) == []


def test_a_circle_of_redirects_ends(server: Server, place: Path) -> None:
    server.behave = [lead(server.address)] * 50
    with pytest.raises(InputError, match="302"):
        pull(server, place)


@pytest.mark.parametrize("address", ["http://localhost/x", "file:///etc/passwd"])
def test_an_address_that_is_no_https_is_refused(server: Server, place: Path, address: str) -> None:
    with pytest.raises(InputError, match="only https"):
        pull(server, place, address=address)


def test_what_is_not_there_says_so_at_once_and_a_busy_server_is_asked_again(
    server: Server, place: Path
) -> None:
    server.behave = [refuse(404)]
    with pytest.raises(InputError, match="404 Not Found"):
        pull(server, place)
    server.behave = [refuse(503), refuse(429)]
    said = pull(server, place)
    assert place.read_bytes() == DATA
    assert "is busy (503" in said[0]


def test_nobody_there_and_a_stranger_there_are_one_line(server: Server, place: Path) -> None:
    server.context = ssl.create_default_context()
    with pytest.raises(PlatformError, match="certificate verify failed"):
        pull(server, place)
    server.close()
    with pytest.raises(PlatformError, match=r"cannot be reached .* --file"):
        pull(server, place)


def test_a_full_disk_is_one_line_and_keeps_what_came(
    server: Server, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.parent.mkdir()
    part_of(place).symlink_to("/dev/full")
    with pytest.raises(InputError, match="No space left on device"):
        pull(server, place)
    part_of(place).unlink()
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match="no room for 300,000 more bytes"):
        pull(server, place)


def test_two_at_once_fetch_it_once(server: Server, place: Path) -> None:
    failures: list[SkyreidError] = []

    def run() -> None:
        try:
            pull(server, place)
        except SkyreidError as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert server.asked == [None]
    assert place.read_bytes() == DATA
