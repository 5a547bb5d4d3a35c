"""Random weights under the names that others publish theirs, and their conversion."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from skyreid.train import checkpoint
from skyreid.train.authors import convert
from skyreid.train.models import variants

DIM, DEPTH = 48, 2
TINY: dict[str, Any] = {"dim": DIM, "depth": DEPTH, "heads": 3}
State = dict[str, Tensor]


def timm(dim: int = DIM, depth: int = DEPTH, side: int = 14) -> State:
    """Random tensors under timm's names for a ViT of patch 16."""
    rng = torch.Generator().manual_seed(3)
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, dim),
        "pos_embed": (1, 1 + side * side, dim),
        "patch_embed.proj.weight": (dim, 3, 16, 16),
        "patch_embed.proj.bias": (dim,),
        "norm.weight": (dim,),
        "norm.bias": (dim,),
        "head.weight": (7, dim),
        "head.bias": (7,),
    }
    for block in range(depth):
        for name, rows, columns in (
            ("attn.qkv", 3 * dim, dim),
            ("attn.proj", dim, dim),
            ("mlp.fc1", 4 * dim, dim),
            ("mlp.fc2", dim, 4 * dim),
        ):
            shapes[f"blocks.{block}.{name}.weight"] = (rows, columns)
            shapes[f"blocks.{block}.{name}.bias"] = (rows,)
        for name in ("norm1", "norm2"):
            shapes[f"blocks.{block}.{name}.weight"] = (dim,)
            shapes[f"blocks.{block}.{name}.bias"] = (dim,)
    return {key: torch.randn(shape, generator=rng) for key, shape in shapes.items()}


def clip() -> State:
    """An image encoder of our own under OpenAI's names, at a grid of 14 x 14, and a text side."""
    rng = torch.Generator().manual_seed(5)
    state = {
        "visual." + key.removeprefix("image_encoder."): torch.randn(value.shape, generator=rng)
        for key, value in network_state("clip-reid-tiny").items()
        if key.startswith("image_encoder.")
    }
    state["visual.positional_embedding"] = torch.randn(197, DIM, generator=rng)
    return state | {"token_embedding.weight": torch.ones(3, 4), "logit_scale": torch.ones(())}


def network_state(variant: str, people: int = 5, **trunk: Any) -> State:
    """A fresh network's entries at the tiny size."""
    size = {name: trunk.pop(name, default) for name, default in (("height", 64), ("width", 32))}
    config = variants.variant(variant, **size, people=people, trunk=TINY | trunk)
    torch.manual_seed(1)
    state: State = variants.construct(config).state_dict()
    return state


def written(path: Path, state: State, *, wrap: str | None = None) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({wrap: state, "epoch": 9} if wrap else state, path)
    return path


def converted(source: Path, variant: str, **kwargs: Any) -> tuple[convert.Report, State]:
    out = source.with_name("out.safetensors")
    trunk = TINY | kwargs.pop("trunk", {})
    size = {"height": 64, "width": 32} | kwargs
    report = convert.convert(source, variant, out, trunk=trunk, **size)
    return report, checkpoint.load(out).state
