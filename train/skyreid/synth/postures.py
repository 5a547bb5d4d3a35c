"""People who do not walk: seated, and on a bicycle; joints by inverse kinematics."""

from __future__ import annotations

import numpy as np

from skyreid.synth.gait import LEFT, SIDES, Arm, Leg, Pose, chest_factor
from skyreid.synth.surfaces import Floats
from skyreid.synth.wardrobe import Person

SEAT_M = 0.45
"""Height of a seat, at `gait.BODY_HEIGHT_M`."""
SADDLE_M = 0.92
CRANK: tuple[float, float, float] = (0.22, 0.0, 0.33)
"""Middle of a bicycle's pedals, with the saddle above the origin."""
BAR: tuple[float, float, float] = (0.44, 0.24, 1.04)
"""The left grip of a bicycle's handlebar."""

_STANDING_HIP_M = 0.92
_HIP_ABOVE_SEAT_M = 0.08
_HALF_HIPS_M = 0.088
_SHOULDER_M = 1.41
_THIGH_M, _SHIN_M, _UPPER_ARM_M, _FOREARM_M = 0.43, 0.41, 0.30, 0.27
_PEDAL_M = 0.16


def seated(person: Person, phase: float) -> Pose:
    """On a seat of `SEAT_M` above the origin, feet in front, hands on the thighs.

    `phase` (radians) spreads the knees and moves the feet.
    """
    hip_m = SEAT_M + _HIP_ABOVE_SEAT_M
    lift = np.array([0.0, 0.0, hip_m - _STANDING_HIP_M])
    legs, arms = {}, {}
    for side in SIDES:
        forward = 0.40 + 0.12 * float(np.sin(phase + side))
        spread = 0.10 + 0.05 * (1 + float(np.cos(phase)))
        hip = np.array([0.0, side * _HALF_HIPS_M * person.build, hip_m])
        legs[side] = _leg(hip, np.array([forward, side * spread, 0.085]), 0.0)
        hand = np.array([0.26, side * 0.13, hip_m + 0.11])
        arms[side] = _arm(_shoulder(person, side, lift), hand)
    return Pose(0.0, 0.0, 0.0, lift, legs, arms)


def riding(person: Person, phase: float) -> Pose:
    """On a bicycle that stands on the ground, saddle above the origin; `phase` is the pedals'."""
    hip_m = SADDLE_M + 0.02
    lift = np.array([0.06, 0.0, hip_m - _STANDING_HIP_M])
    legs, arms = {}, {}
    for side in SIDES:
        at = phase if side == LEFT else phase + np.pi
        on_crank = np.array([_PEDAL_M * np.cos(at), side * 0.11, _PEDAL_M * np.sin(at)])
        pedal = np.array(CRANK) + on_crank
        hip = np.array([0.0, side * _HALF_HIPS_M * person.build, hip_m])
        legs[side] = _leg(hip, pedal + np.array([-0.05, 0.0, 0.09]), 0.15)
        arms[side] = _arm(_shoulder(person, side, lift), np.array(BAR) * [1, side, 1])
    return Pose(0.0, 0.0, 0.0, lift, legs, arms)


def _shoulder(person: Person, side: int, lift: Floats) -> Floats:
    half_span = 0.188 * person.shoulder * chest_factor(person)
    return np.array([0.0, side * half_span, _SHOULDER_M]) + lift


def _leg(hip: Floats, ankle: Floats, foot_pitch: float) -> Leg:
    knee, ankle = _bend(hip, ankle, _THIGH_M, _SHIN_M, np.array([1.0, 0.0, 0.6]))
    return Leg(hip, knee, ankle, foot_pitch)


def _arm(shoulder: Floats, wrist: Floats) -> Arm:
    elbow, wrist = _bend(
        shoulder, wrist, _UPPER_ARM_M, _FOREARM_M, np.array([-0.6, np.sign(shoulder[1]) * 0.5, -1])
    )
    return Arm(shoulder, elbow, wrist, hand=wrist + (wrist - elbow) / _FOREARM_M * 0.06)


def _bend(
    root: Floats, end: Floats, upper_m: float, lower_m: float, towards: Floats
) -> tuple[Floats, Floats]:
    """The joint between two bones, bent `towards` a direction, and the end as far as they reach."""
    way = end - root
    distance = float(np.linalg.norm(way))
    way /= distance
    reach = min(distance, 0.999 * (upper_m + lower_m))
    along = (upper_m**2 - lower_m**2 + reach**2) / (2 * reach)
    aside = float(np.sqrt(max(0.0, upper_m**2 - along**2)))
    across = towards - way * float(towards @ way)
    joint: Floats = root + way * along + across / np.linalg.norm(across) * aside
    tip: Floats = root + way * reach
    return joint, tip
