import struct
from pathlib import Path

import numpy as np
import pytest

from skyreid.contract.camera import CameraModel, Plane, Pose
from skyreid.contract.errors import InputError
from skyreid.contract.geodesy import to_site
from skyreid.contract.sighting import View
from skyreid.contract.site import Origin
from skyreid.edge.people.ground import MIDDLE_M, locate
from skyreid.edge.people.terrain import Terrain, read_terrain

ORIGIN = Origin(latitude_deg=46.5, longitude_deg=8.0, ellipsoid_height_m=500.0)


def looking_down(pitch_deg: float, *, up_m: float = 25.0, yaw_deg: float = 30.0) -> CameraModel:
    yaw, pitch = np.radians(yaw_deg), np.radians(-pitch_deg)
    forward = np.array([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)])
    right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    rotation = np.stack([right, np.cross(forward, right), forward])
    matrix = np.array([[600.0, 0, 320], [0, 600, 180], [0, 0, 1]])
    return CameraModel(matrix, rotation, -rotation @ np.array([0.0, 0.0, up_m]), 640, 360)


def hills(side: int = 301) -> Terrain:
    """Waves of four metres, 180 m long, zero at the origin."""
    line = (np.arange(side) - side // 2) * 10.0
    east, north = np.meshgrid(line, line)
    return Terrain(4 * np.sin(2 * np.pi * east / 180) * np.cos(2 * np.pi * north / 240))


def height(terrain: Terrain, east: float, north: float) -> float:
    return float(terrain.up(np.array([east]), np.array([north]))[0])


@pytest.mark.parametrize("pitch_deg", [25, 45, 70, 89])
@pytest.mark.parametrize("view", [View.AERIAL, View.GROUND])
def test_somebody_on_a_slope_is_where_they_stand(pitch_deg: float, view: View) -> None:
    terrain, rng, flat_off = hills(), np.random.default_rng(1), []
    model = looking_down(pitch_deg)
    middle = model.ground_point(320, 180)
    assert middle is not None
    for _ in range(40):
        east, north = middle + rng.uniform(-8, 8, 2)
        up = height(terrain, east, north)
        feet, head = model.project(np.array([[east, north, up], [east, north, up + 1.7]]))[0]
        x, y = (float(v) for v in (feet + head) / 2)
        half = max(float(abs(feet[1] - head[1])) / 2, 4)
        if view is View.GROUND:
            x, y = float(feet[0]), float(feet[1]) - half
        box = (x - 4, y - half, x + 4, y + half)
        if not (4 < x < 636 and half + 4 < y < 356 - half):
            continue
        found = locate(Pose(model, np.eye(6) * 1e-6), box, view, terrain=terrain)
        assert found is not None
        assert np.hypot(found.east_m - east, found.north_m - north) < 0.15
        flat = locate(Pose(model, np.eye(6) * 1e-6), box, view)
        assert flat is not None
        flat_off.append(np.hypot(flat.east_m - east, flat.north_m - north))
    assert len(flat_off) > 10
    if pitch_deg < 80:
        assert np.median(flat_off) > 0.3, "it was flat: the test shows nothing"


def test_the_ellipse_on_a_slope_is_that_of_the_slope() -> None:
    """Against draws of what the pose may be off."""
    terrain, model = hills(), looking_down(30)
    rng = np.random.default_rng(2)
    cov = np.diag([0.3, 0.3, 0.4, 0.004, 0.004, 0.004]) ** 2
    box = (316.0, 160.0, 324.0, 200.0)
    found = locate(Pose(model, cov), box, View.AERIAL, terrain=terrain)
    assert found is not None
    places = []
    for by in rng.multivariate_normal(np.zeros(6), cov, 1500):
        drawn = locate(Pose(model.displaced(by), cov), box, View.AERIAL, terrain=terrain)
        assert drawn is not None
        places.append((drawn.east_m, drawn.north_m))
    drawn_cov = np.cov(np.array(places).T)
    box_alone = locate(Pose(model, cov * 0), box, View.AERIAL, terrain=terrain)
    assert box_alone is not None
    said = np.array([[found.cov_ee_m2, found.cov_en_m2], [found.cov_en_m2, found.cov_nn_m2]])
    alone = np.array(
        [
            [box_alone.cov_ee_m2, box_alone.cov_en_m2],
            [box_alone.cov_en_m2, box_alone.cov_nn_m2],
        ]
    )
    ratio = np.linalg.eigvals(np.linalg.solve(drawn_cov, said - alone)).real
    assert 0.8 < ratio.min() <= ratio.max() < 1.25


def test_where_the_ground_is_not_known_nobody_has_a_place() -> None:
    up = np.zeros((301, 301))
    up[:, 152:] = np.nan
    model = looking_down(45, yaw_deg=0)
    box = (316.0, 160.0, 324.0, 200.0)
    assert locate(Pose(model), box, View.AERIAL, terrain=Terrain(up)) is None
    assert locate(Pose(model), box, View.AERIAL, terrain=Terrain(np.zeros((301, 301)))) is not None
    below = looking_down(45, up_m=-3.0)
    assert locate(Pose(below), box, View.AERIAL, terrain=Terrain(np.zeros((301, 301)))) is None


def slope(latitudes: np.ndarray, longitudes: np.ndarray) -> np.ndarray:
    """800 m at the origin, up by 300 m a degree to the north, 500 to the east."""
    return 800 + 300 * (latitudes - 46.5)[:, None] + 500 * (longitudes - 8.0)[None, :]


def write_hgt(path: Path, south: int, west: int, *, void: bool = False) -> Path:
    rows = np.linspace(south + 1, south, 1201)
    heights = np.rint(slope(rows, np.linspace(west, west + 1, 1201)))
    if void:
        heights[:] = -32768
    path.write_bytes(heights.astype(">i2").tobytes())
    return path


def test_an_hgt_gives_its_shape_through_the_origin(tmp_path: Path) -> None:
    path = write_hgt(tmp_path / "N46E008.hgt", 46, 8)
    at = ORIGIN.model_copy(update={"longitude_deg": 8.3})
    terrain = read_terrain(path, at)
    assert height(terrain, 0, 0) == 0
    assert terrain.lowered_m == pytest.approx(950 - 500, abs=0.6)
    place = to_site(at, 46.51, 8.31, 500 + 3 + 5)
    up = height(terrain, float(place[0]), float(place[1]))
    assert up == pytest.approx(place[2], abs=0.9)  # heights of whole metres
    assert np.isnan(height(terrain, 1600, 0))


def test_a_folder_gives_the_tiles_that_are_needed(tmp_path: Path) -> None:
    """The origin is on the edge between two."""
    write_hgt(tmp_path / "N46E007.hgt", 46, 7)
    write_hgt(tmp_path / "n46e008.hgt", 46, 8)
    (tmp_path / "readme.txt").write_text("no tile")
    terrain = read_terrain(tmp_path, ORIGIN)
    east, west = height(terrain, 1000, 0), height(terrain, -1000, 0)
    assert east == pytest.approx(500 * 1000 / 76_700, abs=1.0)
    assert west == pytest.approx(-500 * 1000 / 76_700, abs=1.0)


def write_geotiff(
    path: Path, heights: np.ndarray, corner: tuple[float, float], step: float
) -> Path:
    """Float32, one strip, not compressed; ``corner`` is latitude and longitude of the edge."""
    rows, columns = heights.shape
    data = heights.astype("<f4").tobytes()
    doubles = struct.pack("<3d", step, step, 0) + struct.pack(
        "<6d", 0, 0, 0, corner[1], corner[0], 0
    )
    keys = struct.pack("<16H", 1, 1, 0, 3, 1024, 0, 1, 2, 1025, 0, 1, 1, 2048, 0, 1, 4326)
    at = 8
    where = {name: at + sum(size) for name, size in (("data", ()), ("doubles", (len(data),)))}
    where["keys"] = where["doubles"] + len(doubles)
    entries = [
        (256, 4, 1, columns), (257, 4, 1, rows), (258, 3, 1, 32), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, where["data"]), (277, 3, 1, 1), (278, 4, 1, rows), (279, 4, 1, len(data)),
        (339, 3, 1, 3), (33550, 12, 3, where["doubles"]), (33922, 12, 6, where["doubles"] + 24),
        (34735, 3, 16, where["keys"]), (42113, 2, 3, int.from_bytes(b"-1\0", "little")),
    ]  # fmt: skip
    directory = where["keys"] + len(keys)
    body = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHI", tag, kind, count)
        + (struct.pack("<HH", value, 0) if kind == 3 and count == 1 else struct.pack("<I", value))
        for tag, kind, count, value in entries
    )
    head = struct.pack("<2sHI", b"II", 42, directory)
    path.write_bytes(head + data + doubles + keys + body + struct.pack("<I", 0))
    return path


def test_a_geotiff_in_degrees_is_read_where_it_says(tmp_path: Path) -> None:
    step = 1 / 3600
    latitudes = 46.55 - step * (np.arange(400) + 0.5)
    longitudes = 7.95 + step * (np.arange(400) + 0.5)
    heights = slope(latitudes, longitudes)
    heights[0, 0] = -1
    terrain = read_terrain(write_geotiff(tmp_path / "g.tif", heights, (46.55, 7.95), step), ORIGIN)
    assert terrain.lowered_m == pytest.approx(300, abs=0.01)
    place = to_site(ORIGIN, 46.508, 8.009, 500 + 2.4 + 4.5)
    assert height(terrain, float(place[0]), float(place[1])) == pytest.approx(place[2], abs=0.05)


def test_what_is_no_terrain_is_said(tmp_path: Path) -> None:
    def said(path: Path, words: str, origin: Origin = ORIGIN) -> None:
        with pytest.raises(InputError, match=words):
            read_terrain(path, origin)

    said(tmp_path / "none.hgt", "No such file")
    (tmp_path / "x.hgt").write_bytes(b"12")
    said(tmp_path / "x.hgt", "named as N46E008.hgt")
    (tmp_path / "N46E008.hgt").write_bytes(b"12")
    said(tmp_path / "N46E008.hgt", "this has 2 bytes")
    (tmp_path / "x.tif").write_bytes(b"II*\0" + bytes(20))
    said(tmp_path / "x.tif", "no GeoTIFF")
    (tmp_path / "x.png").write_bytes(b"\x89PNG")
    said(tmp_path / "x.png", "an .hgt, a GeoTIFF, or a folder")
    elsewhere = write_hgt(tmp_path / "N10E010.hgt", 10, 10)
    said(elsewhere, "no height at the site's origin")
    said(write_hgt(tmp_path / "N46E008.hgt", 46, 8, void=True), "no height at the site's origin")
    plain = write_geotiff(tmp_path / "u.tif", np.ones((9, 9)), (46.55, 7.95), 0.1)
    plain.write_bytes(
        plain.read_bytes().replace(
            struct.pack("<4H", 1024, 0, 1, 2), struct.pack("<4H", 1024, 0, 1, 1)
        )
    )
    said(plain, "not in degrees; gdalwarp")


def test_a_plane_that_rises_is_met_where_the_ray_meets_it() -> None:
    model, plane = looking_down(40), Plane(1.0, 0.2, -0.1)
    point = model.ground_point(400, 300, plane)
    assert point is not None
    east, north = float(point[0]), float(point[1])
    pixel, _ = model.project(np.array([[east, north, plane.up(east, north)]]))
    np.testing.assert_allclose(pixel[0], (400, 300), atol=1e-6)
    assert MIDDLE_M > 0
