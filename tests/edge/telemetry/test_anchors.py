import numpy as np
import pytest
from flights import model_at

from skyreid.contract.errors import InputError
from skyreid.edge.telemetry.anchors import Anchor, fit


def anchors(
    by: np.ndarray, times_s: tuple[float, ...], count: int, noise_px: float, seed: int = 1
) -> list[Anchor]:
    """Places found in pictures of a camera that is displaced from what is said of it."""
    rng = np.random.default_rng(seed)
    out = []
    for number in range(count):
        said = model_at(times_s[number % len(times_s)])
        point = np.array([*rng.uniform(-5, 5, 2), 0.0])
        seen = said.displaced(by).project(point[None])[0][0] + rng.normal(0, noise_px, 2)
        out.append(Anchor(said, (float(seen[0]), float(seen[1])), point))
    return out


def test_three_angles_come_out_of_places_found_to_two_pixels() -> None:
    by = np.array([0, 0, 0, *np.radians([2.0, -3.0, 1.5])])
    for seed in range(10):
        found = fit(anchors(by, (0.0, 3.0), 8, 2.0, seed), [0, 0, 0, None, None, None], 2.0)
        off = found.by - by
        assert (off[:3] == 0).all()
        sigma = np.sqrt(np.diag(found.cov)[3:])
        assert np.abs(off[3:] / sigma).max() < 4
        assert np.degrees(np.abs(off[3:5])).max() < 0.4  # roll needs places far from each other
        assert np.sqrt((found.off_px**2).mean()) < 4


def test_what_is_believed_is_kept_where_places_do_not_say_otherwise() -> None:
    """One place: two of six directions are known now, the others as before."""
    by = np.array([1.5, -1.0, 1.0, *np.radians([0.8, -0.6, 0.5])])
    turn = np.radians(1.0)
    believed = [1.0, 1.0, 1.5, turn, turn, turn]
    found = fit(anchors(by, (0.0,), 1, 0.0), believed, 2.0)
    assert np.abs(found.off_px).max() < 1.0
    before = np.diag(np.array(believed) ** 2)
    assert np.linalg.eigvalsh(before - found.cov).min() > -1e-9
    held = []
    rng = np.random.default_rng(3)
    for seed in range(200):
        by = rng.normal(0, believed)
        found = fit(anchors(by, (0.0,), 3, 2.0, seed), believed, 2.0)
        off = found.by - by
        held.append(off @ np.linalg.solve(found.cov, off) < 10.64)  # 90 % of six
    assert 0.83 <= np.mean(held) <= 0.97


def test_places_that_do_not_say_it_are_refused() -> None:
    one = anchors(np.zeros(6), (0.0,), 1, 0.0)
    with pytest.raises(InputError, match="two or more"):
        fit(one, [0, 0, 0, None, None, None], 2.0)
    behind = Anchor(
        one[0].model, one[0].pixel, one[0].model.position - 5 * one[0].model.rotation[2]
    )
    with pytest.raises(InputError, match="behind the camera"):
        fit([behind], [0, 0, 0, 0.1, 0.1, 0.1], 2.0)
