"""An RTSP server in a process of its own, so that a test can kill or freeze it.

``python rtsp_server.py PORT [CLIP.mp4] [--login NAME PASSWORD] [--tls CERTIFICATE KEY]
[--klv CLIP]``: a test pattern, or a clip from its start for each client, at
``rtsp://127.0.0.1:PORT/s``. Says ``ready`` when it listens. Beside it cameras of other kinds:

``/shared`` goes on for all its clients, with a key frame every 4 s; ``/slow`` thinks for 3 s;
``/udp`` and ``/tcp`` carry pictures in one way; ``/sound`` has none; ``/lossy`` loses packets;
``/short`` ends after .4 s; ``/shared265`` is ``/shared`` in H.265; ``/grows`` is of another size
after 1.5 s; ``/small`` is the same as ``/s`` in half the size, ``/narrow`` is not; ``/klv`` is
``CLIP.mp4`` with the packets of ``CLIP.klv`` beside it.
"""

import argparse
import struct
import time
from pathlib import Path

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("port")
parser.add_argument("clip", nargs="?")
parser.add_argument("--login", nargs=2)
parser.add_argument("--tls", nargs=2)
parser.add_argument("--klv")
given = parser.parse_args()

Gst.init(None)
server = GstRtspServer.RTSPServer.new()
server.set_address("127.0.0.1")
server.set_service(given.port)
PAY = "rtph264pay config-interval=-1 name=pay0 pt=96"


def pattern(
    *, gop: int = 5, frames: int = -1, size: tuple[int, int] = (160, 120), codec: str = "x264enc"
) -> str:
    return (
        f"videotestsrc is-live=true pattern=smpte num-buffers={frames} ! "
        f"video/x-raw,format=I420,width={size[0]},height={size[1]},framerate=10/1 ! "
        f"{codec} speed-preset=ultrafast tune=zerolatency key-int-max={gop}"
    )


class Slow(GstRtspServer.RTSPMediaFactory):  # type: ignore[misc]
    def do_create_element(self, url: object) -> object:
        time.sleep(3)
        return Gst.parse_launch(f"( {pattern()} ! {PAY} )")


class Telling(GstRtspServer.RTSPMediaFactory):  # type: ignore[misc]
    def do_configure(self, media: GstRtspServer.RTSPMedia) -> None:
        source = media.get_element().get_by_name_recurse_up("klv")
        data = Path(f"{given.klv}.klv").read_bytes()
        while data:
            at_ns, size = struct.unpack(">QI", data[:12])
            buffer = Gst.Buffer.new_wrapped(data[12 : 12 + size])
            buffer.pts, data = at_ns, data[12 + size :]
            source.emit("push-buffer", buffer)


def mount(path: str, launch: str, *, shared: bool = False, way: int | None = None) -> None:
    factory = GstRtspServer.RTSPMediaFactory.new()
    factory.set_launch(f"( {launch} )")
    factory.set_shared(shared)
    if way is not None:
        factory.set_protocols(way)
    add(path, factory)


def add(path: str, factory: GstRtspServer.RTSPMediaFactory) -> None:
    if given.login or given.tls:
        allowed = GstRtspServer.RTSPPermissions.new()
        for role in ("user", "anybody"):
            for right in ("access", "construct"):
                allowed.add_permission_for_role(role, f"media.factory.{right}", True)
        factory.set_permissions(allowed)
    server.get_mount_points().add_factory(path, factory)


def token(role: str) -> GstRtspServer.RTSPToken:
    made = GstRtspServer.RTSPToken()
    made.set_string("media.factory.role", role)
    return made


if given.login or given.tls:
    auth = GstRtspServer.RTSPAuth.new()
    if given.login:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(*given.login, token("user"))
    else:
        auth.set_default_token(token("anybody"))
        auth.set_tls_certificate(Gio.TlsCertificate.new_from_files(*given.tls))
    server.set_auth(auth)

if given.clip:
    mount("/s", f'filesrc location="{given.clip}" ! qtdemux ! h264parse config-interval=-1 ! {PAY}')
else:
    mount("/s", f"{pattern()} ! {PAY}")
mount("/shared", f"{pattern(gop=40)} ! {PAY}", shared=True)
mount(
    "/shared265",
    f"{pattern(gop=40, codec='x265enc')} ! rtph265pay config-interval=-1 name=pay0 pt=96",
    shared=True,
)
first = pattern(frames=15, size=(160, 96))
mount("/grows", f"concat name=c ! {PAY}  {first} ! c.  {pattern(size=(320, 240))} ! c.")
add("/slow", Slow())
mount("/udp", f"{pattern()} ! {PAY}", way=GstRtsp.RTSPLowerTrans.UDP)
mount("/tcp", f"{pattern()} ! {PAY}", way=GstRtsp.RTSPLowerTrans.TCP)
mount("/sound", "audiotestsrc is-live=true ! alawenc ! rtppcmapay name=pay0 pt=8")
loses = "identity drop-probability=0.03 name=pay0"
mount("/lossy", f"{pattern(gop=10)} ! rtph264pay config-interval=-1 mtu=300 pt=96 ! {loses}")
mount("/short", f"{pattern(frames=4)} ! {PAY}")
mount("/small", f"{pattern(size=(80, 60))} ! {PAY}")
mount("/narrow", f"{pattern(size=(80, 120))} ! {PAY}")
if given.klv:
    with_klv = Telling()
    with_klv.set_launch(
        f'( filesrc location="{given.klv}.mp4" ! qtdemux ! h264parse config-interval=-1 ! {PAY} '
        "appsrc name=klv format=time caps=meta/x-klv,parsed=true ! rtpklvpay name=pay1 pt=97 )"
    )
    add("/klv", with_klv)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
