import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from skyreid.train import recipe
from skyreid.train.__main__ import main
from skyreid.train.data import cargo, workers
from skyreid.train.fit import finite, setup
from skyreid.train.fit import split as splitting
from skyreid.train.fit.embedder import Crops, Embedding
from skyreid.train.fit.parallel import ALONE, Crew
from skyreid.train.fit.steps import BEST, LAST
from skyreid.train.models import variants

RECIPE = """
[model]
variant = "vdt-tiny"
trunk = { depth = 1, dim = 48 }
[input]
height = 32
width = 16
[batch]
people = 4
crops = 4
group = 2
group_after = 0.0
[augment]
pad = 2
augmix = 0.3
[optimiser]
warmup_steps = 1
[run]
steps = 24
held_out_people = 2
evaluate_every = 23
save_every = 4
"""


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture(scope="module")
def alone(recipe_file: Path, tiny_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run without workers leaves."""
    out = tmp_path_factory.mktemp("alone")
    command = ["fit", str(recipe_file), "--data", str(tiny_tree), "--out", str(out)]
    assert main([*command, "--workers", "0"]) == 0
    return out


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[str]]:
    """The workers that a run starts."""
    found: list[subprocess.Popen[str]] = []
    start = workers._started

    def recorded(memory: int) -> subprocess.Popen[str]:
        found.append(start(memory))
        return found[-1]

    monkeypatch.setattr(workers, "_started", recorded)
    return found


def test_however_many_workers_a_run_has_and_whoever_interrupts_it_it_ends_with_the_same_bytes(
    alone: Path, recipe_file: Path, tiny_tree: Path, tmp_path: Path,
    started: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "out"
    command = ["fit", str(recipe_file), "--data", str(tiny_tree), "--out", str(out)]
    check = finite.check
    ends = {}

    def interrupted(where: Path, step: int, *arguments: object) -> None:
        if step in ends:
            ends.pop(step)()
        check(where, step, *arguments)

    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(finite, "check", interrupted)
    ends[7] = interrupt
    assert main([*command, "--workers", "3"]) == 130
    said = capfd.readouterr().err
    assert said.splitlines()[-1] == "interrupted"
    assert "Traceback" not in said
    assert [process.returncode for process in started] == [0, 0, 0]

    ends[14] = lambda: os.kill(started[-1].pid, signal.SIGKILL)
    assert main([*command, "--workers", "2"]) == 1
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert (
        f"worker {started[-1].pid}, which augments pictures, was killed by signal 9"
        in (said.splitlines()[-1])
    )
    assert [process.returncode for process in started] == [0, 0, 0, 0, -9]

    assert main([*command, "--workers", "1"]) == 0
    assert not ends
    assert len(started) == 6
    for name in (BEST, LAST, setup.SCORE_PRIORS):
        assert (out / name).read_bytes() == (alone / name).read_bytes(), name


def test_each_of_several_processes_augments_its_own_rows_alone(
    recipe_file: Path, tiny_tree: Path, tmp_path: Path
) -> None:
    settings = recipe.read(recipe_file)
    split = splitting.read(settings, cargo.read(tiny_tree, "train").records, tmp_path)
    network = variants.construct(setup.network_of(settings, 4), settings.loss)

    def third(crew: Crew) -> tuple[Embedding, Crops]:
        with setup.making(settings, split, crew, 0) as (begin, rows):
            task = Embedding(settings, split, {}, network, network, begin, rows)
            batch = [task.begin(task.plan())() for _ in range(3)][2]
            return task, batch

    _, whole = third(ALONE)
    assert len(whole.images) == 16
    cpu = torch.device("cpu")
    for rank in range(2):
        task, part = third(Crew(rank, 2, cpu))
        assert torch.equal(part.index, whole.index)
        assert torch.equal(part.images, whole.images[8 * rank : 8 * rank + 8])
        rows = slice(8 * rank + 2, 8 * rank + 6)
        seen, wanted = task.see(part, rows, cpu), third(ALONE)[0].see(whole, rows, cpu)
        assert all(torch.equal(seen[name], values) for name, values in wanted.items())
        # What a broken loss leaves is the whole batch, the others' rows too.
        np.testing.assert_array_equal(task.arrays(part)["images"], whole.images.numpy())
