"""`skyreid-edge plan`: geometry, the table between its cells, where not to fly a drone."""

import json
from pathlib import Path
from typing import Any

import pytest

from skyreid.bundle.archive import open_bundle
from skyreid.contract.errors import InputError
from skyreid.edge.__main__ import main
from skyreid.edge.altitude import Camera, Table, band_m, lines, shipped

EXAMPLES = Path(__file__).parents[2] / "examples" / "bundle"
LENS = Camera(pitch_deg=45.0, hfov_deg=40.0, width_px=1920)


def cell(pitch: float, pixels: float, recall: float, fnir: float | None) -> dict[str, Any]:
    interval = None if fnir is None else [fnir - 0.1, fnir + 0.1]
    return {
        "pitch_deg": pitch,
        "pixels_a_metre": pixels,
        "recall": recall,
        "fnir": fnir,
        "fnir_interval": interval,
    }


def table(**digests: str) -> Table:
    cells = [
        cell(30, 16, 0.2, None),
        cell(30, 32, 0.6, 0.6),
        cell(30, 64, 0.8, 0.2),
        cell(60, 16, 0.1, None),
        cell(60, 32, 0.5, 0.8),
        cell(60, 64, 0.9, 0.4),
    ]
    given = {"detector": "d" * 64, "embedder": "e" * 64, **digests}
    made = {name: {"sha256": digest} for name, digest in given.items()}
    return Table({**made, "command": "skyreid-train altitude ...", "people": 80, "cells": cells})


def test_a_metre_has_the_pixels_that_a_pinhole_gives_it():
    # 960 px / tan(20 degrees) away by 60 m / sin(45 degrees).
    assert LENS.pixels_a_metre(60) == pytest.approx(960 / 0.36397 / (60 / 0.70711), rel=1e-4)
    at = table().expected(LENS, 60)
    assert at.person_px == pytest.approx(at.pixels_a_metre * (1.7 + 0.5) * 0.70711, rel=1e-4)


def test_between_cells_rates_are_between_theirs_and_at_a_cell_they_are_its_own():
    camera = Camera(30.0, 40.0, 1920)
    height = camera.pixels_a_metre(1.0) / 32
    at = table().expected(camera, height)
    assert at.recall == pytest.approx(0.6)
    assert at.fnir == pytest.approx(0.6)
    assert at.fnir_interval == pytest.approx((0.5, 0.7))
    between = table().expected(LENS, LENS.pixels_a_metre(1.0) / (32 * 2**0.5))
    assert between.recall == pytest.approx((0.6 + 0.8 + 0.5 + 0.9) / 4)
    assert between.fnir == pytest.approx((0.6 + 0.2 + 0.8 + 0.4) / 4)


def test_what_was_not_rendered_is_not_known_and_must_not_be_used():
    for camera, height in (
        (LENS, LENS.pixels_a_metre(1.0) / 15),  # too small
        (LENS, LENS.pixels_a_metre(1.0) / 20),  # no crops at one of the cells
        (LENS, LENS.pixels_a_metre(1.0) / 100),  # larger than anything rendered
        (Camera(20.0, 40.0, 1920), 20.0),  # flatter than anything rendered
    ):
        assert not table().expected(camera, height).usable
        said = lines(table(), camera, height)
        assert any("not known" in line for line in said)
        assert f"MUST NOT BE USED at {height:g} m" in said


def test_the_band_ends_where_people_become_too_small_or_larger_than_any_rendered():
    band = band_m(table(), LENS)
    assert band is not None
    for inside, outside in ((band[0], band[0] - 1), (band[1], band[1] + 1)):
        assert table().expected(LENS, inside).usable
        assert not table().expected(LENS, outside).usable
    assert f"below {band[0]} or above {band[1]} m" in "\n".join(lines(table(), LENS, 20))
    assert band_m(table(), Camera(20.0, 40.0, 1920)) is None
    assert "at any height" in "\n".join(lines(table(), Camera(20.0, 40.0, 1920), 20))


def test_a_bundle_that_did_not_make_the_table_is_named():
    detector, embedder = EXAMPLES / "detector", EXAMPLES / "vdt-tiny"
    made = table(detector=open_bundle(detector).sha256)
    said = "\n".join(lines(made, LENS, 40, [detector, embedder]))
    assert "ANOTHER DETECTOR" not in said
    assert "ANOTHER EMBEDDER" in said
    assert open_bundle(embedder).sha256[:12] in said


@pytest.mark.parametrize(
    ("height", "camera"),
    [(0.0, (45.0, 40.0, 1920)), (60.0, (0.0, 40.0, 1920)), (60.0, (45.0, 0.0, 1920))],
)
def test_what_is_no_camera_and_no_height_is_refused(
    height: float, camera: tuple[float, float, int]
):
    with pytest.raises(InputError, match="--"):
        lines(table(), Camera(*camera), height)


def test_plan_says_pixels_rates_and_that_they_are_rendered(capsys: pytest.CaptureFixture[str]):
    assert main(["plan", "--height", "20", "--hfov", "60", "--pitch", "50"]) == 0
    said = capsys.readouterr().out
    for words in ("pixels a person", "recall", "FNIR at FPIR 1 %", "must not be used"):
        assert words in said
    assert said.count("rendered only") == 2


def test_the_shipped_table_gets_worse_with_height_where_drones_look_obliquely():
    camera = Camera(30.0, 55.0, 1280)
    low, high = (shipped().expected(camera, height) for height in (11.5, 38.0))
    assert low.usable
    assert None not in (low.recall, low.fnir, high.recall, high.fnir)
    assert low.recall > high.recall  # type: ignore[operator]
    assert low.fnir < high.fnir  # type: ignore[operator]


def test_another_table_is_read_and_what_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    words = ["plan", "--height", "20", "--hfov", "60", "--pitch", "50", "--table"]
    (tmp_path / "none.json").write_text(json.dumps({"cells": []}))
    assert main([*words, str(tmp_path / "none.json")]) == 2
    assert "no table" in capsys.readouterr().err
