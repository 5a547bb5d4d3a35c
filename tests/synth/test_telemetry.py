from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from skyreid.contract import klv
from skyreid.contract.camera import CameraPoses, read_poses
from skyreid.contract.site import Origin
from skyreid.contract.telemetry import camera_of
from skyreid.synth.__main__ import main
from skyreid.synth.telemetry import LEVELS, START_NS, write_telemetry

FPS, FRAMES = 4, 8


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("telemetry") / "clip"
    size = ["--seconds", "2", "--fps", str(FPS), "--people", "3", "--width", "320"]
    level = ["--telemetry", "exact"]
    assert main(["clip", str(out), "--seed", "4", "--cameras", "3,12", *size, *level]) == 0
    return out


def packets_of(path: Path) -> list[tuple[int, bytes]]:
    """Milliseconds and bytes of what GStreamer's demuxer gives out as KLV."""
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstApp", "1.0")
    from gi.repository import Gst, GstApp  # noqa: F401 (GstApp gives the sink its methods)

    Gst.init(None)
    pipeline = Gst.parse_launch(
        f"filesrc location={path} ! tsdemux name=d d. ! meta/x-klv ! appsink name=out sync=false "
        "d. ! video/x-h264 ! fakesink sync=false async=false"
    )
    sink = pipeline.get_by_name("out")
    pipeline.set_state(Gst.State.PLAYING)
    found = []
    while (sample := sink.try_pull_sample(5 * Gst.SECOND)) is not None:
        buffer = sample.get_buffer()
        found.append((buffer.pts // Gst.MSECOND, buffer.extract_dup(0, buffer.get_size())))
    ended = sink.is_eos()
    pipeline.set_state(Gst.State.NULL)
    assert ended, f"{path}: the demuxer did not reach the end"
    return found


def test_only_drones_have_telemetry(clip: Path) -> None:
    assert sorted(p.name for p in clip.glob("*.ts")) == ["cam3.ts"]


def test_gstreamer_reads_the_written_poses_back(clip: Path) -> None:
    about = json.loads((clip / "telemetry.json").read_text())
    origin = Origin.model_validate(about["origin"])
    truth = read_poses(clip / "calib.json", "cam3")
    packets = packets_of(clip / "cam3.ts")
    assert len(packets) == FRAMES == about["drawn"]["cam3"]["packets"]
    first_ms = packets[0][0]
    for index, (at_ms, data) in enumerate(packets):
        packet = klv.decode(data)
        assert at_ms - first_ms == pytest.approx(1000 * index / FPS, abs=1)
        assert packet.time_ns == START_NS + index * 10**9 // FPS
        said, model = camera_of(packet, origin, 320, 180), truth.models[index]
        np.testing.assert_allclose(said.rotation, model.rotation, atol=1.5e-4)
        np.testing.assert_allclose(said.position[:2], model.position[:2], atol=0.01)
        assert abs(said.position[2] - model.position[2]) <= 0.16
        assert said.matrix[0, 0] == pytest.approx(model.matrix[0, 0], rel=2e-4)


def test_the_pictures_beside_the_telemetry_are_those_of_the_clip(clip: Path) -> None:
    def pictures(path: Path) -> list[np.ndarray]:
        with av.open(str(path)) as file:
            return [frame.to_ndarray(format="gray") for frame in file.decode(video=0)]

    whole, beside = pictures(clip / "cam3.mp4"), pictures(clip / "cam3.ts")
    assert len(whole) == len(beside) == FRAMES
    assert all(np.array_equal(a, b) for a, b in zip(whole, beside, strict=True))


@pytest.fixture
def long(clip: Path, tmp_path: Path) -> tuple[Path, CameraPoses]:
    """A folder with a video of many frames, and poses that drift a metre a second."""
    source = read_poses(clip / "calib.json", "cam3")
    count = 400
    with av.open(str(tmp_path / "cam3.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.options = {"bf": "0"}
        for _ in range(count):
            picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            file.mux(stream.encode(picture))
        file.mux(stream.encode(None))
    first = source.models[0]
    models = tuple(
        type(first)(
            first.matrix,
            first.rotation,
            -first.rotation @ (first.position + np.array([index / 8, 0, 0])),
            320,
            180,
        )
        for index in range(count)
    )
    return tmp_path, CameraPoses(source.view, 8.0, tuple(range(1, count + 1)), models)


@pytest.mark.parametrize("level", ["rtk", "gnss", "poor"])
def test_errors_are_as_large_as_the_table_says(long: tuple[Path, CameraPoses], level: str) -> None:
    folder, truth = long
    errors = LEVELS[level]
    write_telemetry(folder, {"cam3": truth}, level, seed=5)
    about = json.loads((folder / "telemetry.json").read_text())
    drawn = about["drawn"]["cam3"]
    origin = Origin.model_validate(about["origin"])
    packets = [klv.decode(data) for _, data in packets_of(folder / "cam3.ts")]
    assert len(packets) == drawn["packets"]
    assert 1 - len(packets) / 400 == pytest.approx(errors.loss, abs=4 * (errors.loss / 400) ** 0.5)
    away = []
    for packet in packets:
        index = round((packet.time_ns - START_NS) * 8 / 1e9)
        said = camera_of(packet, origin, 320, 180)
        away.append(said.position - truth.models[index].position)
    mean, spread = np.mean(away[10:], 0), np.std(away[10:], 0)
    # A lagging drone that flies east at one metre a second is said to be west of where it is; the
    # lag takes the latest pose before it, so up to a frame (1/8 s) more.
    lag_m = drawn["lag_ms"] / 1000
    assert -(lag_m + 1 / 8) - 0.02 <= mean[0] - drawn["position_m"][0] <= -lag_m + 0.05
    assert mean[1] == pytest.approx(drawn["position_m"][1], abs=0.05)
    assert mean[2] == pytest.approx(drawn["position_m"][2], abs=0.1)
    assert spread[1] == pytest.approx(errors.position_noise_m, rel=0.2, abs=0.005)
    assert errors.lag_ms[0] <= drawn["lag_ms"] <= errors.lag_ms[1]


def test_the_same_seed_draws_the_same_errors(long: tuple[Path, CameraPoses]) -> None:
    folder, truth = long
    said = []
    for seed in (5, 5, 6):
        write_telemetry(folder, {"cam3": truth}, "gnss", seed)
        said.append((folder / "telemetry.json").read_text())
    assert said[0] == said[1] != said[2]
