import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from skyreid.contract.errors import SettingsError
from skyreid.train.models import variants
from skyreid.train.models.vit import TrunkConfig

SEED = 11


def weights_of(shared: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("weights", shared / "parity" / "weights.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("fixture", "variant"), [("vit-base", "vit-base"), ("vdt", "vdt-base")])
def test_the_authors_state_dict_loads_strictly_and_gives_their_output(
    shared: Path, fixture: str, variant: str
) -> None:
    keys = json.loads((shared / "parity" / f"{fixture}.keys.json").read_text())
    values = weights_of(shared).state_dict(keys, SEED)
    network = variants.construct(
        variants.variant(variant, height=256, width=128, people=2500)
    ).eval()
    network.load_state_dict({key: torch.from_numpy(np.asarray(v)) for key, v in values.items()})
    recorded = np.load(shared / "parity" / f"{fixture}.seed{SEED}.npz")
    images = (torch.from_numpy(recorded["images"]).to(torch.float32) - 127.5) / 127.5
    with torch.inference_mode():
        found = network(images.permute(0, 3, 1, 2), torch.zeros(4, dtype=torch.int64)).numpy()
    np.testing.assert_allclose(found, recorded["embedding"], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "grid"),
    [
        (TrunkConfig(height=256, width=128), (16, 8)),
        (TrunkConfig(height=256, width=128, stride=12), (21, 10)),
        (TrunkConfig(height=128, width=64, stem="conv"), (8, 4)),
        (TrunkConfig(height=128, width=64, stem="conv", stride=8), (16, 8)),
    ],
)
def test_overlapping_patches_and_the_conv_stem_make_the_expected_grid(
    config: TrunkConfig, grid: tuple[int, int]
) -> None:
    assert config.grid() == grid


def test_a_conv_stem_refuses_a_picture_its_stride_does_not_divide() -> None:
    with pytest.raises(ValueError, match="130x64"):
        TrunkConfig(height=130, width=64, stem="conv").grid()


@pytest.mark.parametrize("name", ["vit-tiny", "vdt-tiny"])
def test_every_parameter_of_a_small_variant_gets_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    network = variants.construct(variants.variant(name, height=64, width=32, people=4))
    people = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    losses = network.losses(torch.randn(8, 3, 64, 32), people, people % 2)
    torch.autograd.backward(torch.stack(list(losses.values())).sum())
    still = [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert still == []
    assert not network.heads.bottleneck[0].bias.requires_grad


def test_an_unknown_variant_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SettingsError, match="vdt-tiny"):
        variants.variant("vdt-huge", height=128, width=64, people=2)
