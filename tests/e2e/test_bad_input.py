"""What a user gets wrong: one line that names it, the right exit code, nothing half-written."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from chain import Chain

Make = Callable[..., Chain]


@pytest.fixture
def chain(make_chain: Make, repository: Path) -> Chain:
    """Settings of a chain; nothing of it is started."""
    return make_chain(repository / "examples/clip")


def edge(chain: Chain, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import os

    record = chain.work / "record"
    command = [sys.executable, "-m", "skyreid.edge", "run", str(chain.work / "cam1.toml")]
    done = subprocess.run(
        [*command, "--record", str(record), *options],
        capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done


def only_error(done: subprocess.CompletedProcess[str]) -> str:
    """The last line, which is the only one that is not a log line."""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert len(errors) == 1, done.stderr
    return errors[0]


def test_a_missing_video(chain: Chain) -> None:
    done = edge(chain, "--camera.source", "/nowhere/x.mp4")
    assert done.returncode == 2
    assert "/nowhere/x.mp4" in only_error(done)
    assert not (chain.work / "record").exists()
    assert not chain.spool("cam1").exists()


def test_a_corrupt_video(chain: Chain, tmp_path: Path) -> None:
    (tmp_path / "corrupt.mp4").write_bytes(b"this is no video" * 1000)
    done = edge(chain, "--camera.source", str(tmp_path / "corrupt.mp4"))
    assert done.returncode == 2
    assert "corrupt.mp4" in only_error(done)


def test_a_bundle_with_a_wrong_hash(chain: Chain, tmp_path: Path) -> None:
    shutil.copytree(chain.embedder, tmp_path / "tampered")
    model = next((tmp_path / "tampered").glob("model.*.onnx"))
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(bytes(data))
    done = edge(chain, "--embedder.bundles", f'["{tmp_path}/tampered"]')
    assert done.returncode == 2
    assert f"{model.name} does not have the digest" in only_error(done)
    assert not (chain.work / "record").exists()


def test_an_unknown_settings_key(chain: Chain) -> None:
    settings = chain.work / "cam1.toml"
    settings.write_text(settings.read_text() + "[tracker]\nhits_mim = 3\n")
    done = edge(chain)
    assert done.returncode == 2
    line = only_error(done)
    assert "tracker.hits_mim: unknown key, did you mean tracker.hits_min?" in line
    assert str(settings) in line


def test_a_missing_gstreamer_plugin(chain: Chain, tmp_path: Path) -> None:
    """An empty plugin folder is what a machine without the plugins looks like."""
    (tmp_path / "plugins").mkdir()
    done = edge(
        chain,
        GST_PLUGIN_SYSTEM_PATH_1_0=str(tmp_path / "plugins"),
        GST_REGISTRY_1_0=str(tmp_path / "registry.bin"),
    )
    assert done.returncode == 4
    assert "gstreamer" in only_error(done).lower()
    assert not (chain.work / "record").exists()


def test_a_servers_wrong_settings(chain: Chain) -> None:
    command = [sys.executable, "-m", "skyreid.server", "run", str(chain.work / "server.toml")]
    done = subprocess.run(
        [*command, "--http.port", "many"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "http.port" in only_error(done)
    assert not chain.journal.exists()
