import numpy as np
import pytest

from skyreid.train.evaluate.metrics import Embedded
from skyreid.train.fit.score_priors import measure


def test_priors_compare_tracklet_means_across_cameras_only() -> None:
    """Two people, cameras 1, 2 (aerial) and 6; person 0 at 0 degrees, person 1 at 90."""
    people = np.array([0, 0, 0, 0, 1, 1, 1])
    cameras = np.array([1, 1, 2, 6, 1, 2, 6])
    degrees = np.array([-30.0, 30.0, 0.0, 0.0, 90.0, 90.0, 90.0])
    rows = np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], 1)
    found = measure(Embedded(rows.astype(np.float32), people, cameras, cameras <= 5))
    assert set(found) == {"aerial-aerial", "aerial-ground"}  # a single ground camera has no pair
    across = found["aerial-ground"]
    assert across["pairs"] == 4
    # The two crops at -30 and 30 degrees aggregate to 0, so the same person has cosine 1.
    assert across["same_mean"] == pytest.approx(1, abs=1e-6)
    assert across["different_mean"] == pytest.approx(0, abs=1e-6)
    assert found["aerial-aerial"]["pairs"] == 2
