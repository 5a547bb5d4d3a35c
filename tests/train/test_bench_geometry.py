"""The bench that asks whether geometry helps: finds what is there, and refuses what cannot show."""

import geometry
import numpy as np
import pytest
import torch

from skyreid.contract.errors import InputError


def site(people: int, shift: float, seed: int = 0, noise: float = 0.3) -> geometry.Rows:
    """One drone and one street camera; how steeply the drone looks turns a crop's features."""
    random = np.random.default_rng(seed)
    identity = random.normal(size=(people, 6)).astype(np.float32)
    whose = np.tile(np.repeat(np.arange(people), 4), 2)
    cameras = np.repeat([1, 6], 4 * people)
    steep = np.where(cameras == 1, random.integers(0, 2, len(whose)), 0)
    found = identity[whose] + noise * random.normal(size=(len(whose), 6)).astype(np.float32)
    found = found * np.where(steep[:, None] == 1, 1 - shift * (np.arange(6) % 2), 1)
    told = np.stack([cameras == 1, steep, steep, steep], 1).astype(np.float32)
    found /= np.linalg.norm(found, axis=1, keepdims=True)
    return geometry.Rows(
        found.astype(np.float32), whose, whose // 2, cameras, cameras == 1, told, {1: "25 m"}
    )  # fmt: skip


def scores(
    train: geometry.Rows, test: geometry.Rows
) -> dict[str, list[tuple[geometry.Floats, geometry.Floats]]]:
    made: dict[str, list[tuple[geometry.Floats, geometry.Floats]]] = {}
    for arm in geometry.ARMS:
        head = geometry.trained(train, arm, 0, steps=300)
        with torch.no_grad():
            found = head(torch.from_numpy(test.found), geometry.heard(test, arm)).numpy()
        made[arm] = [geometry.searched(test, found)[:2]]
    return made


def test_who_is_told_what_turns_the_features_misses_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(geometry, "DRAWS", 20)
    train, test = site(60, 1.9), site(40, 1.9, seed=1)
    whole, drone = geometry.table(test, scores(train, test))
    assert whole["fnir"]["geometry"] < whole["fnir"]["nothing"] - 0.1
    assert whole["difference"]["geometry"][2] < 0
    assert (drone["drone"], drone["probes"], drone["people"]) == ("25 m", 160, 40)


def test_nobody_of_the_own_family_is_a_stranger_or_a_rival() -> None:
    test = site(6, 0.0, noise=0.01)
    mated, stranger, asked = geometry.searched(test, test.found)
    shown = test.cameras == 6
    for row, best in zip(asked.tolist(), stranger.tolist(), strict=True):
        others = {int(p) for p in test.people[shown & (test.families != test.families[row])]}
        assert test.people[row] not in others
        assert len(others) == 4
        assert best < 0.99
    assert mated.min() > 0.9


@pytest.mark.parametrize("told", [2.0, -2.0])
def test_a_baseline_that_misses_everybody_or_nobody_is_refused(told: float) -> None:
    test = site(6, 0.0)
    count = int(test.aerial.sum())
    mated, stranger = np.full(count, told, np.float32), np.zeros(count, np.float32)
    with pytest.raises(InputError, match="no difference can show"):
        geometry.table(test, {arm: [(mated, stranger)] for arm in geometry.ARMS})
