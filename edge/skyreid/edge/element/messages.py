"""What `reidembed` says of people: a GstCustomMeta on each buffer, element messages on the bus.

docs/gstreamer.md lists the fields. Both are written and read here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.sighting import Box, Clock, Kind, Modality, Pause, Sighting, View
from skyreid.edge.element.library import library
from skyreid.edge.people.tracker import Track
from skyreid.edge.video.platform import load_element_base, load_gst

META = "SkyreidPeople"
"""Name of the GstCustomMeta."""
SIGHTING = "skyreid-sighting"
"""Name of the structure of a message: one statement about one tracklet."""
DETECTIONS = "skyreid-detections"
"""The same: where the detections come from, said once a stream."""


@dataclass(frozen=True, eq=False)
class Person:
    """One person in one buffer."""

    track: int
    """From 1, never used again by this element."""
    box_xyxy: tuple[float, float, float, float]
    """In pixels of a picture of ``frame_size``; may reach out of it."""
    frame_size: tuple[int, int]
    """Width and height of the picture in which they were found."""
    score: float
    """Of the latest detection."""
    detected: bool
    """False: not found in this frame, the box is a prediction."""
    revision: int
    """Of the latest sighting; 0 = nothing is said yet."""
    quality: float
    """Of its crops, 0 to 1."""
    embedding: NDArray[np.float32] | None
    """float32 [D], L2-normalised, of the latest sighting; None before the first."""
    model_key: str
    """What must be equal for two embeddings to be compared."""


@cache
def register_meta() -> None:
    """Register `META` with GStreamer; it goes along where buffers are copied."""
    gst, _, _ = load_gst()
    if gst.Meta.get_info(META) is None:
        gst.Meta.register_custom(META, [], None)


def put_people(
    buffer: Any,
    tracks: Sequence[Track],
    sightings: Mapping[int, Sighting],
    *,
    frame_size: tuple[int, int],
    model_key: str,
) -> bool:
    """Put who is followed in a frame onto its buffer, which must be writable.

    Args:
        buffer: a ``Gst.Buffer``.
        tracks: whoever is followed.
        sightings: the latest of each track.
        frame_size: width and height of the picture.
        model_key: of the embeddings.

    Returns:
        Whether GStreamer took it.
    """
    gst, _, _ = load_gst()
    structure = gst.Structure.new_empty("people")
    confirmed = [track for track in tracks if track.confirmed]
    _fill(
        structure,
        {
            "people": len(confirmed),
            "width": frame_size[0],
            "height": frame_size[1],
            "model-key": model_key,
        },
    )
    for number, track in enumerate(confirmed):
        person = gst.Structure.new_empty("person")
        x0, y0, x1, y1 = (float(v) for v in track.box_xyxy)
        fields: dict[str, Any] = {"track": track.number, "x0": x0, "y0": y0, "x1": x1, "y1": y1}
        fields |= {"score": float(track.score), "detected": track.detected, "revision": 0}
        if (said := sightings.get(track.number)) is not None:
            fields |= {"revision": said.revision, "quality": said.quality}
            fields |= {"embedding": said.embedding}
        _fill(person, fields)
        structure.set_value(f"person-{number}", person)
    return _attach(buffer, structure)


def _attach(buffer: Any, structure: Any) -> bool:
    """Add the meta with the structure's fields."""
    lib = library()
    meta = lib.add_meta(hash(buffer), META.encode())
    if not meta:
        return False
    into, made = lib.meta_structure(meta), hash(structure)
    for index in range(structure.n_fields()):
        name = structure.nth_field_name(index).encode()
        lib.set_value(into, name, lib.value(made, name))
    return True


def people_of(buffer: Any) -> list[Person] | None:
    """Whom `reidembed` follows in a buffer; None where the buffer never passed through it.

    Args:
        buffer: a ``Gst.Buffer``, as of a pad probe or an appsink hands out.
    """
    register_meta()
    meta = buffer.get_custom_meta(META)
    if meta is None:
        return None
    said = meta.get_structure()
    size, key = (said.get_value("width"), said.get_value("height")), said.get_value("model-key")
    found = []
    for number in range(said.get_value("people")):
        person = said.get_value(f"person-{number}")
        x0, y0, x1, y1 = (person.get_value(corner) for corner in ("x0", "y0", "x1", "y1"))
        found.append(
            Person(
                person.get_value("track"),
                (x0, y0, x1, y1),
                size,
                person.get_value("score"),
                person.get_value("detected"),
                person.get_value("revision"),
                person.get_value("quality") or 0.0,
                _vector(person.get_value("embedding")),
                key,
            )
        )
    return found


def sighting_structure(sighting: Sighting, model_key: str, times: Mapping[str, int]) -> Any:
    """A sighting as the ``Gst.Structure`` of an element message.

    Args:
        sighting: what is said.
        model_key: of its embedding.
        times: of the buffer at which it is said, nanoseconds by name.
    """
    gst, _, _ = load_gst()
    s, structure = sighting, gst.Structure.new_empty(SIGHTING)
    _fill(
        structure,
        {
            "camera": s.camera,
            "view": s.view.word,
            "modality": s.modality.word,
            "track": s.track,
            "revision": s.revision,
            "kind": s.kind.name.lower(),
            "first-seen-ns": _Nanoseconds(s.first_seen_ns),
            "captured-at-ns": _Nanoseconds(s.captured_at_ns),
            "pauses": np.array([(p.begin_ns, p.end_ns) for p in s.pauses], "<i8"),
            "clock": s.clock.name.lower(),
            "clock-error-ms": s.clock_error_ms,
            "x0": s.box.x0,
            "y0": s.box.y0,
            "x1": s.box.x1,
            "y1": s.box.y1,
            "width": s.box.frame_width,
            "height": s.box.frame_height,
            "quality": s.quality,
            "crops": s.crops,
            "spread": s.spread,
            "model-key": model_key,
            "embedding": s.embedding,
            **{name: _Nanoseconds(value) for name, value in times.items()},
        },
    )
    return structure


def sighting_of(message: Any) -> Sighting | None:
    """The sighting in a ``Gst.Message`` of the bus; None where it is another message.

    Its ``seq`` is 0: numbers are a device's.
    """
    gst, _, _ = load_gst()
    if message.type != gst.MessageType.ELEMENT:
        return None
    said = message.get_structure()
    if said is None or said.get_name() != SIGHTING:
        return None
    get = said.get_value
    embedding = _vector(get("embedding"))
    assert embedding is not None
    corners = (get("x0"), get("y0"), get("x1"), get("y1"))
    return Sighting(
        seq=0,
        camera=get("camera"),
        view=View.of(get("view")),
        track=get("track"),
        revision=get("revision"),
        kind=Kind[get("kind").upper()],
        first_seen_ns=get("first-seen-ns"),
        captured_at_ns=get("captured-at-ns"),
        clock=Clock[get("clock").upper()],
        clock_error_ms=get("clock-error-ms"),
        box=Box(*corners, get("width"), get("height")),
        quality=get("quality"),
        crops=get("crops"),
        embedding=embedding,
        spread=get("spread"),
        ground=None,
        modality=Modality.of(get("modality")),
        pauses=_pauses(get("pauses")),
    )


class _Nanoseconds(int):
    """Becomes a gint64; other whole numbers become a guint."""


def _fill(structure: Any, fields: Mapping[str, Any]) -> None:
    """Set fields with the types of docs/gstreamer.md: PyGObject would guess others."""
    _, gobject, glib = load_element_base()
    for name, value in fields.items():
        if isinstance(value, np.ndarray):
            whole = np.issubdtype(value.dtype, np.integer)
            data = np.ascontiguousarray(value, "<i8" if whole else "<f4").tobytes()
            structure.set_value(name, glib.Bytes.new(data))
        elif isinstance(value, _Nanoseconds):
            structure.set_value(name, gobject.Value(gobject.TYPE_INT64, int(value)))
        elif isinstance(value, int) and not isinstance(value, bool):
            structure.set_value(name, gobject.Value(gobject.TYPE_UINT, value))
        else:
            structure.set_value(name, value)


def _pauses(data: Any) -> tuple[Pause, ...]:
    if data is None:
        return ()
    times = np.frombuffer(data.get_data() or b"", "<i8").reshape(-1, 2).tolist()
    return tuple(Pause(begin_ns, end_ns) for begin_ns, end_ns in times)


def _vector(data: Any) -> NDArray[np.float32] | None:
    if data is None:
        return None
    return np.frombuffer(data.get_data(), "<f4").astype(np.float32)
