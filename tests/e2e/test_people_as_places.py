"""A flight's bias by people whom two cameras saw: a server's journal, a recorded run, settings."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from flights import SITE, SIZE, START_NS, model_at

from skyreid.contract.camera import CameraModel, CameraPoses, write_poses
from skyreid.contract.identity_event import Match, TrackKey
from skyreid.contract.recording import Recorder, RunInfo
from skyreid.contract.sighting import Box, Clock, Ground, Kind, Sighting, View
from skyreid.contract.sighting_wire import encode_sighting
from skyreid.edge.__main__ import main as edge
from skyreid.edge.people.ground import MIDDLE_M
from skyreid.edge.telemetry.options import TelemetryOptions
from skyreid.server.__main__ import main as server
from skyreid.server.matching.identity import Applied, Decision
from skyreid.server.store.journal import Journal
from skyreid.server.store.records import Arrived

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BIAS = np.array([1.2, -0.8, 1.0, *np.radians([0.7, -0.6, 0.4])])
SECONDS = 14
SET_BY = (1.0, -2.0, 0.5, -0.05, 0.02, 0.01)
"""What the settings of the run put its poses right by; they are others by now."""
STREET = """
[[camera]]
id = "cam6"
view = "ground"
poses = "poses.json"
[[camera]]
id = "cam7"
view = "ground"
"""
SETTINGS = """
site = "site.toml"
device.id = "device-cam2"
camera = {id = "cam2", source = "udp://0.0.0.0:5004"}
detector.model = "none"
embedder.bundles = ["none"]
spool.path = "spool.db"
telemetry.source = "klv"
telemetry.boresight_deg = [3.0, 0.0, 0.0]
"""


@dataclass(frozen=True)
class Walker:
    """Somebody who walks straight on; the street camera's tracklet may show somebody else."""

    start: tuple[float, float]
    way: tuple[float, float]
    probability: float = 0.99
    shown: tuple[float, float] = (0.0, 0.0)
    """By which the street camera's person is elsewhere."""

    def at(self, time_s: float) -> np.ndarray:
        return np.array(self.start) + np.array(self.way) * (time_s - SECONDS / 2)


def crowd() -> list[Walker]:
    rng = np.random.default_rng(6)
    walkers = [Walker(tuple(rng.uniform(-6, 6, 2)), tuple(rng.normal(0, 0.5, 2))) for _ in range(7)]
    wrong = Walker((2.0, 3.0), (0.4, -0.3), shown=(4.0, -3.0))
    doubted = Walker((-3.0, 1.0), (0.2, 0.3), probability=0.7, shown=(-9.0, 5.0))
    return [*walkers, wrong, doubted]


def seen(camera: str, track: int, seq: int, time_s: float, where: object, place: object) -> Arrived:
    x, y = np.asarray(where, float)
    east, north = np.asarray(place, float)
    ground = View.GROUND if camera != "cam2" else View.AERIAL
    sighting = Sighting(
        seq, camera, ground, track, seq, Kind.UPDATE, START_NS, at_ns(time_s), Clock.FILE, 0,
        Box(x - 8, y - 15, x + 8, y + 15, *SIZE), 0.8, 3, np.eye(1, 8, dtype=np.float32)[0], 0.1,
        Ground(float(east), float(north), 0.02, 0.0, 0.02),
    )  # fmt: skip
    body = encode_sighting(sighting)
    return Arrived(f"device-{camera}", "1-a", 1, "key", 8, 5, sighting, body)


def at_ns(time_s: float) -> int:
    return START_NS + round(time_s * 1e9)


def written(folder: Path, walkers: Sequence[Walker], street: str = "cam6") -> None:
    """A site whose server has linked each walker's two tracklets, and the drone's recorded run."""
    (folder / "site.toml").write_text(SITE + STREET)
    (folder / "edge.toml").write_text(SETTINGS)
    (folder / "server.toml").write_text('site = "site.toml"\njournal.path = "journal.sqlite"\n')
    still = CameraPoses(View.GROUND, 1.0, (1,), (model_at(0.0),))
    write_poses(folder / "poses.json", {"cam6": still})
    rng, arrived, decided = np.random.default_rng(7), list[Arrived](), list[Applied]()
    for number, walker in enumerate(walkers, 1):
        for second in range(SECONDS):
            point = np.array([*walker.at(second), MIDDLE_M])
            pixel = said_at(second).displaced(BIAS).project(point[None])[0][0]
            where = pixel + rng.normal(0, 1, 2)
            arrived.append(seen("cam2", number, 1000 * number + second, second, where, point[:2]))
            time_s = second + 0.4
            place = walker.at(time_s) + walker.shown + rng.normal(0, 0.1, 2)
            arrived.append(seen(street, number, 1000 * number + second, time_s, (50, 50), place))
        above, below = (
            TrackKey(f"device-{camera}", "1-a", camera, number) for camera in ("cam2", street)
        )
        link = Match("accepted", walker.probability, above, ())
        decided += [
            Applied(Decision("assign", START_NS, f"P{number}", (above,)), ()),
            Applied(Decision("assign", START_NS, f"P{number}", (below,), match=link), ()),
        ]
    journal = Journal(folder / "journal.sqlite", "s", pictures_max_bytes=1 << 20)
    journal.store(arrived)
    journal.decide(decided, START_NS)
    journal.close()
    info = RunInfo(
        site="s", device="device-cam2", boot="1-a", camera="cam2", view="aerial", source="x",
        start_ns=START_NS, model_key="key", displaced=SET_BY,
    )  # fmt: skip
    with Recorder(folder / "run", info) as recorder:
        for step in range(SECONDS * 4):
            model = said_at(step / 4).displaced(np.array(SET_BY))
            recorder.pose(at_ns(step / 4), model)


def said_at(time_s: float) -> CameraModel:
    """As telemetry has it."""
    return model_at(time_s)


def places(folder: Path, *more: str) -> int:
    out = ["-o", str(folder / "people.csv")]
    return server(["places", str(folder / "server.toml"), "cam2", *out, *more])


def calibrate(folder: Path) -> int:
    how = ["--bias", str(folder / "people.csv"), "--run", str(folder / "run")]
    return edge(["calibrate", str(folder / "edge.toml"), *how])


def test_people_whom_two_cameras_saw_say_what_a_flight_is_off_by(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, crowd())
    assert places(tmp_path) == 0
    assert "places of 8 people" in capsys.readouterr().out  # nobody is taken from a doubtful link
    table = tmp_path / "people.csv"
    first, *rest = table.read_text().splitlines(keepends=True)
    another_flight_s = [f"9{row}" for row in rest[:5]]
    table.write_text("".join([first, *rest, *another_flight_s]))
    assert calibrate(tmp_path) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"5 of {len(rest) + 5} rows are of no moment of {tmp_path / 'run'}\n")
    assert "places of 7 people; 13 that do not agree are left out" in text
    told = tomllib.loads(text[text.index("[telemetry]") :])["telemetry"]
    options = TelemetryOptions.model_validate({"source": "klv", **told})
    shift = np.array([*options.position_shift_m, *-np.radians(options.boresight_deg)])
    before, after = list[float](), list[float]()
    for place in ([4.0, 3.0, 0.0], [-5.0, 2.0, 0.0], [0.0, -4.0, 0.0]):
        pixel = said_at(5.0).displaced(BIAS).project(np.array([place]))[0][0]
        for by, off in ((np.zeros(6), before), (shift, after)):
            point = said_at(5.0).displaced(by).ground_point(*pixel)
            assert point is not None
            off.append(float(np.hypot(*(point - place[:2]))))
    assert np.median(before) > 0.9
    assert np.median(after) < 0.25
    assert options.sigmas.position_m < 1.0


def test_the_table_names_nobody_and_the_audit_log_says_that_it_was_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, crowd())
    assert places(tmp_path) == 0
    people = {row.split(",")[-1] for row in (tmp_path / "people.csv").read_text().split()[1:]}
    assert people == {str(number) for number in range(1, 9)}
    assert (tmp_path / "people.csv").stat().st_mode & 0o077 == 0
    capsys.readouterr()
    assert server(["audit", "show", str(tmp_path / "server.toml"), "--act", "export"]) == 0
    assert "places of people whom cam2" in capsys.readouterr().out
    assert places(tmp_path, "--probability", "95") == 2
    assert "--probability 95: above 0, and 1 at most" in capsys.readouterr().err
    assert server(["audit", "show", str(tmp_path / "server.toml"), "--act", "export"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


@pytest.mark.parametrize(
    ("walkers", "street", "words"),
    [
        (crowd()[:2], "cam6", "of 2 people .* 8 places of 3 people are needed"),
        (crowd(), "cam7", "0 places of 0 people"),
    ],
    ids=["too few", "a street camera that nobody has surveyed"],
)
def test_where_nobody_says_it_nothing_is_written(
    walkers: list[Walker],
    street: str,
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    written(tmp_path, walkers, street)
    assert places(tmp_path) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert re.search(words, said)
    assert not (tmp_path / "people.csv").exists()


def test_people_at_one_place_of_the_picture_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    standing = [Walker((0.2 * n, 0.1 * n), (0.0, 0.0)) for n in range(4)]
    written(tmp_path, standing)
    assert places(tmp_path) == 0
    assert calibrate(tmp_path) == 2
    assert "all over the picture" in capsys.readouterr().err


def test_a_run_that_is_another_flight_s_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(tmp_path, crowd())
    assert places(tmp_path) == 0
    poses = tmp_path / "run" / "poses" / "cam2.txt"
    poses.write_text(poses.read_text().replace("\n18", "\n19"))
    poses.write_text("\n".join(poses.read_text().split("\n")[1:]))
    assert calibrate(tmp_path) == 2
    assert "is one of the recorded run" in capsys.readouterr().err
