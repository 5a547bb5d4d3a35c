from pathlib import Path

import pytest
import torch

from skyreid.train import checkpoint
from skyreid.train.detector.model import INPUT_SPEC, DetectorConfig, PersonDetector


@pytest.fixture(scope="session")
def detector_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny detector with random weights and statistics."""
    torch.manual_seed(0)
    config = DetectorConfig(stem=4, quarter=4, eighth=8, sixteenth=8, dilations=(2,))
    model = PersonDetector(config)
    model.train()(torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8))
    with torch.no_grad():  # fresh weights answer .01 everywhere: make them differ
        model.head.weight[0] *= 200
        model.head.bias[0] = 0
    path = tmp_path_factory.mktemp("detector") / "detector.safetensors"
    checkpoint.save(
        path,
        kind="detector",
        config={**config.to_mapping(), "score_min": 0.34},
        state=model.state_dict(),
        input_spec=INPUT_SPEC,
    )
    return path
