"""How a person stands and walks: joints from the phase of the step, by forward kinematics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from skyreid.synth.surfaces import Floats, turn_about
from skyreid.synth.wardrobe import Person

LEFT, RIGHT = 1, -1
SIDES = (LEFT, RIGHT)

BODY_HEIGHT_M = 1.75  # the body is built at this height and scaled at the end
STEP_PAIR_M = 1.42  # ground covered by one full phase at the average height and stride


@dataclass(frozen=True)
class Leg:
    """Joints [3] in metres and the pitch of the foot in radians."""

    hip: Floats
    knee: Floats
    ankle: Floats
    foot_pitch: float


@dataclass(frozen=True)
class Arm:
    """Joints [3] in metres."""

    shoulder: Floats
    elbow: Floats
    wrist: Floats
    hand: Floats


@dataclass(frozen=True)
class Pose:
    """One instant of a gait. `lift` [3] is what was added to put the lower foot on the ground."""

    swing: float
    pelvis_yaw: float
    shoulder_yaw: float
    lift: Floats
    legs: dict[int, Leg]
    arms: dict[int, Arm]


def metres_per_radian(person: Person) -> float:
    """Ground covered while the phase advances by one radian, at full swing."""
    return STEP_PAIR_M * (person.height / 1.72) * person.stride / (2 * np.pi)


def pose(person: Person, phase: float, swing: float = 1.0) -> Pose:
    """The person at a phase (radians) of the step; swing 1 walks, 0 stands."""
    pelvis_yaw = 0.12 * np.sin(phase) * swing
    shoulder_yaw = -0.17 * np.sin(phase) * swing
    legs = {side: _leg(person, side, phase, swing, pelvis_yaw) for side in SIDES}
    sole = min(
        leg.ankle[2] - 0.085 - 0.13 * max(0.0, np.sin(leg.foot_pitch)) for leg in legs.values()
    )
    lift = np.array([0.0, 0.0, -sole])
    legs = {
        side: Leg(leg.hip + lift, leg.knee + lift, leg.ankle + lift, leg.foot_pitch)
        for side, leg in legs.items()
    }
    arms = {side: _arm(person, side, phase, swing, shoulder_yaw, lift) for side in SIDES}
    return Pose(swing, pelvis_yaw, shoulder_yaw, lift, legs, arms)


def _leg(person: Person, side: int, phase: float, swing: float, pelvis_yaw: float) -> Leg:
    phase = phase + (0 if side == LEFT else np.pi)
    thigh = np.radians(27) * swing * person.stride * np.sin(phase) + 0.05 * swing
    bend = np.radians(6) + np.radians(52) * max(0.0, np.cos(phase)) ** 1.5 * swing
    hip = turn_about("z", pelvis_yaw) @ np.array([0, side * 0.088 * person.build, 0.92])
    knee = hip + turn_about("y", -thigh) @ np.array([0, side * 0.006, -0.43])
    ankle = knee + turn_about("y", -thigh + bend) @ np.array([0, -side * 0.004, -0.41])
    heel_up = 0.25 if np.cos(phase) < 0 and thigh < -0.15 else 0.0
    foot_pitch = float(np.clip(0.55 * (bend - thigh) + heel_up, -0.5, 0.7)) * swing
    return Leg(hip, knee, ankle, foot_pitch)


def chest_factor(person: Person) -> float:
    """Width of the chest relative to the average."""
    return person.build * (0.5 + 0.5 * person.shoulder)


def _arm(
    person: Person, side: int, phase: float, swing: float, shoulder_yaw: float, lift: Floats
) -> Arm:
    phase = phase + (np.pi if side == LEFT else 0)  # arms swing against the legs
    turn = turn_about("z", shoulder_yaw)
    half_span = 0.188 * person.shoulder * chest_factor(person)
    shoulder = turn @ np.array([0, side * half_span, 1.41]) + lift + [0.025 * swing, 0, 0]
    forward = 0.42 * np.sin(phase) * swing * person.stride
    elbow_bend = 0.28 + 0.22 * (1 + np.sin(phase)) * swing
    outward = 0.10 + 0.05 * (person.build - 0.8)
    if person.pose == "phone" and side == person.bag_side:
        forward, elbow_bend = 0.55, 2.1
    if person.pose == "pocket":
        forward, elbow_bend, outward = -0.35, 0.75, 0.2
    if person.bag in ("handbag", "suitcase") and side == person.bag_side:
        forward = forward * 0.3 - (0.35 if person.bag == "suitcase" else 0)
        elbow_bend = 0.08
    upper = turn @ turn_about("x", side * outward) @ turn_about("y", -forward)
    elbow = shoulder + upper @ np.array([0, 0, -0.30])
    wrist = elbow + upper @ turn_about("y", -elbow_bend) @ np.array([0, 0, -0.27])
    return Arm(shoulder, elbow, wrist, hand=wrist + (wrist - elbow) / 0.27 * 0.06)
