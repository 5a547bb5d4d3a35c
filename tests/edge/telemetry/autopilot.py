"""An autopilot that says in MAVLink where a drone of `flights` is."""

from __future__ import annotations

from typing import Any

import pytest
from flights import START_NS, model_at

from skyreid.contract.site import Origin
from skyreid.synth.options import FlightPath

mavutil = pytest.importorskip("pymavlink.dialects.v20.common", reason="needs pymavlink")

import ground_autopilot  # noqa: E402  (it needs pymavlink)
from ground_autopilot import EARTH, LOCK, VEHICLE  # noqa: E402

__all__ = ["BOOT_NS", "EARTH", "LOCK", "VEHICLE", "Autopilot", "mavutil"]

BOOT_NS = START_NS - ground_autopilot.ON_FOR_NS


class Autopilot(ground_autopilot.Autopilot):  # type: ignore[misc]
    """Of a flight by formula."""

    def __init__(
        self, origin: Origin, *, path: FlightPath = "orbit", late_s: float = 0.0, **how: Any
    ) -> None:
        """``late_s``: it says of a moment where it was so long before."""
        super().__init__(origin, lambda t: model_at(t - late_s, path), START_NS, **how)
