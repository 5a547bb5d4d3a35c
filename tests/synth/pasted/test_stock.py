from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from skyreid.contract.errors import InputError, SettingsError
from skyreid.synth.__main__ import main
from skyreid.synth.options import StockOptions
from skyreid.synth.pasted import stock as stock_module
from skyreid.synth.pasted.stock import is_stock, make_stock, read_stock


def test_a_tenth_of_everything_is_held_out(stock_folder: Path):
    trained, held_out = read_stock(stock_folder), read_stock(stock_folder, held_out=True)
    assert (len(trained.people), len(held_out.people)) == (9, 1)
    assert (len(trained.things), len(held_out.things)) == (9, 1)
    assert not any(np.array_equal(c.rgba, held_out.people[0].rgba) for c in trained.people)
    assert is_stock(stock_folder)


def test_frames_come_from_the_first_two_thirds_of_a_video(stock_folder: Path):
    frames = read_stock(stock_folder).empty
    assert len(frames) == 8
    assert max(int(np.median(frame)) for frame in frames) < 20 + 10 * 8


def test_a_stock_that_was_stopped_goes_on_and_ends_the_same(
    stock_folder: Path, stock_options: StockOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    options = replace(stock_options, out=tmp_path / "again")
    real, calls = stock_module.person_cutout, []

    def stops(backdrop, seed, number):
        calls.append(number)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(backdrop, seed, number)

    monkeypatch.setattr(stock_module, "person_cutout", stops)
    with pytest.raises(KeyboardInterrupt):
        make_stock(options)
    assert not is_stock(options.out)
    with pytest.raises(InputError, match="no finished stock"):
        read_stock(options.out)
    make_stock(options)
    assert calls[5] == 4  # the four that were done are not rendered again
    for path in sorted(stock_folder.rglob("0*.png")):
        again = options.out / path.relative_to(stock_folder)
        assert again.read_bytes() == path.read_bytes()
    one, other = (json.loads((f / "stock.json").read_text()) for f in (stock_folder, options.out))
    assert one == other


def test_the_command_makes_a_stock_and_shows_what_is_made_of_it(tmp_path: Path):
    out = tmp_path / "stock"
    given = ["cutouts", str(out), "--people", "10", "--things", "10", "--seed", "5", "--preview"]
    assert main(given) == 0
    assert is_stock(out)
    for name, cells in (("preview.png", (12, 2)), ("pictures.png", (6, 4))):
        height, width = cv2.imread(str(out / name)).shape[:2]
        assert width % cells[0] == 0
        assert height % cells[1] == 0


def test_a_missing_picture_is_named(stock_folder: Path, tmp_path: Path):
    (tmp_path / "people").mkdir()
    (tmp_path / "stock.json").write_text((stock_folder / "stock.json").read_text())
    with pytest.raises(InputError, match=r"people/00000\.png is missing"):
        read_stock(tmp_path)


@pytest.mark.parametrize(
    "table",
    [
        "",
        "[]",
        "null",
        '{"bodies": 3, "things": 0, "frames": []}',
        '{"bodies": [], "things": 0, "frames": []}',
        '{"bodies": [[1, 2]], "things": 0, "frames": [7]}',
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, table: str):
    (tmp_path / "stock.json").write_text(table)
    with pytest.raises(InputError, match="is no finished stock of cut-outs"):
        read_stock(tmp_path)


def test_a_video_that_cannot_be_read_costs_no_rendering(tmp_path: Path, capsys):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    given = ["cutouts", str(tmp_path / "out"), "--people", "10", "--things", "10"]
    assert main([*given, "--empty", str(broken)]) == 2
    assert "no frame could be decoded" in capsys.readouterr().err


def test_two_videos_of_one_name_are_refused(tmp_path: Path):
    same = (tmp_path / "a" / "v.mp4", tmp_path / "b" / "v.mp4")
    with pytest.raises(SettingsError, match="same name"):
        StockOptions(out=tmp_path / "out", empty=same)
