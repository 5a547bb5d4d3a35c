"""A password that a device knows is in no text that leaves its process, wherever it stood."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skyreid.edge.__main__ import main

SECRETS = ("pathSecret1", "querySecret2", "keySecret3", "brokerSecret4")
SOURCE = "rtsp://127.0.0.1:{port}/live/admin/pathSecret1/1?user=admin&password=querySecret2"


@pytest.fixture
def settings(tmp_path: Path, models: Path, needs_gst: None) -> Path:
    (tmp_path / "site.toml").write_text('id = "square"\n[[camera]]\nid = "cam1"\nview = "aerial"\n')
    path = tmp_path / "edge.toml"
    path.write_text(
        'site = "site.toml"\n[device]\nid = "dev1"\n[camera]\nid = "cam1"\nsource = "x"\n'
        f'[detector]\nmodel = "{models}/blind"\n[embedder]\nbundles = ["{models}/tiny"]\n'
        '[mqtt]\nusername = "u"\n[spool]\npath = "spool.db"\n[health]\nperiod_s = 0.2\n'
    )
    return path


def clean(text: str) -> bool:
    return not [secret for secret in SECRETS if secret.lower() in text.lower()]


def test_no_text_that_leaves_a_running_device_has_a_password_in_it(
    settings: Path,
    broker: Any,
    start_server: Callable[[int], Any],
    environment: dict[str, str],
    free_port: int,
    wait_until: Callable[..., None],
) -> None:
    broker.start()
    server = start_server(broker.port)
    wait_until(lambda: server.subscribed)
    record = settings.parent / "rec"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "skyreid.edge", "run", str(settings), "--record", str(record)),
            *("--camera.source", SOURCE.format(port=free_port), "--camera.username", "admin"),
            *("--camera.password=keySecret3", f"--mqtt.url=mqtt://127.0.0.1:{broker.port}"),
        ],
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, "SKYREID_EDGE_MQTT__PASSWORD": "brokerSecret4"},
    )
    wait_until(lambda: {"birth", "health"} <= {channel for channel, *_ in server.other})
    wait_until(lambda: any(b"source_why" in payload for _, payload, *_ in server.other))
    shown = Path(f"/proc/{process.pid}/cmdline").read_text()
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    assert "source state=backoff unreachable" in log
    assert clean(log)
    assert clean(shown)
    assert "--camera.password=" in shown
    assert clean(json.dumps([repr(message) for message in server.other]))
    for file in record.rglob("*"):
        assert file.is_dir() or clean(file.read_bytes().decode(errors="replace")), file


@pytest.mark.parametrize("verb", ["check", "pipeline"])
@pytest.mark.parametrize(
    "options",
    [
        ["--camera.source", SOURCE.format(port=554), "--camera.username=admin"],
        ["--camera.source", "srt://127.0.0.1:8890"],
    ],
    ids=["rtsp", "srt"],
)
def test_no_text_about_a_device_has_a_password_in_it(
    verb: str, options: list[str], settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, str(settings), *options, "--camera.password=keySecret3"]) == 0
    out, error = capsys.readouterr()
    assert options[1].partition(":")[0] in out
    assert clean(out + error)


@pytest.mark.parametrize(
    "options",
    [
        ["--camera.source", "rtsp://admin:keySecret3@x@h/s"],
        ["--camera.source", "rtsp://admin:key[Secret3@h/s", "--camera.password", "keySecret3"],
        ["--camera.source", "http://admin:keySecret3@h/s"],
        ["--camera.source", "rtsp:///keySecret3"],
        ["--camera.password", "keySecret3"],
        ["--camera.passwort", "keySecret3"],
        ["--camera.source", "rtsp://u:keySecret3@h/s", "--camera.username", "u"],
        ["--camera.source", "srt://u:keySecret3@h:1"],
        ["--camera.source", "srt://h:1?passphrase=keySecret3&mode=neither"],
        ["--camera.source", "srt://h:1?passphrase=keySecret3&streamid=x", "--camera.username", "u"],
        ["--camera.source=test://keySecret3"],
    ],
)
def test_no_refusal_has_a_password_in_it(
    options: list[str], settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(settings), *options]) == 2
    out, error = capsys.readouterr()
    assert error.startswith("error (")
    if options != ["--camera.source=test://keySecret3"]:  # no camera: its name is no secret
        assert clean(out + error)


def test_an_option_that_a_verb_does_not_know_is_named_without_its_value(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["install-service", "--mqtt.password", "sesame", "--mqtt.password=sesame"])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert "unrecognized arguments: --mqtt.password --mqtt.password\n" in told
    assert "sesame" not in told
