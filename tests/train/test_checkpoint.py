import resource
from pathlib import Path

import pytest
import torch

from skyreid.contract.errors import InputError
from skyreid.contract.input_spec import InputSpec
from skyreid.train import checkpoint


def save(path: Path, size: int) -> None:
    checkpoint.save(
        path,
        kind="method",
        config={},
        state={"weight": torch.zeros(size)},
        input_spec=InputSpec(height=8, width=4),
    )


def test_a_checkpoint_that_does_not_fit_leaves_the_old_one(tmp_path: Path) -> None:
    """Safetensors says so with an error of its own, which is no OSError."""
    path = tmp_path / "x.safetensors"
    save(path, 4)
    old = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(InputError, match=r"cannot write .*/x\.safetensors: .*too large"):
            save(path, 1 << 16)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]
