"""Learnable thin-plate splines (LTPS): a picture's patch tokens, resampled as if it were turned.

The alignment of GSAlign (see `gsalign`). Splines after Bookstein, "Principal Warps", TPAMI 1989, in
the form of Shi et al., "Robust Scene Text Recognition with Automatic Rectification", CVPR 2016
(arXiv:1603.03915); sampling after Jaderberg et al., "Spatial Transformer Networks", NeurIPS 2015
(arXiv:1506.02025).

Coordinates are (x, y) in [-1, 1] between the centres of the outer patches, whatever the map's
shape: a turn by 45 degrees is not an isometry of a picture twice as high as wide.

Three things make the graph small, and none changes a value by more than rounding does:

* The spline through four fixed control points is linear in where they go. With the constant G
  [P, 4] the grid is G @ points.
* Only the way from each patch's own place is computed, G @ (points - corners). Without a turn it
  is exactly 0, and sampling gives each patch back to the last bit.
* Bilinear sampling with the border repeated is a product with hat weights: of one axis
  max(0, 1 - |x - j|) for the columns j. No gather, no GridSample. (At a whole x inside the map its
  gradient is 0 where that of grid_sample is one side's; predicted angles do not meet one.)
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skyreid.contract.errors import InputError, SettingsError

Sampling = Literal["hat", "grid"]

CORNERS = ((-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0))  # (x, y), in the published order
LOG_FLOOR = 1e-8  # of a squared distance in the logarithm; the product with it is 0 there
LARGEST_ANGLE = math.pi / 2  # radians, either way


def radial(points: Tensor, centres: Tensor) -> Tensor:
    """Thin-plate kernel r² log r of the distances r between [N, 2] and [M, 2]: [N, M]."""
    squared = (points[:, None] - centres[None]).square().sum(-1)
    return 0.5 * squared * squared.clamp(min=LOG_FLOOR).log()


def lifted(points: Tensor, centres: Tensor) -> Tensor:
    """Points [N, 2] in the spline's basis: a kernel per centre, then 1, x, y: [N, M + 3]."""
    return torch.cat([radial(points, centres), torch.ones_like(points[:, :1]), points], dim=1)


def rotated(points: Tensor, angle: Tensor) -> Tensor:
    """Points [K, 2] turned by angles [B] in radians, x towards y: [B, K, 2]."""
    x, y = points.unbind(-1)
    cosine, sine = angle.cos()[:, None], angle.sin()[:, None]
    return torch.stack([cosine * x - sine * y, sine * x + cosine * y], dim=-1)


class SplineGrid(nn.Module):
    """The sampling grid of rows x columns patches for where the control points go.

    Its buffers are entries of the published state_dict; they follow from `centres` and the grid.
    """

    inverse_kernel: Tensor
    padding: Tensor
    target_coord_repr: Tensor

    def __init__(self, centres: Tensor, rows: int, columns: int) -> None:
        super().__init__()
        if rows < 2 or columns < 2:
            raise SettingsError(
                f"gsalign: a grid of {rows}x{columns} patches cannot be warped, 2x2 is the least; "
                "choose a larger picture or a smaller stride"
            )
        self.rows, self.columns = rows, columns
        centres = centres.double()
        count = len(centres)
        kernel = torch.zeros(count + 3, count + 3, dtype=torch.float64)
        kernel[:count] = lifted(centres, centres)
        kernel[count:, :count] = kernel[:count, count:].T
        y, x = torch.meshgrid(
            torch.arange(rows, dtype=torch.float64) * 2 / (rows - 1) - 1,
            torch.arange(columns, dtype=torch.float64) * 2 / (columns - 1) - 1,
            indexing="ij",
        )
        places = torch.stack([x.flatten(), y.flatten()], dim=1)
        self.register_buffer("inverse_kernel", kernel.inverse().float())
        self.register_buffer("padding", torch.zeros(3, 2))  # the published form's, under its points
        self.register_buffer("target_coord_repr", lifted(places, centres).float())

    def coefficients(self) -> Tensor:
        """G float32 [P, 4], rows of sum 1: G @ points is where each patch samples."""
        return (self.target_coord_repr @ self.inverse_kernel)[:, : -len(self.padding)]

    def places(self) -> Tensor:
        """The patches' own places (x, y), row by row: float32 [P, 2]."""
        return self.target_coord_repr[:, -2:]


def pixels(way: Tensor, rows: int, columns: int) -> Tensor:
    """Where to sample, in patches from the first one's centre.

    Args:
        way: float32 [B, P, 2], (x, y) from each patch's place in units of half a side.
        rows: of the map.
        columns: of the map; P is rows * columns.

    Returns:
        Float32 [B, P, 2] as (x, y), as yet outside the map where the way leads there.
    """
    index = torch.arange(rows * columns, device=way.device)
    own = torch.stack([index % columns, index // columns], dim=1).to(way.dtype)
    half = torch.tensor([(columns - 1) / 2, (rows - 1) / 2], dtype=way.dtype, device=way.device)
    return own + half * way


def hat_weights(where: Tensor, rows: int, columns: int) -> Tensor:
    """Bilinear weights, the border repeated: where [B, P, 2] in patches to [B, P, P] of sum 1."""
    x = where[..., 0].clamp(0, columns - 1)
    y = where[..., 1].clamp(0, rows - 1)
    across = F.relu(1 - (x[..., None] - torch.arange(columns, device=x.device)).abs())
    down = F.relu(1 - (y[..., None] - torch.arange(rows, device=y.device)).abs())
    return (down[..., :, None] * across[..., None, :]).flatten(2)


def grid_sampled(patches: Tensor, grid: Tensor) -> Tensor:
    """Patches [B, P, D] sampled at grid [B, rows, columns, 2] by torch's own operator."""
    batch, count, dim = patches.shape
    maps = patches.transpose(1, 2).reshape(batch, dim, *grid.shape[1:3])
    warped = F.grid_sample(
        maps.to(grid.dtype), grid, mode="bilinear", padding_mode="border", align_corners=True
    )
    return warped.reshape(batch, dim, count).transpose(1, 2).to(patches.dtype)


class Ltps(nn.Module):
    """patches <- patches + eta * patches sampled behind a turn of the picture's own.

    A small convolutional net reads the angle off the patches; four learned points are turned by it
    and the spline that takes the corners there is what is sampled along.
    """

    dst_points: Tensor

    def __init__(
        self, dim: int, rows: int, columns: int, *, eta: float, sampling: Sampling
    ) -> None:
        super().__init__()
        self.eta = eta
        self.sampling = sampling
        corners = torch.tensor(CORNERS)
        self.src_points = nn.Parameter(corners.clone())
        self.register_buffer("dst_points", corners.clone())
        self.grid_gen = SplineGrid(corners, rows, columns)
        # A third and a sixth of the width: the published 256 and 128 at 768.
        self.angle_predictor = nn.Sequential(
            nn.Conv2d(dim, dim // 3, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(dim // 3, dim // 6),
            nn.ReLU(),
            nn.Linear(dim // 6, 1),
            nn.Tanh(),
        )

    def angle(self, patches: Tensor) -> Tensor:
        """The turn in radians, float32 [B], of patches [B, P, D].

        Raises:
            InputError: when the patches do not fill the grid. (The published code passes them on
                unwarped; for an earlier form of it, which took the map for square, that was always
                the case at 256x128.)
        """
        batch, count, dim = patches.shape
        rows, columns = self.grid_gen.rows, self.grid_gen.columns
        if count != rows * columns:
            raise InputError(
                f"gsalign: {count} patches do not fill the grid of {rows}x{columns} that the "
                "alignment was made for"
            )
        maps = patches.transpose(1, 2).reshape(batch, dim, rows, columns)
        pooled = self.angle_predictor[:4](maps)
        with torch.autocast(pooled.device.type, enabled=False):
            turned: Tensor = self.angle_predictor[4:](pooled.float())
        return LARGEST_ANGLE * turned[:, 0]

    def grid(self, angle: Tensor) -> Tensor:
        """Where each patch samples for angles [B]: float32 [B, rows, columns, 2] as (x, y)."""
        places = self.grid_gen.places() + self._way(angle)
        return places.reshape(-1, self.grid_gen.rows, self.grid_gen.columns, 2)

    def warp(self, patches: Tensor, angle: Tensor) -> Tensor:
        """Patches [B, P, D] with eta times their warped selves for angles [B]: [B, P, D]."""
        device = patches.device.type
        with torch.autocast(device, enabled=False):  # a half places a patch to a 100th of its size
            if self.sampling == "grid":
                return patches + self.eta * grid_sampled(patches, self.grid(angle))
            rows, columns = self.grid_gen.rows, self.grid_gen.columns
            weights = hat_weights(pixels(self._way(angle), rows, columns), rows, columns)
            return patches + self.eta * (weights.to(patches.dtype) @ patches)

    def _way(self, angle: Tensor) -> Tensor:
        """From each patch's place to where it samples: float32 [B, P, 2]."""
        moved = rotated(self.src_points, angle.float()) - self.dst_points
        return self.grid_gen.coefficients() @ moved


class ServingLtps(nn.Module):
    """LTPS as it is exported: learned points and G in three constants.

    A turned point is cos * p + sin * q with q at a right angle to p, so that the way is
    cos * (G @ p) + sin * (G @ q) - G @ corners.
    """

    along: Tensor
    aside: Tensor
    away: Tensor
    places: Tensor

    def __init__(self, source: Ltps) -> None:
        super().__init__()
        self.eta = source.eta
        self.sampling = source.sampling
        self.rows, self.columns = source.grid_gen.rows, source.grid_gen.columns
        self.angle_predictor = source.angle_predictor
        with torch.no_grad():
            coefficients = source.grid_gen.coefficients()
            points = source.src_points
            aside = torch.stack([-points[:, 1], points[:, 0]], dim=1)
            self.register_buffer("along", coefficients @ points)
            self.register_buffer("aside", coefficients @ aside)
            self.register_buffer("away", coefficients @ source.dst_points)
        self.register_buffer("places", source.grid_gen.places().clone())

    def forward(self, patches: Tensor) -> Tensor:
        """[B, P, D] to [B, P, D]."""
        batch, _, dim = patches.shape
        maps = patches.transpose(1, 2).reshape(batch, dim, self.rows, self.columns)
        angle = LARGEST_ANGLE * self.angle_predictor(maps)[:, :, None]  # [B, 1, 1]
        way = angle.cos() * self.along - self.away + angle.sin() * self.aside
        if self.sampling == "grid":
            grid = (self.places + way).reshape(-1, self.rows, self.columns, 2)
            return patches + self.eta * grid_sampled(patches, grid)
        weights = hat_weights(pixels(way, self.rows, self.columns), self.rows, self.columns)
        return patches + self.eta * (weights @ patches)
