import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from skyreid.contract.errors import PlatformError, SettingsError
from skyreid.train import checkpoint
from skyreid.train.fit import parallel
from skyreid.train.fit.parallel import ALONE, Crew
from skyreid.train.fit.steps import LAST
from skyreid.train.models.row_random import Chance, Share

STEPS = 16

RECIPE = f"""
[model]
variant = "METHOD-tiny"
trunk = {{ depth = 3, dim = 48, drop_path = 0.3, TRUNK }}
options = {{ OPTIONS }}
[input]
height = 32
width = 32
[batch]
people = 4
crops = 4
[optimiser]
warmup_steps = 4
[run]
steps = {STEPS}
held_out_people = 2
evaluate_every = 50
save_every = 50
precision = "PRECISION"
"""

RECIPES = {
    name: RECIPE.replace("METHOD", method)
    .replace("TRUNK", trunk)
    .replace("OPTIONS", options)
    .replace("PRECISION", "fp32")
    for name, (method, trunk, options) in {
        "vit": ("vit", 'stem = "conv"', ""),
        "vdt": ("vdt", 'stem = "conv"', ""),
        "dtst": ("dtst", "stride = 8", "k = 4, samples = 20, after_block = 0"),
        "secap": ("secap", "stride = 8", "prompts = 4"),
        "gsalign": ("gsalign", "stride = 8", "mask_weight = 1.0, angle_weight = 0.5"),
        "visa": ("visa", "stride = 8", "experts = 3, graph_top_k = 4, prompt_length = 2"),
    }.items()
}
RECIPES["clip-reid"] = (
    RECIPE.replace("METHOD", "clip-reid")
    .replace("drop_path = 0.3, TRUNK", "drop_path = 0.0")
    .replace("dim = 48", "dim = 64, heads = 1")
    .replace("OPTIONS", "text = false")
    .replace("PRECISION", "fp32")
)

# Trains every recipe of a folder as its environment says, alone or with others, and writes the
# terms of every step. In doubles: batch-hard mining chooses among pairs that are nearly equal, and
# in float32 another order of summation chooses another one now and then, which is no mistake of
# the crew's (seed 3 of vdt: the norm 4 % apart). What is left to differ in doubles would be.
SCRIPT = """
import json, sys
from pathlib import Path
import torch
torch.set_default_dtype(torch.float64)
torch.Tensor.float = torch.Tensor.double
from skyreid.train import recipe
from skyreid.train.data import cargo
from skyreid.train.fit import finite, parallel, setup

recipes, tree, out = map(Path, sys.argv[1:])
records = cargo.read(tree, "train").records
check = finite.check
with parallel.crew("cpu") as crew:
    curves = {}
    for path in sorted(recipes.glob("*.toml")):
        curve = curves[path.stem] = []
        def kept(where, step, terms, norm, batch):
            found = {**terms, "norm": norm}
            curve.append({name: value.item() for name, value in found.items()})
            check(where, step, terms, norm, batch)
        finite.check = kept
        setup.fit(recipe.read(path), records, out / path.stem, crew=crew)
    (out / f"curves-{crew.rank}-of-{crew.size}.json").write_text(json.dumps(curves))
"""


@pytest.fixture(scope="module")
def runs(tiny_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Where one process and where two processes wrote."""
    folder = tmp_path_factory.mktemp("parallel")
    (folder / "script.py").write_text(SCRIPT)
    (folder / "recipes").mkdir()
    for name, text in RECIPES.items():
        (folder / "recipes" / f"{name}.toml").write_text(text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for out, rank, size in (("one", 0, 1), ("two", 0, 2), ("two", 1, 2)):
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "OMP_NUM_THREADS": "1",
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        (folder / out).mkdir(exist_ok=True)
        arguments = [str(folder / "script.py"), str(folder / "recipes"), str(tiny_tree)]
        started.append(
            subprocess.Popen(
                [sys.executable, *arguments, str(folder / out)],
                env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
    try:
        said = [process.communicate()[1].decode() for process in started]
    finally:
        for process in started:
            process.kill()  # one that waits for another that failed
    assert [process.returncode for process in started] == [0, 0, 0], "\n".join(said)[-5000:]
    return folder / "one", folder / "two"


@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_have_the_loss_curve_of_one(runs: tuple[Path, Path], name: str) -> None:
    alone, *both = (
        json.loads(path.read_text())[name]
        for path in (
            runs[0] / "curves-0-of-1.json",
            runs[1] / "curves-0-of-2.json",
            runs[1] / "curves-1-of-2.json",
        )
    )
    assert len(alone) == STEPS
    for curve in both:
        for step, (one, two) in enumerate(zip(alone, curve, strict=True), start=1):
            assert one.keys() == two.keys()
            for term, value in one.items():
                allowed = 1e-8 * max(1.0, abs(value))
                assert two[term] == pytest.approx(value, abs=allowed), (step, term)
    # A curve that moves: a comparison of constants would hold whatever was wrong.
    assert np.ptp([step["identity"] for step in alone]) > 0.05


@pytest.mark.parametrize("name", RECIPES)
def test_two_processes_end_with_the_weights_of_one(runs: tuple[Path, Path], name: str) -> None:
    one, two = (checkpoint.load(folder / name / LAST) for folder in runs)
    assert one.config == two.config
    assert one.state.keys() == two.state.keys()
    for key, values in one.state.items():
        torch.testing.assert_close(two.state[key], values, atol=1e-6, rtol=1e-6, msg=key)


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_without_torchrun_one_process_trains_alone(
    device: parallel.Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with parallel.crew(device) as crew:
        assert crew == ALONE
        assert crew.rows(16) == slice(0, 16)
        network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        crew.join_up(network)
        assert type(network[1]) is nn.BatchNorm2d
        seen = {"whole": torch.rand(3, 2)}
        assert crew.gather(seen)["whole"] is seen["whole"]


def test_a_gpu_that_is_not_there_is_asked_for_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with (
        pytest.raises(PlatformError, match="needs 2 GPUs and torch sees 1"),
        parallel.crew("cuda"),
    ):
        pass


def test_a_batch_that_cannot_be_cut_evenly_is_refused() -> None:
    crew = Crew(1, 3, torch.device("cpu"))
    assert crew.rows(12) == slice(4, 8)
    with pytest.raises(SettingsError, match="a batch of 16 cannot be cut into 3"):
        crew.rows(16)


@pytest.mark.parametrize("draw", ["bernoulli", "normal"])
def test_the_parts_of_a_batch_draw_what_the_whole_draws(draw: str) -> None:
    def drawn(share: Share) -> torch.Tensor:
        torch.manual_seed(5)
        module = Chance()
        module.share = share
        shape = (12 // share.parts, 3)
        if draw == "normal":
            return module.normal(torch.empty(0), shape)
        return module.bernoulli(torch.empty(0), shape, 0.5)

    whole = drawn(Share())
    assert whole.shape == (12, 3)
    assert len(whole.unique()) > 1
    assert torch.equal(torch.cat([drawn(Share(part, 3)) for part in range(3)]), whole)
