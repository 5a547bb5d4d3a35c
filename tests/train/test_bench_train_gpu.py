import json
import sys
from pathlib import Path

import pytest
import torch
import train_gpu

from skyreid.train import recipe

RECIPE = """
[model]
variant = "METHOD-tiny"
trunk = { depth = 2, dim = 48, heads = 3, drop_path = 0.0 }
[input]
height = 64
width = 32
[optimiser]
kind = "sgd"
[run]
steps = 1
"""
CPU = torch.device("cpu")


def written(path: Path, method: str) -> Path:
    path.write_text(RECIPE.replace("METHOD", method))
    return path


def test_operations_are_those_counted_by_hand(tmp_path: Path) -> None:
    settings = recipe.read(written(tmp_path / "vit.toml", "vit"))
    tokens, dim = 4 * 2 + 1, 48
    patches = 4 * 2 * dim * 3 * 16 * 16  # multiply-accumulates of the projection
    linear = tokens * dim * (3 * dim + dim + 8 * dim)  # qkv, output, MLP: of one block
    attention = 2 * tokens * tokens * dim
    # The last block computes all keys and values, but the rest for CLS alone.
    last = tokens * dim * 2 * dim + dim * (dim + dim + 8 * dim) + 2 * tokens * dim
    classifier = dim * train_gpu.CLASSES
    distances = 4 * dim  # of the triplet, to 4 pictures
    # Pictures need no gradient; everything else is multiplied twice on the way back.
    wanted = 2 * (2 * patches + 3 * (linear + attention + last + classifier + distances))
    assert train_gpu.flops_per_picture(settings, CPU) == pytest.approx(wanted, rel=1e-9)


def test_a_row_says_what_was_measured_and_has_no_mfu_without_a_peak(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = written(tmp_path / "vit.toml", "vit")
    arguments = ["--people", "2", "--steps", "2", "--warm-up", "0", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["x", str(path), *arguments, "--backend", "eager"])
    assert train_gpu.main() == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["compiled"] for row in rows] == ["no", "eager"]
    for row in rows:
        assert row["variant"] == "vit-tiny"
        assert row["batch"] == 8
        assert row["mfu"] is None
        assert row["images_per_s"] == pytest.approx(8e3 / row["step_ms"], rel=0.01)
        assert row["memory_gib"] > 0
        fed = row["cores_to_feed"] / row["augment_cpu_ms"] * 1e3
        assert fed == pytest.approx(row["images_per_s"], rel=0.05)
    assert rows[0]["loss"] == pytest.approx(rows[1]["loss"], rel=1e-3)  # the same steps
    monkeypatch.setattr(sys, "argv", ["x", str(path), *arguments, "--compile", "off"])
    monkeypatch.setattr(train_gpu, "peak_of", lambda device, given: ("a GPU", 2e-3))
    assert train_gpu.main() == 0
    row = json.loads(capsys.readouterr().out)
    flops_per_s = row["gflop_per_image"] * 1e9 * row["images_per_s"]
    assert row["mfu"] == pytest.approx(flops_per_s / 2e9, rel=0.02, abs=1e-4)


def test_a_lone_person_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["x", "--people", "1"])
    assert train_gpu.main() == 2
    assert "2 or more" in capsys.readouterr().err


def test_known_devices_have_the_peak_of_their_data_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, peak in (
        ("NVIDIA H200", 989.0),
        ("NVIDIA H100 PCIe", 756.0),
        ("NVIDIA H100 80GB HBM3", 989.0),
        ("NVIDIA L4", 121.0),
        ("NVIDIA L40S", 362.0),
        ("NVIDIA GeForce RTX 4090", 165.2),
        ("Something New", None),
    ):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        assert train_gpu.peak_of(torch.device("cuda"), None) == (name, peak)
        assert train_gpu.peak_of(torch.device("cuda"), 5.0) == (name, 5.0)
