"""What a drone at a height will make of people, before it flies: `skyreid-edge plan`.

Pixels are geometry. Recall and FNIR are looked up in ``altitude.json``, which `skyreid-train
altitude` makes of the **rendered** world (its docstring says what is measured): a real drone must
be expected to do worse, and none was measured.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from skyreid.bundle.archive import open_bundle
from skyreid.contract.errors import InputError, reason

PERSON_M = (1.7, 0.5)
"""Height of a person, and depth, which is what is left of the height from straight above."""
RECALL_MIN = 0.5
FNIR_MAX = 0.5
"""Worse than a coin: a drone must not be used there."""
HIGHEST_M = 500
LARGER = 1.5
"""How much larger than anything rendered people may be."""


@dataclass(frozen=True)
class Expected:
    """At one height; `None` outside of what was rendered."""

    pixels_a_metre: float
    person_px: float
    recall: float | None
    fnir: float | None
    fnir_interval: tuple[float, float] | None

    @property
    def usable(self) -> bool:
        """Whether both rates are known and better than a coin's."""
        return (
            self.recall is not None
            and self.fnir is not None
            and self.recall >= RECALL_MIN
            and self.fnir <= FNIR_MAX
        )


@dataclass(frozen=True)
class Camera:
    """How a drone looks: degrees below the horizon, degrees across the picture, its width."""

    pitch_deg: float
    hfov_deg: float
    width_px: int

    def __post_init__(self) -> None:
        if not 0 < self.pitch_deg <= 90:
            raise InputError(f"--pitch {self.pitch_deg:g}: degrees below the horizon, up to 90")
        if not 1 <= self.hfov_deg <= 170:
            raise InputError(f"--hfov {self.hfov_deg:g}: degrees across the picture, 1 to 170")
        if not 16 <= self.width_px <= 20_000:
            raise InputError(f"--width {self.width_px}: pixels across the picture, 16 to 20000")

    def pixels_a_metre(self, height_m: float) -> float:
        """Across the view, on the ground in the middle of the picture."""
        focal_px = self.width_px / 2 / math.tan(math.radians(self.hfov_deg) / 2)
        return focal_px * math.sin(math.radians(self.pitch_deg)) / height_m


class Table:
    """What `skyreid-train altitude` wrote.

    Args:
        table: as it stands in the file.
    """

    def __init__(self, table: dict[str, Any]) -> None:
        self.detector = str(table["detector"]["sha256"])
        self.embedder = str(table["embedder"]["sha256"])
        self.command, self.people = str(table["command"]), int(table["people"])
        cells = table["cells"]
        self._pitches = sorted({float(cell["pitch_deg"]) for cell in cells})
        self._columns = {
            pitch: sorted(
                (cell for cell in cells if cell["pitch_deg"] == pitch),
                key=lambda cell: float(cell["pixels_a_metre"]),
            )
            for pitch in self._pitches
        }

    def expected(self, camera: Camera, height_m: float) -> Expected:
        """Between the four nearest cells: linear in degrees and in the logarithm of pixels."""
        pixels = camera.pixels_a_metre(height_m)
        pitch = math.radians(camera.pitch_deg)
        person = pixels * (PERSON_M[0] * math.cos(pitch) + PERSON_M[1] * math.sin(pitch))
        recall = self._at(camera.pitch_deg, pixels, lambda cell: cell["recall"])
        fnir = self._at(camera.pitch_deg, pixels, lambda cell: cell["fnir"])
        low, high = (
            self._at(
                camera.pitch_deg,
                pixels,
                lambda cell, end=end: cell["fnir_interval"] and cell["fnir_interval"][end],
            )
            for end in (0, 1)
        )
        interval = None if low is None or high is None else (low, high)
        return Expected(pixels, person, recall, fnir, interval)

    def _at(self, pitch_deg: float, pixels: float, value: Any) -> float | None:
        # From 89 degrees on a drone looks straight down, as far as a table can tell.
        pitch = min(pitch_deg, self._pitches[-1])
        if pitch < self._pitches[0]:
            return None
        above = min(
            int(np.searchsorted(self._pitches, pitch)),
            len(self._pitches) - 1,
        )
        below = max(above - 1, 0) if self._pitches[above] > pitch else above
        flatter, steeper = (
            self._along(self._pitches[index], pixels, value) for index in (below, above)
        )
        if flatter is None or steeper is None:
            return None
        at = [self._pitches[below], self._pitches[above]]
        return float(np.interp(pitch, at, [flatter, steeper]))

    def _along(self, pitch: float, pixels: float, value: Any) -> float | None:
        """At one pitch. People somewhat larger than were rendered count as the largest."""
        column = self._columns[pitch]
        at = [float(cell["pixels_a_metre"]) for cell in column]
        found = [value(cell) for cell in column]
        if not at[0] * (1 - 1e-9) <= pixels <= at[-1] * LARGER:
            return None
        pixels = min(max(pixels, at[0]), at[-1])
        right = min(int(np.searchsorted(at, pixels)), len(at) - 1)
        left = right if at[right] == pixels else right - 1
        if found[left] is None or found[right] is None:
            return None
        ends = np.log([at[left], at[right]])
        return float(np.interp(math.log(pixels), ends, [found[left], found[right]]))


def shipped() -> Table:
    """The table of the bundles in `examples/bundle`."""
    text = (files(__package__) / "altitude.json").read_text(encoding="utf-8")
    return Table(json.loads(text))


def read(path: Path) -> Table:
    """A table of other bundles.

    Raises:
        InputError: it is none.
    """
    try:
        return Table(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no table of `skyreid-train altitude`: {reason(error, path)}"
        ) from error


def band_m(table: Table, camera: Camera) -> tuple[int, int] | None:
    """The least and largest height in whole metres at which it may be used; None for nowhere."""
    usable = [height for height in range(1, HIGHEST_M + 1) if table.expected(camera, height).usable]
    return (min(usable), max(usable)) if usable else None


def lines(table: Table, camera: Camera, height_m: float, bundles: Sequence[Path] = ()) -> list[str]:
    """What `skyreid-edge plan` prints.

    Raises:
        InputError: the height is none, or a bundle cannot be opened.
    """
    if not 0 < height_m <= 10_000:
        raise InputError(f"--height {height_m:g}: metres above the people, above 0")
    at, band = table.expected(camera, height_m), band_m(table, camera)
    said = [
        f"pixels a metre     {at.pixels_a_metre:.1f}",
        f"pixels a person    {at.person_px:.0f} high, standing, in the middle of the picture",
        f"detector's recall  {_rate(at.recall)}  rendered only",
        f"FNIR at FPIR 1 %   {_rate(at.fnir)}{_between(at.fnir_interval)}  rendered only, "
        f"one crop among {table.people} people of street cameras",
    ]
    where = f"pitch {camera.pitch_deg:g}, hfov {camera.hfov_deg:g}, {camera.width_px} px"
    why = f"recall below {RECALL_MIN:g}, FNIR above {FNIR_MAX:g}, or nothing rendered"
    if band is None:
        said.append(f"must not be used   at any height ({where}): {why}")
    else:
        said.append(f"must not be used   below {band[0]} or above {band[1]} m ({where}): {why}")
    if not at.usable:
        said.append(f"MUST NOT BE USED at {height_m:g} m")
    for path in bundles:
        bundle = open_bundle(path)
        kind = "embedder" if bundle.manifest.detector is None else "detector"
        made_by = table.embedder if kind == "embedder" else table.detector
        if bundle.sha256 != made_by:
            said.append(
                f"ANOTHER {kind.upper()}: the table was made by {made_by[:12]}, {path} is "
                f"{bundle.sha256[:12]}; make its own: {table.command}, and give it with --table"
            )
    return said


def _rate(value: float | None) -> str:
    return "not known" if value is None else f"{value:.2f}"


def _between(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" ({interval[0]:.2f} to {interval[1]:.2f})"
