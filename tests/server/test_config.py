"""Settings: what is wrong is said in one line, and the example is true."""

import gc
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from certificates import Authority

from skyreid.contract.errors import InputError, SettingsError
from skyreid.contract.settings import read_table
from skyreid.server.__main__ import main
from skyreid.server.app import DroppedAlarm, check, score_priors
from skyreid.server.collector import OBJECTS
from skyreid.server.config import ServerSettings, read_settings
from skyreid.server.counters import Metrics

BUNDLE = str(Path(__file__).parents[2] / "examples" / "bundle" / "vdt-tiny")
OF_BUNDLE = hashlib.sha256((Path(BUNDLE) / "SHA256SUMS").read_bytes()).hexdigest()


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return Authority(tmp_path, "ca").sign("server")


def settings_file(tmp_path: Path, text: str = "") -> Path:
    path = tmp_path / "server.toml"
    path.write_text(f'site = "site.toml"\n{text}\n[journal]\npath = "data/journal.sqlite"\n')
    return path


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    tls = '[mqtt]\nurl = "mqtts://h"\nca = "ca.pem"\ncertificate = "/c.pem"\nkey = "k.pem"'
    got = read_settings(
        settings_file(tmp_path, tls),
        ["--http.address_file", "address", "--matching.bundle", "/bundle"],
        verb="run",
    )
    assert got.site == tmp_path / "site.toml"
    assert got.journal.path == tmp_path / "data" / "journal.sqlite"
    assert got.http.address_file == tmp_path / "address"
    assert got.matching.bundle == Path("/bundle")
    assert (got.mqtt.ca, got.mqtt.key) == (tmp_path / "ca.pem", tmp_path / "k.pem")
    assert got.mqtt.certificate == Path("/c.pem")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[mqtt]\nurl = "http://broker"', "mqtt.url: .*is no broker address"),
        ("[mqtt]\nurI = 1", "mqtt.urI: unknown key, did you mean mqtt.url"),
        (
            "[mqtt]\nsession_expiry_s = 60",
            "mqtt.session_expiry_s: .*greater than or equal to 86400",
        ),
        ("[http]\nport = 70000", "http.port"),
        ("[http]\nport = 8080\nhost = '0.0.0.0'", "set certificate and key"),
        ("[http]\nhost = 'server.example'", "set certificate and key"),
        (
            "[http]\nhost = '0.0.0.0'\ninsecure_public = true",
            "http.key.*skyreid-server token create",
        ),
        ("[http]\ncertificate = 'a.pem'", "certificate and key go together"),
        ("[audit]\nhead_to = 'file'", "head_file and head_to = .file. go together"),
        ("[matching]\nfpir = 0", "matching.fpir"),
        ("[matching]\nbatch_s = 1e-10", "matching.batch_s"),
        ("[gallery]\nsize = 1", "gallery: unknown key"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        read_settings(settings_file(tmp_path, text), [], verb="run")


@pytest.mark.parametrize("value", ["inf", "nan", "1e300"])
def test_no_span_of_time_is_beyond_what_a_clock_counts(tmp_path: Path, value: str) -> None:
    sections = {name: field.annotation for name, field in ServerSettings.model_fields.items()}
    spans = [
        f"{section}.{name}"
        for section, kind in sections.items()
        for name in getattr(kind, "model_fields", {})
        if name.endswith(("_s", "_ms", "_h", "_ns")) and not name.endswith("_per_s")
    ]
    assert len(spans) > 5
    options = [f"--{span}={value}" for span in spans]
    with pytest.raises(SettingsError) as caught:
        read_settings(settings_file(tmp_path), options, verb="run")
    for span in spans:
        assert f"{span}: " in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.3.2.1"])
def test_loopback_needs_no_permission(tmp_path: Path, host: str) -> None:
    assert (
        read_settings(settings_file(tmp_path), ["--http.host", host], verb="run").http.host == host
    )


def test_other_machines_are_let_in_with_tls_and_a_token_alone(
    tmp_path: Path, site_file: Path, pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    certificate, key = pair
    tls = f'certificate = "{certificate}"\nkey = "{key}"'
    path = settings_file(tmp_path, f'[http]\nhost = "0.0.0.0"\nport = 0\n{tls}')
    assert main(["check", str(path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "make one first (skyreid-server token create" in said
    assert main(["token", "create", str(path), "ana", "--role", "admin"]) == 0
    secret = capsys.readouterr().out.strip()
    assert main(["check", str(path)]) == 0
    assert secret not in capsys.readouterr().out
    tokens = tmp_path / "data" / "journal.sqlite.tokens"
    tokens.rename(tmp_path / "away")
    assert main(["check", str(path), "--http.host", "127.0.0.1"]) == 0
    asks = ["--http.host", "127.0.0.1", "--audit.purpose_required", "true"]
    assert main(["check", str(path), *asks]) == 2
    assert "audit.purpose_required asks who looks" in capsys.readouterr().err
    (tmp_path / "away").rename(tokens)
    key.write_text("nothing")
    assert main(["check", str(path)]) == 2
    assert "no pair of PEM files" in capsys.readouterr().err


def test_the_example_shows_every_key_with_its_default(repository: Path, tmp_path: Path) -> None:
    text = (repository / "server" / "server.example.toml").read_text()
    lines = [
        line[1:] if line.startswith("#") and " = " in line and not line.startswith("# ") else line
        for line in text.splitlines()
    ]
    (tmp_path / "shown.toml").write_text("\n".join(lines))
    shown = read_table(tmp_path / "shown.toml", "settings")
    for name, info in ServerSettings.model_fields.items():
        if name == "site":
            continue
        section = info.annotation
        assert section is not None
        assert set(shown[name]) == set(section.model_fields), name
        for key, field in section.model_fields.items():
            if not field.is_required() and field.default is not None:
                default = field.default
                default = list(default) if isinstance(default, tuple) else default  # of TOML
                assert shown[name][key] == default, f"{name}.{key}"


def test_check_says_what_it_read_and_leaves_nothing_behind(
    tmp_path: Path, site_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = settings_file(tmp_path, "[http]\nport = 0")
    before = sorted(tmp_path.rglob("*"))
    assert main(["check", str(path)]) == 0
    said = capsys.readouterr().out
    assert "site plaza, cameras cam1 (aerial), cam6 (ground)" in said
    assert main(["check", str(path), "--json", "--http.port", "0"]) == 0
    assert json.loads(capsys.readouterr().out)["http"]["port"] == 0
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["check", "nowhere.toml"], "settings file 'nowhere.toml' does not exist"),
        (
            ["check", "{here}", "--http.prot", "1"],
            "--http.prot: unknown key, did you mean --http.port?",
        ),
        (["check", "{here}", "--site", "/nowhere/site.toml"], "site file /nowhere/site.toml: No"),
        (["check", "{here}", "--matching.bundle", "/nowhere"], "bundle /nowhere does not exist"),
        (
            ["check", "{here}", "--matching.bundle", BUNDLE, f'--trust.revoked=["{OF_BUNDLE}"]'],
            f"is revoked: trust.revoked names {OF_BUNDLE}",
        ),
    ],
)
def test_what_cannot_be_used_is_one_line_and_exit_2(
    tmp_path: Path,
    site_file: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    path = settings_file(tmp_path, "[http]\nport = 0")
    assert main([a.format(here=path) for a in arguments]) == 2
    err = capsys.readouterr().err
    assert complaint in err
    assert err.count("\n") == 1


def test_a_busy_port_is_said_before_anything_starts(tmp_path: Path, site_file: Path) -> None:
    import socket

    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        settings = read_settings(settings_file(tmp_path), ["--http.port", str(port)], verb="run")
        with pytest.raises(InputError, match=rf"port {port}: .*choose another"):
            check(settings)


def test_a_broker_that_drops_messages_raises_an_alarm_at_each_rise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics = Metrics()
    alarm = DroppedAlarm(metrics)
    for dropped in (0, 0, 3, 3, 5, 0, 1):  # the broker began anew before the last two
        alarm(dropped)
    assert [r.args for r in caplog.records] == [(3,), (5,), (1,)]
    assert "skyreid_broker_dropped_messages 1.0" in metrics.text()[0].decode()


def test_the_matcher_gets_what_the_settings_say(tmp_path: Path) -> None:
    settings = read_settings(
        settings_file(tmp_path), ["--matching.fpir", "0.05", "--matching.window_s", "7"], verb="run"
    )
    assert (settings.matching.fpir, settings.matching.window_s) == (0.05, 7.0)
    assert score_priors(settings.matching.bundle) == {}


def test_a_missing_library_is_one_line_and_exit_4(tmp_path: Path, site_file: Path) -> None:
    code = (
        "import sys\nsys.modules['paho'] = None\n"
        "from skyreid.server.__main__ import main\n"
        f"sys.exit(main(['check', {str(settings_file(tmp_path))!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 4
    assert done.stderr.startswith("error (platform): paho.mqtt is not installed: pip install")


def test_every_module_imports_without_paho_fastapi_and_torch(repository: Path) -> None:
    folder = repository / "server" / "skyreid"
    names = [
        ".".join(("skyreid", *path.relative_to(folder).with_suffix("").parts))
        for path in sorted((folder / "server").rglob("*.py"))
        if path.stem not in ("__init__", "__main__")
    ]
    assert "skyreid.server.matching.matcher" in names
    blocked = ("fastapi", "starlette", "uvicorn", "paho", "prometheus_client", "trackeval", "torch")
    code = (
        "import importlib, sys\n"
        f"for name in {blocked!r}: sys.modules[name] = None\n"
        f"for name in {names!r}: importlib.import_module(name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr


def test_poses_that_are_not_there_are_said_by_check(
    tmp_path: Path, site_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site_file.write_text(
        site_file.read_text() + '\n[[camera]]\nid = "cam77"\nview = "ground"\nposes = "no.json"\n'
    )
    assert main(["check", str(settings_file(tmp_path, "[http]\nport = 0"))]) == 2
    assert "no.json" in capsys.readouterr().err


def test_a_server_looks_for_cycles_of_garbage_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = gc.get_threshold(), []
    monkeypatch.setattr("skyreid.server.__main__._log_to_stderr", lambda: None)
    monkeypatch.setattr(
        "skyreid.server.app.run", lambda _read: seen.append(gc.get_threshold()) or 0
    )
    try:
        assert main(["run", "server.toml"]) == 0
    finally:
        gc.set_threshold(*before)
    assert seen[0][0] == OBJECTS > before[0]
