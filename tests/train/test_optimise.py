import pytest

from skyreid.train.optimise import learning_rate
from skyreid.train.recipe import OptimiserSection


def test_the_learning_rate_warms_up_by_step_and_falls_to_zero_by_share() -> None:
    section = OptimiserSection(learning_rate=1.0, warmup_steps=10)
    assert learning_rate(section, 5, 0.0) == pytest.approx(0.5)
    assert learning_rate(section, 10, 0.0) == pytest.approx(1.0)
    assert learning_rate(section, 500, 0.5) == pytest.approx(0.5)
    assert learning_rate(section, 1000, 1.0) == pytest.approx(0.0)
