"""Detections of others that a buffer carries: GstAnalytics, or GstVideo regions of interest."""

from __future__ import annotations

import ctypes
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skyreid.bundle.detections import Detections
from skyreid.edge.element.library import Analytics, Library, Mtd, library

ANALYTICS, REGIONS = "GstAnalyticsRelationMeta", "GstVideoRegionOfInterestMeta"
_SURE = 1.0
"""Of a region that says no confidence."""
_P, _U = ctypes.c_void_p, ctypes.c_uint32


@dataclass(frozen=True)
class Region:
    """One box of somebody else."""

    label: str
    x0: float
    y0: float
    x1: float
    y1: float
    confidence: float = _SURE


class _Meta(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_int), ("info", _P))


class _RegionMeta(ctypes.Structure):
    """GstVideoRegionOfInterestMeta since 1.14."""

    _fields_ = (
        ("meta", _Meta),
        ("label", _U),
        ("id", ctypes.c_int),
        ("parent", ctypes.c_int),
        ("x", ctypes.c_uint),
        ("y", ctypes.c_uint),
        ("w", ctypes.c_uint),
        ("h", ctypes.c_uint),
        ("params", _P),
    )


class _List(ctypes.Structure):
    _fields_ = (("data", _P), ("next", _P), ("prev", _P))


class _ProbeInfo(ctypes.Structure):
    """Head of GstPadProbeInfo."""

    _fields_ = (("type", ctypes.c_int), ("id", ctypes.c_ulong), ("data", _P))


def readable() -> tuple[str, ...]:
    """What this machine's GStreamer can carry detections in, the first goes before the second."""
    return (ANALYTICS, REGIONS) if library().analytics is not None else (REGIONS,)


def regions_of(address: int) -> tuple[str, list[Region]]:
    """What a buffer carries, and in which meta; of both, only what GstAnalytics says.

    Args:
        address: of the GstBuffer: ``hash(buffer)``.

    Returns:
        The meta's name, empty where the buffer has none of either, and its boxes in pixels.
    """
    lib = library()
    if lib.analytics is not None and (meta := lib.analytics.of(address)):
        return ANALYTICS, list(_detections(lib, lib.analytics, meta))
    found = list(_regions(lib, address))
    return (REGIONS, found) if found else ("", [])


def _detections(lib: Library, analytics: Analytics, meta: int) -> Iterator[Region]:
    state, mtd = _P(), Mtd()
    sides = [ctypes.c_int() for _ in range(4)]
    confidence = ctypes.c_float()
    while analytics.next(meta, ctypes.byref(state), analytics.detection, ctypes.byref(mtd)):
        pointers = [ctypes.byref(side) for side in sides]
        if analytics.place(ctypes.byref(mtd), *pointers, ctypes.byref(confidence)):
            x, y, w, h = (float(side.value) for side in sides)
            label = _word(lib, analytics.label(ctypes.byref(mtd)))
            yield Region(label, x, y, x + w, y + h, float(confidence.value))


def _regions(lib: Library, address: int) -> Iterator[Region]:
    state = _P()
    while found := lib.next_meta(address, ctypes.byref(state), lib.regions):
        meta = _RegionMeta.from_address(found)
        x, y, w, h = (float(side) for side in (meta.x, meta.y, meta.w, meta.h))
        yield Region(_word(lib, meta.label), x, y, x + w, y + h, _confidence(lib, meta.params))


def _word(lib: Library, quark: int) -> str:
    return (lib.quark(quark) or b"").decode("utf-8", "replace")


def _confidence(lib: Library, params: int | None) -> float:
    """Of a region's parameters ``detection``, as DL Streamer's elements say it, or the first."""
    value = ctypes.c_double()
    said: float | None = None
    while params:
        entry = _List.from_address(params)
        if lib.number(entry.data, b"confidence", ctypes.byref(value)):
            if lib.name(entry.data) == b"detection":
                return value.value
            said = value.value if said is None else said
        params = entry.next
    return _SURE if said is None else said


def detections_of(
    regions: Sequence[Region], labels: Collection[str], *, width: int, height: int
) -> tuple[Detections, dict[str, int]]:
    """The people among somebody else's boxes, best first.

    Args:
        regions: of a buffer.
        labels: those that are people, in lower case; none = all.
        width: of the picture in pixels; what lies outside of it is cut off.
        height: the same.

    Returns:
        The people, and how many regions were left out by reason: ``label``, ``empty``.
    """
    people = [r for r in regions if not labels or r.label.lower() in labels]
    boxes = np.array([(r.x0, r.y0, r.x1, r.y1) for r in people], np.float32).reshape(-1, 4)
    scores = np.array([r.confidence for r in people], np.float32)
    boxes = np.clip(boxes, 0, np.array([width, height] * 2, np.float32))
    real = (boxes[:, 2] - boxes[:, 0] >= 1) & (boxes[:, 3] - boxes[:, 1] >= 1)
    real &= np.isfinite(scores)
    boxes, scores = boxes[real], np.clip(scores[real], 0, 1)
    order = np.argsort(-scores, kind="stable")
    left = {"label": len(regions) - len(people), "empty": int((~real).sum())}
    return Detections(boxes[order], scores[order]), {k: n for k, n in left.items() if n}


def put_regions(info: Any, regions: Sequence[Region]) -> None:
    """Put boxes onto the buffer of a pad probe as GstVideoRegionOfInterestMeta.

    For a detector that lives in a Python pad probe: PyGObject's own way, ``info.get_buffer()``,
    takes a reference, with which GStreamer refuses to add anything. A buffer that others hold too
    is copied (its memory is not), as in ``gst_buffer_make_writable``.

    Args:
        info: the ``Gst.PadProbeInfo`` that the probe was called with, of a buffer.
        regions: boxes in whole pixels, inside of the picture.
    """
    lib = library()
    probe = _ProbeInfo.from_address(hash(info))
    probe.data = lib.copy(probe.data)
    for r in regions:
        x, y = max(round(r.x0), 0), max(round(r.y0), 0)
        w, h = max(round(r.x1) - x, 0), max(round(r.y1) - y, 0)
        meta = lib.add_region(probe.data, r.label.encode(), x, y, w, h)
        said = f"detection, confidence=(double){r.confidence:.9g};"
        lib.add_param(meta, lib.structure(said.encode()))
