"""Sends a transport stream at its own pace, in a process of its own, so that a test can kill it.

``python ts_sender.py CLIP.ts SINK [LOSS]``: ``SINK`` is text of GStreamer, as
``udpsink port=5004``; ``LOSS`` is the share of packets that do not arrive.
"""

import random
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

Gst.init(None)
loss = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
pipeline = Gst.parse_launch(
    f'filesrc location="{sys.argv[1]}" ! tsparse set-timestamps=true alignment=7 ! '
    f"identity name=line ! {sys.argv[2]}"
)
dice = random.Random(5)


def lose(_pad: Gst.Pad, info: Gst.PadProbeInfo) -> Gst.PadProbeReturn:
    """Packets one by one: a datagram has fewer of them then."""
    data = info.get_buffer().extract_dup(0, info.get_buffer().get_size())
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    kept = b"".join(packet for packet in packets if dice.random() >= loss)
    if len(kept) == len(data):
        return Gst.PadProbeReturn.OK
    if kept:
        buffer = Gst.Buffer.new_wrapped(kept)
        buffer.pts = info.get_buffer().pts
        pipeline.get_by_name("line").get_static_pad("src").push(buffer)
    return Gst.PadProbeReturn.DROP


if loss:
    line = pipeline.get_by_name("line").get_static_pad("sink")
    line.add_probe(Gst.PadProbeType.BUFFER, lose)
pipeline.set_state(Gst.State.PLAYING)
kinds = Gst.MessageType.EOS | Gst.MessageType.ERROR
message = pipeline.get_bus().timed_pop_filtered(Gst.CLOCK_TIME_NONE, kinds)
if message.type == Gst.MessageType.ERROR:
    print(message.parse_error(), file=sys.stderr)
pipeline.set_state(Gst.State.NULL)
