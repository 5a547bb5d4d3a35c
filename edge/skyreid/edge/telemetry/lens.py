"""Lens table: the field of view at each zoom, for cameras that say how far they zoom and no angle.

A CSV with the columns ``zoom``, in what the camera says (MAVLink's CAMERA_SETTINGS has 0 to 100,
others a factor), and ``fov_deg``, horizontal. Between two rows the focal length is linear.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from skyreid.contract.errors import InputError, reason


class Lens:
    """A lens table."""

    def __init__(self, path: Path) -> None:
        """Read it.

        Raises:
            InputError: it cannot be read, has no two rows, or one that is no zoom and angle.
        """
        rows: list[tuple[float, float]] = []
        try:
            with open(path, newline="") as file:
                for row in csv.DictReader(file, strict=True):
                    rows.append((float(row["zoom"]), float(row["fov_deg"])))
        except KeyError as error:
            raise InputError(f"lens table {path}: needs the columns zoom and fov_deg") from error
        except (OSError, TypeError, ValueError, csv.Error) as error:
            raise InputError(f"lens table {path}: {reason(error, path)}") from error
        rows.sort()
        self._zooms = np.array([zoom for zoom, _ in rows])
        angles = np.array([angle for _, angle in rows])
        if len(rows) < 2 or not np.isfinite(self._zooms).all() or (np.diff(self._zooms) <= 0).any():
            raise InputError(f"lens table {path}: needs two rows or more, each of another zoom")
        if not ((angles > 0.1) & (angles < 179)).all():
            raise InputError(f"lens table {path}: fov_deg is .1 to 179 degrees, has {angles}")
        self._focals = 1 / np.tan(np.radians(angles) / 2)

    def fov_deg(self, zoom: float) -> float:
        """Horizontal field of view at a zoom.

        Raises:
            InputError: the table does not reach so far.
        """
        low, high = self._zooms[0], self._zooms[-1]
        if not low <= zoom <= high:
            raise InputError(
                f"telemetry says a zoom of {zoom:g}, the lens table has {low:g} to {high:g}"
            )
        return math.degrees(2 * math.atan(1 / float(np.interp(zoom, self._zooms, self._focals))))
