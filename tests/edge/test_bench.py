"""What a device's time goes into is measured: every figure is there, of the passes it names."""

import json
from pathlib import Path

import pytest

from skyreid.edge import bench
from skyreid.edge.__main__ import main
from skyreid.edge.bench import _growth, _Meter

FIGURES = {
    *("decode_cpu_ms", "source_cpu_ms", "path_cpu_ms", "full_cpu_ms"),
    *("source_ratio", "path_ratio", "engine_crops_per_s", "stage_crops_per_s", "stage_ratio"),
    *("rss_mb", "rss_growth"),
}


@pytest.fixture
def settings(tmp_path: Path, models: Path, clip: Path) -> str:
    (tmp_path / "site.toml").write_text('id = "square"\n[[camera]]\nid = "cam1"\nview = "aerial"\n')
    (tmp_path / "edge.toml").write_text(
        f'site = "site.toml"\n[device]\nid = "dev1"\n[camera]\nid = "cam1"\nsource = "{clip}"\n'
        f'[detector]\nmodel = "{models}/blind"\n[embedder]\nbundles = ["{models}/tiny"]\n'
        '[spool]\npath = "spool.db"\n'
    )
    return str(tmp_path / "edge.toml")


def test_bench_says_every_figure(settings: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bench", settings, "--frames", "6", "--rounds", "1", "--growth-frames", "12", "--json"]
    assert main(words) == 0
    facts = json.loads(capsys.readouterr().out)
    assert set(facts) == FIGURES
    assert all(facts[name] > 0 for name in FIGURES - {"rss_growth"})
    assert not (Path(settings).parent / "spool.db").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--frames", "0"], "--frames 0: a whole number from 1 on"),
        (["--camera.source", "test://64x64@5"], "bench needs a file"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    settings: str, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert main(["bench", settings, *options]) == 2
    assert said in capsys.readouterr().err


def test_memory_is_measured_over_whole_passes() -> None:
    """The last one was cut short, and what the networks had said did not fit it: a traceback."""
    asked: list[int] = []

    def run() -> int:
        asked.append(6)
        return 6

    assert _growth(run, 20)["rss_mb"] > 0
    assert asked == [6] * 4


def test_what_starting_costs_and_what_is_decoded_ahead_is_in_no_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The source was charged for the five frames that wait in its queue when a pass is over."""
    spent_s = 0.0
    monkeypatch.setattr(bench, "_cpu_s", lambda: spent_s)
    meter = _Meter(108)
    for number in range(1, 109):
        spent_s += 1.0 if number <= 8 else 0.005
        meter.count()
    spent_s += 9.0  # the pipeline comes down
    assert meter.frame_ms == pytest.approx(5.0)
