"""One small stage for all tests of the synthetic world: setting it up costs more than a picture."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("numba", reason="the synthetic world needs numba: pip install 'skyreid[synth]'")
pytest.importorskip("av", reason="the synthetic world needs PyAV: pip install 'skyreid[synth]'")

from skyreid.synth.options import ClipOptions
from skyreid.synth.stage import Stage, build_stage


@pytest.fixture(scope="session")
def options() -> ClipOptions:
    return ClipOptions(
        out=Path("unused"), seed=3, seconds=4, fps=2, people=8, cameras=(1, 12), width_px=320
    )


@pytest.fixture(scope="session")
def stage(options: ClipOptions) -> Stage:
    return build_stage(options)
