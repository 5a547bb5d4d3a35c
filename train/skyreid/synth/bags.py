"""Bags: backpack, cross-body bag, handbag, rolling suitcase."""

from __future__ import annotations

import numpy as np

from skyreid.synth.gait import Pose
from skyreid.synth.garments import colour_of, plain
from skyreid.synth.surfaces import Floats, blob, turn_about
from skyreid.synth.wardrobe import Person

BAG_GRID = (20, 32)


def shape_bag(person: Person, pose: Pose) -> Floats:
    """The person's bag where it is carried; only for who has one."""
    side, size = person.bag_side, person.bag_size
    turn = turn_about("z", pose.shoulder_yaw)
    match person.bag:
        case "backpack":
            behind = turn @ np.array([-0.125 * person.build - 0.07, 0, 1.23]) + pose.lift
            radii = size * np.array([0.085, 0.135, 0.215])
            return blob(behind, radii, *BAG_GRID, power=4.0, rotation=turn)
        case "crossbody":
            hip = np.array([0, side * (0.20 * person.build + 0.03), 0.93]) + pose.lift
            return blob(hip, size * np.array([0.14, 0.05, 0.10]), *BAG_GRID, power=4.5)
        case "handbag":
            below = pose.arms[side].hand - [0, 0, 0.2]
            return blob(below, size * np.array([0.15, 0.06, 0.12]), *BAG_GRID, power=4.0)
        case _:
            return blob(
                (-0.45, side * 0.3, 0.33), size * np.array([0.12, 0.19, 0.29]), *BAG_GRID, power=5.0
            )


def paint_bag(person: Person) -> Floats:
    """A band of the second colour and a dark bottom."""
    colours = plain(BAG_GRID, colour_of(person.bag_col))
    colours[7:12] = colour_of(person.bag_col2)
    colours[:2] = colour_of(person.bag_col) * 0.5
    return colours
