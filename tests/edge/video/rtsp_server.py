"""An RTSP server in a process of its own, so that a test can kill or freeze it.

``python rtsp_server.py PORT [CLIP.mp4]``: a test pattern, or a clip from its start for each client,
at ``rtsp://127.0.0.1:PORT/s``. Says ``ready`` when it listens.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

Gst.init(None)
port, *clip = sys.argv[1:]
if clip:
    head = f'filesrc location="{clip[0]}" ! qtdemux ! h264parse config-interval=-1'
else:
    head = (
        "videotestsrc is-live=true pattern=smpte ! "
        "video/x-raw,format=I420,width=160,height=120,framerate=10/1 ! "
        "x264enc speed-preset=ultrafast tune=zerolatency key-int-max=5"
    )
server = GstRtspServer.RTSPServer.new()
server.set_address("127.0.0.1")
server.set_service(port)
factory = GstRtspServer.RTSPMediaFactory.new()
factory.set_launch(f"( {head} ! rtph264pay name=pay0 pt=96 )")
server.get_mount_points().add_factory("/s", factory)
server.attach(None)
print("ready", flush=True)
GLib.MainLoop().run()
