"""The device starts on engines of its own: compiled at the first run, found at the next."""

import json
import sys
from pathlib import Path

import pytest
from fake_gpu import FakeDriver, FakeTensorRT

from skyreid.bundle import compiled
from skyreid.bundle.compiled import Machine
from skyreid.edge.__main__ import main


@pytest.fixture
def settings(tmp_path: Path, models: Path, clip: Path, free_port: int) -> Path:
    (tmp_path / "site.toml").write_text('id = "square"\n[[camera]]\nid = "cam1"\nview = "aerial"\n')
    path = tmp_path / "edge.toml"
    path.write_text(
        'site = "site.toml"\n[device]\nid = "dev1"\n'
        f'[camera]\nid = "cam1"\nsource = "{clip}"\nfile_start_ns = 1700000000000000000\n'
        f'[detector]\nmodel = "{models}/blind"\n'
        f'[embedder]\nbundles = ["{models}/tiny"]\n'
        f'[mqtt]\nurl = "mqtt://127.0.0.1:{free_port}"\ndrain_timeout_s = 0\n'
        '[spool]\npath = "spool.db"\n'
    )
    return path


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> FakeTensorRT:
    """A board's TensorRT instead of this machine's."""
    board = FakeTensorRT()

    def open_driver() -> FakeDriver:
        board.driver = FakeDriver(integrated=True)
        return board.driver

    machine = Machine("tensorrt", board, "sm87-orin", open_driver)
    monkeypatch.setattr(compiled, "find_machine", lambda: machine)
    return board


def test_run_compiles_what_the_cache_lacks_and_the_next_start_finds_it(
    settings: Path,
    trt: FakeTensorRT,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    assert main(["run", str(settings)]) == 0
    assert "engine of tiny/fp32: no engine yet" in caplog.text
    assert "Building: 100 %" in caplog.text
    assert "engine of blind/fp32: no engine yet" in caplog.text  # another family, the same way
    (plan,) = (
        p for p in (settings.parent / "engines").glob("*.plan") if b"model" not in p.read_bytes()
    )
    assert main(["check", str(settings), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["runner"]
    assert said.startswith("tensorrt 10.3.0 on sm87-orin, lowest cosine to the golden")
    assert trt.built == 2
    plan.write_bytes(plan.read_bytes()[:-1])
    assert main(["check", str(settings)]) == 0
    assert "is truncated or grown" in caplog.text
    assert trt.built == 3


def test_a_directory_that_everybody_may_write_stops_the_start(
    settings: Path, trt: FakeTensorRT, capsys: pytest.CaptureFixture[str]
) -> None:
    engines = settings.parent / "open"
    engines.mkdir()
    engines.chmod(0o777)
    assert main(["check", str(settings), "--runner.engines", "open"]) == 2
    said = capsys.readouterr().err
    assert "everybody may write" in said
    assert "chmod " in said
    assert "a plan is code" in said
    assert trt.built == 0


def test_the_cpu_is_used_where_the_settings_say_so(
    settings: Path, trt: FakeTensorRT, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", str(settings), "--runner.kind", "onnx", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runner"].startswith("ONNX Runtime")
    assert not (settings.parent / "engines").exists()


def test_an_engine_that_must_be_and_cannot_is_exit_4_and_one_line(
    settings: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    assert main(["check", str(settings), "--runner.kind", "tensorrt"]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error (platform): ")
