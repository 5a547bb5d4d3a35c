"""Position embeddings of another grid: another resolution or stride of the same trunk."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

NAMES = ("pos_embed", "positional_embedding")
"""How the entries of a state_dict that hold them end."""

Grid = tuple[int, int]
"""Rows and columns of patches."""


def resampled(cells: Tensor, old: Grid, new: Grid) -> Tensor:
    """Cells [rows * columns, D] of one grid as those of another.

    Bilinear, pixel centres aligned, without antialiasing, as the published code does it.
    """
    if old == new:
        return cells
    grid = cells.T.reshape(1, -1, *old)
    wanted = F.interpolate(grid, new, mode="bilinear", align_corners=False)
    return wanted.flatten(2)[0].T


def on_grid(positions: Tensor, old: Grid, new: Grid) -> Tensor:
    """An entry [..., leading tokens + cells, D] of one grid as that of another."""
    table = positions.flatten(0, -2)
    leading = len(table) - old[0] * old[1]
    cells = resampled(table[leading:], old, new)
    moved = table.new_empty((leading + len(cells), table.shape[1]))
    moved[:leading], moved[leading:] = table[:leading], cells
    return moved.reshape(*positions.shape[:-2], *moved.shape)
