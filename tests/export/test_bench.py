"""What is compared runs in turn in one process; what counts is the median of the rounds."""

import json
import sys
from pathlib import Path

import pytest

from skyreid.export import bench
from skyreid.export.__main__ import main


def test_calls_take_turns_and_the_first_two_rounds_do_not_count() -> None:
    now, order = [0.0], []
    costs = {"a": 1.0, "b": 10.0, "c": 100.0}

    def call(name: str) -> None:
        order.append(name)
        now[0] += costs[name] * (100 if len(order) <= 6 else 1)  # cold

    calls = {name: lambda name=name: call(name) for name in costs}
    done: list[int] = []
    taken = bench.in_turn(calls, 3, lambda: now[0], done.append)
    assert taken == {"a": [1.0] * 3, "b": [10.0] * 3, "c": [100.0] * 3}
    assert ["".join(order[i : i + 3]) for i in range(0, 15, 3)] == [
        "bca",
        "cab",
        "abc",
        "bca",
        "cab",
    ]
    assert sum(done) == 15


def test_ratios_are_medians_of_the_rounds_not_ratios_of_the_medians() -> None:
    taken = {"fp32": [0.1, 0.2, 0.9], "int8": [0.1, 0.4, 0.3], bench.TORCH: [0.4, 0.4, 0.4]}
    fp32, int8, torch = bench.summary(taken, 8)
    assert fp32["ms"] == pytest.approx(200)
    assert fp32["pictures_per_s"] == pytest.approx(40)
    assert fp32["ms_quartiles"] == pytest.approx((150, 550))
    assert "faster_than_fp32" not in fp32
    # Rounds say 1, .5 and 3; the ratio of the medians would be .67.
    assert int8["faster_than_fp32"] == pytest.approx((0.75, 1, 2))
    assert fp32["faster_than_torch"][1] == pytest.approx(2)
    assert torch["faster_than_fp32"][1] == pytest.approx(0.5)
    assert "faster_than_torch" not in torch


def test_every_format_and_torch_are_measured_at_every_batch(
    embedder_bundle: Path, embedder_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = ["bench", str(embedder_bundle), "--batch", "1,3", "--rounds", "2"]
    said += ["--checkpoint", str(embedder_checkpoint)]
    assert main([*said, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [(r["batch"], r["runs"]) for r in report["rows"]] == [
        (batch, name) for batch in (1, 3) for name in ("fp32", bench.TORCH)
    ]
    assert all(row["pictures_per_s"] > 0 for row in report["rows"])
    assert (report["clock"], report["height"], report["width"]) == ("cpu", 32, 16)
    assert report["cpu"]["model"]
    assert report["cpu"]["cores"] >= 1
    assert main([*said, "--threads", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "16 x 32, 2 threads, wall time" in lines[0]
    assert report["cpu"]["model"] in lines[1]
    assert len(lines) == 3 + 4


def test_another_checkpoint_and_numbers_that_are_none_are_refused(
    embedder_bundle: Path, detector_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, word in (
        (["--checkpoint", str(detector_checkpoint)], "was not exported from"),
        (["--batch", "0"], "--batch 0: whole numbers"),
        (["--batch", "1,x"], "--batch 1,x: whole numbers"),
        (["--rounds", "0"], "--rounds 0: whole numbers"),
    ):
        assert main(["bench", str(embedder_bundle), *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()[-1:]
        assert word in line


def test_without_pytorch_only_the_checkpoint_is_refused(
    embedder_bundle: Path,
    embedder_checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    said = ["bench", str(embedder_bundle), "--batch", "1", "--rounds", "1"]
    assert main([*said, "--checkpoint", str(embedder_checkpoint)]) == 4
    assert "torch is not installed" in capsys.readouterr().err.splitlines()[-1]
    assert main(said) == 0
    assert "x torch" in capsys.readouterr().out
