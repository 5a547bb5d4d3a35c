"""The command line: what it says and with which code it ends."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from skyreid.contract.recording import read_run
from skyreid.edge.__main__ import main


@dataclass
class Desk:
    """A directory with a site, settings, models and a clip."""

    path: Path

    @property
    def settings(self) -> str:
        return str(self.path / "edge.toml")

    def spool(self) -> Path:
        return self.path / "spool.db"


@pytest.fixture
def desk(tmp_path: Path, models: Path, clip: Path, free_port: int) -> Desk:
    (tmp_path / "site.toml").write_text('id = "square"\n[[camera]]\nid = "cam1"\nview = "aerial"\n')
    (tmp_path / "edge.toml").write_text(
        'site = "site.toml"\n[device]\nid = "dev1"\n'
        f'[camera]\nid = "cam1"\nsource = "{clip}"\nfile_start_ns = 1700000000000000000\n'
        f'[detector]\nmodel = "{models}/blind"\n'
        f'[embedder]\nbundles = ["{models}/tiny"]\n'
        f'[mqtt]\nurl = "mqtt://127.0.0.1:{free_port}"\ndrain_timeout_s = 0\n'
        '[spool]\npath = "spool.db"\n'
    )
    return Desk(tmp_path)


def test_a_run_of_a_file_without_a_broker_ends_well_and_is_recorded(
    desk: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert main(["run", desk.settings, "--record", str(tmp_path / "rec")]) == 0
    info = read_run(tmp_path / "rec")
    assert (info.ended, info.frames, info.camera, info.dropped) == (True, 12, "cam1", {})
    assert info.start_ns == 1_700_000_000_000_000_000
    assert '"modality":"unknown"' in caplog.text
    assert "end frames=12 sightings=0" in caplog.text


def test_check_opens_everything_and_says_what_would_run(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", desk.settings, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["camera"].startswith("cam1 (aerial)")
    assert facts["pipeline"].endswith("drop=false")
    assert "tiny" in facts["embedder"]
    assert re.fullmatch(r"ONNX Runtime .* on the CPU, .* golden embeddings 1\.0+", facts["runner"])
    assert not desk.spool().exists()  # nothing was begun
    assert facts["spool"].endswith(", not sealed")


def test_pipeline_prints_the_pipeline(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipeline", desk.settings, "--camera.source", "rtsp://cam/1"]) == 0
    assert capsys.readouterr().out.startswith("rtspsrc name=source protocols=tcp ")


@pytest.mark.parametrize("before", [0, 1], ids=["before the file", "behind it"])
def test_an_option_means_the_same_wherever_it_stands(
    desk: Desk, before: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The value of one before the file was taken for the file."""

    def words(*option: str) -> list[str]:
        return (
            ["pipeline", *option, desk.settings] if before else ["pipeline", desk.settings, *option]
        )

    for option in (["--camera.source", "rtsp://cam/1"], ["--camera.source=rtsp://cam/1"]):
        assert main(words(*option)) == 0
        assert capsys.readouterr().out.startswith("rtspsrc name=source protocols=tcp ")
    assert main(words("--site", "elsewhere.toml")) == 2
    assert "site file" in capsys.readouterr().err
    assert main(words("--camera.sorce", "x")) == 2
    assert "--camera.sorce: unknown key, did you mean --camera.source?" in capsys.readouterr().err


def test_doctor_says_what_there_is(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", desk.settings, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["gstreamer"]["good"]
    assert found["onnxruntime"]["good"]
    assert "not sealed" in found["sealing"]["detail"]
    assert not found["broker"]["good"]  # nobody listens there, and that is not an error


def test_doctor_does_not_call_good_what_keeps_a_device_from_starting(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    tls = ["--mqtt.url=mqtts://127.0.0.1", "--mqtt.ca=gone.pem"]
    assert main(["doctor", desk.settings, *tls]) == 4
    assert re.search(r"LACK  broker +mqtt\.ca .*gone\.pem: No such file", capsys.readouterr().out)


def test_spool_says_what_waits(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    from skyreid.contract.sighting import ModelRef
    from skyreid.edge.delivery.rows import Row
    from skyreid.edge.delivery.spool import Spool

    with Spool(desk.spool()) as spool:
        spool.append([Row(1, 1, b"x" * 10)], ModelRef("k" * 16, 4, "b" * 64, "m"))
    assert main(["spool", desk.settings, "--json"]) == 0
    stats = json.loads(capsys.readouterr().out)
    assert (stats["sightings"], stats["bytes"], stats["boots"]) == (1, 10, 1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--camera.source", "gone.mp4"], "video .*gone.mp4 does not exist"),
        (["--camera.source", "site.toml"], "video .*site.toml cannot be read"),
        (["--camera.id", "cam9"], "site 'square' has no camera 'cam9'; it has: cam1"),
        (["--site", "gone.toml"], "site file .*gone.toml"),
        (["--detector.model", "gone.onnx"], "gone.onnx"),
        (["--camera.sorce", "x"], "camera.sorce"),
        (["--spool.path", "edge.toml"], "spool .*edge.toml cannot be used"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    desk: Desk, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    assert main(["run", desk.settings, *options]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error (")]
    assert len(error) == 1
    assert re.search(says, error[0])


@pytest.mark.parametrize("verb", ["check", "run"])
@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("/", "spool / is not a file"),
        ("", "is not a file"),
        ("site.toml/spool.db", "Not a directory"),
        ("x" * 5000, "File name too long"),
        ("a\0b", "null byte"),
    ],
    ids=["root", "empty", "in a file", "too long", "NUL"],
)
def test_a_place_where_no_spool_can_be_is_refused_before_the_models_are_opened(
    desk: Desk, capsys: pytest.CaptureFixture[str], verb: str, value: str, says: str
) -> None:
    options = ["--spool.path", value, "--detector.model", "gone"]
    assert main([verb, desk.settings, *options]) == 2
    assert re.search(rf"^error \(input\): .*{says}", capsys.readouterr().err, re.MULTILINE)


@pytest.mark.parametrize(
    "option",
    ["site", "camera.source", "detector.model", "embedder.bundles", "mqtt.ca"],
)
@pytest.mark.parametrize("value", ["x" * 5000, "a\0b", "~nobody-of-that-name/x"])
def test_a_name_that_no_file_can_have_is_one_line_and_exit_2(
    desk: Desk, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    given = json.dumps([value]) if option == "embedder.bundles" else value
    more = ["--mqtt.url", "mqtts://127.0.0.1"] if option == "mqtt.ca" else []
    assert main(["check", desk.settings, f"--{option}", given, *more]) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error (")]
    assert len(said) == 1


def test_a_bundle_with_a_wrong_hash_is_exit_2_before_anything_is_written(
    desk: Desk, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(models / "tiny", tmp_path / "damaged")
    with open(tmp_path / "damaged" / "model.fp32.onnx", "ab") as stream:
        stream.write(b"x")
    bundles = json.dumps([str(tmp_path / "damaged")])
    code = main(
        ["run", desk.settings, "--record", str(tmp_path / "rec"), f"--embedder.bundles={bundles}"]
    )
    assert code == 2
    assert "does not have the digest" in capsys.readouterr().err
    assert not desk.spool().exists()
    assert not (tmp_path / "rec").exists()


def test_a_missing_plugin_is_exit_4(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from skyreid.edge import app
    from skyreid.edge.video.platform import Platform

    monkeypatch.setattr(app, "probe", lambda: Platform((1, 22, 0), frozenset(["appsink"])))
    assert main(["run", desk.settings]) == 4
    line = capsys.readouterr().err
    assert (
        "GStreamer has no elements videoconvert, filesrc, decodebin3, videoflip: apt-get install"
        in line
    )


def test_a_recording_is_never_written_over(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", desk.settings, "--record", str(tmp_path / "rec")]) == 0
    assert main(["run", desk.settings, "--record", str(tmp_path / "rec")]) == 2
    assert "there is one already" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_in_good_order(
    desk: Desk,
    tmp_path: Path,
    environment: dict[str, str],
    number: int,
    wait_until: Callable[..., None],
) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "skyreid.edge", "run", desk.settings),
            *("--record", str(tmp_path / "rec"), "--mqtt.stop_timeout_s=60"),
            *("--camera.pace=real", "--camera.source=test://64x48@10"),
        ],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "state=streaming" in line:
            break
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    info = read_run(tmp_path / "rec")
    assert info.ended
    assert info.frames < 100


IMPORTS = """
import importlib, pkgutil, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent!r}:
            raise ImportError("pretended absent: " + name)
sys.meta_path.insert(0, Absent())
import skyreid.edge
for module in ("__main__", "app", "config", "doctor", "flow", "sighter"):
    importlib.import_module("skyreid.edge." + module)
for room in ("video", "delivery"):
    importlib.import_module("skyreid.edge." + room)
    for module in pkgutil.iter_modules(sys.modules["skyreid.edge." + room].__path__):
        importlib.import_module("skyreid.edge." + room + "." + module.name)
heavy = {{"torch", "gi", "cv2", "paho", "onnxruntime"}} & set(sys.modules)
assert not heavy, heavy
"""


def test_the_modules_import_without_gi_paho_cv2_and_onnxruntime(
    environment: dict[str, str],
) -> None:
    absent = {"gi", "paho", "cv2", "onnxruntime", "torch"}
    subprocess.run(
        [sys.executable, "-c", IMPORTS.format(absent=absent)], env=environment, check=True
    )


def test_every_module_of_the_device_imports_without_torch(environment: dict[str, str]) -> None:
    code = (
        "import importlib, pkgutil, sys, skyreid.edge\n"
        "for m in pkgutil.walk_packages(skyreid.edge.__path__, 'skyreid.edge.'):\n"
        "    importlib.import_module(m.name)\n"
        "assert 'torch' not in sys.modules and 'onnx' not in sys.modules\n"
        "assert not any(name.startswith('skyreid.server') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.mark.parametrize("lacks", ["gi", "paho"])
def test_a_missing_library_is_one_line_and_exit_4(
    desk: Desk, environment: dict[str, str], tmp_path: Path, lacks: str
) -> None:
    (tmp_path / "block" / lacks).mkdir(parents=True)
    (tmp_path / "block" / lacks / "__init__.py").write_text("raise ImportError('not here')\n")
    path = os.pathsep.join([str(tmp_path / "block"), environment["PYTHONPATH"]])
    done: Any = subprocess.run(
        [sys.executable, "-m", "skyreid.edge", "run", desk.settings],
        env={**environment, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert "error (platform): " in done.stderr
    assert "is not installed" in done.stderr
    assert "Traceback" not in done.stderr
    assert not desk.spool().exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [("--port", "99999"), ("--port", "-1"), ("--after", "nan"), ("--after", "-1")],
)
def test_a_preview_of_an_impossible_port_or_time_is_refused_before_anything_is_opened(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["preview", "none.toml", f"{option}={value}"])
    assert ended.value.code == 2
    assert f"argument {option}: {value}: " in capsys.readouterr().err
