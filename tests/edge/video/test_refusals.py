"""Symptoms of cameras that are there and give no pictures: each has its reason and its pace."""

import hashlib
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cameras import RtspServer, Watch
from certificates import Authority

from skyreid.contract.errors import SettingsError
from skyreid.edge.video.kind import Access, Login
from skyreid.edge.video.rtsp import trust
from skyreid.edge.video.source import Limits, State

PASSWORD = 'p@ss[w"o r:d/%41\\é'
LOGIN = Login("the admin", PASSWORD)


@pytest.fixture
def serve(
    needs_rtsp: None, environment: dict[str, str], free_port: int
) -> Iterator[Callable[..., RtspServer]]:
    """Start a server of cameras with options."""
    servers = []

    def start(*options: str) -> RtspServer:
        server = RtspServer(free_port, environment, *options)
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.kill()


def refused(watch: Watch, wait_until: Callable[..., None]) -> str:
    """Why a camera is tried again late."""
    wait_until(lambda: watch.source.state is State.REFUSED)
    watch.close()
    assert watch.frames == []
    return watch.said(State.REFUSED)[-1]


def streams(watch: Watch, wait_until: Callable[..., None]) -> None:
    wait_until(lambda: len(watch.frames) >= 2)
    watch.close()
    assert watch.error is None


def test_a_password_of_any_characters_opens_a_camera_and_a_wrong_one_is_tried_once(
    serve: Callable[..., RtspServer], wait_until: Callable[..., None]
) -> None:
    url = serve("--login", LOGIN.username, PASSWORD).url("s")
    streams(Watch(url, login=LOGIN), wait_until)
    wrong = Watch(url, login=Login(LOGIN.username, "no"))
    why = refused(wrong, wait_until)
    assert "refuses this login (401): see camera.username and camera.password" in why
    assert wrong.source.lost == {"unauthorized": 1}
    assert "wants a login (401)" in refused(Watch(url), wait_until)


def test_the_pauses_after_a_refusal_lock_no_camera(needs_gst: None) -> None:
    """At most four attempts in any half hour; cameras lock after about five."""
    from skyreid.edge.video.kind import Lost

    watch = Watch("rtsp://127.0.0.1:1/s")
    watch.close()
    lost = Lost("unauthorized", "x", needs_human=True)
    at, times = 0.0, [0.0]
    for _ in range(8):
        at += watch.source._after(lost, 0)
        times.append(at)
    assert all(b - a > 1800 for a, b in zip(times, times[4:], strict=False))


@pytest.mark.parametrize("path", ["udp", "tcp"])
def test_a_camera_that_carries_pictures_in_one_way_only_is_asked_for_that(
    path: str, rtsp: RtspServer, wait_until: Callable[..., None]
) -> None:
    streams(Watch(rtsp.url(path)), wait_until)


def test_a_way_of_carrying_pictures_that_the_camera_has_not_is_named(
    rtsp: RtspServer, wait_until: Callable[..., None]
) -> None:
    watch = Watch(rtsp.url("udp"), access=Access("tcp"))
    assert "(461): see camera.transport" in refused(watch, wait_until)


def test_a_camera_with_sound_alone_is_said_to_have_no_video(
    rtsp: RtspServer, wait_until: Callable[..., None]
) -> None:
    assert "offers audio, no video" in refused(Watch(rtsp.url("sound")), wait_until)


def test_a_stream_that_is_not_there_yet_is_tried_again_soon(
    rtsp: RtspServer, wait_until: Callable[..., None]
) -> None:
    watch = Watch(rtsp.url("nowhere"))
    wait_until(lambda: watch.source.lost["not_found"] >= 2)
    watch.close()


def test_a_camera_that_needs_longer_than_a_stall_to_begin_streams(
    rtsp: RtspServer, wait_until: Callable[..., None]
) -> None:
    watch = Watch(rtsp.url("slow"), limits=Limits(stall_s=1.0))
    streams(watch, wait_until)
    assert watch.names()[:2] == ["connecting", "streaming"]


def test_a_camera_that_takes_too_long_to_begin_is_given_up_by_its_own_setting(
    rtsp: RtspServer, wait_until: Callable[..., None]
) -> None:
    watch = Watch(rtsp.url("slow"), limits=Limits(connect_s=0.6, backoff_s=(0.1, 0.1)))
    wait_until(lambda: sum(watch.source.lost.values()) >= 2)
    watch.close()
    assert watch.frames == []


# --- rtsps ----------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


def secure(server: RtspServer) -> str:
    return server.url("s", "rtsps").replace("127.0.0.1", "localhost")


def test_a_certificate_is_believed_by_its_authority_its_fingerprint_or_not_at_all(
    serve: Callable[..., RtspServer],
    authority: Authority,
    tmp_path: Path,
    wait_until: Callable[..., None],
) -> None:
    certificate, key = authority.sign("camera")
    url = secure(serve("--tls", str(certificate), str(key)))
    print_ = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).hexdigest()
    other = Authority(tmp_path / "..", "other").ca
    for access in (
        Access(tls_ca=authority.ca),
        Access(tls_fingerprint=print_),
        Access(tls_verify=False),
    ):
        streams(Watch(url, access=access), wait_until)
    why = refused(Watch(url), wait_until)
    assert "certificate is refused: its authority is not known here" in why
    assert "see camera.tls_ca and camera.tls_fingerprint" in why
    assert "authority" in refused(Watch(url, access=Access(tls_ca=other)), wait_until)
    why = refused(Watch(url, access=Access(tls_fingerprint="0" * 64)), wait_until)
    assert f"its fingerprint is {print_}" in why
    named = Watch(url.replace("localhost", "127.0.0.1"), access=Access(tls_ca=authority.ca))
    assert "for another name than this address" in refused(named, wait_until)


def test_a_camera_that_speaks_no_tls_is_said_to(
    rtsp: RtspServer, wait_until: Callable[..., None]
) -> None:
    why = refused(Watch(rtsp.url("s", "rtsps")), wait_until)
    assert "tls: TLS: wrong version number" in why


def test_a_file_that_holds_no_authority_is_named_before_anything_is_opened(
    tmp_path: Path, needs_gst: None
) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(SettingsError, match=r"camera\.tls_ca .*ca\.pem"):
        trust(tmp_path / "ca.pem")


def test_why_a_camera_cannot_be_reached_is_kept(
    needs_gst: None, free_port: int, wait_until: Callable[..., None]
) -> None:
    watch = Watch(f"rtsp://127.0.0.1:{free_port}/s")
    wait_until(lambda: watch.source.lost["unreachable"] >= 2)
    watch.close()
    assert watch.said(State.BACKOFF)[0] == f"unreachable: 127.0.0.1:{free_port}: Connection refused"
    assert threading.active_count() >= 1
