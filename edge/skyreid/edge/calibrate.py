"""What known places in stills say of a drone's camera: ``skyreid-edge calibrate``.

A still of ``skyreid-edge check --landmark`` or ``preview --still`` has a file of its name beside it
that ends in ``.json``: the pose that telemetry said. Whoever finds places in the stills whose
latitude and longitude they know writes them into a table; the rest is a fit.

People are places too, where street cameras with poses saw them at the moment at which the drone
did: ``skyreid-server places`` writes the table, and a recorded run (``run --record``) has
the poses.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.camera import (
    FLAT,
    CameraModel,
    CameraPoses,
    Plane,
    read_poses,
    write_poses,
)
from skyreid.contract.errors import InputError, SettingsError, reason
from skyreid.contract.geodesy import to_site
from skyreid.contract.recording import read_said_poses
from skyreid.contract.rotation import turn, turned_by
from skyreid.contract.sighting import View
from skyreid.contract.site import Origin
from skyreid.edge.people.ground import MIDDLE_M
from skyreid.edge.people.terrain import Terrain
from skyreid.edge.telemetry.anchors import Anchor, Fitted, fit, off_px
from skyreid.edge.telemetry.options import TelemetryOptions

Float64 = NDArray[np.float64]

CLICK_PX = 2.0
"""Standard deviation of where somebody finds a place, each axis, in a picture of 1280 columns."""
_NEEDED = ("still", "x_px", "y_px", "latitude_deg", "longitude_deg")
_OF_PEOPLE = ("captured_at_ns", *_NEEDED[1:], "person")
_FAR = 3.0
"""Who is off by more than so many times the usual is somebody else, or stood behind something."""
_AGREE_SHARE, _PLACES_MIN = 0.6, 8
_SPREAD_SHARE = 0.1
"""Of the picture's width and height, standard deviation: nearer to each other people say a place
from an angle as little as one place does."""


@dataclass(frozen=True, eq=False)
class Place:
    """A row of the table."""

    still: str
    """Or the moment, where it is a recorded run's."""
    anchor: Anchor
    person: str = ""
    """Whom a street camera saw there."""


def write_pose(still: Path, camera: str, view: View, model: CameraModel) -> Path:
    """Keep the pose of a still, beside it."""
    path = still.with_suffix(".json")
    write_poses(path, {camera: CameraPoses(view, 1.0, (1,), (model,))})
    return path


def read_places(
    path: Path, camera: str, origin: Origin | None, terrain: Terrain | None
) -> list[Place]:
    """Read a table of places in stills.

    Raises:
        InputError: it or the pose of a still cannot be read, or a row is no place.
        SettingsError: the site is not tied to the earth.
    """
    if origin is None:
        raise SettingsError("a place on the earth: the site file needs an [origin]")
    places = [
        _place(row, where, path.parent, camera, origin, terrain)
        for where, row in _rows(path, _NEEDED)
    ]
    if not places:
        raise InputError(f"{path}: no row")
    return places


def _place(
    row: dict[str, str],
    where: str,
    folder: Path,
    camera: str,
    origin: Origin,
    terrain: Terrain | None,
) -> Place:
    try:
        x, y, latitude, longitude = (float(row[name]) for name in _NEEDED[1:])
        height = float(row.get("ellipsoid_height_m") or "nan")
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from error
    if not np.isfinite([x, y, latitude, longitude]).all():
        raise InputError(f"{where}: a number is none")
    still = folder / str(row["still"])
    model = read_poses(still.with_suffix(".json"), camera).models[0]
    given = np.isfinite(height)
    point = to_site(origin, latitude, longitude, height if given else origin.ellipsoid_height_m)
    if not given:
        plane = None if terrain is None else terrain.plane(float(point[0]), float(point[1]))
        if terrain is not None and plane is None:
            raise InputError(f"{where}: telemetry.terrain says no height there")
        point[2] = 0.0 if plane is None else plane.up(float(point[0]), float(point[1]))
    return Place(str(row["still"]), Anchor(model, (x, y), point))


def read_people(
    path: Path,
    run: Path,
    camera: str,
    origin: Origin | None,
    terrain: Terrain | None,
) -> tuple[list[Place], int]:
    """Read a table of ``skyreid-server places``, and how many rows are of no moment of the run.

    Args:
        path: the table.
        run: the recorded run whose poses they are of.
        camera: the drone's.
        origin: of the site.
        terrain: the ground.

    Raises:
        InputError: table or run cannot be read, or they do not belong together.
        SettingsError: the site is not tied to the earth.
    """
    if origin is None:
        raise SettingsError("a place on the earth: the site file needs an [origin]")
    poses = dict(zip(*read_said_poses(run, camera), strict=True))
    places, away = [], 0
    for where, row in _rows(path, _OF_PEOPLE):
        try:
            at_ns = int(row["captured_at_ns"])
            x, y, latitude, longitude = (float(row[name]) for name in _NEEDED[1:])
        except (TypeError, ValueError) as error:
            raise InputError(f"{where}: {error}") from error
        model = poses.get(at_ns)
        if model is None:
            away += 1
            continue
        point = to_site(origin, latitude, longitude, origin.ellipsoid_height_m)
        plane = FLAT if terrain is None else terrain.plane(float(point[0]), float(point[1]))
        if plane is None or not np.isfinite([x, y, *point]).all():
            raise InputError(f"{where}: the ground has no height there, or a number is none")
        point[2] = plane.up(float(point[0]), float(point[1])) + MIDDLE_M
        anchor = Anchor(model, (x, y), point)
        places.append(Place(str(at_ns), anchor, str(row["person"])))
    if not places:
        raise InputError(f"{path}: none of its {away} moments is one of the recorded run {run}")
    return places, away


def _rows(path: Path, needed: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Where each row of a table stands, and the row."""
    try:
        with open(path, newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in needed if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(
                    f"{path}: needs the columns {', '.join(needed)}; lacks {', '.join(missing)}"
                )
            for row in reader:
                yield f"{path}, line {reader.line_num}", row
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: {reason(error, path)}") from error


def bias_of_people(places: Sequence[Place], options: TelemetryOptions) -> list[str]:
    """What ``calibrate --bias --run`` prints.

    Links may be wrong and people hidden in part, so that who is far off where the others agree is
    left out. What a person's places are off by is mostly the same for all of them: people count,
    and not places.

    Raises:
        InputError: there are too few, at one place of the picture, or they do not agree.
    """
    width, height = places[0].anchor.model.width_px, places[0].anchor.model.height_px
    spread = np.std([p.anchor.pixel for p in places], axis=0) / (width, height)
    if len(places) < _PLACES_MIN or spread.min() < _SPREAD_SHARE:
        raise InputError(
            f"{len(places)} places, spread over {spread[0]:.0%} and {spread[1]:.0%} of the "
            f"picture's width and height: {_PLACES_MIN} and {_SPREAD_SHARE:.0%} are needed; fly on "
            "until people were seen all over the picture"
        )
    kept, sigma_px = list(places), _click_px(places)
    for _ in range(5):
        fitted, _ = bias(kept, options, sigma_px)
        off = np.linalg.norm(off_px([p.anchor for p in _set(places, options)], fitted.by), axis=1)
        near = off <= _FAR * max(float(np.median(off)), _click_px(places))
        agreed = [p for p, is_near in zip(places, near, strict=True) if is_near]
        rms = float(np.sqrt((off[near] ** 2).mean() / 2))
        people = len({p.person for p in agreed})
        sigma_px = max(rms, _click_px(places)) * (len(agreed) / max(people, 1)) ** 0.5
        if len(agreed) == len(kept):
            break
        kept = agreed
    if len(kept) < _AGREE_SHARE * len(places):
        raise InputError(
            f"of {len(places)} places of people {len(places) - len(kept)} do not agree with the "
            "others: see the street cameras' poses and clocks, and telemetry.quality"
        )
    fitted, lines = bias(kept, options, sigma_px)
    before, after = (
        _metres(_set(kept, options), by) for by in (np.zeros(6), np.asarray(fitted.by))
    )
    said = (
        f"{len(kept)} places of {len({p.person for p in kept})} people; "
        f"{len(places) - len(kept)} that do not agree are left out"
    )
    return [
        said,
        f"median {before:.2f} m off before, {after:.2f} m after",
        *lines[lines.index("") :],
    ]


def _set(places: Sequence[Place], options: TelemetryOptions) -> list[Place]:
    """With the corrections that are set."""
    by = np.array(options.displacement)
    return [
        replace(p, anchor=replace(p.anchor, model=p.anchor.model.displaced(by))) for p in places
    ]


def _metres(places: Sequence[Place], by: Float64) -> float:
    """How far from where they were people are put, median."""
    off = []
    for place in places:
        model, point = place.anchor.model.displaced(by), place.anchor.point
        there = model.ground_point(*place.anchor.pixel, Plane(float(point[2])))
        off.append(np.inf if there is None else float(np.hypot(*(there - point[:2]))))
    return float(np.median(off))


def boresight(places: list[Place]) -> tuple[Fitted, list[str]]:
    """The three angles, and what `skyreid-edge calibrate --boresight` prints.

    Raises:
        InputError: the places do not say them.
    """
    fitted = fit([p.anchor for p in places], [0, 0, 0, None, None, None], _click_px(places))
    angles = -np.degrees(fitted.by[3:])
    sure = np.degrees(np.sqrt(np.diag(fitted.cov)[3:]))
    return fitted, [
        *_table(places, fitted),
        f"angles are known to {', '.join(f'{s:.2f}' for s in sure)} degrees",
        "",
        "[telemetry]",
        f"boresight_deg = [{', '.join(f'{a + 0.0:.2f}' for a in angles)}]",
    ]


def bias(
    places: Sequence[Place], options: TelemetryOptions, sigma_px: float | None = None
) -> tuple[Fitted, list[str]]:
    """What one flight's telemetry is off by, and what ``calibrate --bias`` prints.

    Args:
        places: where they were found.
        options: of the telemetry.
        sigma_px: standard deviation of that, each axis; None = somebody clicked.

    Raises:
        InputError: the places do not say it.
    """
    s = options.sigmas
    angle = float(np.radians(s.attitude_deg))
    believed = [s.position_m, s.position_m, s.height_m, angle, angle, angle]
    if min(believed) <= 0:
        raise InputError("telemetry of quality exact has no bias to look for")
    set_by = np.array(options.displacement)
    corrected = _set(places, options)
    fitted = fit([p.anchor for p in corrected], believed, sigma_px or _click_px(places))
    angles = -np.degrees(turned_by(turn(fitted.by[3:]) @ turn(set_by[3:])))
    shift = set_by[:3] + fitted.by[:3]
    sure = _on_the_ground(corrected, fitted.cov) * np.sqrt(np.diag(fitted.cov))
    # Each still was off by an error of its own moment, which the fit took for the flight's, and so
    # will every frame be.
    moment = np.minimum([s.moment_m] * 3 + [float(np.radians(s.moment_deg))] * 3, believed)
    sure = np.hypot(sure, moment * (1 + 1 / len({p.still for p in places})) ** 0.5)
    return fitted, [
        *_table(corrected, fitted),
        "",
        "[telemetry]  # of this flight",
        f"boresight_deg = [{', '.join(f'{a + 0.0:.2f}' for a in angles)}]",
        f"position_shift_m = [{', '.join(f'{m + 0.0:.2f}' for m in shift)}]",
        f"position_sigma_m = {float(np.hypot(*sure[:2])) / 2**0.5:.2f}",
        f"height_sigma_m = {sure[2]:.2f}",
        f"attitude_sigma_deg = {np.degrees(np.sqrt((sure[3:] ** 2).mean())):.2f}",
    ]


def _on_the_ground(places: Sequence[Place], cov: Float64) -> float:
    """By how much less a whole covariance is worth on the ground than its diagonal alone.

    A place and an angle that make up for each other are each known badly, and both well.
    """
    whole = alone = 0.0
    for place in places:
        model, pixel = place.anchor.model, place.anchor.pixel
        columns = []
        for axis in range(6):
            step = np.zeros(6)
            step[axis] = 1e-4
            ends = [model.displaced(sign * step).ground_point(*pixel) for sign in (1, -1)]
            if ends[0] is None or ends[1] is None:
                break
            columns.append((ends[0] - ends[1]) / 2e-4)
        else:
            slopes = np.stack(columns, 1)
            whole += float(np.trace(slopes @ cov @ slopes.T))
            alone += float(np.trace(slopes @ np.diag(np.diag(cov)) @ slopes.T))
    return (whole / alone) ** 0.5 if alone > 0 else 1.0


def _click_px(places: Sequence[Place]) -> float:
    return CLICK_PX * max(1.0, places[0].anchor.model.width_px / 1280)


def _table(places: Sequence[Place], fitted: Fitted) -> list[str]:
    """Where each place is seen, in pixels off, before and after."""
    before = off_px([p.anchor for p in places], np.zeros(6))
    lines = ["still                     pixel           off before px    off after px"]
    for place, was, now in zip(places, before, fitted.off_px, strict=True):
        x, y = place.anchor.pixel
        lines.append(
            f"{place.still[:24]:24}  {x:6.0f} {y:6.0f}  {was[0]:8.1f} {was[1]:7.1f}  "
            f"{now[0]:7.1f} {now[1]:7.1f}"
        )
    rms = float(np.sqrt((fitted.off_px**2).sum(1).mean()))
    lines.append(f"root mean square {rms:.1f} px after")
    return lines
