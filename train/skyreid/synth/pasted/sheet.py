"""Contact sheets of a stock: its cut-outs, and the training pictures that are made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from skyreid.synth.pasted.composer import Composer
from skyreid.synth.pasted.stock import read_stock
from skyreid.synth.preview import PREVIEW, cutouts_sheet, pictures_sheet, write_sheet

PICTURES = "pictures.png"

_PEOPLE, _THINGS = 48, 24
_SIDE_PX = 320
_GROUNDS = 24
_SHOWN = 24


def write_sheets(folder: Path) -> None:
    """Write `preview.png` and `pictures.png` into the folder of a finished stock.

    Raises:
        InputError: it is none, or a sheet cannot be written.
    """
    stock = read_stock(folder)
    shown = (*stock.people[:_PEOPLE], *stock.things[:_THINGS])
    write_sheet(folder / PREVIEW, cutouts_sheet([cutout.rgba for cutout in shown]))
    composer = Composer(stock, side_px=_SIDE_PX, seed=0, grounds=_GROUNDS)
    rng = np.random.default_rng(0)
    made = [
        composer.on_empty(rng) if number % 4 == 3 else composer.on_clutter(rng)
        for number in range(_SHOWN)
    ]
    sheet = pictures_sheet([(p, boxes.tolist(), out.tolist()) for p, boxes, out in made])
    write_sheet(folder / PICTURES, sheet)
