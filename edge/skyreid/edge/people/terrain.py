"""Terrain: how high the ground is about the site, from SRTM's HGT tiles or a GeoTIFF.

Only the shape is taken: it is raised or lowered until the site's origin lies on it, which is z = 0.
So it does not matter which sea level the heights are above, and by how much it had to be moved says
whether the origin's own height can be right. A ray is followed in steps to where it goes below the
ground, and from there on the ground is the plane that touches it.

HGT: int16, big-endian, row by row from the north, each from the west, named for its south-west
corner (U.S. Geological Survey, SRTM Collection User Guide). GeoTIFF: OGC 19-008r4, in degrees.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.camera import CameraModel, Plane
from skyreid.contract.errors import InputError
from skyreid.contract.geodesy import to_earth
from skyreid.contract.site import Origin

Float64 = NDArray[np.float64]

_HALF_M, _STEP_M = 1500.0, 10.0
"""The ground is known so far from the origin, in such steps."""
_VOID = -32768
_NAME = re.compile(r"([NS])(\d{2})([EW])(\d{3})", re.IGNORECASE)
_SIDES = (1201, 3601)
_BYTES_MAX = 1 << 30
_REACH_M = 600.0
"""A ray is followed no farther."""
_STEPS = 256


class Terrain:
    """The ground about a site's origin."""

    def __init__(self, up_m: Float64, lowered_m: float = 0.0) -> None:
        """Set up.

        Args:
            up_m: [N, N] heights of the site frame, rows from the south, columns from the west, ten
                metres apart, the origin in the middle; NaN where nothing is known.
            lowered_m: by which the heights were lowered so that the origin is on the ground.
        """
        self._up, self.lowered_m = up_m, lowered_m
        self._half_m = (len(up_m) - 1) / 2 * _STEP_M
        known = up_m[np.isfinite(up_m)]
        self._range_m = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)

    def up(self, east_m: Float64, north_m: Float64) -> Float64:
        """Heights [N] of the ground; NaN where it is not known."""
        last = len(self._up) - 1
        column, row = (east_m + self._half_m) / _STEP_M, (north_m + self._half_m) / _STEP_M
        inside = (column >= 0) & (column <= last) & (row >= 0) & (row <= last)
        column, row = np.where(inside, column, 0), np.where(inside, row, 0)
        west, south = (np.minimum(v.astype(int), last - 1) for v in (column, row))
        right, upward = column - west, row - south
        low = self._up[south, west] * (1 - right) + self._up[south, west + 1] * right
        high = self._up[south + 1, west] * (1 - right) + self._up[south + 1, west + 1] * right
        found: Float64 = np.where(inside, low * (1 - upward) + high * upward, np.nan)
        return found

    def plane(self, east_m: float, north_m: float) -> Plane | None:
        """That which touches the ground at a place; None where it is not known."""
        by = np.array([0.0, _STEP_M / 2, -_STEP_M / 2, 0, 0])
        up = self.up(east_m + by, north_m + by[[0, 3, 4, 1, 2]])
        if not np.isfinite(up).all():
            return None
        east, north = (up[1] - up[2]) / _STEP_M, (up[3] - up[4]) / _STEP_M
        height = up[0] - east * east_m - north * north_m
        return Plane(float(height), float(east), float(north))

    def seen(self, model: CameraModel, x_px: float, y_px: float, above_m: float) -> Plane | None:
        """The ground where the ray of a pixel comes down to ``above_m`` over it.

        None where it does not within 600 m, or leaves what is known.
        """
        ray, start = model.ray(x_px, y_px), model.position
        ray = ray / float(np.linalg.norm(ray))
        reach = _REACH_M
        if ray[2] < 0:  # below the lowest ground there is nothing
            reach = min(reach, (start[2] - self._range_m[0] - above_m) / -ray[2] + _STEP_M)
        along = np.linspace(0, max(reach, 0.0), _STEPS)
        points = start + along[:, None] * ray
        over = points[:, 2] - above_m - self.up(points[:, 0], points[:, 1])
        below = np.flatnonzero(~(over > 0))
        if not len(below) or below[0] == 0 or not np.isfinite(over[below[0]]):
            return None
        at = int(below[0])
        share = over[at - 1] / (over[at - 1] - over[at])
        there = start + (along[at - 1] + share * (along[at] - along[at - 1])) * ray
        return self.plane(float(there[0]), float(there[1]))


def read_terrain(path: Path, origin: Origin) -> Terrain:
    """The ground about an origin.

    Args:
        path: an HGT or a GeoTIFF, or a folder of HGTs, of which those are read that are needed.
        origin: of the site.

    Raises:
        InputError: it cannot be read, or does not hold the origin.
    """
    count = 2 * round(_HALF_M / _STEP_M) + 1
    line = np.linspace(-_HALF_M, _HALF_M, count)
    # So near the origin latitude and longitude are linear, to a metre; the earth falls away.
    south, west, _ = to_earth(origin, np.array([-1000.0, -1000.0, 0]))
    north, east, _ = to_earth(origin, np.array([1000.0, 1000.0, 0]))
    latitudes = origin.latitude_deg + line * (north - south) / 2000
    longitudes = origin.longitude_deg + line * (east - west) / 2000
    if path.is_dir():
        heights = np.full((count, count), np.nan)
        for name in sorted(_tiles(latitudes, longitudes)):
            found = next((p for p in path.iterdir() if p.stem.upper() == name), None)
            if found is not None:
                more = _read(found).at(latitudes, longitudes)
                heights = np.where(np.isfinite(heights), heights, more)
    else:
        heights = _read(path).at(latitudes, longitudes)
    here = heights[count // 2, count // 2]
    if not np.isfinite(here):
        raise InputError(
            f"terrain {path}: says no height at the site's origin, {origin.latitude_deg:.5f}, "
            f"{origin.longitude_deg:.5f}"
        )
    fallen = (line[:, None] ** 2 + line[None, :] ** 2) / (2 * 6.371e6)
    lowered = float(here) - origin.ellipsoid_height_m
    return Terrain(heights - here - fallen, lowered)


class _Heights:
    """Heights in rows from the north; ``corner`` is latitude and longitude of the first."""

    def __init__(self, metres: Float64, corner: tuple[float, float], step: tuple[float, float]):
        self._metres, self._corner, self._step = metres, corner, step

    def at(self, latitudes: Float64, longitudes: Float64) -> Float64:
        """[N, M], linear between four; NaN outside, and where one of them is not known."""
        rows = (self._corner[0] - latitudes) / self._step[0]
        columns = (longitudes - self._corner[1]) / self._step[1]
        height, width = self._metres.shape
        near = 1e-6  # of a tile's own edge, which is the next one's too
        good = ((rows >= -near) & (rows <= height - 1 + near))[:, None] & (
            (columns >= -near) & (columns <= width - 1 + near)
        )
        rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
        top = np.minimum(rows.astype(int), height - 2)
        left = np.minimum(columns.astype(int), width - 2)
        down, right = (rows - top)[:, None], columns - left
        m = self._metres
        upper = m[np.ix_(top, left)] * (1 - right) + m[np.ix_(top, left + 1)] * right
        lower = m[np.ix_(top + 1, left)] * (1 - right) + m[np.ix_(top + 1, left + 1)] * right
        found: Float64 = np.where(good, upper * (1 - down) + lower * down, np.nan)
        return found


def _tiles(latitudes: Float64, longitudes: Float64) -> set[str]:
    """Names of the tiles that hold them."""
    names = set()
    for latitude in {int(v) for v in np.floor(latitudes[[0, -1]])}:
        for longitude in {int(v) for v in np.floor(longitudes[[0, -1]])}:
            ns, ew = "SN"[latitude >= 0], "WE"[longitude >= 0]
            names.add(f"{ns}{abs(latitude):02d}{ew}{abs(longitude):03d}")
    return names


def _read(path: Path) -> _Heights:
    try:
        if path.stat().st_size > _BYTES_MAX:
            raise InputError(f"terrain {path}: more than {_BYTES_MAX} bytes: cut it to the site")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"terrain {path}: {error.strerror}") from error
    if path.suffix.lower() == ".hgt":
        return _hgt(path, data)
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _geotiff(path, data)
    raise InputError(f"terrain {path}: an .hgt, a GeoTIFF, or a folder of .hgt")


def _hgt(path: Path, data: bytes) -> _Heights:
    name = _NAME.match(path.stem)
    side = next((s for s in _SIDES if len(data) == 2 * s * s), 0)
    if name is None or not side:
        raise InputError(
            f"terrain {path}: an HGT is named as N46E008.hgt and has 1201 or 3601 rows and columns "
            f"of two bytes, this has {len(data)} bytes"
        )
    south = int(name[2]) * (1 if name[1].upper() == "N" else -1)
    west = int(name[4]) * (1 if name[3].upper() == "E" else -1)
    metres = np.frombuffer(data, ">i2").reshape(side, side).astype(np.float64)
    metres[metres == _VOID] = np.nan
    step = 1 / (side - 1)
    return _Heights(metres, (south + 1.0, float(west)), (step, step))


_SCALE, _TIE, _KEYS, _NODATA = 33550, 33922, 34735, 42113
_FORMATS = {1: "B", 2: "s", 3: "H", 4: "I", 11: "f", 12: "d"}
_MODEL_TYPE, _RASTER_TYPE = 1024, 1025
_GEOGRAPHIC, _IS_AREA = 2, 1


def _geotiff(path: Path, data: bytes) -> _Heights:
    import cv2

    try:
        tags = _tags(data)
        scale, tie, keys = tags[_SCALE], tags[_TIE], tags[_KEYS]
    except (KeyError, struct.error, IndexError) as error:
        raise InputError(f"terrain {path}: no GeoTIFF with a scale and a tie point") from error
    known = {keys[k]: keys[k + 3] for k in range(4, len(keys) - 3, 4) if keys[k + 1] == 0}
    if known.get(_MODEL_TYPE) != _GEOGRAPHIC:
        raise InputError(
            f"terrain {path}: not in degrees; gdalwarp -t_srs EPSG:4326 IN.tif OUT.tif makes it so"
        )
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 2 or min(picture.shape) < 2:
        raise InputError(
            f"terrain {path}: cannot be decoded; gdal_translate -ot Float32 -co COMPRESS=NONE "
            "IN.tif OUT.tif makes it plain"
        )
    metres = picture.astype(np.float64)
    metres[(metres == _VOID) | (np.abs(metres) > 12_000)] = np.nan
    if (nothing := _number(tags.get(_NODATA))) is not None:
        metres[metres == nothing] = np.nan
    half = 0.5 if known.get(_RASTER_TYPE, _IS_AREA) == _IS_AREA else 0.0
    north = tie[4] - (half - tie[1]) * scale[1]
    west = tie[3] + (half - tie[0]) * scale[0]
    return _Heights(metres, (north, west), (scale[1], scale[0]))


def _tags(data: bytes) -> dict[int, tuple[float, ...]]:
    """Numbers of the first directory's tags (TIFF 6.0, section 2)."""
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, at)
    tags: dict[int, tuple[float, ...]] = {}
    for place in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, size = struct.unpack_from(order + "HHI", data, place)
        form = _FORMATS.get(kind)
        if form is None or tag not in (_SCALE, _TIE, _KEYS, _NODATA) or size > 1 << 12:
            continue
        layout = f"{order}{size}{form}"
        start = place + 8
        if struct.calcsize(layout) > 4:
            (start,) = struct.unpack_from(order + "I", data, start)
        tags[tag] = struct.unpack_from(layout, data, start)
    return tags


def _number(said: tuple[float, ...] | None) -> float | None:
    text = said[0] if said else None
    try:
        return float(text.strip(b"\0 ")) if isinstance(text, bytes) else None
    except ValueError:
        return None
