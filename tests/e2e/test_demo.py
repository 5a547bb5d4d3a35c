"""The demo as a user runs it: two commands, a report that holds."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def demo(repository: Path, out: Path, *options: str) -> dict[str, Any]:
    command = [sys.executable, str(repository / "scripts/demo.py"), "--headless"]
    command += ["--json", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(out.read_text())
    return report


def check_report(report: dict[str, Any], cameras: set[str]) -> None:
    assert set(report) >= {
        "sightings", "identities", "cross_view", "idf1", "idf1_live", "hota", "assa", "detector",
        "dropped", "seconds",
    }  # fmt: skip
    assert set(report["detector"]) == cameras
    assert report["sightings"] > 0
    assert report["dropped"].get("spool_full", 0) == 0
    for name in ("idf1", "idf1_live", "hota", "assa"):
        assert 0.0 < report[name] <= 1.0, name
    assert report["cross_view"]["pairs"] > 0


def test_the_default_clip_gives_cross_view_identities(repository: Path, tmp_path: Path) -> None:
    report = demo(repository, tmp_path / "out.json")
    check_report(report, {p.stem for p in (repository / "examples/clip").glob("cam*.mp4")})
    assert report["cross_view"]["precision"] >= 0.80
    assert report["cross_view"]["recall"] >= 0.30


def test_the_evaluation_clip_gives_cross_view_identities(
    repository: Path, shared: Path, tmp_path: Path
) -> None:
    report = demo(repository, tmp_path / "out.json", "--clip", str(shared / "data/plaza"))
    check_report(report, {"cam1", "cam3", "cam6", "cam8", "cam12"})
    assert report["cross_view"]["precision"] >= 0.80
    assert report["cross_view"]["recall"] >= 0.30
    for camera in ("cam1", "cam6", "cam8", "cam12"):
        assert report["detector"][camera]["recall"] >= 0.70, camera
        assert report["detector"][camera]["precision"] >= 0.70, camera


def test_a_folder_that_is_no_clip_is_named(repository: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(repository / "scripts/demo.py"), "--clip", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "is not a clip: it has no calib.json" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--json"])
def test_an_option_without_its_value_is_a_usage_error(repository: Path, option: str) -> None:
    command = [sys.executable, str(repository / "scripts/demo.py"), option]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "expected one argument" in done.stderr


def test_whoever_ends_the_demo_ends_its_parts(repository: Path, tmp_path: Path) -> None:
    def parts() -> list[str]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_bytes().split(b"\0")
                if any(str(tmp_path).encode() in word for word in words):
                    found.append(words[0].decode())
        return found

    command = [sys.executable, "-u", str(repository / "scripts/demo.py"), "--headless"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    ) as running:
        assert running.stdout is not None
        while not (line := running.stdout.readline()).startswith("the page: "):
            assert line, "the demo ended by itself"
        assert len(parts()) >= 2  # broker and server
        running.terminate()
        assert running.wait(60) == 143
    assert parts() == []
    assert list(tmp_path.iterdir()) == []
