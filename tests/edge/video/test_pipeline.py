import pytest

from skyreid.contract.errors import PlatformError, SettingsError
from skyreid.edge.video.kind import Login, Source
from skyreid.edge.video.pipeline import build, parse_source
from skyreid.edge.video.platform import Platform

_BASE = (
    "appsink decodebin3 filesrc rtph264depay rtspsrc videoconvert videoflip videotestsrc qtdemux "
    "h264parse udpsrc srtsrc tsdemux tsparse"
).split()
CPU = Platform(
    (1, 22, 0),
    frozenset([*_BASE, "avdec_h264"]),
    frozenset(["rtspsrc.add-reference-timestamp-meta", "srtsrc.auto-reconnect"]),
)
JP6 = Platform((1, 20, 3), frozenset([*_BASE, "nvv4l2decoder", "nvvidconv"]), l4t="36.4")
TAIL = "video/x-raw,format=(string){NV12,I420} ! appsink name=sink sync=false"

TURN = "videoflip name=turn video-direction=auto"
GOLDEN = {
    ("cpu", "file"): (
        'filesrc name=source location="/clips/a b.mp4" ! decodebin3 name=decode ! videoconvert ! '
        f"{TURN} ! {TAIL} max-buffers=4 drop=false"
    ),
    ("cpu", "rtsp"): (
        "rtspsrc name=source protocols=tcp latency=100 add-reference-timestamp-meta=true "
        "decodebin3 name=decode ! videoconvert ! "
        f"{TURN} ! {TAIL} max-buffers=2 drop=true"
    ),
    ("jp6", "file"): (
        'filesrc name=source location="/clips/a b.mp4" ! decodebin3 name=decode ! nvvidconv ! '
        f"{TURN} ! {TAIL} max-buffers=4 drop=false"
    ),
    ("jp6", "rtsp"): (
        "rtspsrc name=source protocols=tcp latency=100 decodebin3 name=decode ! nvvidconv ! "
        f"{TURN} ! {TAIL} max-buffers=2 drop=true"
    ),
    ("cpu", "udp"): (
        'udpsrc name=source buffer-size=4194304 caps="video/mpegts,systemstream=(boolean)true,'
        'packetsize=(int)188" ! decodebin3 name=decode ! videoconvert ! '
        f"{TURN} ! {TAIL} max-buffers=2 drop=true"
    ),
    ("cpu", "srt"): (
        "srtsrc name=source latency=100 auto-reconnect=false ! tsparse ! decodebin3 name=decode ! "
        f"videoconvert ! {TURN} ! {TAIL} max-buffers=2 drop=true"
    ),
    ("jp6", "srt"): (
        "srtsrc name=source latency=100 ! tsparse ! decodebin3 name=decode ! nvvidconv ! "
        f"{TURN} ! {TAIL} max-buffers=2 drop=true"
    ),
    ("cpu", "test"): (
        "videotestsrc num-buffers=50 pattern=ball ! "
        "video/x-raw,format=I420,width=64,height=48,framerate=5/1 ! videoconvert ! "
        f"{TAIL} max-buffers=4 drop=false"
    ),
}
SOURCES = {
    "file": Source("file", "/clips/a b.mp4"),
    "rtsp": Source("rtsp", "rtsp://cam/1"),
    "test": Source("test", "64x48@5"),
    "udp": Source("udp", "udp://239.1.2.3:5004?iface=eth0"),
    "srt": Source("srt", "srt://drone:8890?mode=caller", Login("live", "0123456789")),
}


@pytest.mark.parametrize(("machine", "kind"), GOLDEN)
def test_the_pipeline_of_a_source_on_a_machine_is_known_text(machine: str, kind: str) -> None:
    platform = {"cpu": CPU, "jp6": JP6}[machine]
    assert build(SOURCES[kind], platform) == GOLDEN[machine, kind]


def test_latency_and_transport_reach_the_source() -> None:
    text = build(SOURCES["rtsp"], CPU, latency_ms=250, transport="udp")
    assert "protocols=udp latency=250 " in text


def test_a_file_name_cannot_add_elements() -> None:
    text = build(Source("file", '/x" ! fakesink name="y'), CPU)
    assert r'location="/x\" ! fakesink name=\"y" !' in text


def test_a_camera_s_address_and_login_are_in_no_pipeline_text() -> None:
    source = parse_source('rtsp://user:pw@cam/1" ! fakesink name="y'.replace('"', "%22"))
    text = build(source, CPU)
    assert "cam" not in text.replace("name=", "")
    assert "pw" not in text
    assert "fakesink" not in text


def test_a_missing_element_names_its_package() -> None:
    without = Platform((1, 22, 0), CPU.elements - {"rtspsrc"})
    with pytest.raises(PlatformError, match=r"rtspsrc: apt-get install gstreamer1.0-plugins-good"):
        build(SOURCES["rtsp"], without)


@pytest.mark.parametrize(
    ("kind", "lacking", "package"),
    [
        ("srt", "srtsrc", "gstreamer1.0-plugins-bad"),
        ("udp", "tsdemux", "gstreamer1.0-plugins-bad"),
        ("rtsp", "rtpklvdepay", "gstreamer1.0-plugins-good"),
    ],
)
def test_a_drone_s_stream_that_this_gstreamer_cannot_read_names_the_plugin(
    kind: str, lacking: str, package: str
) -> None:
    without = Platform((1, 22, 0), CPU.elements - {lacking})
    with pytest.raises(PlatformError, match=f"{lacking}: apt-get install {package}") as caught:
        build(SOURCES[kind], without, klv=True)
    assert caught.value.exit_code == 4


def test_a_machine_without_any_decoder_is_told_which_package_has_one() -> None:
    without = Platform((1, 22, 0), CPU.elements - {"avdec_h264"})
    with pytest.raises(PlatformError, match=r"gstreamer1.0-libav"):
        build(SOURCES["file"], without)
    build(SOURCES["test"], without)  # nothing to decode


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("/a/b.mp4", Source("file", "/a/b.mp4")),
        ("file:///a/b%20c.mp4", Source("file", "/a/b c.mp4")),
        ("rtsp://u:p@cam:8554/s", Source("rtsp", "rtsp://cam:8554/s", Login("u", "p"))),
        ("rtsps://u%40:p%2F:@cam/s", Source("rtsp", "rtsps://cam/s", Login("u@", "p/:"))),
        ("udp://0.0.0.0:5004", Source("udp", "udp://0.0.0.0:5004")),
        ("udp://@:5004", Source("udp", "udp://0.0.0.0:5004")),
        (
            "udp://@239.1.2.3:5004?iface=eth0",
            Source("udp", "udp://239.1.2.3:5004?iface=eth0"),
        ),
        ("udp://[ff15::7]:5004", Source("udp", "udp://[ff15::7]:5004")),
        ("srt://drone:8890", Source("srt", "srt://drone:8890?mode=caller")),
        ("srt://:8890", Source("srt", "srt://:8890?mode=listener")),
        (
            "srt://h:1?streamid=read:cam&passphrase=a%26bcdefghi",
            Source("srt", "srt://h:1?mode=caller", Login("read:cam", "a&bcdefghi")),
        ),
        ("test://", Source("test", "640x480@10")),
        ("test://64x48@5", Source("test", "64x48@5")),
    ],
)
def test_a_source_is_read(text: str, source: Source) -> None:
    assert parse_source(text) == source


@pytest.mark.parametrize("text", ["http://x/y.mp4", "test://big"])
def test_a_source_of_another_kind_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingsError, match=r"camera\.source '"):
        parse_source(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("udp://drone:5004", "an address of this machine"),
        ("udp://0.0.0.0", "write udp://ADDRESS:PORT"),
        ("udp://0.0.0.0:0", "write udp://ADDRESS:PORT"),
        ("udp://1.2.3.4.5:5004", "write udp://ADDRESS:PORT"),
        ('udp://239.1.2.3:5004?iface=x" ! y', "write udp://ADDRESS:PORT"),
        ("srt://:8890?mode=caller", "no srt://HOST:PORT"),
        ("srt://h", "no srt://HOST:PORT"),
        ("srt://h:99999", "no srt://HOST:PORT"),
        ("srt://h:1?mode=rendezvous", "no srt://HOST:PORT"),
        ("srt://u:secret@h:1", "no srt://HOST:PORT"),
        ("srt://h:1?latency=5", "latency is no key"),
        ("srt://h:1?passphrase=secret", "10 to 79 characters"),
    ],
)
def test_an_address_of_a_drone_that_is_none_is_refused_and_shows_no_secret(
    text: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        parse_source(text)
    assert "secret" not in str(caught.value)


def test_a_login_is_given_once_and_only_to_who_asks() -> None:
    login = Login("", "0123456789")
    assert parse_source("srt://h:1", login=login).login == login
    with pytest.raises(SettingsError, match="give one"):
        parse_source("srt://h:1?streamid=x", login=login)
    with pytest.raises(SettingsError, match="is not for a udp:// source"):
        parse_source("udp://0.0.0.0:5004", login=login)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("srt://cam:8890?passphrase=secretsecret", "srt://cam:8890/..."),
        ("udp://0.0.0.0:5004", "udp://0.0.0.0:5004"),
        ("rtsp://user:secret@cam:8554/s", "rtsp://cam:8554/..."),
        ("rtsp://user:s%2Fe%40c^!$&@[::1]:8554/s?a=1", "rtsp://[::1]:8554/..."),
        ("rtsp://cam/user=admin&password=secret&channel=1", "rtsp://cam/..."),
        ("rtsp://cam?password=secret", "rtsp://cam/..."),
        ("rtsp://cam/live/admin/secret/1", "rtsp://cam/..."),
        ("rtsps://cam/", "rtsps://cam/"),
        ("rtsp://cam", "rtsp://cam"),
    ],
)
def test_the_name_of_a_camera_is_its_address_and_no_more(text: str, name: str) -> None:
    source = parse_source(text)
    assert source.name == name
    assert "secret" not in repr(source)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("rtsp://cam/s", ("cam", 554)),
        ("rtsps://cam/s", ("cam", 322)),
        ("rtsp://[::1]:8554/s", ("::1", 8554)),
        ("rtsp://[fe80::1]", ("fe80::1", 554)),
        ("srt://drone:8890?streamid=x", ("drone", 8890)),
        ("udp://@239.1.2.3:5004", ("239.1.2.3", 5004)),
    ],
)
def test_the_address_of_a_camera_is_read(text: str, address: tuple[str, int]) -> None:
    assert parse_source(text).address == address


@pytest.mark.parametrize("size", ["10x10", "15x64", "64x8193", "64x48@0", "64x48@241", "big"])
def test_a_test_pattern_of_a_size_that_kills_gstreamer_is_refused(size: str) -> None:
    with pytest.raises(SettingsError, match="sides are 16 to 8192 pixels"):
        parse_source(f"test://{size}")


def test_a_small_test_pattern_has_no_ball_that_is_larger_than_its_picture() -> None:
    assert "pattern=gradient" in build(parse_source("test://16x16@5"), CPU)


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://",
        "rtsp://admin:se/cret@127.0.0.1/s",
        "rtsp://admin:554/cret@127.0.0.1/s",
        "rtsp://admin:se@cret@127.0.0.1/s",
        'rtsp://admin:se"cret@127.0.0.1/s',
        "rtsp://admin:se cret@127.0.0.1/s",
        "rtsp://admin:se[cret@127.0.0.1/s",
    ],
)
def test_an_address_whose_login_could_not_be_told_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(SettingsError, match="write %40 for @") as caught:
        parse_source(text)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("kind", SOURCES)
def test_every_pipeline_for_this_machine_is_accepted_by_gstreamer(
    kind: str, needs_gst: None
) -> None:
    from skyreid.edge.video.platform import load_gst, probe

    gst, _, _ = load_gst()
    pipeline = gst.parse_launch(build(SOURCES[kind], probe()))
    assert pipeline.get_by_name("sink") is not None
