"""`reidembed` inside of pipelines of others' elements."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from others import CALLS, Boxes, Pipe, Seen, run

from skyreid.bundle.detections import Detections
from skyreid.bundle.embedder import Embedder
from skyreid.bundle.signature import Trust
from skyreid.contract.sighting import Box, Clock, Kind, Modality, Pause, Sighting, View
from skyreid.edge.element.messages import sighting_of, sighting_structure
from skyreid.edge.people.collector import Collector
from skyreid.edge.people.quality import with_looks
from skyreid.edge.people.tracker import Tracker
from skyreid.edge.sighter import Follower, FrameDetector
from skyreid.edge.video.clock import FileClock
from skyreid.edge.video.pipeline import build, parse_source
from skyreid.edge.video.platform import load_gst, probe
from skyreid.edge.video.source import GstSource

FRAMES = 24
PATTERN = "videotestsrc num-buffers={n} pattern=smpte ! video/x-raw,format={form},{size}"
SIZE = "width=322,height=240,framerate=10/1"


def walkers(number: int) -> Boxes:
    """Two people who stand there, and a car."""
    assert number >= 0
    return [
        ("person", 20, 40, 40, 110, 0.9),
        ("Person", 140, 30, 44, 120, 0.75),
        ("car", 5, 200, 60, 30, 0.99),
    ]


def pipeline(models: Path, source: str, *, extra: str = "", after: str = "") -> str:
    CALLS["theirs"] = walkers
    return (
        f"{source} ! theirs name=theirs ! "
        f"reidembed name=reid bundle={models}/tiny view=aerial {extra} ! {after}"
        "tee name=t t. ! queue ! fakesink name=out t. ! queue ! fakesink"
    )


def pattern(form: str = "I420", size: str = SIZE, frames: int = FRAMES) -> str:
    return PATTERN.format(n=frames, form=form, size=size)


class TheirBoxes:
    """Finds what their element writes, as often as it is asked."""

    number = 0

    def find(self, picture: object) -> Detections:
        self.number += 1
        people = [b for b in walkers(self.number) if b[0] != "car"]
        boxes = np.array([(x, y, x + w, y + h) for _, x, y, w, h, _ in people], np.float32)
        return Detections(boxes, np.array([b[5] for b in people], np.float32))


def by_the_application(clip: Path, bundle: Path) -> list[Sighting]:
    """The parts of a device, put together as ``app.py`` does."""
    source = parse_source(str(clip))
    embedder = Embedder([bundle], view=View.AERIAL)

    def follow() -> tuple[Tracker, Collector]:
        made = Collector(embedder.embed, embedder.spec, camera="camera", view=View.AERIAL)
        return Tracker(), made

    follower = Follower("camera", FrameDetector(TheirBoxes(), with_looks), follow)
    said = []
    for frame in GstSource(build(source, probe()), source, FileClock(1)).frames(threading.Event()):
        said += [s.sighting for s in follower.look(frame).statements]
        frame.release()
    return said + [s.sighting for s in follower.finish().statements]


def test_embeddings_are_those_of_the_application_on_the_same_boxes(
    make_clip: Callable[[int, int, int], Path], models: Path, repository: Path
) -> None:
    clip, bundle = make_clip(322, 240, FRAMES), repository / "examples/bundle/vdt-tiny"
    wanted = by_the_application(clip, bundle)
    CALLS["theirs"] = walkers
    seen = run(
        f"filesrc location={clip} ! decodebin ! videoconvert ! theirs name=theirs ! "
        f"reidembed name=reid bundle={bundle} view=aerial ! tee name=t "
        "t. ! queue ! videoscale ! video/x-raw,width=160,height=120 ! videoconvert ! "
        "video/x-raw,format=RGB ! fakesink name=out t. ! queue ! fakesink"
    )
    assert seen.ended, seen
    assert len(wanted) >= 6
    assert [(s.track, s.revision, s.kind, s.crops) for s in seen.said] == [
        (s.track, s.revision, s.kind, s.crops) for s in wanted
    ]
    for mine, theirs in zip(seen.said, wanted, strict=True):
        assert np.abs(mine.embedding - theirs.embedding).max() <= 1e-6
        assert mine.box == theirs.box
        assert mine.quality == theirs.quality
    # Behind a scaler and a converter the buffers still say whom they show, and in which pixels.
    last = seen.people[-1]
    assert last is not None
    assert {p.frame_size for p in last} == {(322, 240)}
    latest = {s.track: s for s in seen.said if s.kind is not Kind.END}
    for person in last:
        assert person.embedding is not None
        np.testing.assert_array_equal(person.embedding, latest[person.track].embedding)
        assert person.revision == latest[person.track].revision


def test_a_message_says_what_a_sighting_does(models: Path) -> None:
    start = 1_700_000_000_000_000_000
    extra = f"camera=roof modality=infrared start-ns={start}"
    seen = run(pipeline(models, pattern(), extra=extra))
    first = seen.said[0]
    assert (first.camera, first.view, first.modality) == ("roof", View.AERIAL, Modality.INFRARED)
    assert (first.kind, first.revision, first.track) == (Kind.NEW, 1, 1)
    assert (first.clock, first.clock_error_ms, first.first_seen_ns) == (Clock.FILE, 0, start)
    assert first.captured_at_ns == start + 400_000_000
    assert (first.box.frame_width, first.box.frame_height) == (322, 240)
    assert np.linalg.norm(first.embedding) == pytest.approx(1, abs=1e-6)
    (found,) = [note for note in seen.notes if note.startswith("skyreid-detections")]
    assert "from=(string)GstVideoRegionOfInterestMeta" in found
    assert "gstreamer=(string)" in found


def test_a_message_says_when_nobody_saw_somebody() -> None:
    gst, _, _ = load_gst()
    start = 1_700_000_000_000_000_000
    two = Pause(start + 10**9 + 1, start + 2 * 10**9), Pause(start + 3 * 10**9, start + 5 * 10**9)
    for pauses in (two, ()):
        said = Sighting(
            seq=0, camera="roof", view=View.AERIAL, track=3, revision=2, kind=Kind.END,
            first_seen_ns=start, captured_at_ns=start + 6 * 10**9, clock=Clock.FILE,
            clock_error_ms=0, box=Box(1, 2, 3, 4, 322, 240), quality=0.5, crops=2,
            embedding=np.array([0.6, 0.8], np.float32), spread=0.9, pauses=pauses,
        )  # fmt: skip
        structure = sighting_structure(said, "key", {"pts-ns": 7})
        got = sighting_of(gst.Message.new_element(gst.Bin.new("any"), structure))
        assert got is not None
        assert got.pauses == pauses
        np.testing.assert_array_equal(got.embedding, said.embedding)


@pytest.mark.parametrize("form", ["NV12", "RGB", "BGR", "RGBx", "BGRx", "RGBA", "BGRA", "GRAY8"])
def test_every_format_is_looked_at_as_it_comes(models: Path, form: str) -> None:
    reference = run(pipeline(models, pattern()))
    seen = run(pipeline(models, pattern(form)))
    assert seen.ended, seen
    assert seen.formats == {form}
    assert len(seen.said) == len(reference.said) >= 6
    for mine, planes in zip(seen.said, reference.said, strict=True):
        if form == "GRAY8":  # the mean of a grey picture has no colour
            np.testing.assert_allclose(mine.embedding, np.full(3, 3**-0.5), atol=1e-6)
        else:
            assert float(mine.embedding @ planes.embedding) > 0.999


def test_another_size_in_the_middle_ends_everybody_and_begins_anew(models: Path) -> None:
    CALLS["theirs"] = walkers
    seen = run(
        f"concat name=c ! theirs name=theirs ! reidembed name=reid bundle={models}/tiny "
        f"view=ground ! fakesink name=out {pattern()} ! c. "
        f"{pattern(size='width=400,height=300,framerate=10/1')} ! c."
    )
    assert seen.ended, seen
    sizes = [{p.frame_size for p in people or []} for people in seen.people]
    assert sizes[FRAMES - 1] == {(322, 240)}
    assert sizes[-1] == {(400, 300)}
    small = {s.track for s in seen.said if s.box.frame_width == 322}
    large = {s.track for s in seen.said if s.box.frame_width == 400}
    assert (small, large) == ({1, 2}, {3, 4})
    assert [s.track for s in seen.said if s.kind is Kind.END] == [1, 2, 3, 4]


def test_the_last_word_about_everybody_comes_before_the_end_of_the_stream(models: Path) -> None:
    seen = run(pipeline(models, pattern()))
    assert seen.ended
    assert [(s.track, s.kind) for s in seen.said[-2:]] == [(1, Kind.END), (2, Kind.END)]


def test_a_seek_follows_nobody_from_one_time_into_another(
    make_clip: Callable[[int, int, int], Path], models: Path
) -> None:
    CALLS["theirs"] = walkers
    pipe = Pipe(
        f"filesrc location={make_clip(322, 240, FRAMES)} ! decodebin ! videoconvert ! "
        f"theirs name=theirs ! reidembed name=reid bundle={models}/tiny view=ground "
        "start-ns=1000000000000 ! fakesink name=out sync=true"
    )
    pipe.start()
    try:
        pipe.wait(until=lambda seen: len(seen.said) >= 2)
        before = {s.track for s in pipe.seen.said}
        gst = pipe.gst
        assert pipe.pipeline.seek_simple(gst.Format.TIME, gst.SeekFlags.FLUSH, 0)
        seen = pipe.wait()
    finally:
        pipe.stop()
    assert seen.ended
    ended = [s.track for s in seen.said if s.kind is Kind.END]
    assert set(ended[:2]) == before
    again = [s for s in seen.said if s.track > max(before)]
    assert len({s.track for s in again}) == 2
    assert min(s.first_seen_ns for s in again) < 1_000_400_000_000  # the file's own time
    assert pipe.stats()["frames"] > FRAMES


def test_it_goes_down_and_up_again(models: Path) -> None:
    pipe = Pipe(pipeline(models, pattern()))
    for _ in range(2):
        pipe.start()
        seen = pipe.wait()
        assert seen.ended, seen
        assert {s.track for s in seen.said} == {1, 2}
        pipe.pipeline.set_state(pipe.gst.State.READY)
        pipe.seen = Seen()
    pipe.stop()


def test_a_pause_in_the_middle_loses_nobody(models: Path) -> None:
    source = pattern().replace("videotestsrc", "videotestsrc is-live=true")
    pipe = Pipe(pipeline(models, source))
    pipe.start()
    try:
        pipe.wait(until=lambda seen: len(seen.said) >= 2)
        pipe.pipeline.set_state(pipe.gst.State.PAUSED)
        time.sleep(0.1)
        pipe.start()
        seen = pipe.wait()
    finally:
        pipe.stop()
    assert {s.track for s in seen.said} == {1, 2}
    assert {s.clock for s in seen.said} == {Clock.ARRIVAL}  # its source is live


def test_only_people_are_people_and_the_others_are_said_once(models: Path) -> None:
    pipe = Pipe(pipeline(models, pattern()))
    pipe.start()
    seen = pipe.wait()
    stats = pipe.stats()
    pipe.stop()
    assert {s.track for s in seen.said} == {1, 2}
    assert stats["region_label"] == FRAMES
    notes = [n for n in seen.notes if "region_label" in n]
    assert len(notes) == 1
    assert "of Person, car, person" in notes[0]
    everything = run(pipeline(models, pattern(), extra='labels=""'))
    assert {s.track for s in everything.said} == {1, 2, 3}


def test_without_anybodys_detections_it_says_what_to_do(models: Path) -> None:
    seen = run(
        f"{pattern(frames=110)} ! reidembed name=reid bundle={models}/tiny view=ground ! "
        "fakesink name=out"
    )
    assert seen.ended
    assert seen.said == []
    assert seen.people == [[]] * 110
    (note,) = seen.notes
    assert "none of 100 buffers carried detections (" in note
    assert "GstVideoRegionOfInterestMeta" in note
    assert "set property detector" in note


def test_the_kits_own_detector_looks_where_it_is_set(models: Path) -> None:
    seen = run(pipeline(models, pattern(), extra=f"detector={models}/blind"))
    assert seen.ended
    assert seen.said == []
    assert "from=(string)detector" in seen.notes[0]
    assert "is not used: property detector is set" in seen.notes[1]


def test_the_application_of_the_detector_is_the_elements(repository: Path) -> None:
    """The kit's two networks in a pipeline, and the same picture by hand."""
    clip = repository / "examples/clip/cam6.mp4"
    bundles = repository / "examples/bundle"
    seen = run(
        f"filesrc location={clip} ! decodebin ! identity eos-after=8 ! videoconvert ! "
        f"reidembed name=reid bundle={bundles}/vdt-tiny view=ground detector={bundles}/detector ! "
        "fakesink name=out"
    )
    assert seen.ended, seen
    assert len({s.track for s in seen.said}) >= 2
    assert seen.said[0].embedding.shape == (192,)


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("bundle=/nothing", "bundle /nothing does not exist"),
        ('bundle=""', "property bundle is not set"),
        ("view=above", "property view is 'above': aerial (a drone) or ground"),
        ("bundle={models}/blind", "is a detector, not an embedder"),
        ("detector={models}/tiny", "holds an embedder, not a detector"),
        ("tiles=9x1", "property tiles is '9x1': ROWSxCOLUMNS"),
        ("modality=red", "property modality is 'red': one of unknown, colour"),
        ("settings=/nothing.toml", "/nothing.toml"),
    ],
)
def test_what_it_cannot_use_is_one_line_of_an_error(models: Path, extra: str, said: str) -> None:
    pipe = Pipe(pipeline(models, pattern(), extra=extra.format(models=models)))
    pipe.start()
    seen = pipe.wait()
    pipe.stop()
    assert said in seen.error
    assert "\n" not in seen.error
    assert "Traceback" not in seen.debug


def test_trust_is_obeyed_and_so_are_tables_of_the_settings(models: Path, tmp_path: Path) -> None:
    from skyreid.export.signing import make_keys

    make_keys(tmp_path / "site.pem", tmp_path / "site.pub")
    strict = tmp_path / "edge.toml"
    strict.write_text('[trust]\nrequire_signature = true\nkeys = ["site.pub"]\n')
    for name in ("trust", "settings"):
        refused = run(pipeline(models, pattern(), extra=f"{name}={strict}"))
        assert "is not signed and trust.require_signature is set" in refused.error
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[crops]\ncrops_mx = 3\n")
    assert "crops_mx" in run(pipeline(models, pattern(), extra=f"settings={wrong}")).error
    few = tmp_path / "few.toml"
    few.write_text(
        'site = "s.toml"\n[crops]\ncrops_max = 1\ncrops_min = 1\n[tracker]\nhits_min = 9\n'
    )
    seen = run(pipeline(models, pattern(), extra=f"settings={few}"))
    assert {s.crops for s in seen.said} == {1}
    assert seen.said[0].captured_at_ns - seen.said[0].first_seen_ns == 800_000_000
    assert Trust().require_signature is False


def test_a_slow_model_does_not_hold_up_a_pipeline_that_goes_down(models: Path) -> None:
    """Its detector counts to a trillion in a light picture; a change of state must not wait."""
    pipe = Pipe(
        "videotestsrc pattern=white ! video/x-raw,format=I420,width=64,height=64 ! queue ! "
        f"reidembed name=reid bundle={models}/tiny view=ground detector={models}/hangs ! "
        "fakesink name=out"
    )
    pipe.start()
    pipe.wait(until=lambda seen: pipe.stats()["frames"] == 1)
    time.sleep(0.2)
    done = threading.Event()

    def down() -> None:
        pipe.stop()
        done.set()

    threading.Thread(target=down, daemon=True).start()
    assert done.wait(60), "the pipeline waits for the model"
    assert pipe.stats()["left"] == 1
    pipe.wait_for_thread_to_end()
    assert pipe.seen.error == ""


def test_a_frame_that_is_not_whole_is_passed_on_and_not_looked_at(models: Path) -> None:
    pipe = Pipe(pipeline(models, pattern()))
    gst = pipe.gst

    def spoil(pad: object, info: object) -> object:
        buffer = info.get_buffer()  # type: ignore[attr-defined]
        buffer.set_flags(gst.BufferFlags.CORRUPTED)
        return gst.PadProbeReturn.OK

    theirs = pipe.pipeline.get_by_name("theirs")
    theirs.get_static_pad("src").add_probe(gst.PadProbeType.BUFFER, spoil)
    pipe.start()
    seen = pipe.wait()
    stats = pipe.stats()
    pipe.stop()
    assert (stats["frames"], stats["looked"], stats["frame_damaged"]) == (FRAMES, 0, FRAMES)
    assert seen.people == [None] * FRAMES
