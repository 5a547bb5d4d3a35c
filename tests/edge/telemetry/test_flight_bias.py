"""What is left of a flight's errors once its bias is known: those of a moment, of every frame's."""

import sys

import numpy as np
import pytest
from flights import FPS, SIZE, START_NS, flight, model_at

from skyreid.contract.camera import Pose
from skyreid.contract.rotation import turn, turned_by
from skyreid.contract.sighting import Clock
from skyreid.edge.calibrate import CLICK_PX, Place, bias
from skyreid.edge.people.ground import MIDDLE_M
from skyreid.edge.telemetry.anchors import Anchor
from skyreid.edge.telemetry.klv_feed import KlvFeed
from skyreid.edge.telemetry.options import QUALITIES, Quality, TelemetryOptions
from skyreid.edge.telemetry.poses import TelemetryPoses
from skyreid.edge.video.frame import Frame
from skyreid.synth.telemetry import ORIGIN, Drawn, draw_packets

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SECONDS, STILL = 2.0, 9
FLIGHT = flight(SECONDS)
WITHIN_90 = 4.605


def said_by(packets: dict[int, bytes], options: TelemetryOptions) -> list[Pose]:
    """The device's poses of the frames from the still on."""
    poses = TelemetryPoses(KlvFeed(ORIGIN), options, plane_m=MIDDLE_M)
    found = []
    for index in range(round(SECONDS * FPS)):
        at_ns = index * 10**9 // FPS
        said = ((START_NS + at_ns, packets[index]),) if index in packets else ()
        now_ns, (width, height) = START_NS + at_ns, SIZE
        frame = Frame(
            index + 1, now_ns, Clock.FILE, 0, width, height, telemetry=said, media_ns=at_ns
        )
        pose = poses.at(frame)
        if index >= STILL:
            assert pose is not None
            found.append(pose)
    return found


def of_the_moment(pose: Pose, index: int, constant: Drawn) -> np.ndarray:
    """[6] metres and degrees, without what is constant."""
    truth = model_at(index / FPS, "hover")
    steady = turn(np.radians(constant.attitude_deg))
    turned = turned_by(steady.T @ pose.model.rotation @ truth.rotation.T)
    away = pose.model.position - truth.position - constant.position_m
    return np.concatenate([away, np.degrees(turned)])


@pytest.mark.parametrize("quality", ["rtk", "gnss", "poor"])
def test_what_is_assumed_of_a_moment_is_what_a_pose_errs_by(quality: Quality) -> None:
    off, hovering = [], flight(SECONDS, "hover")  # so that the lag, which is said apart, is nothing
    for seed in range(40):
        constant, packets = draw_packets(hovering, quality, [3000 + seed])
        poses = said_by(packets, TelemetryOptions(source="klv", quality=quality))
        off += [of_the_moment(p, STILL + n, constant) for n, p in enumerate(poses)][::3]
    east_north, turned = np.array(off)[:, :2], np.array(off)[:, 3:]
    sigmas = QUALITIES[quality]
    assert sigmas.moment_m == pytest.approx(np.sqrt((east_north**2).mean()), rel=0.2)
    assert sigmas.moment_deg == pytest.approx(np.sqrt((turned**2).mean()), rel=0.15)


def test_less_its_bias_the_ellipse_of_a_poor_flight_holds_as_often_as_it_says() -> None:
    """What the still itself was off by, and what each frame is, were taken as one of them."""
    rng, inside = np.random.default_rng(12), list[bool]()
    options = TelemetryOptions(source="klv", quality="poor", terrain_sigma_m=0)
    for seed in range(120):
        _, packets = draw_packets(FLIGHT, "poor", [4000 + seed])
        still, truth = said_by(packets, options)[0].model, model_at(STILL / FPS)
        places = []
        for pixel in rng.uniform(0.1, 0.9, (4, 2)) * SIZE:
            point = truth.ground_point(*pixel)
            assert point is not None
            x, y = pixel + rng.normal(0, CLICK_PX, 2)
            places.append(Place("a", Anchor(still, (x, y), np.array([*point, 0.0]))))
        lines = bias(places, options)[1]
        told = tomllib.loads("\n".join(lines[lines.index("[telemetry]  # of this flight") :]))
        less = TelemetryOptions.model_validate({**options.model_dump(), **told["telemetry"]})
        pose, seen = said_by(packets, less)[-1], FLIGHT.models[-1]
        for place in rng.uniform(-6, 6, (4, 2)):
            pixel = seen.project(np.array([[*place, 0.0]]))[0][0]
            found = pose.model.ground_point(*pixel)
            assert found is not None
            away, cov = found - place, on_the_ground(pose, pixel)
            inside.append(bool(away @ np.linalg.solve(cov, away) <= WITHIN_90))
    assert 0.85 <= np.mean(inside) <= 0.96


def on_the_ground(pose: Pose, pixel: np.ndarray) -> np.ndarray:
    """Covariance [2, 2] of where a pixel is, by the pose alone."""
    assert pose.cov is not None
    columns = []
    for axis in range(6):
        step = np.zeros(6)
        step[axis] = 1e-4
        ends = [pose.model.displaced(sign * step).ground_point(*pixel) for sign in (1, -1)]
        assert ends[0] is not None
        assert ends[1] is not None
        columns.append((ends[0] - ends[1]) / 2e-4)
    slopes = np.stack(columns, 1)
    cov: np.ndarray = slopes @ pose.cov @ slopes.T
    return cov
