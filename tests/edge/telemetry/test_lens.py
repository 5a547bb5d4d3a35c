from pathlib import Path

import numpy as np
import pytest

from skyreid.contract.errors import InputError
from skyreid.edge.telemetry.lens import Lens


def table(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_between_two_rows_of_a_lens_table_the_focal_length_is_linear(tmp_path: Path) -> None:
    lens = Lens(table(tmp_path / "lens.csv", "zoom,fov_deg,note\n100,6,tele\n0,60,wide\n"))
    assert lens.fov_deg(0) == pytest.approx(60)
    assert lens.fov_deg(100) == pytest.approx(6)
    focals = [1 / np.tan(np.radians(lens.fov_deg(zoom)) / 2) for zoom in (0, 50, 100)]
    assert focals[1] == pytest.approx((focals[0] + focals[2]) / 2)


def test_a_zoom_that_the_table_does_not_have_is_refused(tmp_path: Path) -> None:
    lens = Lens(table(tmp_path / "lens.csv", "zoom,fov_deg\n1,60\n4,16\n"))
    for zoom in (0.5, 4.5, float("nan")):
        with pytest.raises(InputError, match="lens table has 1 to 4"):
            lens.fov_deg(zoom)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("zoom,fov\n1,60\n", "needs the columns zoom and fov_deg"),
        ("zoom,fov_deg\n1,60\n", "two rows or more"),
        ("zoom,fov_deg\n1,60\n1,30\n", "each of another zoom"),
        ("zoom,fov_deg\n1,60\n2,-3\n", "fov_deg is"),
        ("zoom,fov_deg\n1,60\n2\n", "lens table"),
        ("zoom,fov_deg\n1,60\nnan,5\n", "two rows or more"),
    ],
)
def test_a_table_that_is_none_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        Lens(table(tmp_path / "lens.csv", text))
