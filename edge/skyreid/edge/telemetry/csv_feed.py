"""A table of poses (CSV), as a feed: for logs, and for drones that speak a language of their own.

The first row names the columns: ``time_ns`` (UTC), ``latitude_deg``, ``longitude_deg``, one of
``height_ellipsoid_m``, ``height_msl_m`` and ``height_takeoff_m``, and where the camera looks:
``yaw_deg`` clockwise from true north, ``pitch_deg`` up positive, ``roll_deg`` clockwise, and
``fov_deg``, horizontal, or ``zoom`` with a lens table. Other columns are passed over.
"""

from __future__ import annotations

import csv
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from skyreid.contract.camera import CameraModel
from skyreid.contract.errors import InputError, SettingsError, reason
from skyreid.contract.geodesy import to_site
from skyreid.contract.site import Origin
from skyreid.contract.telemetry import axes, camera_at
from skyreid.edge.telemetry.geoid import geoid_height
from skyreid.edge.telemetry.lens import Lens
from skyreid.edge.telemetry.options import TelemetryOptions
from skyreid.edge.telemetry.poses import Picture

HEIGHTS = ("height_ellipsoid_m", "height_msl_m", "height_takeoff_m")
_NEEDED = ("time_ns", "latitude_deg", "longitude_deg", "yaw_deg", "pitch_deg")


class CsvFeed:
    """Rows of a table, each handed out with the frame before which it was said."""

    def __init__(
        self, path: Path, origin: Origin, options: TelemetryOptions, lens: Lens | None = None
    ) -> None:
        """Read the table.

        Raises:
            InputError: it cannot be read, lacks a column, or a row has no time.
            SettingsError: its heights are above take-off, and nobody says how high that was.
        """
        self._origin, self._options, self._lens = origin, options, lens
        self.fault = ""
        try:
            with open(path, newline="") as file:
                reader = csv.DictReader(file, strict=True)
                names = list(reader.fieldnames or ())
                rows = list(reader)
        except (OSError, ValueError, csv.Error) as error:
            raise InputError(f"telemetry {path}: {reason(error, path)}") from error
        columns = set(names) if rows else set()
        if twice := sorted(name for name, count in Counter(names).items() if count > 1):
            raise InputError(f"telemetry {path}: the column {', '.join(twice)} twice")
        missing = [name for name in _NEEDED if name not in columns]
        heights = [name for name in HEIGHTS if name in columns]
        if missing or len(heights) != 1:
            raise InputError(
                f"telemetry {path}: needs the columns {', '.join(_NEEDED)} and one of "
                f"{', '.join(HEIGHTS)}; lacks {', '.join(missing) or 'none'}, has "
                f"{', '.join(heights) or 'none'} of the heights"
            )
        self._height = heights[0]
        if self._height == "height_takeoff_m" and options.takeoff_height_m is None:
            raise SettingsError(
                f"telemetry {path} has heights above take-off: set telemetry.takeoff_height_m, how "
                "high that place is above the ellipsoid"
            )
        try:
            timed = [(int(row["time_ns"]), row) for row in rows]
        except (TypeError, ValueError) as error:
            raise InputError(f"telemetry {path}: time_ns: {error}") from error
        self._rows = sorted(timed, key=lambda each: each[0])
        self._times = [time_ns for time_ns, _ in self._rows]
        self._next = 0

    def take(self, frame: Picture) -> list[tuple[int, CameraModel]]:
        """See ``poses.Feed``."""
        self.fault = ""
        end = bisect_right(self._times, frame.captured_at_ns)
        said = []
        for time_ns, row in self._rows[self._next : end]:
            try:
                said.append((time_ns, self._camera(row, frame)))
            except (InputError, TypeError, ValueError) as error:
                self.fault = f"telemetry of {time_ns} ns: {error}"
        self._next = max(end, self._next)
        return said

    @property
    def lacks(self) -> str:
        """See ``poses.Feed``."""
        return (
            f"no row is of these frames, rows are of {self._times[0]} to {self._times[-1]} ns; see "
            "camera.file_start_ns"
        )

    def now(self, frame: Picture) -> int:
        """See ``poses.Feed``: both say UTC."""
        return frame.captured_at_ns

    def _camera(self, row: Mapping[str, str | None], frame: Picture) -> CameraModel:
        def number(name: str, usual: float | None = None) -> float:
            text = row.get(name)
            if not text and usual is not None:
                return usual
            value = float(text or "nothing")
            if not math.isfinite(value):
                raise ValueError(f"{name} {text}")
            return value

        latitude, longitude = number("latitude_deg"), number("longitude_deg")
        height = number(self._height)
        if self._height == "height_msl_m":
            height += geoid_height(latitude, longitude)
        elif self._height == "height_takeoff_m":
            height += self._options.takeoff_height_m or 0.0
        place = to_site(self._origin, latitude, longitude, height)
        looking = axes(number("yaw_deg"), number("pitch_deg"), number("roll_deg", 0.0))
        usual = self._options.fov_deg
        if self._lens is not None and row.get("zoom"):
            usual = self._lens.fov_deg(number("zoom"))
        return camera_at(place, looking, number("fov_deg", usual), frame.width, frame.height)
