"""A sighting as its device sent it, as JSON without its embedding."""

from __future__ import annotations

from typing import Any

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.sighting import Clock, Kind, Lane
from skyreid.contract.sighting_wire import decode_sighting
from skyreid.server.matching.identity import State


def sighting_json(row: tuple[Any, ...], state: State) -> dict[str, Any]:
    """A row of (device, boot, lane, model key, width, received, body), with who it is now."""
    device, boot, lane, model_key, dim, received_at_ns, body = row
    s = decode_sighting(body, dim)
    key = TrackKey(device, boot, s.camera, s.track)
    return {
        **key.to_json(),
        "seq": s.seq,
        "view": s.view.word,
        "modality": s.modality.word,
        "revision": s.revision,
        "kind": Kind(s.kind).name.lower(),
        "lane": Lane(lane).name.lower(),
        "first_seen_ns": s.first_seen_ns,
        "captured_at_ns": s.captured_at_ns,
        "pauses": [{"begin_ns": p.begin_ns, "end_ns": p.end_ns} for p in s.pauses],
        "received_at_ns": received_at_ns,
        "clock": Clock(s.clock).name.lower(),
        "clock_error_ms": s.clock_error_ms,
        "box": {
            "x0": s.box.x0,
            "y0": s.box.y0,
            "x1": s.box.x1,
            "y1": s.box.y1,
            "frame_width": s.box.frame_width,
            "frame_height": s.box.frame_height,
        },
        "quality": s.quality,
        "crops": s.crops,
        "spread": s.spread,
        "ground": None
        if s.ground is None
        else {"east_m": s.ground.east_m, "north_m": s.ground.north_m},
        "model_key": model_key,
        "identity": state.tracks.get(key),
    }
