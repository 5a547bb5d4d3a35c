"""How well the lag of telemetry is seen: a row per flight and quality.

    python bench/lag.py                 # 6 draws each, 24 s of flight: a minute of CPU time

Pictures of a ground of spots by a drone that hovers, circles and crosses, eight a second; telemetry
with drawn errors (`synth/telemetry.py`), older than its time stamps by the lag of its level.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from ground_pictures import seen, spots

from skyreid.contract.camera import CameraModel
from skyreid.contract.rotation import turn
from skyreid.contract.sighting import Clock
from skyreid.edge.telemetry.agreement import Comparison
from skyreid.edge.video.frame import Frame
from skyreid.edge.video.motion import PictureMotion
from skyreid.synth.options import FlightPath
from skyreid.synth.rig import flown, model_of, station
from skyreid.synth.telemetry import LEVELS

FPS, SECONDS, SIZE = 8, 24, (640, 360)
LAGS_MS = {"exact": 300.0, "rtk": 80.0, "gnss": 240.0, "poor": 330.0}
PATHS: tuple[FlightPath, ...] = ("hover", "orbit", "transit")
NOISE = 0.1


def model_at(time_s: float, path: FlightPath) -> CameraModel:
    """A drone at 22 m that looks 50 degrees down."""
    return model_of(flown(station(2), 2, 7, time_s, path), *SIZE)


def said(path: FlightPath, level: str, seed: int) -> list[CameraModel]:
    """What telemetry says at each frame."""
    errors, rng = LEVELS[level], np.random.default_rng([seed, 5])
    bias, models = rng.normal(size=6), []
    steady = bias[:3] * [errors.position_bias_m, errors.position_bias_m, errors.height_bias_m]
    for index in range(SECONDS * FPS):
        old, noise = model_at(index / FPS - LAGS_MS[level] / 1e3, path), rng.normal(size=6)
        place = old.position + steady + errors.position_noise_m * noise[:3]
        angles = errors.attitude_bias_deg * bias[3:] + errors.attitude_noise_deg * noise[3:]
        rotation = turn(np.radians(angles)) @ old.rotation
        models.append(CameraModel(old.matrix, rotation, -rotation @ place, *SIZE))
    return models


def main() -> None:
    """Fly, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=6)
    draws = parser.parse_args().draws
    ground = spots()
    times = [10**18 + round(index * 1e9 / FPS) for index in range(SECONDS * FPS)]
    print("flight   quality  lag ms  seen    median off ms  off / stated (rms)")
    for path in PATHS:
        motion, compared, spent_s = PictureMotion(), Comparison(), 0.0
        for index, at_ns in enumerate(times):
            picture = seen(ground, model_at(index / FPS, path))
            frame = Frame(index + 1, at_ns, Clock.FILE, 0, *SIZE, picture=picture)
            began_s = time.process_time()
            found = motion.step(frame)
            spent_s += time.process_time() - began_s
            if found is not None:
                compared.add(at_ns, found[0], anew=found[1])
        for level, lag_ms in LAGS_MS.items():
            off, ratio = [], []
            for seed in range(draws):
                agreed = compared.fit(times, said(path, level, seed), NOISE)
                if agreed is not None and agreed.lag_s is not None:
                    off.append(1e3 * agreed.lag_s - lag_ms)
                    ratio.append(off[-1] / (1e3 * agreed.error_s))
            median = f"{np.median(np.abs(off)):13.0f}" if off else " " * 12 + "-"
            rms = f"{np.sqrt(np.mean(np.square(ratio))):18.1f}" if off else " " * 17 + "-"
            print(f"{path:8} {level:7}  {lag_ms:6.0f}  {len(off):2}/{draws:2}  {median}  {rms}")
        print(f"{path:8} {1e3 * spent_s / len(times):.1f} ms of CPU time a picture of {SIZE[0]}")


if __name__ == "__main__":
    main()
