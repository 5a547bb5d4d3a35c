import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from cameras import RtspServer, Watch

from skyreid.edge.video.source import Limits


def test_a_killed_and_restarted_rtsp_server_costs_a_gap_and_nothing_else(
    rtsp: RtspServer, wait_until: Callable[..., None]
) -> None:
    threads = threading.active_count()
    watch = Watch(rtsp.url("s"))
    wait_until(lambda: len(watch.frames) >= 3)
    rtsp.kill()
    wait_until(lambda: "backoff" in watch.names())
    before = len(watch.frames)
    rtsp.start()
    wait_until(lambda: len(watch.frames) >= before + 3)
    watch.close()
    names = watch.names()
    assert names[:3] == ["connecting", "streaming", "backoff"]
    assert names[-2:] == ["streaming", "ended"]
    assert [f.number for f in watch.frames] == list(range(1, len(watch.frames) + 1))
    times = [f.captured_at_ns for f in watch.frames]
    assert times == sorted(set(times))
    assert sum(watch.source.lost.values()) >= 1
    assert threading.active_count() == threads


def test_a_frozen_rtsp_server_is_noticed_by_the_stall_timer(
    rtsp: RtspServer, wait_until: Callable[..., None]
) -> None:
    watch = Watch(rtsp.url("s"), limits=Limits(stall_s=3.0, backoff_s=(0.1, 0.5)))
    wait_until(lambda: len(watch.frames) >= 3)
    rtsp.signal(signal.SIGSTOP)
    wait_until(lambda: watch.source.lost["stalled"] >= 1)
    before = len(watch.frames)
    rtsp.signal(signal.SIGCONT)
    wait_until(lambda: len(watch.frames) > before)
    watch.close()
    assert ("backoff", "stalled: no frame for 3 s") in [(s.value, why) for s, why in watch.states]


def test_a_server_that_is_not_there_is_tried_again_until_the_stop(
    needs_gst: None, free_port: int, wait_until: Callable[..., None]
) -> None:
    watch = Watch(f"rtsp://127.0.0.1:{free_port}/s")
    wait_until(lambda: watch.source.lost["unreachable"] >= 2)
    watch.close()
    assert watch.frames == []


def test_a_camera_that_changes_its_size_while_it_sends_goes_on_in_the_new_one(
    rtsp: RtspServer, wait_until: Callable[..., None]
) -> None:
    watch = Watch(rtsp.url("grows"))
    wait_until(lambda: {(f.width, f.height) for f in watch.frames} >= {(160, 96), (320, 240)})
    watch.close()
    assert watch.error is None
    assert watch.names()[:2] == ["connecting", "streaming"]
    for frame, corner in zip(watch.frames, watch.corners, strict=True):
        assert min(corner) > 160, (frame.number, frame.width)  # white: no green row, no grey one


def test_a_signal_ends_a_device_whose_camera_froze(
    rtsp: RtspServer, tmp_path: Path, models: Path, environment: dict[str, str]
) -> None:
    """It neither sends nor answers, and there is no broker: reader and end wait at once."""
    (tmp_path / "site.toml").write_text('id = "square"\n[[camera]]\nid = "cam1"\nview = "aerial"\n')
    (tmp_path / "edge.toml").write_text(
        'site = "site.toml"\n[device]\nid = "dev1"\n[camera]\nid = "cam1"\nstall_s = 600\n'
        f'source = "{rtsp.url("s")}"\n[detector]\nmodel = "{models}/blind"\n'
        f'[embedder]\nbundles = ["{models}/tiny"]\n[spool]\npath = "spool.db"\n'
        '[mqtt]\nurl = "mqtt://127.0.0.1:9"\nstop_timeout_s = 0.5\n'
    )
    device = subprocess.Popen(
        [sys.executable, "-m", "skyreid.edge", "run", str(tmp_path / "edge.toml")],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert device.stderr is not None
    log = ""
    while "state=streaming" not in log:
        line = device.stderr.readline()
        assert line, log
        log += line
    rtsp.signal(signal.SIGSTOP)
    try:
        device.send_signal(signal.SIGTERM)
        _, rest = device.communicate(timeout=60)
    finally:
        rtsp.signal(signal.SIGCONT)
    assert device.returncode == 0, log + rest
    assert "end frames=" in rest
