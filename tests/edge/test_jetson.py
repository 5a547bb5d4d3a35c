"""What boards say about themselves, as recorded text."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from skyreid.contract.errors import PlatformError
from skyreid.edge import jetson
from skyreid.edge.doctor import examine

R36 = (
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
    "DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n"
)


@pytest.mark.parametrize(
    ("text", "good", "says"),
    [
        (R36, True, "Jetson Linux 36.4.3 (JetPack 6.1 or 6.2)"),
        ("# R38 (release), REVISION: 2.0, GCID: 4", True, "Jetson Linux 38.2.0 (JetPack 7.0 or"),
        ("# R39 (release), REVISION: 2, GCID: 4", True, "Jetson Linux 39.2 (JetPack 7.2)"),
        ("# R41 (release), REVISION: 1.0", True, "Jetson Linux 41.1.0, newer than this list"),
        ("# R36 (release), REVISION: 3.0", False, "36.3.0 (JetPack 6.0): too old"),
        ("# R35 (release), REVISION: 4.1", False, "35.4.1 (JetPack 5): too old"),
        ("# R32 (release), REVISION: 7.1", False, "Jetson Linux 32.7.1: too old"),
        ("hello\n", False, "not understood: hello"),
        (None, False, "nv_tegra_release: not found, so this is no Jetson"),
    ],
)
def test_a_release_is_named_and_judged(
    tmp_path: Path, text: str | None, good: bool, says: str
) -> None:
    path = tmp_path / "nv_tegra_release"
    if text is not None:
        path.write_text(text)
    found = jetson.jetpack(path)
    assert found[0] is good
    assert says in found[1]


@pytest.mark.parametrize(
    ("api", "version", "good", "says"),
    [
        ("tensorrt", "10.3.0", True, "TensorRT 10.3.0"),
        ("tensorrt", "11.4.1.120", True, "TensorRT 11.4.1.120"),
        ("tensorrt", "8.6.2", False, "TensorRT 8.6.2: at least 10.3 is needed"),
        ("tensorrt", "10.2.0", False, "at least 10.3"),
        ("tensorrt_rtx", "1.7.1.116", True, "TensorRT-RTX 1.7.1.116"),
    ],
)
def test_a_tensorrt_that_is_too_old_is_told(api: Any, version: str, good: bool, says: str) -> None:
    found = jetson.tensorrt(lambda: (api, SimpleNamespace(__version__=version)))
    assert found[0] is good
    assert says in found[1]


def test_what_is_not_there_is_a_line_and_no_error(tmp_path: Path) -> None:
    def missing() -> NoReturn:
        raise PlatformError("no TensorRT: it comes with JetPack")

    assert jetson.tensorrt(missing) == (False, "not found: no TensorRT: it comes with JetPack")
    assert jetson.gpu(missing) == (False, "not found: no TensorRT: it comes with JetPack")
    assert jetson.memory(tmp_path / "gone") == (False, f"{tmp_path}/gone: not found")
    assert jetson.power_mode(("nvpmodel-that-is-not-there", "-q")) == (
        False,
        "nvpmodel-that-is-not-there: not found",
    )


def test_memory_is_read_and_too_little_of_it_told(tmp_path: Path) -> None:
    path = tmp_path / "meminfo"
    rest = "Buffers:           12345 kB\nHugePages_Total:       0\nSwapFree:        1024000 kB\n"
    path.write_text(f"MemTotal:        7802128 kB\nMemAvailable:    5120000 kB\n{rest}")
    assert jetson.memory(path) == (True, "7619 MiB, 5000 available, 1000 of swap free")
    path.write_text(f"MemTotal:        7802128 kB\nMemAvailable:     900000 kB\n{rest}")
    good, says = jetson.memory(path)
    assert not good
    assert "878 available" in says
    assert "add swap" in says
    path.write_text("nonsense")
    assert jetson.memory(path) == (False, f"{path}: not understood")


def test_the_power_mode_is_read_from_what_nvpmodel_prints() -> None:
    def printed(text: str, code: int = 0) -> jetson.Reading:
        return jetson.power_mode(("sh", "-c", f"printf '{text}'; exit {code}"))

    assert printed("NV Power Mode: MAXN_SUPER\\n2\\n") == (True, "MAXN_SUPER (mode 2)")
    fan = "NVPM WARN: fan mode is not set!\\nNV Power Mode: 15W\\n0\\n"
    assert printed(fan) == (True, "15W (mode 0)")
    good, says = printed("NVPM ERROR: Error opening /dev/x\\n", 255)
    assert not good
    assert says.endswith("exit 255, not understood: NVPM ERROR: Error opening /dev/x")


def test_the_doctor_needs_a_gpu_only_where_the_settings_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jetson, "gpu", lambda: (False, "not found"))
    for needed in (False, True):
        found = {f.name: f for f in examine(engines_needed=needed)}
        assert found["gpu"].needed is needed
        assert not found["gpu"].good
        assert not found["jetpack"].needed
        assert {"tensorrt", "memory", "power mode"} <= found.keys()
