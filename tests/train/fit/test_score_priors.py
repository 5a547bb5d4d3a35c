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
    crops = Embedded(rows.astype(np.float32), people, cameras, cameras <= 5)
    # Without colours everybody looks 60 degrees off.
    turned = np.radians(degrees + 60)
    grey = np.stack([np.cos(turned), np.sin(turned)], 1).astype(np.float32)
    found = measure(crops, Embedded(grey, people, cameras, cameras <= 5))
    # A single ground camera has no pair.
    assert set(found) == {
        views + of
        for views in ("aerial-aerial", "aerial-ground")
        for of in ("", "/colour-grey", "/grey-grey")
    }
    across = found["aerial-ground"]
    assert across["pairs"] == 4
    # The two crops at -30 and 30 degrees aggregate to 0, so the same person has cosine 1.
    assert across["same_mean"] == pytest.approx(1, abs=1e-6)
    assert across["different_mean"] == pytest.approx(0, abs=1e-6)
    assert found["aerial-aerial"]["pairs"] == 2
    mixed, both = found["aerial-ground/colour-grey"], found["aerial-ground/grey-grey"]
    assert mixed["pairs"] == 8  # the one in colour may be either
    assert mixed["same_mean"] == pytest.approx(0.5, abs=1e-6)
    assert mixed["different_mean"] == pytest.approx(0.0, abs=1e-6)  # 150 and 30 degrees
    assert both == pytest.approx(across, abs=1e-6)
