import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from skyreid.contract.errors import SettingsError
from skyreid.train.models import variants
from skyreid.train.models.vit import PatchEmbed, TrunkConfig

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
        (TrunkConfig(height=256, width=128, stride=[12, 10]), (21, 12)),
        (TrunkConfig(height=128, width=64, stem="conv"), (8, 4)),
        (TrunkConfig(height=128, width=64, stem="conv", stride=8), (16, 8)),
    ],
)
def test_overlapping_patches_and_the_conv_stem_make_the_expected_grid(
    config: TrunkConfig, grid: tuple[int, int]
) -> None:
    assert config.grid() == grid


def test_tokens_lie_apart_as_the_stride_says_by_rows_and_by_columns() -> None:
    torch.manual_seed(0)
    patches = PatchEmbed(TrunkConfig(height=40, width=36, stride=[12, 10], dim=8, heads=1))
    images = torch.randn(1, 3, 40, 36)
    tokens = patches(images)
    assert tokens.shape == (1, 9, 8)
    corner = images[:, :, 12:28, 20:36]  # of the middle row, last column
    torch.testing.assert_close(tokens[:, 5], patches.proj(corner)[:, :, 0, 0])


@pytest.mark.parametrize(
    ("trunk", "said"),
    [
        ({"height": 130, "stem": "conv"}, "stride 16 does not divide 130x64; choose a multiple"),
        ({"stem": "conv", "stride": 12}, "power of two as stride, not 12x12"),
        ({"stem": "conv", "stride": [8, 4]}, "power of two as stride, not 8x4"),
        ({"stem": "convolutional"}, "stem: .*got 'convolutional'"),
        ({"heads": 5}, "dim 192 is not divisible by 5 heads"),
        ({"patch": 65}, "a picture of 128x64 has no patch of 65 pixels"),
        ({"stride": 0}, "stride.* 1 .got 0"),
        ({"stride": "12"}, "stride: .*got '12'"),
        ({"depth": 0}, "depth: .*got 0"),
        ({"depth": 4.5}, "depth: .*got 4.5"),
        ({"drop_path": 1.0}, "drop_path: .*got 1.0"),
        ({"deepness": 4}, "deepness: unknown key"),
    ],
)
def test_a_trunk_that_cannot_be_built_is_refused_by_name(trunk: dict[str, Any], said: str) -> None:
    config = variants.variant("vdt-tiny", height=128, width=64, people=4)
    with pytest.raises(SettingsError, match=f"^model.trunk: .*{said}"):
        variants.construct({**config, "trunk": {**config["trunk"], **trunk}})


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
