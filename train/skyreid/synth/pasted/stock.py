"""What is made once before pictures can be pasted: a folder of cut-outs and of empty grounds.

::

    OUT/people/{n:05d}.png    people alone, RGBA
    OUT/things/{n:05d}.png    what is no person, alone, RGBA
    OUT/empty/{video}_{k}.jpg frames of real videos that show nobody
    OUT/stock.json            the order, every person's box, the videos the frames came from
    OUT/preview.png           with --preview: some of each; pictures.png: what is made of them

Every tenth of each kind is held out: it is never trained on and serves to choose a threshold.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydantic import BaseModel, Field, ValidationError
from tqdm import tqdm

from skyreid.contract.errors import InputError, reason
from skyreid.synth.options import StockOptions
from skyreid.synth.pasted.cutouts import Cutout, person_cutout, studio, thing_cutout
from skyreid.synth.shading import Bytes
from skyreid.synth.unfinished import unfinished

STOCK = "stock.json"
TRAINED_PART = 2 / 3
"""Frames are taken from so much of an empty video; its end is left for measuring false alarms."""

_HELD_OUT_EVERY = 10
_FRAME_WIDTH_PX = 960
_JPEG_QUALITY = 92


@dataclass(frozen=True)
class Stock:
    """Cut-outs of people and of things, and pictures uint8 [H, W, 3] RGB that show nobody."""

    people: Sequence[Cutout]
    things: Sequence[Cutout]
    empty: Sequence[Bytes]


class _Table(BaseModel):
    """What `read_stock` asks of ``stock.json``; the order beside it is for `make_stock`."""

    bodies: list[tuple[int, int, int, int]] = Field(min_length=10)
    """Fewer would leave nobody to hold out."""
    things: int = Field(ge=0)
    frames: list[str]


def make_stock(options: StockOptions) -> None:
    """Render a stock into `options.out`, which must be new, empty or a stock that was stopped.

    Raises:
        InputError: the folder holds something else or a stock begun with other options, or a video
            cannot be read.
    """
    out = options.out
    with unfinished(out, _order(options)) as progress:
        for kind in ("people", "things", "empty"):
            (out / kind).mkdir(exist_ok=True)
        # Real frames first: a video that cannot be read should not cost a rendering.
        empty = [name for video in options.empty for name in _take_frames(video, options)]
        backdrop = studio(options.seed)
        count = options.people + options.things
        bar = tqdm(total=count, initial=len(progress.done), unit="cut-out", disable=None)
        with bar:
            for number in range(count):
                if number in progress.done:
                    continue
                if number < options.people:
                    made = person_cutout(backdrop, options.seed, number)
                else:
                    made = thing_cutout(backdrop, options.seed, number)
                _write(_path(options, number), made.rgba)
                progress.add(number, {"body": made.body})
                bar.update()
        table = {
            **_order(options),
            "bodies": [progress.done[n]["body"] for n in range(options.people)],
            "frames": empty,
        }
        (out / STOCK).write_text(json.dumps(table) + "\n")


def is_stock(folder: Path) -> bool:
    """Whether a folder is a finished stock."""
    return (folder / STOCK).is_file()


def read_stock(folder: Path, *, held_out: bool = False) -> Stock:
    """The part of a stock that is trained on, or the tenth that is held out.

    Raises:
        InputError: the folder is no finished stock, or a picture of it is missing.
    """
    try:
        table = _Table.model_validate_json((folder / STOCK).read_bytes())
    except (OSError, ValidationError) as error:
        wrong = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
        raise InputError(
            f"{folder} is no finished stock of cut-outs ({wrong}): make one with `synth cutouts`"
        ) from None
    bodies, things, frames = table.bodies, table.things, table.frames
    count = len(bodies)
    people = [
        Cutout(_read(folder / "people" / f"{number:05d}.png", 4), bodies[number])
        for number in _part(count, held_out)
    ]
    other = [
        Cutout(_read(folder / "things" / f"{count + number:05d}.png", 4), None)
        for number in _part(things, held_out)
    ]
    empty = [_read(folder / "empty" / frames[k], 3) for k in _part(len(frames), held_out)]
    return Stock(people, other, empty)


def _part(count: int, held_out: bool) -> list[int]:
    return [n for n in range(count) if (n % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1) == held_out]


def _order(options: StockOptions) -> dict[str, Any]:
    """Every option that decides what the stock holds; of a video its name."""
    return {
        "seed": options.seed,
        "people": options.people,
        "things": options.things,
        "empty": [video.name for video in options.empty],
        "frames_each": options.frames_each,
    }


def _path(options: StockOptions, number: int) -> Path:
    kind = "people" if number < options.people else "things"
    return options.out / kind / f"{number:05d}.png"


def _take_frames(video: Path, options: StockOptions) -> list[str]:
    """Write evenly spread frames of the first part of a video; returns their names."""
    capture = cv2.VideoCapture(str(video))
    try:
        total = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if total < 1:
            raise InputError(f"{video}: no frame could be decoded; is it a video?")
        last = max(1, int(total * TRAINED_PART))
        wanted = set(np.linspace(0, last - 1, min(last, options.frames_each)).astype(int).tolist())
        names = []
        for number in range(last):
            if not capture.grab():
                break
            if number not in wanted:
                continue
            _, bgr = capture.retrieve()
            scale = min(1.0, _FRAME_WIDTH_PX / bgr.shape[1])
            small = cv2.resize(bgr, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            names.append(f"{video.stem}_{number:05d}.jpg")
            _write(options.out / "empty" / names[-1], np.asarray(small[..., ::-1], np.uint8))
    finally:
        capture.release()
    return names


def _write(path: Path, picture: Bytes) -> None:
    """Write RGB or RGBA uint8; half a file, of a process that was killed, is written over."""
    code = cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR
    settings = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if path.suffix == ".jpg" else []
    done, data = cv2.imencode(path.suffix, cv2.cvtColor(picture, code), settings)
    try:
        if not done:
            raise OSError("OpenCV cannot encode it")
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise InputError(f"{path} cannot be written: {reason(error, path)}") from error


def _read(path: Path, channels: int) -> Bytes:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 3 or picture.shape[2] != channels:
        raise InputError(
            f"{path} is missing or no picture of {channels} channels: make the stock again"
        )
    code = cv2.COLOR_BGRA2RGBA if channels == 4 else cv2.COLOR_BGR2RGB
    return np.asarray(cv2.cvtColor(picture, code), np.uint8)
