"""An application of somebody else's around `reidembed`: docs/gstreamer.md.

Its own detector (here OpenCV's background subtraction; yours goes there) runs in a pad probe of its
own pipeline; `reidembed` gives whom it finds an id and an embedding. Says each sighting, and writes
a picture of the last of the frames in which most people had an embedding.

    python examples/reidembed.py VIDEO [--view ground] [--bundle BUNDLE] [--out people.png]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import cv2
import gi
import numpy as np
from numpy.typing import NDArray

import skyreid.edge.element as skyreid  # registers the element; before GStreamer is loaded

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

BUNDLE = Path(__file__).parent / "bundle" / "vdt-tiny"
PIPELINE = (
    "filesrc name=file ! decodebin ! videoconvert ! video/x-raw,format=BGR ! "
    "identity name=detector ! reidembed name=reid ! fakesink name=out"
)


def pixels(pad: Any, buffer: Any) -> NDArray[np.uint8]:
    """A BGR buffer as uint8 [H, W, 3], a copy."""
    caps = pad.get_current_caps().to_string()
    width, height = (
        int(caps.split(f"{side}=(int)")[1].split(",")[0]) for side in ("width", "height")
    )
    data = np.frombuffer(buffer.extract_dup(0, buffer.get_size()), np.uint8)
    rows = data.reshape(height, -1)  # rows are filled up to multiples of four bytes
    return rows[:, : 3 * width].reshape(height, width, 3)


class Detector:
    """Whatever moves against a still background: your own detector goes here."""

    def __init__(self) -> None:
        self._background = cv2.createBackgroundSubtractorMOG2(history=200, detectShadows=True)

    def find(self, picture: NDArray[np.uint8]) -> list[tuple[float, float, float, float, float]]:
        """x0, y0, x1, y1 and a confidence of each."""
        moving = (self._background.apply(picture) == 255).astype(np.uint8)
        moving = cv2.morphologyEx(moving, cv2.MORPH_CLOSE, np.ones((9, 5), np.uint8))
        count, _, stats, _ = cv2.connectedComponentsWithStats(moving)
        boxes = [tuple(int(v) for v in row[:4]) for row in stats[1:count]]
        return [(x, y, x + w, y + h, 0.8) for x, y, w, h in boxes if h >= 30 and h > w]

    def probe(self, pad: Any, info: Any) -> Any:
        """Put the boxes onto the buffer that passes."""
        found = self.find(pixels(pad, info.get_buffer()))
        skyreid.put_regions(info, [skyreid.Region("person", *box) for box in found])
        return Gst.PadProbeReturn.OK


class Drawn:
    """Keeps the fullest picture, with ids on it."""

    def __init__(self) -> None:
        self.most, self.picture = 0, np.zeros((8, 8, 3), np.uint8)

    def probe(self, pad: Any, info: Any) -> Any:
        """Take in a buffer behind the element."""
        buffer = info.get_buffer()
        seen = skyreid.people_of(buffer) or []
        people = [p for p in seen if p.detected and p.embedding is not None]
        if people and len(people) >= self.most:
            self.most, self.picture = len(people), pixels(pad, buffer).copy()
            for person in people:
                x0, y0, x1, y1 = (int(v) for v in person.box_xyxy)
                colour = (110, 210, 70)
                cv2.rectangle(self.picture, (x0, y0), (x1, y1), colour, 2)
                at, font = (x0, max(y0 - 4, 12)), cv2.FONT_HERSHEY_SIMPLEX
                cv2.putText(self.picture, f"{person.track}", at, font, 0.5, colour, 1, cv2.LINE_AA)
        return Gst.PadProbeReturn.OK


def main() -> int:
    """Run it; exit 1 where GStreamer reports an error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--view", choices=("aerial", "ground"), default="ground")
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--detector", type=Path, help="a detector bundle of the kit's instead")
    parser.add_argument("--tiles", default="1x1")
    parser.add_argument("--out", type=Path, default=Path("people.png"))
    given = parser.parse_args()
    pipeline = Gst.parse_launch(PIPELINE)
    pipeline.get_by_name("file").set_property("location", str(given.video))
    reid = pipeline.get_by_name("reid")
    for name in ("bundle", "view", "detector", "tiles"):
        if (value := getattr(given, name)) is not None:
            reid.set_property(name, str(value))
    drawn = Drawn()
    if given.detector is None:
        pad = pipeline.get_by_name("detector").get_static_pad("src")
        pad.add_probe(Gst.PadProbeType.BUFFER, Detector().probe)
    pad = pipeline.get_by_name("out").get_static_pad("sink")
    pad.add_probe(Gst.PadProbeType.BUFFER, drawn.probe)
    pipeline.set_state(Gst.State.PLAYING)
    code = 0
    while True:
        message = pipeline.get_bus().timed_pop(Gst.CLOCK_TIME_NONE)
        said = skyreid.sighting_of(message)
        if said is not None:
            first = ", ".join(f"{v:+.3f}" for v in said.embedding[:4])
            sys.stdout.write(
                f"track {said.track} {said.kind.name.lower()} crops={said.crops} "
                f"quality={said.quality:.2f} embedding=[{first}, ...]\n"
            )
        elif message.type == Gst.MessageType.ERROR:
            sys.stderr.write(f"{message.parse_error()[0].message}\n")
            code = 1
            break
        elif message.type == Gst.MessageType.EOS:
            break
    pipeline.set_state(Gst.State.NULL)
    if drawn.most:
        cv2.imwrite(str(given.out), drawn.picture)
        sys.stdout.write(f"wrote {given.out}: {drawn.most} people\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
