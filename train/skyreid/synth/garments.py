"""The colours of clothes: patterns, logos and what covers which part of the skin.

Every `paint_*` returns sRGB colours float64 [rows, columns, 3] for a grid of the body and depends
on the person only, never on the pose, so a person is painted once.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from skyreid.synth.surfaces import TURN, Floats, folds, grid_coordinates, waves
from skyreid.synth.wardrobe import COLOUR, DENIM, SKIN, Person

LEG_GRID = (44, 24)
SHOE_GRID = (14, 24)
TORSO_GRID = (60, 64)
SKIRT_GRID = (26, 48)
ARM_GRID = (36, 20)

TORSO_BOTTOM_M, NECK_M, TORSO_TOP_M = 0.84, 1.475, 1.52
NECK_V = (NECK_M - TORSO_BOTTOM_M) / (TORSO_TOP_M - TORSO_BOTTOM_M)


def plain(shape: tuple[int, ...], colour: tuple[float, ...] | Floats) -> Floats:
    """One colour all over a grid of the given rows and columns."""
    return np.broadcast_to(np.asarray(colour, dtype=np.float64), (*shape, 3)).copy()


def colour_of(name: str) -> Floats:
    """The sRGB colour [3] of a palette word."""
    return np.array(COLOUR[name], dtype=np.float64)


def _pattern_mask(
    person: Person, v: Floats, u: Floats, half_width_m: float, height_m: float
) -> npt.NDArray[np.bool_]:
    """Where the second colour of the top goes."""
    x, z, scale = half_width_m * u, v * height_m, person.pscale
    match person.pattern:
        case "hstripe":
            return np.sin(z / 0.075 * TURN / scale) > 0.15
        case "vstripe":
            return np.sin(x / 0.07 * TURN / scale) > 0.3
        case "plaid":
            upright = np.abs(np.sin(x / 0.11 * np.pi / scale)) > 0.8
            level = np.abs(np.sin(z / 0.11 * np.pi / scale)) > 0.85
            return upright | level
        case "block":
            return v < 0.45
        case "yoke":
            return v > 0.74
        case "dots":
            dots = np.sin(x / 0.09 * TURN / scale) * np.sin(z / 0.09 * TURN / scale)
            return np.asarray(dots > 0.55)
        case "camo":
            return waves(v * 2, np.cos(u), np.sin(u), person.seed % 97, 9) > 0.12
        case _:
            return np.zeros(v.shape, dtype=np.bool_)


def paint_cloth(
    person: Person, v: Floats, u: Floats, half_width_m: float, height_m: float
) -> Floats:
    """The top's cloth over height v and angle u of a part of the given size."""
    colours = plain(v.shape, COLOUR[person.top]) * person.tone
    if person.pattern == "plaid":
        rows = np.sin(v * height_m / 0.11 * TURN / person.pscale) > 0.1
        colours *= (1 - 0.45 * rows)[..., None]
    colours[_pattern_mask(person, v, u, half_width_m, height_m)] = colour_of(person.top2)
    if person.texture != "smooth":
        colours *= _texture(person, v, u, half_width_m, height_m)[..., None]
    return colours


def _texture(person: Person, v: Floats, u: Floats, half_width_m: float, height_m: float) -> Floats:
    """Brightness of a cloth that is not smooth, about 1: knit, quilting, wear, sewn panels."""
    x, z, scale = half_width_m * u, v * height_m, person.pscale
    match person.texture:
        case "ribs":
            return 1 + 0.3 * np.sin(x / 0.03 * TURN / scale)
        case "quilt":  # a row of a padded jacket is bright above and dark in the seam
            return 1.25 - 0.75 * np.abs(np.cos(z / 0.09 * np.pi / scale)) ** 6
        case "panels":
            return np.where(np.abs(u) > np.pi / 2, 0.75, 1.2)
        case _:
            return 1 + 0.35 * waves(v * 2, np.cos(u), np.sin(u), person.seed % 89, 7)


def stamp_logo(
    colours: Floats, shape: str, colour: str, at_angle: float, at_v: float, radius_m: float
) -> None:
    """Print a logo on the torso, in place."""
    if shape == "none":
        return
    v, u = grid_coordinates(*TORSO_GRID)
    x = ((u - at_angle + np.pi) % TURN - np.pi) * 0.16
    z = (v - at_v) * 0.68
    away = np.hypot(x, z)
    r = radius_m
    masks = {
        "disc": away < r,
        "ring": (away < r) & (away > r * 0.55),
        "bar": (np.abs(z) < r * 0.4) & (np.abs(x) < 1.3 * r),
        "square": (np.abs(z) < r) & (np.abs(x) < r),
        "cross": ((np.abs(x) < r * 0.32) | (np.abs(z) < r * 0.32)) & (away < 1.2 * r),
        "tri": (z > -r) & (np.abs(x) < (r - z) * 0.55),
    }
    colours[masks[shape]] = colour_of(colour)


def paint_torso(person: Person) -> Floats:
    """Top, open jacket, logos, straps, neck."""
    v, u = grid_coordinates(*TORSO_GRID)
    colours = paint_cloth(person, v, u, 0.16, 0.68)
    if person.hem == "shirt":
        colours[v < 0.075] = colour_of(person.bottom) * 0.8
    if person.open_front:
        under = person.top2 if person.top2 != person.top else "white"
        colours[(np.abs(u) < 0.42) & (v > 0.05)] = colour_of(under)
    else:
        stamp_logo(colours, person.logo, person.logo_col, 0.0, 0.62, 0.085)
    stamp_logo(colours, person.back_logo, person.logo_col, np.pi, 0.66, 0.11)
    if person.bag == "backpack":
        straps = (np.abs(np.abs(u) - 0.75) < 0.14) & (v > 0.45) & (v < 0.93)
        colours[straps] = colour_of(person.bag_col) * 0.7
    if person.bag == "crossbody":
        # Rises from the bag's hip across the chest to the other shoulder, and down the back again.
        before = (u * person.bag_side + np.pi / 2) / np.pi
        behind = 1.5 - np.abs(u) / np.pi
        strap = 0.9 - 0.75 * np.where(np.abs(u) < np.pi / 2, before, behind)
        colours[np.abs(v - strap) < 0.045] = colour_of(person.bag_col) * 0.6
    colours[v > NECK_V] = SKIN[person.skin]
    if person.headgear == "hood":
        colours[(v > NECK_V - 0.05) & (np.abs(u) > 0.5)] = colour_of(person.top)
    shaded: Floats = colours * (1 + 0.09 * folds(*TORSO_GRID, person.seed, 6))[..., None]
    return shaded


def paint_skirt(person: Person) -> Floats:
    """What hangs below the torso: a coat, a dress or a skirt."""
    v, u = grid_coordinates(*SKIRT_GRID)
    if person.hem in ("coat", "dress"):
        colours = paint_cloth(person, v - 1, u, 0.19, 0.45)
        if person.hem == "coat" and person.open_front:
            colours[np.abs(u) < 0.3] = colour_of(person.bottom)
        return colours
    return plain(SKIRT_GRID, COLOUR[person.bottom]) * (1 + 0.1 * np.sin(9 * u))[..., None]


def paint_leg(person: Person, side: int) -> Floats:
    """Trousers, shorts or bare legs with socks."""
    v, u = grid_coordinates(*LEG_GRID)
    colours = plain(LEG_GRID, COLOUR[person.bottom])
    if person.bottom in DENIM:  # worn thighs
        worn = np.exp(-(((v - 0.72) / 0.16) ** 2)) * (np.cos(u) > 0.3)
        colours *= (1 + 0.35 * worn)[..., None]
    if person.leg_stripe != "none":
        colours[np.abs(u - side * np.pi / 2) < 0.22] = colour_of(person.leg_stripe)
    if person.legs != "long":
        colours[v < (0.52 if person.legs == "shorts" else 1.1)] = SKIN[person.skin]
        colours[v < 0.1] = colour_of(person.sock)
    shaded: Floats = colours * (1 + 0.10 * folds(*LEG_GRID, person.seed + side, 7, 3.0))[..., None]
    return shaded


def paint_shoe(person: Person) -> Floats:
    """Sole and upper."""
    colours = plain(SHOE_GRID, COLOUR[person.shoe])
    colours[:5] = colour_of(person.sole)
    return colours


def paint_arm(person: Person, side: int) -> Floats:
    """Sleeve with cuff, and the bare rest; v runs from the wrist to the shoulder."""
    v, u = grid_coordinates(*ARM_GRID)
    bare = 1 - person.sleeve
    # Stripes across the chest would run along the arm, and a block of colour ends at the shoulder.
    pattern = "solid" if person.pattern in ("block", "vstripe") else person.pattern
    height = np.clip(v * 0.8 + (0.25 if pattern == "yoke" else 0), 0, 1)
    colours = paint_cloth(replace(person, pattern=pattern), height, u, 0.05, 0.6)
    if person.sleeve > 0.9:
        colours[v < bare + 0.06] *= 0.7
    colours[v < bare] = SKIN[person.skin]
    creases = folds(*ARM_GRID, person.seed + 7 + side, 7, 3.0)
    shaded: Floats = colours * (1 + 0.1 * creases)[..., None]
    return shaded
