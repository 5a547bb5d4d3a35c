"""`skyreid-edge calibrate`: places in stills, to lines for the settings."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from flights import SITE, SIZE, model_at

from skyreid.contract.errors import InputError, SettingsError
from skyreid.contract.geodesy import to_earth
from skyreid.contract.sighting import View
from skyreid.edge.__main__ import main
from skyreid.edge.calibrate import read_places, write_pose
from skyreid.edge.telemetry.options import TelemetryOptions
from skyreid.synth.telemetry import ORIGIN

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SETTINGS = """
site = "site.toml"
device.id = "uav-1"
camera = {id = "cam2", source = "udp://0.0.0.0:5004"}
detector.model = "none"
embedder.bundles = ["none"]
spool.path = "spool.db"
"""


def stills(folder: Path, by: np.ndarray, *, said: str = "") -> Path:
    """Three stills of a camera that is displaced from what is said, and four places in each."""
    (folder / "edge.toml").write_text(SETTINGS + f'[telemetry]\nsource = "klv"\n{said}')
    (folder / "site.toml").write_text(SITE)
    rng = np.random.default_rng(4)
    lines = ["still,x_px,y_px,latitude_deg,longitude_deg"]
    for number, time_s in enumerate((0.0, 6.0, 13.0)):
        model = model_at(time_s)
        write_pose(folder / f"{number}.png", "cam2", View.AERIAL, model)
        for _ in range(4):
            point = np.array([*rng.uniform(-6, 6, 2), 0.0])
            x, y = model.displaced(by).project(point[None])[0][0] + rng.normal(0, 1, 2)
            assert 0 < x < SIZE[0]
            assert 0 < y < SIZE[1]
            latitude, longitude, _ = to_earth(ORIGIN, point)
            lines.append(f"{number}.png,{x:.1f},{y:.1f},{latitude:.9f},{longitude:.9f}")
    (folder / "places.csv").write_text("\n".join(lines) + "\n")
    return folder / "places.csv"


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, list[float]]:
    text = capsys.readouterr().out
    found: dict[str, list[float]] = tomllib.loads(text[text.index("[telemetry]") :])["telemetry"]
    return found


def test_a_boresight_comes_out_as_it_is_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    up_right_clockwise = [1.5, -2.0, 1.0]
    by = np.array([0, 0, 0, *-np.radians(up_right_clockwise)])
    places = stills(tmp_path, by)
    assert main(["calibrate", str(tmp_path / "edge.toml"), "--boresight", str(places)]) == 0
    found = printed(capsys)["boresight_deg"]
    np.testing.assert_allclose(found[:2], up_right_clockwise[:2], atol=0.15)
    assert found[2] == pytest.approx(up_right_clockwise[2], abs=0.7)


def test_a_flight_s_bias_comes_out_smaller_than_it_was_and_on_top_of_what_is_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_deg = [3.0, 0.0, 0.0]
    bias = np.array([1.2, -0.8, 1.0, *np.radians([0.7, -0.6, 0.4])])
    total = bias - np.array([0, 0, 0, *np.radians(set_deg)])
    places = stills(tmp_path, total, said=f"boresight_deg = {set_deg}\n")
    assert main(["calibrate", str(tmp_path / "edge.toml"), "--bias", str(places)]) == 0
    found = printed(capsys)
    options = TelemetryOptions.model_validate({"source": "klv", **found})
    before: list[float] = []
    after: list[float] = []
    set_before = TelemetryOptions(source="klv", boresight_deg=(3.0, 0.0, 0.0))
    for place in ([4.0, 3.0, 0.0], [-5.0, 2.0, 0.0], [0.0, -4.0, 0.0]):
        said = model_at(2.0)
        pixel = said.displaced(total).project(np.array([place]))[0][0]
        for told, off in ((set_before, before), (options, after)):
            shift = [*told.position_shift_m, *-np.radians(told.boresight_deg)]
            point = said.displaced(np.array(shift)).ground_point(*pixel)
            assert point is not None
            off.append(float(np.hypot(*(point - place[:2]))))
    assert np.median(before) > 1.0
    assert np.median(after) < 0.3
    assert options.sigmas.position_m < 1.0
    assert options.sigmas.attitude_deg < 1.0


def test_a_still_keeps_what_was_said_before_it_was_corrected(tmp_path: Path) -> None:
    options = TelemetryOptions(boresight_deg=(2, -3, 1), position_shift_m=(1, 2, -1))
    said = model_at(1.0)
    by = np.array([*options.position_shift_m, *-np.radians(options.boresight_deg)])
    np.testing.assert_allclose(options.displacement, by)
    again = said.displaced(by).displaced(-by)
    np.testing.assert_allclose(again.rotation, said.rotation, atol=1e-12)
    np.testing.assert_allclose(again.position, said.position, atol=1e-9)
    path = write_pose(tmp_path / "a.png", "cam2", View.AERIAL, again)
    assert path == tmp_path / "a.json"
    assert json.loads(path.read_text())["2"]["kind"] == "aerial"


def test_what_is_no_table_of_places_is_said(tmp_path: Path) -> None:
    places = stills(tmp_path, np.zeros(6))
    with pytest.raises(SettingsError, match=r"needs an \[origin\]"):
        read_places(places, "cam2", None, None)
    good = places.read_text()
    for text, said in (
        ("still,x_px\n", "lacks y_px, latitude_deg, longitude_deg"),
        (good.splitlines()[0] + "\n", "no row"),
        (good.replace("0.png", "9.png"), "9.json"),
        (good.splitlines()[0] + "\n0.png,1,north,3,4\n", "line 2"),
        (good.splitlines()[0] + "\n0.png,1,nan,3,4\n", "line 2: a number is none"),
    ):
        places.write_text(text)
        with pytest.raises(InputError, match=said):
            read_places(places, "cam2", ORIGIN, None)
    places.write_text("\n".join(good.splitlines()[:2]) + "\n")
    found = main(["calibrate", str(tmp_path / "edge.toml"), "--boresight", str(places)])
    assert found == 2
