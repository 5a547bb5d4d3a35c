from pathlib import Path

import cv2
import numpy as np
import pytest

COLOURS = [
    (220, 40, 40),
    (40, 220, 40),
    (40, 40, 220),
    (220, 220, 40),
    (40, 220, 220),
    (200, 40, 200),
]


@pytest.fixture(scope="session")
def tiny_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CARGO-shaped tree of six people in flat colours, two aerial and two ground cameras."""
    root = tmp_path_factory.mktemp("tree")
    rng = np.random.default_rng(0)
    for split, shots in (("train", 2), ("query", 1), ("gallery", 2)):
        for camera in (1, 2, 6, 7):
            folder = root / split / f"Cam{camera}"
            folder.mkdir(parents=True)
            for person, colour in enumerate(COLOURS, start=1):
                for shot in range(shots):
                    picture = np.clip(colour + rng.normal(0, 15, (40, 20, 3)), 0, 255)
                    name = f"Cam{camera}_day_{person:04d}_{shot}.jpg"
                    assert cv2.imwrite(str(folder / name), picture[..., ::-1].astype(np.uint8))
    return root
