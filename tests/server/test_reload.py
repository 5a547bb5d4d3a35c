"""SIGHUP: other settings and another site file while the server runs, all of it or nothing."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from skyreid.contract.errors import SettingsError
from skyreid.contract.site import read_site
from skyreid.server.config import ServerSettings
from skyreid.server.matching.priors import Normals
from skyreid.server.reload import Reload
from skyreid.server.store.beside import read_decisions, read_keys
from skyreid.server.web.answers import Lookup, ShownSite

SITE = 'id = "plaza"\npictures = "{pictures}"\n'
CAMERA = '[[camera]]\nid = "{id}"\nview = "{view}"\n'


def stand(path: Path, east_m: float) -> None:
    """Poses of cam1 that stands there."""
    eye = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    frame = {"frame": 1, "K": [[9, 0, 6], [0, 9, 3], [0, 0, 1]], "R": eye, "t": [-east_m, 0, 9]}
    entry = {"width": 12, "height": 6, "fps": 5, "kind": "aerial", "frames": [frame]}
    path.write_text(json.dumps({"1": entry}))


def outcomes(text: str) -> dict[str, float]:
    """How many reloads ended how, as far as there were any."""
    rows = [line for line in text.splitlines() if line.startswith("skyreid_reloads_total{")]
    assert len(rows) == 2  # from the start: an alert sees the first
    counts = {row.split('"')[1]: float(row.rpartition(" ")[2]) for row in rows}
    return {outcome: count for outcome, count in counts.items() if count}


class Hangup:
    """SIGHUP to one life of a server without processes; the next step of its writer takes it."""

    def __init__(self, life: Any, tmp_path: Path) -> None:
        self.life, self.settings = life, life.settings
        self.priors: dict[str, Any] = {}
        self.renewed: list[bool] = []
        self.noted: list[tuple[str, str]] = []
        site = read_site(self.settings.site)
        self.lookup = Lookup(self.settings.journal.path, ShownSite.of(site))
        self._reload = Reload(
            self.settings,
            site,
            self.read,
            lambda settings: self.priors,
            life.writer,
            self.lookup,
            life.metrics,
            lambda: self.renewed.append(True),
            lambda act, what: self.noted.append((act, what)),
        )

    def read(self) -> ServerSettings:
        return self.settings

    def set(self, section: str, **values: Any) -> None:
        changed = getattr(self.settings, section).model_copy(update=values)
        self.settings = self.settings.model_copy(update={section: changed})

    def __call__(self) -> bool:
        taken: list[bool] = []
        caller = Thread(target=lambda: taken.append(self._reload(Event())))
        caller.start()
        while caller.is_alive():
            self.life.writer.step(0.001)
        return taken[0]

    @property
    def outcomes(self) -> dict[str, float]:
        return outcomes(self.life.metrics.text()[0].decode())


@pytest.fixture
def hangup(life: Any, tmp_path: Path) -> Callable[..., Hangup]:
    return lambda **matching: Hangup(life(**matching), tmp_path)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("mqtt", "url", "mqtt://elsewhere"),
        ("journal", "path", Path("other.sqlite")),
        ("http", "port", 1),
        ("matching", "batch_s", 0.25),
        ("pictures", "max_mb", 1),
    ],
)
def test_what_a_running_server_cannot_change_is_refused_by_name(
    hangup: Any, section: str, key: str, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    one = hangup()
    one.set("matching", fpir=0.5)
    one.set(section, **{key: value})
    before = one.life.writer.devices.horizon_ns, one.lookup.shown
    assert not one()
    (said,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert said.endswith(f": {section}.{key}: a change of this needs a restart")
    assert one.outcomes == {"refused": 1}
    assert (one.life.writer.devices.horizon_ns, one.lookup.shown) == before


def test_another_site_in_the_site_file_is_refused(
    hangup: Any, site_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = hangup()
    site_file.write_text(site_file.read_text().replace('"plaza"', '"market"'))
    assert not one()
    assert "site file: id: a change of this needs a restart" in caplog.text
    assert one.lookup.shown.json["site"] == "plaza"


def test_a_password_that_changed_is_not_said(hangup: Any, caplog: pytest.LogCaptureFixture) -> None:
    one = hangup()
    one.set("mqtt", username="somebody", password="a-word-that-nobody-logs")
    assert not one()
    assert "mqtt.password, mqtt.username: a change of this needs a restart" in caplog.text
    assert "a-word-that-nobody-logs" not in caplog.text


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("id = ", "not TOML"),
        ('id = "plaza"\nkamera = 1', "kamera: unknown key"),
        (SITE.format(pictures="never") + CAMERA.format(id="cam1", view="aerial")
         + 'poses = "none.json"', "none.json"),
    ],
)  # fmt: skip
def test_a_site_file_that_is_wrong_changes_nothing(
    hangup: Any, site_file: Path, text: str, complaint: str, caplog: pytest.LogCaptureFixture
) -> None:
    one = hangup()
    site_file.write_text(text)
    one.set("devices", messages_per_s=1.0)
    before = one.lookup.shown
    assert not one()
    (said,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert complaint in said
    assert "\n" not in said
    assert one.outcomes == {"refused": 1}
    assert one.lookup.shown is before


def test_a_defect_while_the_settings_are_read_does_not_end_the_server(hangup: Any) -> None:
    one = hangup()
    settings, good = one.settings, one.read
    one.settings = None  # an AttributeError
    assert not one()
    one.settings = settings
    assert good() is settings
    assert one()
    assert one.outcomes == {"refused": 1, "done": 1}


def test_a_pose_that_changed_in_its_file_is_shown(
    hangup: Any, site_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    one = hangup()
    poses = tmp_path / "poses.json"
    stand(poses, 3.0)
    camera = CAMERA.format(id="cam1", view="aerial") + 'poses = "poses.json"\n'
    site_file.write_text(SITE.format(pictures="never") + camera)
    assert one()
    assert "reloaded changed=site file: pictures,site file: camera" in caplog.text
    assert one.lookup.shown.json["cameras"][0]["position"]["east_m"] == 3.0
    assert one.lookup.shown.pictures == "never"
    stand(poses, 4.0)
    assert one()
    assert "reloaded changed=a camera's poses" in caplog.text
    assert one.lookup.shown.json["cameras"][0]["position"]["east_m"] == 4.0


def test_pictures_that_a_site_forbids_are_refused_from_then_on(
    hangup: Any, make: Any, site_file: Path
) -> None:
    one = hangup()
    one.life.arrive(make.payload([make.sighting(1)]))
    one.life.arrive(b"no JPEG", "picture")
    one.life.writer.step(0.01)
    site_file.write_text(site_file.read_text().replace("always", "never"))
    assert one()
    one.life.arrive(b"no JPEG", "picture")
    one.life.writer.step(0.01)
    text = one.life.metrics.text()[0].decode()
    assert 'skyreid_rejected_total{reason="picture"} 1.0' in text
    assert 'skyreid_rejected_total{reason="policy"} 1.0' in text


def test_a_device_whose_camera_is_taken_from_the_site_file_holds_nobody_up(
    hangup: Any, make: Any, site_file: Path
) -> None:
    one = hangup(stall_s=3600, hold_s=3600)
    life = one.life
    for device, at_s in (("cam1", 900.0), ("cam6", 5.0)):
        sighting = make.sighting(1, camera=device, at_s=at_s, first_seen_ns=5)
        life.arrive(make.payload([sighting], device=device, watermark_ns=0), device=device)
        life.arrive(b"online", "status", device)
    life.writer.step(0.01)
    life.step_until(lambda: len(life.writer.state.tracks) == 1)  # what cam6 does not hold up
    whole = site_file.read_text()
    site_file.write_text(SITE.format(pictures="never") + CAMERA.format(id="cam1", view="aerial"))
    assert one()
    assert set(life.writer.devices.by_id) == {"cam1"}
    life.step_until(lambda: len(life.writer.state.tracks) == 2)
    sighting = make.sighting(2, camera="cam6", at_s=6.0, first_seen_ns=5)
    life.arrive(make.payload([sighting], device="cam6"), device="cam6")
    life.writer.step(0.01)
    assert 'skyreid_rejected_total{reason="device"} 1.0' in life.metrics.text()[0].decode()
    site_file.write_text(whole)
    assert one()
    life.arrive(make.payload([sighting], device="cam6"), device="cam6")
    life.writer.step(0.01)
    assert life.writer.devices.by_id["cam6"].online  # it said so before, and not again


def test_a_lower_limit_of_messages_holds_at_once(hangup: Any, make: Any) -> None:
    one = hangup()
    life = one.life
    life.arrive(make.payload([make.sighting(1)]))
    life.writer.step(0.01)
    one.set("devices", messages_per_s=0.1)  # three at once
    assert one()
    for n in range(2, 400):
        life.arrive(make.payload([make.sighting(n)]))
        life.writer.step(0)
    assert 'skyreid_rejected_total{reason="rate"}' in life.metrics.text()[0].decode()


def test_other_thresholds_find_everybody_who_was_in_the_window(hangup: Any, make: Any) -> None:
    one = hangup()
    life = one.life
    for n in range(6):
        camera = ("cam1", "cam6")[n % 2]
        start_ns = make.start_ns + int(n * 1e9)
        sighting = make.sighting(
            n + 1, camera=camera, person=n // 2, at_s=n + 1, first_seen_ns=start_ns
        )
        life.arrive(make.payload([sighting], device=camera), device=camera)
    life.step_until(lambda: life.writer.settled and len(life.writer.state.tracks) == 6)
    before, matcher = life.writer.state, life.writer._matcher
    assert one()
    assert life.writer._matcher is matcher  # nothing that it goes by has changed
    one.set("matching", fpir=0.02, window_s=500.0)
    assert one()
    assert life.writer._matcher is not matcher
    assert life.writer._matcher.window_s == 500.0
    kept = life.writer.forgetting._retention
    # Nor does retention take what it needs: the window, and what settling a block looks back.
    assert 10**12 - kept._before(10**12, 0) == life.writer._matcher.shown_s * 10**9 > 5 * 10**11
    life.step_until(lambda: life.writer.settled)
    assert life.writer.state.tracks == before.tracks
    start_ns = make.start_ns + int(7e9)
    again = make.sighting(9, person=1, track=77, at_s=8, first_seen_ns=start_ns)
    life.arrive(make.payload([again], device="cam1"), device="cam1")
    life.step_until(lambda: len(life.writer.state.tracks) == 7 and life.writer.settled)
    (name,) = [i for k, i in life.writer.state.tracks.items() if k.track == 77]
    assert len(life.writer.state.identities[name].members) > 1  # one of those of before


def test_what_waits_for_its_decision_is_decided_by_the_new_thresholds(
    hangup: Any, make: Any
) -> None:
    one = hangup(stall_s=3600)
    life = one.life
    life.arrive(make.payload([make.sighting(1)], watermark_ns=7))
    life.writer.step(0.01)
    assert life.writer.undecided == 1
    one.set("matching", fpir=0.02, stall_s=0.001)
    assert one()
    life.step_until(lambda: life.writer.settled)
    assert len(life.writer.state.tracks) == 1


def test_priors_of_another_bundle_make_a_new_matcher(hangup: Any) -> None:
    one = hangup()
    matcher = one.life.writer._matcher
    one.priors = {"aerial-ground": Normals(0.6, 0.1, 0.0, 0.1)}
    assert one()
    assert one.life.writer._matcher is not matcher


def test_a_bundle_without_priors_is_refused(hangup: Any) -> None:
    one = hangup()

    def none(_settings: ServerSettings) -> Any:
        raise SettingsError("matching.bundle x: its manifest has no score priors")

    one._reload._priors_of = none
    one.set("matching", bundle=Path("x"))
    assert not one()


def test_a_hangup_under_traffic_loses_nothing(
    server: Any, device: Any, make: Any, wait: Callable[..., Any], site_file: Path
) -> None:
    server.start()
    good = server.settings.read_text()
    uav, sent = device(), 0

    def burst() -> None:
        nonlocal sent
        for _ in range(6):
            batch = [make.sighting(sent + n, person=sent + n) for n in range(4)]
            uav.send("sightings", make.payload(batch))
            sent += 4

    def hang_up(text: str, outcome: str, count: int) -> None:
        server.settings.write_text(text)
        burst()
        os.kill(server._process.pid, signal.SIGHUP)
        burst()
        wait(
            f"{outcome} {count}",
            lambda: outcomes(server.get("/metrics").text).get(outcome) == count,
        )

    hang_up(good + "fpir = 0.02\n", "done", 1)
    hang_up(good + "fpir = 2\n", "refused", 1)
    hang_up(good.replace("port = 0", "port = 1"), "refused", 2)
    site_file.write_text(site_file.read_text() + CAMERA.format(id="cam9", view="ground"))
    hang_up(good, "done", 2)
    assert [c["id"] for c in server.get("/v1/site").json()["cameras"]] == ["cam1", "cam6", "cam9"]
    uav.send("status", b"offline")
    wait("every receipt", lambda: len(uav.received()) == sent)
    wait("everything decided", lambda: server.get("/readyz").json()["settled"])
    assert read_keys(server.journal) == {("uav1", "1-abcd", n) for n in range(sent)}
    tracks = [t for d in read_decisions(server.journal) if d.kind == "assign" for t in d.tracks]
    assert len(tracks) == len(set(tracks)) == sent
    log = server.log.read_text()
    assert "reloaded changed=matching.fpir" in log
    assert "matching.fpir: Input should be less than 1" in log
    assert "http.port: a change of this needs a restart" in log
    assert server.stop() == 0


def test_systemd_reloads_it_by_that_signal(repository: Path, tmp_path: Path) -> None:
    text = (repository / "server" / "skyreid-server.service").read_text()
    assert "\nExecReload=/bin/kill -HUP $MAINPID\n" in text
    program = shutil.which("systemd-analyze")
    if program is None:
        return
    unit = tmp_path / "skyreid-server.service"
    unit.write_text(text.replace("/opt/skyreid/bin/skyreid-server", "/bin/true"))
    said = subprocess.run([program, "verify", str(unit)], capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    assert "skyreid-server" not in said.stderr
