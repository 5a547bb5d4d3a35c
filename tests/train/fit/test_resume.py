import itertools
import os
import re
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from skyreid.contract.errors import InputError, SettingsError
from skyreid.contract.files import FileLock
from skyreid.train import recipe
from skyreid.train.__main__ import main
from skyreid.train.data import cargo
from skyreid.train.data.sampler import PkSampler
from skyreid.train.fit import resume, setup, steps
from skyreid.train.fit.ema import Average
from skyreid.train.fit.resume import Parts, Progress
from skyreid.train.fit.steps import BEST, LAST, STATE
from skyreid.train.models import variants

RECIPE = """
[model]
variant = "vdt-tiny"
trunk = { depth = 2, dim = 48, drop_path = 0.2, stem = "conv" }
[input]
height = 32
width = 16
[batch]
people = 4
crops = 4
group = 2
group_after = 0.0
[optimiser]
warmup_steps = 1
[run]
steps = 25
held_out_people = 2
evaluate_every = 10
save_every = 4
"""

# Runs the command it is given, and kills itself with SIGKILL where the first argument says.
KILLED = """
import os, signal, sys
from contextlib import contextmanager
from skyreid.contract import files
from skyreid.train import checkpoint
from skyreid.train.fit.steps import STATE
from skyreid.train.__main__ import main

where, arguments = sys.argv[1], sys.argv[2:]

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

if where == "between state and checkpoint":
    checkpoint.save = die  # the state of step 10 lies there, and its best does not
elif where == "in the middle of a state":
    # Of step 24, the fourth from step 10 on: half of it is on disk, under its temporary name, and
    # the groups of look-alikes that began in step 20 are in the state before.
    replacing, states = files.replacing, []
    @contextmanager
    def half(path):
        if path.name == STATE:
            states.append(path)
        with replacing(path) as partial:
            yield partial
            if len(states) == 4:
                os.truncate(partial, partial.stat().st_size // 2)
                die()
    files.replacing = half
sys.exit(main(arguments))
"""


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def unbroken(recipe_file: Path, tiny_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken")
    assert main(["fit", str(recipe_file), "--data", str(tiny_tree), "--out", str(out)]) == 0
    return out


def test_a_run_killed_at_any_moment_ends_with_the_bytes_of_an_unbroken_one(
    unbroken: Path, recipe_file: Path, tiny_tree: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ["fit", str(recipe_file), "--data", str(tiny_tree), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    for where in ("between state and checkpoint", "in the middle of a state"):
        ended = subprocess.run(
            [sys.executable, str(script), where, *command], env=environment, capture_output=True
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert not (out / setup.SCORE_PRIORS).exists()
    assert main(command) == 0
    for name in (BEST, LAST, setup.SCORE_PRIORS):
        assert (out / name).read_bytes() == (unbroken / name).read_bytes(), name


def test_a_finished_run_given_again_ends_as_it_did(
    unbroken: Path, recipe_file: Path, tiny_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in unbroken.glob("*.safetensors")}
    monkeypatch.setattr(steps.optimise, "learning_rate", None)  # not one step is taken
    assert main(["fit", str(recipe_file), "--data", str(tiny_tree), "--out", str(unbroken)]) == 0
    for name in (BEST, LAST):
        assert (unbroken / name).read_bytes() == before[name]


def test_another_recipe_or_other_data_is_refused_in_one_line_that_names_it(
    unbroken: Path, recipe_file: Path, tiny_tree: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    before = {path.name: path.read_bytes() for path in unbroken.iterdir() if path.is_file()}
    other = tmp_path / "other.toml"
    other.write_text(RECIPE.replace("steps = 25", "steps = 26"))
    fewer = tmp_path / "data"
    for path in sorted((tiny_tree / "train").rglob("*.jpg"))[1:]:
        link = fewer / path.relative_to(tiny_tree)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    for split in ("query", "gallery"):
        (fewer / split).symlink_to(tiny_tree / split)
    start = unbroken / BEST
    for arguments, said in (
        ([str(other), "--data", str(tiny_tree)], "run.steps was 25 and is 26"),
        ([str(recipe_file), "--data", str(fewer)], "pictures was"),
        ([str(recipe_file), "--data", str(tiny_tree), "--start", str(start)], "--start names"),
    ):
        capsys.readouterr()
        assert main(["fit", *arguments, "--out", str(unbroken)]) == 2
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert said in line
        assert STATE in line
        assert "remove the file to begin anew" in line
    for name, content in before.items():
        assert (unbroken / name).read_bytes() == content, name


class Drawn:
    """What an embedder's batches are drawn from."""

    def __init__(self, seed: int) -> None:
        self.sampler = PkSampler(
            np.repeat(np.arange(3), 4), np.zeros(12, np.int64), people_per_batch=2,
            crops_per_person=2, balance_views=False, seed=seed,
        )  # fmt: skip
        self.random = torch.Generator().manual_seed(seed)

    def state(self) -> dict[str, object]:
        return {"sampler": self.sampler.state(), "random": self.random.get_state().tolist()}

    def restore(self, state: dict[str, object]) -> None:
        self.sampler.restore(state["sampler"])
        self.random.set_state(torch.tensor(state["random"], dtype=torch.uint8))


@pytest.mark.parametrize("kind", ["adamw", "sgd", "adam"])
def test_every_part_of_a_run_comes_back(kind: str, tmp_path: Path) -> None:
    def built(seed: int) -> Parts:
        torch.manual_seed(seed)
        config = variants.variant(
            "clip-reid-tiny",
            height=32,
            width=16,
            people=3,
            trunk={"depth": 1, "dim": 64, "heads": 1},
        )
        network = variants.construct(config)
        sections = {
            "adamw": recipe.AdamwSection(),
            "sgd": recipe.SgdSection(kind="sgd"),
            "adam": recipe.AdamSection(kind="adam"),
        }
        return Parts(
            network,
            Average(network, 0.9),
            steps.optimise.build(network, sections[kind]),
            torch.amp.GradScaler("cpu", init_scale=16.0 * (1 + seed)),
            Drawn(seed),
        )

    def stepped(parts: Parts) -> dict[str, torch.Tensor]:
        """A step with everything that has a state."""
        batch = torch.from_numpy(next(iter(parts.drawn.sampler)))
        images = (
            torch.randn(4, 3, 32, 16, generator=parts.drawn.random) + torch.rand(1) + batch.sum()
        )
        terms = parts.trained.losses(images, torch.tensor([0, 0, 1, 1]), torch.zeros(4).long())
        parts.optimiser.zero_grad()
        parts.scaler.scale(torch.stack(list(terms.values())).sum()).backward()
        parts.scaler.step(parts.optimiser)
        parts.scaler.update()
        parts.average.update(parts.trained)
        return {**parts.trained.state_dict(), "scale": torch.tensor(parts.scaler.get_scale())} | {
            f"average.{k}": v.clone() for k, v in parts.average.network.state_dict().items()
        }

    first = built(1)
    first.trained.read_texts(torch.randn_like(first.trained.classifier_proj.weight))
    stepped(first)
    progress = Progress(
        step=3, seen=12, spent_s=0.1, best_step=2, best_score=1 / 3, notes={"score_min": 0.3}
    )
    mark = {"recipe": {"run": {"steps": 3}}}
    resume.save(tmp_path / "state", mark, progress, first)
    expected = stepped(first)

    second = built(2)
    found = resume.find(tmp_path / "state", mark)
    assert found is not None
    assert resume.restore(found, second) == progress
    for name, value in stepped(second).items():
        assert torch.equal(value, expected[name]), name
    assert resume.find(tmp_path / "none", mark) is None
    with pytest.raises(SettingsError, match=r"run.steps was 3 and is 4"):
        resume.find(tmp_path / "state", {"recipe": {"run": {"steps": 4}}})


def test_a_damaged_or_foreign_state_is_refused_and_no_code_is_read(
    unbroken: Path, tmp_path: Path
) -> None:
    import pickle

    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "harm"),))

    (tmp_path / "pickle").write_bytes(pickle.dumps(Harmful()))
    torch.save({"x": Harmful()}, tmp_path / "torch")
    whole = (unbroken / STATE).read_bytes()
    (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
    for name in ("pickle", "torch", "half"):
        with pytest.raises(InputError, match="cannot read the run's state"):
            resume.find(tmp_path / name, {})
    assert not (tmp_path / "harm").exists()
    with pytest.raises(InputError, match="is not the state of a run"):
        resume.find(unbroken / BEST, {})


def test_a_time_limit_counts_the_time_before_the_interruption(
    tiny_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds pass at every look at the clock, which begins anew with the process."""
    text = RECIPE.replace("steps = 25", "steps = 500\ntime_limit_s = 100.0")
    (tmp_path / "recipe.toml").write_text(text)
    settings = recipe.read(tmp_path / "recipe.toml")
    records = cargo.read(tiny_tree, "train").records
    shares: list[float] = []
    rate = steps.optimise.learning_rate

    def watched(section: object, length: object, step: int, share: float) -> float:
        shares.append(share)
        if len(shares) == 9:
            raise KeyboardInterrupt
        return rate(section, length, step, share)

    monkeypatch.setattr(steps.optimise, "learning_rate", watched)
    for limit in (pytest.raises(KeyboardInterrupt), nullcontext()):
        clock = itertools.count()
        monkeypatch.setattr(steps.time, "monotonic", lambda clock=clock: float(next(clock)))
        with limit:
            setup.fit(settings, records, tmp_path / "out")
    before, after = shares[:8], shares[9:]  # the last state is that of step 8
    assert before[0] < 0.1
    assert min(after) > max(before)
    assert max(after) < 1


def test_momenta_of_a_channels_last_network_come_back_in_its_memory_format(tmp_path: Path) -> None:
    def built(seed: int) -> Parts:
        torch.manual_seed(seed)
        network = torch.nn.Conv2d(3, 5, 3).to(memory_format=torch.channels_last)
        optimiser = steps.optimise.build(network, recipe.AdamwSection())
        return Parts(
            network, Average(network, 0.9), optimiser, torch.amp.GradScaler("cpu"), Drawn(seed)
        )

    def stepped(parts: Parts) -> torch.Tensor:
        values = torch.arange(5 * 3 * 9, dtype=torch.float32).view(5, 3, 3, 3)
        parts.trained.weight.grad = steps.optimise.laid_out(values, parts.trained.weight)
        parts.optimiser.step()
        return parts.trained.weight.detach().clone()

    first, second = built(1), built(2)
    stepped(first)
    resume.save(tmp_path / "state", {}, Progress(), first)
    found = resume.find(tmp_path / "state", {})
    assert found is not None
    resume.restore(found, second)
    assert torch.equal(stepped(second), stepped(first))


def test_a_folder_that_another_run_has_is_refused(
    recipe_file: Path, tiny_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with FileLock(tmp_path / ".lock", of="a run"):
        assert (
            main(["fit", str(recipe_file), "--data", str(tiny_tree), "--out", str(tmp_path)]) == 2
        )
    assert re.search(r"in use by process \d+ \(.*\): give another --out", capsys.readouterr().err)
