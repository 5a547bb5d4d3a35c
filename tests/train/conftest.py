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


@pytest.fixture(scope="session")
def fitted_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of random weights that was fitted on nobody."""
    import torch

    from skyreid.contract.input_spec import InputSpec
    from skyreid.train import checkpoint
    from skyreid.train.models import variants

    path = tmp_path_factory.mktemp("fitted") / "tiny.safetensors"
    torch.manual_seed(0)
    config = variants.variant(
        "vit-tiny", height=32, width=16, people=2, trunk={"depth": 1, "dim": 48}
    )
    checkpoint.save(
        path,
        kind="embedder",
        config={**config, "fitted": [], "held_out": []},
        state=variants.construct(config).state_dict(),
        input_spec=InputSpec(height=32, width=16),
    )
    return path
