"""A device without eyes, in a process of its own, so that a test can kill it.

``python device.py PORT SPOOL FRAMES``: one sighting a frame, 20 ms apart, then the drain. Says
``frame N`` for each frame and how many sightings remain at the end.
"""

import sys
import threading
import time
from collections.abc import Generator
from pathlib import Path

import numpy as np

from skyreid.contract.device import Birth, BirthCamera
from skyreid.contract.sighting import Box, Clock, Kind, ModelRef, Sighting, View
from skyreid.contract.sighting_wire import encode_sighting
from skyreid.edge.delivery.options import OutboxOptions
from skyreid.edge.delivery.outbox import Outbox
from skyreid.edge.delivery.publisher import Publisher
from skyreid.edge.delivery.rows import Row
from skyreid.edge.delivery.spool import Spool
from skyreid.edge.flow import Flow, FlowOptions, Stop
from skyreid.edge.sighter import Said
from skyreid.edge.video.frame import Frame

START_NS = 1_700_000_000_000_000_000
MODEL = ModelRef("0123456789abcdef", 4, "b" * 64, "test")


class Pattern:
    dropped: dict[str, int] = {}  # noqa: RUF012

    def silent_s(self) -> float:
        return 0.0

    def __init__(self, count: int) -> None:
        self.count = count

    def frames(self, stop: threading.Event) -> Generator[Frame, None, None]:
        picture = np.zeros((8, 8, 3), np.uint8)
        for number in range(1, self.count + 1):
            if stop.is_set():
                return
            time.sleep(0.02)
            print(f"frame {number}", flush=True)
            at = START_NS + number * 100_000_000
            yield Frame.of_rgb(picture, number=number, captured_at_ns=at)


class OneEach:
    """One sighting a frame."""

    def look(self, frame: Frame) -> Said:
        sighting = Sighting(
            seq=frame.number,
            camera="cam1",
            view=View.AERIAL,
            track=1,
            revision=frame.number,
            kind=Kind.UPDATE,
            first_seen_ns=START_NS,
            captured_at_ns=frame.captured_at_ns,
            clock=Clock.FILE,
            clock_error_ms=0,
            box=Box(0, 0, 4, 8, 8, 8),
            quality=0.5,
            crops=1,
            embedding=np.full(4, 0.5, np.float32),
            spread=1.0,
        )
        row = Row(frame.number, frame.captured_at_ns, encode_sighting(sighting))
        return Said((row,), (), frame.captured_at_ns + 1, 1)

    def finish(self) -> Said:
        return Said((), (), START_NS + 10**15)


def main() -> None:
    port, path, count = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    with Spool(path) as spool:
        publisher = Publisher(("127.0.0.1", port), site="square", device="dev1")
        outbox = Outbox(
            spool,
            site="square",
            device="dev1",
            model=MODEL,
            options=OutboxOptions(resend_after_s=2.0),
        )
        options = FlowOptions(drain_timeout_s=60.0)
        flow = Flow(Pattern(count), OneEach(), spool, outbox, MODEL, options)
        camera = BirthCamera(id="cam1", view="aerial")
        publisher.start(Birth(boot=spool.boot, model=MODEL, cameras=(camera,)), flow.notify)
        outcome = flow.run(Stop())
        publisher.stop()
        print(f"remaining {outcome.remaining}", flush=True)


if __name__ == "__main__":
    main()
