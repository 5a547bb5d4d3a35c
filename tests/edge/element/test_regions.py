"""Detections of others: read from a buffer, and put onto one in a pad probe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from others import Pipe, run

from skyreid.edge.element import Region, put_regions
from skyreid.edge.element.regions import (
    ANALYTICS,
    REGIONS,
    detections_of,
    readable,
    regions_of,
)
from skyreid.edge.video.platform import first_structure, load_element_base, load_gst

STILL = "videotestsrc num-buffers=12 ! video/x-raw,format=I420,width=320,height=240,framerate=10/1"


def test_what_a_pad_probe_puts_onto_a_buffer_is_read_from_it(needs_gst: None) -> None:
    """Of a buffer that another branch holds too: it is copied, and the other has nothing."""
    gst, _, _ = load_gst()
    pipeline = gst.parse_launch(
        f"{STILL} ! tee name=t t. ! queue ! identity name=ours ! fakesink name=out "
        "t. ! queue ! fakesink name=other"
    )
    put = [Region("person", 10, 20, 40, 80, 0.25), Region("dog", -5, 0, 30, 40, 0.5)]
    found: dict[str, list[tuple[str, list[Region]]]] = {"out": [], "other": []}

    def write(pad: Any, info: Any) -> Any:
        put_regions(info, put)
        return gst.PadProbeReturn.OK

    def reader(name: str) -> Any:
        def read(pad: Any, info: Any) -> Any:
            found[name].append(regions_of(hash(info.get_buffer())))
            return gst.PadProbeReturn.OK

        return read

    pipeline.get_by_name("ours").get_static_pad("sink").add_probe(gst.PadProbeType.BUFFER, write)
    for name in found:
        pad = pipeline.get_by_name(name).get_static_pad("sink")
        pad.add_probe(gst.PadProbeType.BUFFER, reader(name))
    pipeline.set_state(gst.State.PLAYING)
    bus = pipeline.get_bus()
    message = bus.timed_pop_filtered(60 * gst.SECOND, gst.MessageType.EOS | gst.MessageType.ERROR)
    pipeline.set_state(gst.State.NULL)
    assert message is not None
    assert message.type == gst.MessageType.EOS
    inside = [put[0], Region("dog", 0, 0, 30, 40, 0.5)]
    assert found["out"] == [(REGIONS, inside)] * 12
    assert found["other"] == [("", [])] * 12


def test_a_detector_in_a_pad_probe_feeds_the_element(models: Path) -> None:
    pipe = Pipe(
        f"{STILL} ! identity name=theirs ! reidembed name=reid bundle={models}/tiny view=ground ! "
        "fakesink name=out"
    )
    gst = pipe.gst

    def detect(pad: Any, info: Any) -> Any:
        put_regions(info, [Region("person", 30, 40, 70, 150, 0.8)])
        return gst.PadProbeReturn.OK

    pad = pipe.pipeline.get_by_name("theirs").get_static_pad("src")
    pad.add_probe(gst.PadProbeType.BUFFER, detect)
    pipe.start()
    seen = pipe.wait()
    pipe.stop()
    assert seen.ended, seen
    assert {s.track for s in seen.said} == {1}
    last = seen.people[-1]
    assert last is not None
    assert last[0].score == pytest.approx(0.8, abs=1e-6)


def test_people_are_picked_cut_and_sorted() -> None:
    regions = [
        Region("person", -10, 5, 50, 90, 0.3),
        Region("PERSON", 300, 200, 400, 300, 0.9),
        Region("person", 400, 10, 440, 90, 0.5),  # beyond the picture
        Region("person", 10, 10, 50, 90, float("nan")),
        Region("face", 20, 10, 30, 20, 0.99),
    ]
    people, left = detections_of(regions, {"person"}, width=320, height=240)
    np.testing.assert_array_equal(people.boxes, [[300, 200, 320, 240], [0, 5, 50, 90]])
    np.testing.assert_allclose(people.scores, [0.9, 0.3], atol=1e-6)
    assert left == {"label": 1, "empty": 2}
    nobody, left = detections_of([], {"person"}, width=320, height=240)
    assert nobody.boxes.shape == (0, 4)
    assert left == {}


def test_gstanalytics_goes_before_regions(models: Path) -> None:
    """GStreamer has it from 1.24 on."""
    if ANALYTICS not in readable():
        pytest.skip("this GStreamer has no GstAnalytics")
    import gi

    gi.require_version("GstAnalytics", "1.0")
    from gi.repository import GstAnalytics

    gst, _, video = load_gst()
    base, _, glib = load_element_base()

    class Both(base.BaseTransform):  # type: ignore[misc, name-defined]
        __gtype_name__ = "Both"

        def do_transform_ip(self, buffer: Any) -> Any:
            video.buffer_add_video_region_of_interest_meta(buffer, "person", 200, 40, 40, 110)
            meta = GstAnalytics.buffer_add_analytics_relation_meta(buffer)
            meta.add_od_mtd(glib.quark_from_string("person"), 30, 40, 40, 110, 0.75)
            return gst.FlowReturn.OK

    Both.set_metadata("Both", "Filter", "writes both", "somebody else")
    for name, way in (("sink", gst.PadDirection.SINK), ("src", gst.PadDirection.SRC)):
        caps = gst.Caps.from_string("video/x-raw")
        Both.add_pad_template(gst.PadTemplate.new(name, way, gst.PadPresence.ALWAYS, caps))
    assert gst.Element.register(None, "both", 0, Both)
    seen = run(
        f"{STILL} ! both ! reidembed name=reid bundle={models}/tiny view=ground ! fakesink name=out"
    )
    assert {(s.box.x0, s.box.x1) for s in seen.said} == {(30.0, 70.0)}
    assert f"from=(string){ANALYTICS}" in seen.notes[0]


def test_a_structure_of_caps_is_one_under_any_overrides() -> None:
    """From 1.26 on GStreamer's overrides hand out a wrapper: every frame ended in a traceback."""

    class Wrapper:
        def __enter__(self) -> str:
            return "the structure"

    class Caps:
        def __init__(self, said: object) -> None:
            self.said = said

        def get_structure(self, index: int) -> object:
            return self.said

    assert first_structure(Caps(Wrapper())) == "the structure"
    assert first_structure(Caps("the structure")) == "the structure"
