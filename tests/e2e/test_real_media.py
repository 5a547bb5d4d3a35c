"""Real pixels through a real detector to a real broker: as a file, and over RTSP with a kill."""

import os
import shutil
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bookkeeping import produced, stored, wait_until
from chain import Chain
from ports import free_port

from skyreid.contract.recording import read_run, read_sightings
from skyreid.contract.sighting import Lane
from skyreid.export.__main__ import main as export

Make = Callable[..., Chain]
CAMERA = "cam6"


@pytest.fixture
def street(tmp_path: Path, shared: Path) -> Path:
    """The campus clip as a one-camera clip of unknown pose and truth."""
    clip = tmp_path / "street"
    (clip / "gt").mkdir(parents=True)
    (clip / "calib.json").write_text("{}")
    (clip / f"{CAMERA}.mp4").symlink_to(shared / "media" / "vtest.mp4")
    return clip


@pytest.fixture
def rtsp(repository: Path, shared: Path) -> Iterator["Rtsp"]:
    server = Rtsp(repository / "tests/edge/video/rtsp_server.py", shared / "media" / "vtest.mp4")
    server.start()
    yield server
    server.kill()


class Rtsp:
    """The campus clip over RTSP on loopback, from its start for each client."""

    def __init__(self, script: Path, clip: Path) -> None:
        self._command = [sys.executable, str(script), str(free_port()), str(clip)]
        self.url = f"rtsp://127.0.0.1:{self._command[2]}/s"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.PIPE, text=True, env={**os.environ}
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()


def check_order(chain: Chain) -> None:
    """Sequence numbers rise one by one; each tracklet's revisions rise; NEW first if at all.

    END is last; who was lost and is found again goes on after one.
    """
    sightings = [s for b in read_sightings(chain.run_directory(CAMERA)) for s in b.sightings]
    assert [s.seq for s in sightings] == list(range(1, len(sightings) + 1))
    tracklets = defaultdict(list)
    for sighting in sightings:
        tracklets[sighting.track].append(sighting)
    for parts in tracklets.values():
        assert [s.revision for s in parts] == list(range(1, len(parts) + 1))
        times = [s.captured_at_ns for s in parts]
        assert times == sorted(times)
        kinds = [s.kind.name for s in parts]
        assert "NEW" not in kinds[1:]
        assert kinds[-1] == "END"


def test_a_real_clip_as_a_file_through_signed_bundles_only(
    make_chain: Make, street: Path, repository: Path, yolox_bundle: Path, tmp_path: Path
) -> None:
    private, public = tmp_path / "release.key", tmp_path / "release.pub"
    assert export(["keys", str(private), str(public)]) == 0
    signed = {"yolox": yolox_bundle, "vdt": repository / "examples/bundle/vdt-tiny"}
    for name, bundle in signed.items():
        shutil.copytree(bundle, tmp_path / name)
        assert export(["sign", str(tmp_path / name), "--key", str(private)]) == 0
    options = (
        *("--camera.fps_max", "5"),  # half of its frames: the machine is shared
        *("--trust.require_signature", "true", f'--trust.keys=["{public}"]'),
    )
    chain = make_chain(
        street,
        geometry=False,
        detector=tmp_path / "yolox",
        embedder=tmp_path / "vdt",
        edge_options=options,
    )
    chain.start_broker()
    chain.start_server()
    part = chain.start_edge(CAMERA)
    wait_until("the file ends", lambda: not part.alive, 250)
    assert part.process.returncode == 0, part.tail(30)
    sent = produced(chain, [CAMERA])
    assert len(sent) > 50  # some ten people walk through it all the time
    runs = read_sightings(chain.run_directory(CAMERA))
    assert len({s.track for b in runs for s in b.sightings}) <= 60
    assert max(sent.values()) == 1
    wait_until("all is stored", lambda: stored(chain) == set(sent), 30)
    check_order(chain)
    info = read_run(chain.run_directory(CAMERA))
    assert info.ended
    assert info.frames == 795
    dropped = dict(info.dropped)
    assert dropped.pop("track_cut", 0) <= 1  # people meet there, and a track is cut for it
    assert dropped == {"fps_max": 397}
    identities = chain.get("/v1/identities?limit=200")
    assert identities["total"] >= 5


def test_a_real_clip_over_rtsp_with_the_server_killed_in_the_middle(
    make_chain: Make, street: Path, yolox_bundle: Path, rtsp: Rtsp
) -> None:
    chain = make_chain(
        street,
        geometry=False,
        detector=yolox_bundle,
        edge_options=("--camera.source", rtsp.url),
    )
    chain.start_broker()
    chain.start_server()
    part = chain.start_edge(CAMERA)
    wait_until("people are seen", lambda: len(stored(chain)) >= 10, 120)
    rtsp.kill()
    wait_until("the device notices", lambda: "state=backoff" in part.log.read_text(), 60)
    before = stored(chain)
    rtsp.start()
    wait_until("people are seen again", lambda: len(stored(chain)) >= len(before) + 20, 120)
    part.process.send_signal(signal.SIGINT)
    wait_until("the device ends", lambda: not part.alive, 60)
    assert part.process.returncode == 0, part.tail(30)
    sent = produced(chain, [CAMERA])
    assert max(sent.values()) == 1
    wait_until("all is stored", lambda: stored(chain) == set(sent), 30)
    check_order(chain)
    lanes = {b.lane for b in read_sightings(chain.run_directory(CAMERA))}
    assert lanes == {Lane.LIVE}
    info = read_run(chain.run_directory(CAMERA))
    assert info.ended
    dropped = dict(info.dropped)
    assert dropped.pop("track_cut", 0) <= 1  # as of the file
    assert dropped.keys() <= {"frame_overtaken"}, "a gap, and frames that a newer one replaced"
