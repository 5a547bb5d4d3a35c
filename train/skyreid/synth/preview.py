"""Contact sheets: a data set at a glance, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from skyreid.contract.errors import InputError, reason
from skyreid.synth.shading import Bytes
from skyreid.synth.stage import Shot

PREVIEW = "preview.png"

_CELL_PX = (64, 128)  # width and height of a crop
_CLIP_WIDTH_PX = 384
_GAP_PX = 4
_PAPER = 245
_LETTERS = (40, 40, 40)


def crops_sheet(people: Mapping[int, Mapping[int, Bytes]]) -> Bytes:
    """A row per person, a column per camera: `people[pid][camera]` is a crop, RGB uint8."""
    cameras = sorted({camera for crops in people.values() for camera in crops})
    rows = []
    for pid, crops in sorted(people.items()):
        cells = [_fitted(crops[c]) if c in crops else _blank(*_CELL_PX) for c in cameras]
        rows.append([_word(f"{pid:04d}", _CELL_PX[1]), *cells])
    head = [_word("", 18), *(_word(f"cam{camera}", 18, _CELL_PX[0]) for camera in cameras)]
    return _sheet([head, *rows])


def cutouts_sheet(cutouts: Sequence[Bytes], columns: int = 12) -> Bytes:
    """RGBA uint8 pictures of things alone, on grey."""
    cells = []
    for rgba in cutouts:
        alpha = rgba[..., 3:] / np.float32(255)
        solid = np.asarray(rgba[..., :3] * alpha + 128 * (1 - alpha), np.uint8)
        cells.append(_fitted(solid))
    cells += [_blank(*_CELL_PX)] * (-len(cells) % columns)
    return _sheet([cells[k : k + columns] for k in range(0, len(cells), columns)])


def pictures_sheet(
    pictures: Sequence[tuple[Bytes, Sequence[Sequence[float]], Sequence[bool]]], columns: int = 6
) -> Bytes:
    """Training pictures of one size with their boxes: green to be found, red to be ignored."""
    cells = []
    for picture, boxes, ignored in pictures:
        cell = picture.copy()
        for box, out in zip(boxes, ignored, strict=True):
            corners = [round(float(edge)) for edge in box]
            cv2.rectangle(cell, corners[:2], corners[2:], (255, 0, 0) if out else (0, 255, 0), 1)
        cells.append(cell)
    cells += [np.full_like(cells[0], _PAPER)] * (-len(cells) % columns)
    return _sheet([cells[k : k + columns] for k in range(0, len(cells), columns)])


def clip_sheet(shown: Mapping[int, Mapping[int, Shot]]) -> Bytes:
    """A row per camera, a column per moment: `shown[frame][camera]`, boxes drawn on."""
    cameras = sorted({camera for shots in shown.values() for camera in shots})
    rows = [
        [_with_boxes(shown[frame][camera], f"cam{camera} {frame + 1}") for frame in sorted(shown)]
        for camera in cameras
    ]
    return _sheet(rows)


def write_sheet(path: Path, sheet: Bytes) -> None:
    """Write RGB uint8 [H, W, 3] as a PNG.

    Raises:
        InputError: the file cannot be written.
    """
    done, data = cv2.imencode(".png", sheet[..., ::-1])
    try:
        if not done:
            raise OSError("OpenCV cannot encode it")
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise InputError(f"{path} cannot be written: {reason(error, path)}") from error


def _with_boxes(shot: Shot, word: str) -> Bytes:
    height, width = shot.picture.shape[:2]
    scale = _CLIP_WIDTH_PX / width
    size = (_CLIP_WIDTH_PX, round(height * scale))
    picture = cv2.resize(shot.picture, size, interpolation=cv2.INTER_AREA)
    for box in shot.boxes:
        corners = [round(edge * scale) for edge in (box.x0, box.y0, box.x1, box.y1)]
        # Green for who is in plain sight, towards red for who is hidden.
        colour = (round(255 * (1 - box.visibility)), round(255 * box.visibility), 0)
        cv2.rectangle(picture, corners[:2], corners[2:], colour, 1)
    cv2.putText(picture, word, (5, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1)
    return np.asarray(picture, np.uint8)


def _fitted(crop: Bytes) -> Bytes:
    """The whole crop within a cell, as large as it goes; small ones are shown pixel by pixel."""
    width, height = _CELL_PX
    scale = min(width / crop.shape[1], height / crop.shape[0])
    size = (max(1, int(crop.shape[1] * scale)), max(1, int(crop.shape[0] * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    small = cv2.resize(crop, size, interpolation=how)
    cell = _blank(width, height)
    x, y = (width - size[0]) // 2, (height - size[1]) // 2
    cell[y : y + size[1], x : x + size[0]] = small
    return cell


def _word(word: str, height_px: int, width_px: int = 44) -> Bytes:
    cell = _blank(width_px, height_px)
    place = (4, height_px // 2 + 5)
    cv2.putText(cell, word, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, _LETTERS, 1, cv2.LINE_AA)
    return cell


def _blank(width: int, height: int) -> Bytes:
    return np.full((height, width, 3), _PAPER, np.uint8)


def _sheet(rows: Iterable[list[Bytes]]) -> Bytes:
    """Cells of equal height in a row and equal width in a column, with gaps between them."""

    def padded(cell: Bytes) -> Bytes:
        return np.pad(
            cell, ((0, _GAP_PX), (0, _GAP_PX), (0, 0)), constant_values=_PAPER
        )  # fmt: skip

    lines = [np.concatenate([padded(cell) for cell in row], axis=1) for row in rows]
    return np.concatenate(lines, axis=0)
