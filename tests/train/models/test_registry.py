"""A method that no other file has heard of: trained, evaluated, converted and exported by name."""

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skyreid.bundle.embedder import Embedder
from skyreid.contract.sighting import View
from skyreid.export.__main__ import main as skyreid_export
from skyreid.train import checkpoint
from skyreid.train.__main__ import main as skyreid_train
from skyreid.train.evaluate.embedding import with_torch
from skyreid.train.models import registry, variants
from skyreid.train.models.heads import EmbeddingHead, FoldedNeck
from skyreid.train.models.losses import LossOptions, batch_hard_triplet, cross_entropy
from skyreid.train.models.method import Method
from skyreid.train.models.vit import TrunkConfig
from skyreid.train.options import Options

RECIPE = """
[model]
variant = "toy-tiny"
trunk = { dim = 24, heads = 3 }
options = { cells = 4 }
[input]
height = 32
width = 16
[batch]
people = 4
crops = 4
[optimiser]
warmup_steps = 1
[run]
steps = 2
held_out_people = 2
evaluate_every = 2
"""


class ToyOptions(Options):
    cells: int = 2
    pooled: Literal["pool", "mean"] = "pool"


class ToyBody(nn.Module):
    def __init__(self, config: TrunkConfig, options: ToyOptions) -> None:
        super().__init__()
        self.cells, self.pooled = options.cells, options.pooled
        self.project = nn.Linear(3 * options.cells**2, config.dim)

    def forward(self, images: Tensor) -> Tensor:
        if self.pooled == "mean":
            rows, columns = (images.shape[2] // self.cells, images.shape[3] // self.cells)
            small = images.reshape(-1, 3, self.cells, rows, self.cells, columns).mean((3, 5))
        else:
            small = nn.functional.adaptive_avg_pool2d(images, self.cells)
        return self.project(small.flatten(1))


class Toy(Method):
    """The mean colours of a few cells, through one linear map."""

    def __init__(
        self,
        config: TrunkConfig,
        *,
        people: int,
        options: ToyOptions | None = None,
        loss: LossOptions | None = None,
    ) -> None:
        super().__init__()
        self.toy_body = ToyBody(config, options or ToyOptions())
        self.heads = EmbeddingHead(config.dim, people)

    def forward(self, images: Tensor, views: Tensor) -> Tensor:
        return self.heads.embed(self.toy_body(images))

    def see(self, images: Tensor, views: Tensor) -> dict[str, Tensor]:
        return {"feature": self.toy_body(images)}

    def judge(self, seen: Mapping[str, Tensor], people: Tensor, views: Tensor) -> dict[str, Tensor]:
        feature = seen["feature"]
        return {
            "identity": cross_entropy(self.heads(feature), people, 0.0),
            "triplet": batch_hard_triplet(feature, people),
        }

    def serving(self, view: str | None) -> nn.Module:
        return nn.Sequential(self.toy_body, FoldedNeck(self.heads)).eval().requires_grad_(False)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_METHODS", registry.methods())  # a copy that is thrown away
    registry.register(
        "toy",
        trunk={"drop_path": 0.0},
        options=ToyOptions,
        form=("pooled",),
        marks=("toy_body.",),
        sizes=lambda state: {"cells": int((state["toy_body.project.weight"].shape[1] // 3) ** 0.5)},
    )(Toy)


@pytest.fixture
def trained(toy: None, tiny_tree: Path, tmp_path: Path) -> Path:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    words = ["fit", str(tmp_path / "recipe.toml"), "--data", str(tiny_tree)]
    assert skyreid_train([*words, "--out", str(tmp_path / "out")]) == 0
    return tmp_path / "out" / "best.safetensors"


def test_a_method_from_outside_is_trained_evaluated_and_exported(
    trained: Path, tiny_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read = checkpoint.load(trained)
    assert (read.config["method"], read.config["options"]) == ("toy", {"cells": 4})
    assert variants.per_person(read.config) == {"heads.weight"}
    capsys.readouterr()
    assert skyreid_train(["evaluate", str(trained), "--data", str(tiny_tree), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["A->G"]["queries"] == 12
    out = tmp_path / "bundle"
    words = ["bundle", str(trained), "-o", str(out), "--view", "any", "--form", "pooled=mean"]
    assert skyreid_export(words) == 0
    graph = (out / "model.fp32.onnx").read_bytes()
    assert b"ReduceMean" in graph
    pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 16, 3), dtype=np.uint8)
    wanted = with_torch(read)(pictures, "aerial")
    served = Embedder([out], view=View.AERIAL)
    found = served.embed(pictures)
    served.close()
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_an_option_that_the_export_form_lacks_is_refused_in_one_line(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for pair, said in (
        ("cells=2", "--form cells: no option of the export form; that of toy has pooled"),
        ("pooled=twice", "pooled"),
    ):
        capsys.readouterr()
        words = ["bundle", str(trained), "-o", str(tmp_path / "b"), "--view", "any"]
        assert skyreid_export([*words, "--form", pair]) == 2
        assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "b").exists()


def test_its_authors_weights_are_recognised_and_their_sizes_read(toy: None, tmp_path: Path) -> None:
    config = variants.variant(
        "toy-tiny", height=32, width=16, people=5, trunk={"dim": 24}, options={"cells": 3}
    )
    state = variants.construct(config).state_dict()
    torch.save({"model": state}, tmp_path / "w.pth")
    words = ["convert", str(tmp_path / "w.pth"), "--to", "toy-tiny", "--trunk", "dim=24"]
    words += ["--height", "32", "--width", "16", "--out", str(tmp_path / "w.safetensors")]
    assert skyreid_train(words) == 0
    read = checkpoint.load(tmp_path / "w.safetensors")
    assert read.config["converted_from"] == "authors"
    assert (read.config["people"], read.config["options"]) == (5, {"cells": 3})
    assert all(torch.equal(read.state[key], value) for key, value in state.items())


@pytest.mark.parametrize("method", registry.methods())
def test_building_a_network_to_look_at_its_shapes_draws_nothing(method: str) -> None:
    before = torch.get_rng_state()
    config = variants.variant(f"{method}-tiny", height=256, width=128, people=3)
    rows = {"classifier.weight", "classifier_proj.weight"}
    if method != "clip-reid":
        rows = {"heads.weight"} | ({"local_heads.weight"} if method in ("secap", "visa") else set())
    assert variants.per_person(config) == rows
    assert torch.equal(torch.get_rng_state(), before)


def test_no_file_but_its_own_names_a_method(repository: Path) -> None:
    named = {
        f"{path.relative_to(repository)}: {node.value}"
        for room in ("train/skyreid/train", "export/skyreid/export")
        for path in (repository / room).rglob("*.py")
        if path.parent.name != "models"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in registry.methods()
    }
    assert named == set()
