"""Heads: face, hair and what is worn on them. Shapes and colours of each grid side by side."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from skyreid.synth.garments import colour_of, plain
from skyreid.synth.surfaces import Floats, blob, turn_about, waves
from skyreid.synth.wardrobe import HAIR, SKIN, Person

HEAD_GRID = (40, 56)
HAT_GRID = (20, 40)
BRIM_GRID = (8, 32)
HOOD_GRID = (28, 40)
HAIR_GRIDS = {"long": (14, 20), "bun": (10, 14), "pony": (12, 14)}

_SKULL_M = np.array([0.097, 0.078, 0.118])
# Height of the hair line over the brow and at the neck, in units of the skull.
_HAIR_LINE = {"buzz": 0.42, "bob": 0.40, "long": 0.40, "bun": 0.42, "pony": 0.45, "afro": 0.40}
_NAPE_LINE = {"bob": -0.95, "long": -1.2, "afro": -0.5}
_HAIR_THICKNESS = {"afro": 0.34, "bob": 0.14, "long": 0.12, "buzz": 0.02}
_HAT_RADII_M = {
    "cap": (0.112, 0.094, 0.10),
    "beanie": (0.113, 0.096, 0.135),
    "sunhat": (0.115, 0.098, 0.11),
    "helmet": (0.14, 0.115, 0.13),
}


def _skull() -> tuple[Floats, Floats]:
    """The bare head and its directions from the centre, in units of the skull."""
    grid = blob((0, 0, 0), _SKULL_M, *HEAD_GRID, power=2.15)
    return grid, grid / _SKULL_M


def _hair_mask(person: Person, directions: Floats) -> npt.NDArray[np.bool_]:
    if person.hairstyle == "bald":
        return np.zeros(directions.shape[:2], dtype=np.bool_)
    front = _HAIR_LINE.get(person.hairstyle, 0.36)
    nape = _NAPE_LINE.get(person.hairstyle, -0.45)
    dx, dz = directions[..., 0], directions[..., 2]
    brow = dz > front + 0.35 * (dx - 0.6)
    behind = dz > nape + 0.5 * np.clip(dx, -1, 1)
    return np.where(dx > 0.25, brow, behind)


def shape_head(person: Person) -> Floats:
    """Skull with a nose, a chin and the thickness of the hair."""
    grid, directions = _skull()
    dx, dy, dz = directions[..., 0], directions[..., 1], directions[..., 2]
    nose = np.exp(-((dy / 0.2) ** 2 + ((dz + 0.12) / 0.22) ** 2)) * (dx > 0)
    grid[..., 0] += 0.022 * nose
    grid[..., 1] *= 1 - 0.18 * np.clip(-dz, 0, 1)
    thickness = _HAIR_THICKNESS.get(person.hairstyle, 0.08)
    head: Floats = grid * (1 + thickness * _hair_mask(person, directions))[..., None]
    return head


def paint_head(person: Person) -> Floats:
    """Skin, eyes, brows, mouth and hair."""
    _, directions = _skull()
    dx, dy, dz = directions[..., 0], directions[..., 1], directions[..., 2]
    skin, hair = np.array(SKIN[person.skin]), np.array(HAIR[person.hair])
    colours = plain(HEAD_GRID, skin)
    beside = np.abs(dy) - 0.36
    colours[(np.hypot(beside / 1.2, dz - 0.02) < 0.10) & (dx > 0.4)] = 0.08
    colours[(np.abs(dz - 0.2) < 0.05) & (np.abs(beside) < 0.2) & (dx > 0.4)] = hair * 0.8
    mouth = (np.abs(dz + 0.5) < 0.06) & (np.abs(dy) < 0.26) & (dx > 0.3)
    colours[mouth] = skin * [0.8, 0.5, 0.5]
    mask = _hair_mask(person, directions)
    streaks = waves(dz * 2, np.cos(dy * 3), np.sin(dy * 3), person.seed, 8)
    colours[mask] = hair * (1 + 0.25 * streaks[mask])[:, None]
    return colours


def shape_loose_hair(person: Person) -> Floats:
    """What of the hair leaves the skull: only for the styles in `HAIR_GRIDS`."""
    grid = HAIR_GRIDS[person.hairstyle]
    if person.hairstyle == "long":
        return blob((-0.075, 0, -0.16), (0.05, 0.10, 0.20), *grid)
    if person.hairstyle == "bun":
        return blob((-0.08, 0, 0.10), (0.055, 0.055, 0.055), *grid)
    return blob((-0.13, 0, -0.06), (0.035, 0.035, 0.15), *grid, rotation=turn_about("y", 0.25))


def paint_loose_hair(person: Person) -> Floats:
    """Plain hair colour."""
    return plain(HAIR_GRIDS[person.hairstyle], HAIR[person.hair])


def shape_hat(person: Person) -> Floats:
    """The dome of a cap, beanie, sun hat or helmet, cut off above the brow."""
    bigger = 1.25 if person.hairstyle == "afro" else 1.0
    radii = np.array(_HAT_RADII_M[person.headgear]) * bigger
    grid = blob((-0.008, 0, 0.035), radii, *HAT_GRID, power=2.3)
    grid[..., 2] = np.maximum(grid[..., 2], 0.01 if person.headgear == "helmet" else 0.03)
    return grid


def paint_hat(person: Person) -> Floats:
    """Plain, with a fold, a ribbon, ribs or a button."""
    hat = colour_of(person.head_col)
    colours = plain(HAT_GRID, hat)
    match person.headgear:
        case "beanie":
            colours[:12] = hat * 0.6
        case "sunhat":
            colours[9:13] = hat * 0.35
        case "helmet":
            colours[:, ::8] = hat * 0.3
        case _:
            colours[-2:] = hat * 0.5
    return colours


def shape_brim(person: Person) -> Floats:
    """The shade of a cap or the round brim of a sun hat."""
    if person.headgear == "cap":
        return blob((0.12, 0, 0.045), (0.085, 0.08, 0.010), *BRIM_GRID)
    return blob((0, 0, 0.04), (0.225, 0.205, 0.010), *BRIM_GRID)


def paint_brim(person: Person) -> Floats:
    """The hat's colour, darker on a cap."""
    shade = 0.75 if person.headgear == "cap" else 1.0
    return plain(BRIM_GRID, colour_of(person.head_col) * shade)


def shape_hood(person: Person) -> Floats:
    """A hood that leaves the face open."""
    radii = np.array([0.125, 0.112, 0.15])
    if person.hairstyle in ("pony", "bun"):  # hair is tucked in
        radii = radii * [1.25, 1.0, 1.05]
    grid = blob((-0.025, 0, -0.01), radii, *HOOD_GRID, power=2.2)
    q = grid / radii
    face = (q[..., 0] > 0.45) & (np.abs(q[..., 1]) < 0.75) & (q[..., 2] < 0.62)
    grid[face] = grid[face] * [0.3, 0.9, 0.9]
    return grid


def paint_hood(person: Person) -> Floats:
    """The top's colour, a little darker."""
    return plain(HOOD_GRID, colour_of(person.top) * 0.9)
