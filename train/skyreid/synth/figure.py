"""A whole posed person as one mesh: the list of its parts, each a shape and a coat of paint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from skyreid.synth import bags, body, garments, head
from skyreid.synth.gait import BODY_HEIGHT_M, SIDES, Pose, pose
from skyreid.synth.surfaces import Floats, Mesh, linear, mesh_of_grids, turn_about
from skyreid.synth.wardrobe import SKIN, Person

Shape = Callable[[Pose], Floats]
Paint = Callable[[], Floats]


@dataclass(frozen=True)
class Part:
    """One grid of a person. `shape` follows the pose, `paint` does not."""

    shape: Shape
    paint: Paint


def figure(person: Person, phase: float, swing: float = 1.0) -> Mesh:
    """The person at the origin, facing +x, feet on z = 0, in metres.

    Args:
        person: who.
        phase: of the step, radians.
        swing: 1 walks, 0 stands.
    """
    return clothed(person, pose(person, phase, swing))


def clothed(person: Person, posed: Pose) -> Mesh:
    """The person in any pose, as `figure` makes one who walks."""
    scale = person.height / BODY_HEIGHT_M
    parts = _parts(person)
    # A rolling suitcase is the last part and does not belong into the person's box.
    boxed = len(parts) - (1 if person.bag == "suitcase" else 0)
    grids = [part.shape(posed) * scale for part in parts]
    return mesh_of_grids(grids, _colours(person), boxed)


@lru_cache(maxsize=512)
def _colours(person: Person) -> Floats:
    """Linear colours [V, 3] of the person's vertices, in the order of its parts."""
    coats = [part.paint().reshape(-1, 3) for part in _parts(person)]
    return linear(np.concatenate(coats))


@lru_cache(maxsize=512)
def _parts(person: Person) -> tuple[Part, ...]:
    parts: list[Part] = []
    for side in SIDES:
        parts.append(Part(partial(_leg, person, side), partial(garments.paint_leg, person, side)))
        parts.append(Part(partial(_shoe, side), partial(garments.paint_shoe, person)))
    parts.append(Part(partial(body.shape_torso, person), partial(garments.paint_torso, person)))
    bottom_m = body.skirt_bottom_m(person)
    if bottom_m is not None:
        skirt = partial(_skirt, person, bottom_m)
        parts.append(Part(skirt, partial(garments.paint_skirt, person)))
    for side in SIDES:
        parts.append(Part(partial(_arm, person, side), partial(garments.paint_arm, person, side)))
        skin = partial(garments.plain, body.HAND_GRID, SKIN[person.skin])
        parts.append(Part(partial(_hand, side), skin))
    parts += _head_parts(person)
    if person.bag != "none":
        parts.append(Part(partial(bags.shape_bag, person), partial(bags.paint_bag, person)))
    return tuple(parts)


def _head_parts(person: Person) -> list[Part]:
    """Everything that turns with the head."""
    parts = [_on_head(head.shape_head, head.paint_head, person)]
    hooded = person.headgear == "hood"
    if person.hairstyle in head.HAIR_GRIDS and not hooded:
        parts.append(_on_head(head.shape_loose_hair, head.paint_loose_hair, person))
    if hooded:
        parts.append(_on_head(head.shape_hood, head.paint_hood, person))
    elif person.headgear != "none":
        parts.append(_on_head(head.shape_hat, head.paint_hat, person))
        if person.headgear in ("cap", "sunhat"):
            parts.append(_on_head(head.shape_brim, head.paint_brim, person))
    return parts


def _on_head(
    shape: Callable[[Person], Floats], paint: Callable[[Person], Floats], person: Person
) -> Part:
    still = shape(person)  # the head does not change its shape, it only moves

    def moved(pose: Pose) -> Floats:
        centre = np.array([0.03 + 0.035 * pose.swing, 0, 1.645]) + pose.lift
        grid: Floats = still @ turn_about("z", pose.shoulder_yaw * 0.3).T + centre
        return grid

    return Part(moved, partial(paint, person))


def _leg(person: Person, side: int, pose: Pose) -> Floats:
    return body.shape_leg(person, pose.legs[side], side)


def _shoe(side: int, pose: Pose) -> Floats:
    return body.shape_shoe(pose.legs[side], side, pose.pelvis_yaw)


def _skirt(person: Person, bottom_m: float, pose: Pose) -> Floats:
    return body.shape_skirt(person, pose, bottom_m)


def _arm(person: Person, side: int, pose: Pose) -> Floats:
    return body.shape_arm(person, pose.arms[side], side)


def _hand(side: int, pose: Pose) -> Floats:
    return body.shape_hand(pose.arms[side])
