"""A camera is aimed by what the device makes of it; nothing is stored or sent."""

import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from chain import Chain

from skyreid.contract.camera import read_poses
from skyreid.contract.geodesy import to_earth
from skyreid.contract.site import read_site
from skyreid.contract.telemetry import packet_of
from skyreid.edge.__main__ import main
from skyreid.edge.people.sketch import GRID, KEPT, LANDMARK, LEFT, ground_grid


@pytest.fixture
def chain(make_chain: Callable[..., Chain], repository: Path) -> Chain:
    """Settings of a chain; nothing of it is started, so there is no broker either."""
    return make_chain(repository / "examples/clip")


def untouched(chain: Chain) -> bool:
    return not chain.spool("cam6").exists() and not (chain.work / "runs").exists()


def pixels_of(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((picture == np.array(colour[::-1], np.uint8)).all(-1).sum())


def test_a_still_shows_boxes_verdicts_and_the_ground(chain: Chain, tmp_path: Path) -> None:
    settings, still = str(chain.work / "cam6.toml"), tmp_path / "still.png"
    few = ["--after", "1", "--camera.fps_max", "4"]
    assert main(["preview", settings, "--still", str(still), *few]) == 0
    picture = np.asarray(cv2.imread(str(still)))
    assert picture.shape == (720, 1280, 3)
    assert pixels_of(picture, KEPT) + pixels_of(picture, LEFT) > 500, "boxes"
    assert pixels_of(picture, GRID) > 100, "the ground; most of a line is blended"
    assert untouched(chain)


def test_a_still_of_later_than_the_video_says_so_and_one_that_is_no_png_is_none(
    chain: Chain, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--camera.source", "test://1280x720@10", "--camera.fps_max", "0.2", "--after", "100"]
    command = ["preview", str(chain.work / "cam6.toml"), *few, "--still"]
    assert main([*command, str(tmp_path / "still.png")]) == 0
    assert re.search(r"ended after \d.\d s: this is its last", capsys.readouterr().err)
    assert main([*command, str(tmp_path / "still.jpg")]) == 2
    assert "still.jpg: a PNG is written" in capsys.readouterr().err


def test_a_landmark_is_drawn_where_the_pose_puts_it(
    chain: Chain, tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site, still = chain.work / "site.toml", tmp_path / "landmark.png"
    command = ["check", str(chain.work / "cam6.toml"), "--still", str(still), "--after", "0.1"]
    assert main([*command, "--landmark", "46.5,8.0"]) == 2
    assert "site demo has no [origin]" in capsys.readouterr().err
    text = site.read_text()
    head, mark, cameras = text.partition("[[camera]]")
    origin = "[origin]\nlatitude_deg = 46.5\nlongitude_deg = 8.0\nellipsoid_height_m = 500.0\n"
    site.write_text(head + origin + mark + cameras)
    model = read_poses(repository / "examples/clip/calib.json", "cam6").models[0]
    place = np.array([-5.0, 1.5, 0.0])
    tied = read_site(site).origin
    assert tied is not None
    latitude, longitude, _ = to_earth(tied, place)
    assert main([*command, "--landmark", f"{latitude:.8f},{longitude:.8f}"]) == 0
    picture = np.asarray(cv2.imread(str(still)))
    rows, columns = np.nonzero((picture == np.array(LANDMARK[::-1], np.uint8)).all(-1))
    (x, y), depth = model.project(place[None])[0][0], model.project(place[None])[1][0]
    assert depth > 0
    near = (np.abs(rows - y) < 22) & (np.abs(columns - x) < 22)
    assert near.sum() > 40
    assert columns[near].mean() == pytest.approx(x, abs=6)


def test_a_still_keeps_the_pose_that_telemetry_said_and_calibrate_reads_it(
    chain: Chain, tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site, still = chain.work / "site.toml", tmp_path / "still.png"
    head, mark, cameras = re.sub(r"poses = .*\n", "", site.read_text()).partition("[[camera]]")
    origin = "[origin]\nlatitude_deg = 46.5\nlongitude_deg = 8.0\nellipsoid_height_m = 500.0\n"
    site.write_text(head + origin + mark + cameras)
    tied = read_site(site).origin
    assert tied is not None
    model = read_poses(repository / "examples/clip/calib.json", "cam6").models[0]
    said, start_ns = packet_of(model, tied, 0), 10**18
    rows = ["time_ns,latitude_deg,longitude_deg,height_ellipsoid_m,yaw_deg,pitch_deg,fov_deg"]
    latitude, longitude, up = to_earth(tied, model.position)
    for second in range(3):
        looks = f"{said.sensor_azimuth_deg},{said.sensor_elevation_deg},{said.horizontal_fov_deg}"
        time_ns = start_ns + second * 10**9
        rows.append(f"{time_ns},{latitude:.9f},{longitude:.9f},{up},{looks}")
    (tmp_path / "flight.csv").write_text("\n".join(rows) + "\n")
    told = [
        *("--camera.file_start_ns", str(start_ns), "--telemetry.quality", "exact"),
        *("--telemetry.source", str(tmp_path / "flight.csv")),
        *("--telemetry.boresight_deg", "[4, -3, 1]"),
    ]
    command = ["check", str(chain.work / "cam6.toml"), "--still", str(still), "--after", "0.1"]
    assert main([*command, "--landmark", "46.5,8.0", *told]) == 0
    assert str(tmp_path / "still.json") in capsys.readouterr().out
    kept = read_poses(tmp_path / "still.json", "cam6").models[0]
    assert np.abs(model.displacement(kept)).max() < 2e-3
    turned = model.displaced(-np.radians([0, 0, 0, 2, 1, 0]))
    places = ["still,x_px,y_px,latitude_deg,longitude_deg"]
    for east, north in ((-5, 1), (-2, 4), (-6, -2), (0, 1)):
        place = np.array([[east, north, 0.0]])
        x, y = turned.project(place)[0][0]
        where = to_earth(tied, place[0])
        places.append(f"still.png,{x:.2f},{y:.2f},{where[0]:.9f},{where[1]:.9f}")
    (tmp_path / "places.csv").write_text("\n".join(places) + "\n")
    asked = ["calibrate", str(chain.work / "cam6.toml"), "--boresight"]
    assert main([*asked, str(tmp_path / "places.csv"), *told]) == 0
    found = re.search(r"boresight_deg = \[(.*)\]", capsys.readouterr().out)
    assert found is not None
    np.testing.assert_allclose([float(v) for v in found[1].split(",")], [2, 1, 0], atol=0.15)


def test_the_grid_lies_on_the_ground(repository: Path) -> None:
    poses = read_poses(repository / "examples/clip/calib.json", "cam6")
    lines, step_m = ground_grid(poses.models[0])
    assert step_m in (1, 2, 5, 10)
    assert len(lines) > 10
    for line in lines:
        assert not line[:, 2].any()
        assert (line[:, :2].std(0) == 0).sum() == 1, "along one axis"
        fixed = line[0, :2][line[:, :2].std(0) == 0]
        np.testing.assert_allclose(fixed % step_m, 0, atol=1e-9)


@pytest.fixture
def watched(chain: Chain) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "skyreid.edge", "preview", str(chain.work / "cam6.toml")]
    with subprocess.Popen(
        [*command, "--port", "0", "--camera.fps_max", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ},
    ) as running:  # fmt: skip
        assert running.stdout is not None
        yield running, running.stdout.readline().split()[0]
        running.kill()


def test_it_is_shown_on_loopback_to_nobody_else(
    chain: Chain, watched: tuple[subprocess.Popen[str], str]
) -> None:
    running, address = watched
    assert address.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(address + "/", timeout=60) as page:
        assert b"/stream" in page.read()
    with urllib.request.urlopen(address + "/stream", timeout=60) as stream:
        assert stream.headers["Content-Type"].startswith("multipart/x-mixed-replace")
        for _ in range(2):
            assert stream.readline() == b"--frame\r\n"
            assert stream.readline() == b"Content-Type: image/jpeg\r\n"
            length = int(stream.readline().split(b":")[1])
            stream.readline()
            jpeg = np.frombuffer(stream.read(length), np.uint8)
            picture = np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))
            assert picture.shape == (720, 1280, 3)
            stream.readline()
    elsewhere = urllib.request.Request(address + "/still.jpg", headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(elsewhere, timeout=60)
    running.send_signal(signal.SIGINT)
    assert running.wait(60) == 0
    assert untouched(chain)


def test_what_is_no_video_is_said(chain: Chain, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    still = tmp_path / "still.png"
    wrong = ["--camera.source", str(tmp_path / "none.mp4")]
    settings = str(chain.work / "cam6.toml")
    assert main(["preview", settings, "--still", str(still), *wrong]) == 2
    assert "none.mp4 does not exist" in capsys.readouterr().err
    assert not still.exists()
