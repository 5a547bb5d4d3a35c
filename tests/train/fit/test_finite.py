from pathlib import Path

import numpy as np
import pytest
import torch

from skyreid.train import checkpoint, recipe
from skyreid.train.__main__ import main
from skyreid.train.data import catalogue
from skyreid.train.data.records import joined
from skyreid.train.fit import steps
from skyreid.train.fit.steps import BEST, BROKEN, LAST, STATE
from skyreid.train.models.vdt import Vdt

RECIPE = """
[model]
variant = "vdt-tiny"
trunk = { depth = 2, dim = 48 }
[input]
height = 32
width = 16
[batch]
people = 4
crops = 4
[run]
steps = 9
held_out_people = 2
evaluate_every = 3
PRECISION
"""


def run(tree: Path, folder: Path, precision: str = "fp32") -> int:
    (folder / "recipe.toml").write_text(RECIPE.replace("PRECISION", f'precision = "{precision}"'))
    return main(
        ["fit", str(folder / "recipe.toml"), "--data", str(tree), "--out", str(folder / "out"),
         "--device", "cpu"]
    )  # fmt: skip


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_batch_and_the_checkpoints(
    wrong: float, tiny_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    judge, steps, kept = Vdt.judge, [], {}

    def spoilt(self: Vdt, *arguments: torch.Tensor) -> dict[str, torch.Tensor]:
        steps.append(1)
        terms = judge(self, *arguments)
        if len(steps) == 5:
            terms["triplet"] = terms["triplet"] * wrong
            kept.update({p.name: p.read_bytes() for p in (tmp_path / "out").glob("*.safetensors")})
        return terms

    monkeypatch.setattr(Vdt, "judge", spoilt)
    assert run(tiny_tree, tmp_path) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    path = tmp_path / "out" / BROKEN
    assert f"step 5: triplet is {wrong}" in said
    assert f"its 16 pictures are in {path}" in said
    assert kept.keys() == {BEST, LAST, STATE}
    for name, content in kept.items():
        assert (tmp_path / "out" / name).read_bytes() == content

    broken = np.load(path)  # without pickles
    assert int(broken["step"]) == 5
    assert broken["images"].shape == (16, 3, 32, 16)
    values = dict(zip(broken["terms"].tolist(), broken["values"].tolist(), strict=True))
    assert not np.isfinite(values["triplet"])
    assert np.isfinite(values["identity"])
    # The paths are those of the indices, whose people are as listed.
    records = joined([catalogue.open(tiny_tree).train()]).records
    held_out = set(checkpoint.load(tmp_path / "out" / BEST).config["held_out"])
    left = [r for r in records if r.person not in held_out]
    assert [str(left[i].path) for i in broken["index"]] == broken["paths"].tolist()
    names = sorted({r.person for r in left})
    assert [names.index(left[i].person) for i in broken["index"]] == broken["people"].tolist()

    # Given again, it goes on behind the last state and, now that nothing is wrong, to the end.
    assert run(tiny_tree, tmp_path) == 0
    assert checkpoint.load(tmp_path / "out" / LAST).config["step"] == 9


def test_a_gradient_that_is_no_number_stops_the_run_by_that_name(
    tiny_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    judge = Vdt.judge

    def spoilt(self: Vdt, *arguments: torch.Tensor) -> dict[str, torch.Tensor]:
        zero = self.heads.weight[0, 0] * 0
        return judge(self, *arguments) | {"root": zero.abs().sqrt()}  # slope 0 / 0

    monkeypatch.setattr(Vdt, "judge", spoilt)
    assert run(tiny_tree, tmp_path) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "step 1: gradient norm is nan" in said
    assert "root is" not in said
    assert not (tmp_path / "out" / BEST).exists()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_in_half_precision_the_trunk_alone_is_halved(
    precision: str, tiny_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    see, judge = Vdt.see, Vdt.judge
    multiplied: set[torch.dtype] = set()
    judged: set[torch.dtype] = set()

    def watched_see(
        self: Vdt, images: torch.Tensor, views: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        hook = self.backbone.blocks[0].mlp.fc1.register_forward_hook(
            lambda module, inputs, output: multiplied.add(output.dtype)
        )
        found = see(self, images, views)
        hook.remove()
        return found

    def watched_judge(self: Vdt, seen: dict[str, torch.Tensor], *others: torch.Tensor) -> object:
        assert not torch.is_autocast_enabled("cpu")
        judged.update(value.dtype for value in seen.values())
        return judge(self, seen, *others)

    monkeypatch.setattr(Vdt, "see", watched_see)
    monkeypatch.setattr(Vdt, "judge", watched_judge)
    assert run(tiny_tree, tmp_path, precision) == 0
    assert multiplied == {torch.bfloat16 if precision == "bf16" else torch.float16}
    assert judged == {torch.float32}
    last = checkpoint.load(tmp_path / "out" / LAST)
    assert all(v.dtype in (torch.float32, torch.int64) for v in last.state.values())


def test_in_fp16_an_infinite_gradient_halves_the_scale_and_the_step_is_left_out(
    tiny_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = steps.precision.scaler
    scalers = []

    def enormous(device: torch.device, precision: str) -> torch.amp.GradScaler:
        scalers.append(torch.amp.GradScaler(device.type, init_scale=2.0**40))
        assert build(device, precision).is_enabled()
        return scalers[-1]

    monkeypatch.setattr(steps.precision, "scaler", enormous)
    weights = []
    update = steps.Average.update

    def watched(average: steps.Average, network: torch.nn.Module) -> None:
        weights.append(network.backbone.blocks[0].mlp.fc1.weight.detach().clone())
        update(average, network)

    monkeypatch.setattr(steps.Average, "update", watched)
    assert run(tiny_tree, tmp_path, "fp16") == 0
    assert scalers[0].get_scale() < 2.0**40
    assert torch.equal(weights[0], weights[1])


def test_the_state_of_a_run_holds_its_precision(tiny_tree: Path, tmp_path: Path) -> None:
    assert run(tiny_tree, tmp_path, "bf16") == 0
    assert run(tiny_tree, tmp_path, "fp32") == 2  # another recipe in the same folder
    assert recipe.read(tmp_path / "recipe.toml").run.precision == "fp32"
