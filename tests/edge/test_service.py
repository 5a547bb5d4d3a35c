"""The device under systemd: it says that it is up and goes on, and its unit is a good one."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from skyreid.contract.errors import InputError
from skyreid.edge import service
from skyreid.edge.__main__ import main

PROGRAM = Path("/opt/skyreid/bin/skyreid-edge")


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> service.Watch:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    watch = service.Watch(now=clock)
    watch.state("streaming", "")
    assert watch.alive(1, 1)
    return watch


def test_an_unplugged_camera_does_not_restart_the_delivery(
    watch: service.Watch, clock: Clock
) -> None:
    for again in range(100):
        watch.state("backoff", "no route to host")
        clock.now_s += 2340  # the slowest retry
        assert watch.alive(2 + again, 1)


def test_a_source_that_hangs_is_not_alive_however_busy_the_sender_is(
    watch: service.Watch, clock: Clock
) -> None:
    clock.now_s += 100
    assert watch.alive(2, 1)
    clock.now_s += 30
    assert not watch.alive(3, 1)
    assert watch.alive(4, 2)  # a frame
    watch.state("connecting", "")
    clock.now_s += 130
    assert not watch.alive(5, 2)


def test_a_sender_that_stands_still_is_not_alive_however_many_frames_come(
    watch: service.Watch,
) -> None:
    assert not watch.alive(1, 2)
    assert not watch.alive(1, 3)
    assert watch.alive(2, 4)


@pytest.mark.parametrize("abstract", [False, True])
def test_a_process_tells_systemd_over_its_socket(
    tmp_path: Path,
    models: Path,
    needs_gst: None,
    environment: dict[str, str],
    wait_until: Callable[..., None],
    abstract: bool,
) -> None:
    (tmp_path / "site.toml").write_text('id = "square"\n[[camera]]\nid = "cam1"\nview = "aerial"\n')
    settings = tmp_path / "edge.toml"
    settings.write_text(
        'site = "site.toml"\n[device]\nid = "dev1"\n'
        '[camera]\nid = "cam1"\nsource = "test://64x48@10"\npace = "real"\n'
        f'[detector]\nmodel = "{models}/blind"\n[embedder]\nbundles = ["{models}/tiny"]\n'
        '[mqtt]\nstop_timeout_s = 0\n[spool]\npath = "spool.db"\n'
    )
    name = f"\0skyreid-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    alive = tmp_path / "alive"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(name)
        systemd.settimeout(60)
        told = {"NOTIFY_SOCKET": name.replace("\0", "@"), "SKYREID_ALIVE": str(alive)}
        process = subprocess.Popen(
            [sys.executable, "-m", "skyreid.edge", "run", str(settings), "--quiet"],
            env={**environment, **told},
            stderr=subprocess.DEVNULL,
        )
        heard: list[str] = []
        while "WATCHDOG=1" not in heard or "STATUS=streaming" not in " ".join(heard):
            heard.append(systemd.recv(4096).decode())
        wait_until(alive.exists)
        process.send_signal(signal.SIGTERM)
        while heard[-1] != "STOPPING=1":
            heard.append(systemd.recv(4096).decode())
    assert process.wait(60) == 0
    assert heard.index("READY=1") < heard.index("WATCHDOG=1")


def test_install_service_writes_a_unit_that_systemd_takes_and_removes_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["install-service", "--root", str(tmp_path), "--program", str(PROGRAM)]
    assert main(words) == 0
    assert "systemctl enable --now skyreid-edge@edge" in capsys.readouterr().out
    unit = tmp_path / "etc/systemd/system/skyreid-edge@.service"
    users = tmp_path / "etc/sysusers.d/skyreid-edge.conf"
    text = unit.read_text()
    assert f"ExecStart={PROGRAM} run /etc/skyreid/%i.toml --quiet\n" in text
    assert "@PROGRAM@" not in text
    for line in (
        "Type=notify",
        "WatchdogSec=60",
        "StartLimitIntervalSec=0",
        "ProtectSystem=strict",
    ):
        assert f"\n{line}\n" in text
    assert unit.stat().st_mode & 0o777 == users.stat().st_mode & 0o777 == 0o644
    if program := shutil.which("systemd-analyze"):
        (tmp_path / "opt/skyreid/bin").mkdir(parents=True)
        (tmp_path / "skyreid-edge@.service").write_text(text.replace(str(PROGRAM), "/bin/true"))
        said = subprocess.run(
            [program, "verify", str(tmp_path / "skyreid-edge@.service")],
            capture_output=True,
            text=True,
            check=False,
        )
        assert said.returncode == 0, said.stderr
        assert "skyreid-edge@" not in said.stderr  # others' units may have warnings
    assert main(words) == 0  # again: an upgrade
    assert main([*words[:3], "--remove"]) == 0
    assert not unit.exists()
    assert not users.exists()
    assert main([*words[:3], "--remove"]) == 0


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("skyreid-edge", "an absolute path"),
        ("/opt/with space/skyreid-edge", "without spaces"),
        ("/home/me/venv/bin/skyreid-edge", "is in /home, which a service does not see"),
        ("/root/venv/bin/skyreid-edge", "is in /root, which a service does not see"),
    ],
)
def test_a_command_that_a_service_cannot_see_is_refused(
    tmp_path: Path, program: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        service.install(tmp_path, Path(program))
    assert list(tmp_path.iterdir()) == []
