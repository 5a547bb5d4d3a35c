"""The shape of a clothed body: legs, shoes, torso, skirt, arms, hands, as grids in metres.

Built at `gait.BODY_HEIGHT_M`; `person.py` scales to the person's own height.
"""

from __future__ import annotations

import numpy as np

from skyreid.synth.gait import LEFT, RIGHT, Arm, Leg, Pose, chest_factor
from skyreid.synth.garments import (
    ARM_GRID,
    LEG_GRID,
    NECK_M,
    SHOE_GRID,
    SKIRT_GRID,
    TORSO_BOTTOM_M,
    TORSO_GRID,
    TORSO_TOP_M,
)
from skyreid.synth.surfaces import (
    Floats,
    bent_line,
    blob,
    folds,
    grid_coordinates,
    tube,
    turn_about,
)
from skyreid.synth.wardrobe import Person

HAND_GRID = (8, 12)


def _profile(at: Floats, knots: list[float], values: list[float]) -> Floats:
    return np.interp(at, knots, values)


def shape_leg(person: Person, leg: Leg, side: int) -> Floats:
    """From below the ankle to the hip."""
    rows, columns = LEG_GRID
    v = np.linspace(0, 1, rows)
    line = bent_line(leg.ankle - [0, 0, 0.03], leg.knee, leg.hip - [0, 0, -0.02], rows)
    flesh = _profile(
        v,
        [0, 0.1, 0.28, 0.46, 0.55, 0.8, 1],
        [0.042, 0.043, 0.058, 0.055, 0.064, 0.083, 0.088],
    )
    radius = flesh * (0.55 + 0.45 * person.build)
    if person.legs == "long":
        wide = 0.012 + 0.06 * (person.trouser - 1)
        radius = radius + wide * _profile(v, [0, 0.5, 1], [1, 0.8, 0.2])
    elif person.legs == "shorts":
        radius = radius + 0.025 * (v > 0.5)
    grid = tube(line, radius, radius * 1.06, columns)
    creases = folds(rows, columns, person.seed + side, 7, 3.0)
    grid += (grid - line[:, None]) * (creases * 0.05)[..., None]
    return grid


def shape_shoe(leg: Leg, side: int, pelvis_yaw: float) -> Floats:
    """A flattened blob under the ankle, toes a little outwards."""
    grid = blob((0, 0, 0), (0.135, 0.05, 0.05), *SHOE_GRID, power=2.6)
    grid[..., 2] *= 1 - 0.35 * np.clip(grid[..., 0] / 0.13, 0, 1)
    grid[..., 2] = np.maximum(grid[..., 2], -0.045)
    turn = turn_about("z", side * 0.12 + pelvis_yaw / 2) @ turn_about("y", leg.foot_pitch)
    shoe: Floats = (grid - [-0.055, 0, 0.035]) @ turn.T + leg.ankle
    return shoe


def shape_torso(person: Person, pose: Pose) -> Floats:
    """From the hem to the neck, twisted between pelvis and shoulders."""
    rows, columns = TORSO_GRID
    z = np.linspace(TORSO_BOTTOM_M, TORSO_TOP_M, rows)
    wide = person.shoulder
    width = _profile(
        z,
        [0.84, 0.95, 1.10, 1.28, 1.38, 1.435, 1.47, 1.485, 1.52],
        [0.165, 0.172, 0.152, 0.178, 0.188 * wide, 0.172 * wide, 0.105, 0.062, 0.056],
    ) * chest_factor(person)
    depth = person.build * _profile(
        z,
        [0.84, 0.95, 1.10, 1.28, 1.38, 1.44, 1.47, 1.485, 1.52],
        [0.118, 0.125, 0.108, 0.128, 0.112, 0.088, 0.07, 0.062, 0.058],
    )
    loose = 1.10 if person.open_front or person.headgear == "hood" else 1.03
    fit = np.where(z < NECK_M - 0.005, loose * person.loose, 1.0)
    lean = 0.05 * pose.swing * (z - 0.9)
    line = np.stack([lean, np.zeros(rows), z], 1) + pose.lift
    grid = tube(line, width * fit, depth * fit, columns, power=2.35)
    _, u = grid_coordinates(rows, columns)
    belly = person.belly * 0.06 * np.exp(-(((z - 1.06) / 0.11) ** 2))
    grid[..., 0] += belly[:, None] * np.clip(np.cos(u), 0, 1) ** 1.5
    grid += (grid - line[:, None]) * (folds(rows, columns, person.seed, 6) * 0.035)[..., None]
    yaw = _profile(z, [0.9, 1.4], [pose.pelvis_yaw, pose.shoulder_yaw])
    c, s = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    x, y = grid[..., 0].copy(), grid[..., 1].copy()
    grid[..., 0], grid[..., 1] = c * x - s * y, s * x + c * y
    return grid


def skirt_bottom_m(person: Person) -> float | None:
    """Height of the lower edge of a coat, dress or skirt; None for who wears none of them."""
    if person.hem == "coat":
        return person.coat_m
    if person.hem == "dress":
        return 0.50
    return 0.56 if person.legs == "skirt" else None


def shape_skirt(person: Person, pose: Pose, bottom_m: float) -> Floats:
    """A bell around both legs that is as wide as the step."""
    rows, columns = SKIRT_GRID
    z = np.linspace(bottom_m, 1.0, rows)
    heights = z + pose.lift[2]
    forward = []
    for side in (LEFT, RIGHT):
        leg = pose.legs[side]
        line = bent_line(leg.ankle, leg.knee, leg.hip, 60)
        forward.append(np.interp(heights, line[:, 2], line[:, 0]))
    middle = (forward[0] + forward[1]) / 2
    spread = np.abs(forward[0] - forward[1]) / 2
    down = (1.0 - z) / (1.0 - bottom_m)
    line = np.stack([middle * down**0.5, np.zeros(rows), z], 1) + pose.lift
    half_width = 0.185 * person.build + 0.05 * down
    half_depth = 0.135 * person.build + spread + 0.045 * down
    grid = tube(line, half_width, half_depth, columns)
    _, u = grid_coordinates(rows, columns)
    pleats = 1 + 0.05 * down[:, None] * np.sin(9 * u + person.seed % 7)
    centre = grid.mean(1, keepdims=True)
    skirt: Floats = centre + (grid - centre) * pleats[..., None]
    return skirt


def shape_arm(person: Person, arm: Arm, side: int) -> Floats:
    """From the wrist to the shoulder; a sleeve is a little wider than the arm."""
    rows, columns = ARM_GRID
    v = np.linspace(0, 1, rows)
    bare = 1 - person.sleeve
    sleeve_m = 0.010 + 0.05 * (person.loose - 1)
    flesh = _profile(
        v,
        [0, 0.08, 0.3, 0.5, 0.75, 0.9, 0.97, 1],
        [0.028, 0.030, 0.039, 0.041, 0.049, 0.052, 0.040, 0.012],
    )
    radius = flesh * (0.6 + 0.4 * person.build) + np.where((v > bare) & (v < 0.95), sleeve_m, 0)
    line = bent_line(arm.wrist, arm.elbow, arm.shoulder - [0, 0, -0.03], rows)
    grid = tube(line, radius, radius, columns)
    creases = folds(rows, columns, person.seed + 7 + side, 7, 3.0)
    height, _ = grid_coordinates(rows, columns)
    grid += (grid - line[:, None]) * (creases * 0.05 * (height > bare))[..., None]
    return grid


def shape_hand(arm: Arm) -> Floats:
    """A closed hand."""
    return blob(arm.hand, (0.035, 0.025, 0.07), *HAND_GRID)
