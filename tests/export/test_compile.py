"""`compile` through a real TensorRT parser and builder, which need no GPU; nothing is executed."""

import json
from pathlib import Path

import pytest

from skyreid.export.__main__ import main


def compiled(bundle: Path, cache: Path, *more: str) -> int:
    return main(["compile", str(bundle), "--cache", str(cache), "--json", *more])


def test_an_engine_is_built_once_and_found_again(
    embedder_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compiled(embedder_bundle, tmp_path, "--batch-max", "8") == 0
    first = json.loads(capsys.readouterr().out)
    (plan,) = tmp_path.glob("*.plan")
    assert first["engine"] == str(plan)
    assert first["bytes"] == plan.stat().st_size > 1000
    assert first["profile"] == "1x32x16x3:2x32x16x3:8x32x16x3"
    assert first["rebuilt_because"] == "no engine yet"
    made = plan.stat().st_mtime_ns
    assert compiled(embedder_bundle, tmp_path, "--batch-max", "8") == 0
    again = json.loads(capsys.readouterr().out)
    assert plan.stat().st_mtime_ns == made
    assert again == {**first, "rebuilt_because": ""}


def test_a_changed_engine_is_built_anew(
    embedder_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compiled(embedder_bundle, tmp_path) == 0
    (plan,) = tmp_path.glob("*.plan")
    data = bytearray(plan.read_bytes())
    data[len(data) // 2] ^= 1
    plan.write_bytes(data)
    capsys.readouterr()
    assert compiled(embedder_bundle, tmp_path) == 0
    assert "was changed" in json.loads(capsys.readouterr().out)["rebuilt_because"]
    assert plan.read_bytes() != bytes(data)


def test_a_detectors_largest_picture_must_fit_its_alignment_and_dla_is_refused(
    detector_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ("--height", "96", "--width", "128")
    assert compiled(detector_bundle, tmp_path, "--height", "100", "--width", "128") == 2
    assert "needs multiples of 16" in capsys.readouterr().err
    assert compiled(detector_bundle, tmp_path, *size) == 0
    profile = json.loads(capsys.readouterr().out)["profile"]
    assert profile == "1x64x64x3:1x96x128x3:1x96x128x3"
    assert compiled(detector_bundle, tmp_path, "--dla", *size) == 2
    assert "DLA is refused" in capsys.readouterr().err


def test_a_format_that_the_bundle_lacks_is_named(
    embedder_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compiled(embedder_bundle, tmp_path, "--format", "int8") == 2
    assert "has no int8 model, it has: fp32" in capsys.readouterr().err
