"""GStreamer's C functions for what PyGObject cannot do: walk a buffer's metas, write into one.

PyGObject takes a reference on a buffer that it hands out, with which GStreamer lets nobody write to
it, has no use for a C iterator's state, and gives a copy of a meta's structure. ``hash`` of a boxed
object is its address.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

_P, _U = ctypes.c_void_p, ctypes.c_uint32


class Mtd(ctypes.Structure):
    """GstAnalyticsMtd since 1.24."""

    _fields_ = (("id", ctypes.c_uint), ("meta", _P))


class Library:
    """GStreamer's C functions; ``analytics`` is None before GStreamer 1.24."""

    def __init__(self) -> None:
        core, video = ctypes.CDLL("libgstreamer-1.0.so.0"), ctypes.CDLL("libgstvideo-1.0.so.0")
        glib = ctypes.CDLL("libglib-2.0.so.0")
        state, number = ctypes.POINTER(_P), ctypes.POINTER(ctypes.c_double)
        self.next_meta = _typed(
            core.gst_buffer_iterate_meta_filtered, _P, _P, state, ctypes.c_size_t
        )
        self.name = _typed(core.gst_structure_get_name, ctypes.c_char_p, _P)
        self.number = _typed(
            core.gst_structure_get_double, ctypes.c_int, _P, ctypes.c_char_p, number
        )
        self.copy = _typed(core.gst_mini_object_make_writable, _P, _P)
        self.structure = _typed(core.gst_structure_new_from_string, _P, ctypes.c_char_p)
        self.value = _typed(core.gst_structure_get_value, _P, _P, ctypes.c_char_p)
        self.set_value = _typed(core.gst_structure_set_value, None, _P, ctypes.c_char_p, _P)
        self.add_meta = _typed(core.gst_buffer_add_custom_meta, _P, _P, ctypes.c_char_p)
        self.meta_structure = _typed(core.gst_custom_meta_get_structure, _P, _P)
        self.quark = _typed(glib.g_quark_to_string, ctypes.c_char_p, _U)
        self.regions = _typed(
            video.gst_video_region_of_interest_meta_api_get_type, ctypes.c_size_t
        )()
        sides = [ctypes.c_uint] * 4
        self.add_region = _typed(
            video.gst_buffer_add_video_region_of_interest_meta, _P, _P, ctypes.c_char_p, *sides
        )
        add_param = video.gst_video_region_of_interest_meta_add_param
        self.add_param = _typed(add_param, None, _P, _P)
        try:
            self.analytics: Analytics | None = Analytics()
        except OSError:
            self.analytics = None


class Analytics:
    def __init__(self) -> None:
        found = ctypes.CDLL("libgstanalytics-1.0.so.0")
        mtd, side = ctypes.POINTER(Mtd), ctypes.POINTER(ctypes.c_int)
        self.of = _typed(found.gst_buffer_get_analytics_relation_meta, _P, _P)
        self.detection = _typed(found.gst_analytics_od_mtd_get_mtd_type, ctypes.c_size_t)()
        self.next = _typed(
            found.gst_analytics_relation_meta_iterate,
            ctypes.c_int, _P, ctypes.POINTER(_P), ctypes.c_size_t, mtd,
        )  # fmt: skip
        self.place = _typed(
            found.gst_analytics_od_mtd_get_location,
            ctypes.c_int, mtd, side, side, side, side, ctypes.POINTER(ctypes.c_float),
        )  # fmt: skip
        self.label = _typed(found.gst_analytics_od_mtd_get_obj_type, _U, mtd)


def _typed(function: Any, result: Any, *arguments: Any) -> Any:
    function.restype, function.argtypes = result, arguments
    return function


@cache
def library() -> Library:
    return Library()
