import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from skyreid.contract.errors import InputError
from skyreid.train import checkpoint
from skyreid.train.__main__ import main
from skyreid.train.detector import command, task
from skyreid.train.detector.crops import Sample
from skyreid.train.detector.recipe import DetectorRecipe, read_recipe
from skyreid.train.fit.steps import BEST, BROKEN, LAST, STATE
from skyreid.train.models.heatmap import PersonDetector

# Runs the command it is given, and kills itself with SIGKILL where the first argument says.
KILLED = """
import os, signal, sys
from skyreid.train import checkpoint
from skyreid.train.fit import resume
from skyreid.train.__main__ import main

where, arguments = sys.argv[1], sys.argv[2:]

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

if where == "between state and checkpoint":
    checkpoint.save = die  # the state of step 2 lies there, and its best does not
elif where == "before a state":
    save, states = resume.save, []
    def second(*arguments):
        states.append(1)
        if len(states) == 2:
            die()  # two steps behind step 2, and none of it is kept
        save(*arguments)
    resume.save = second
sys.exit(main(arguments))
"""


def words(recipe: Path, clips: tuple[Path, Path], out: Path, *more: str) -> list[str]:
    """The command that trains."""
    return ["fit", str(recipe), "--data", *map(str, clips), "--out", str(out), *more]


@pytest.fixture(scope="module")
def unbroken(
    recipe_text: str, clips: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with what a whole run leaves behind."""
    folder = tmp_path_factory.mktemp("unbroken")
    (folder / "recipe.toml").write_text(recipe_text)
    assert main(words(folder / "recipe.toml", clips, folder / "out")) == 0
    return folder / "out"


def test_a_run_leaves_two_checkpoints_with_a_threshold(
    unbroken: Path, recipe: Path, clips: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    best, last = checkpoint.load(unbroken / BEST), checkpoint.load(unbroken / LAST)
    assert best.kind == "detector"
    assert 0.1 <= best.config["score_min"] <= 0.8
    assert best.config["trunk"]["dilations"] == [2]
    assert last.config["step"] == 5
    assert main(["evaluate", str(unbroken / BEST), "--data", str(clips[1]), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["cameras"]["cam6"]["people"] == 4
    assert "cam6" in "\n".join(command.table(report))
    assert command.is_model(unbroken / BEST)
    assert command.is_recipe(recipe)


def test_a_run_killed_at_any_moment_ends_with_the_bytes_of_an_unbroken_one(
    unbroken: Path, recipe: Path, clips: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = words(recipe, clips, out)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    for where in ("between state and checkpoint", "before a state"):
        ended = subprocess.run(
            [sys.executable, str(script), where, *arguments], env=environment, capture_output=True
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
        assert (out / STATE).exists()
    assert main(arguments) == 0
    for name in (BEST, LAST):
        assert (out / name).read_bytes() == (unbroken / name).read_bytes(), name


def test_people_are_pasted_where_the_recipe_says_so_and_choose_the_threshold(
    recipe_text: str, clips: tuple[Path, Path], stock: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    recipe = tmp_path / "pasting.toml"
    large = "held_out_pictures = 4\nhalf_from_px = 2000\nhalf_height_px = 75"
    mixed = large + recipe_text + "[mix]\non_clutter = 1.0\ngrounds = 5\n"
    recipe.write_text(mixed)
    chosen_on = []
    best = task.best_threshold
    monkeypatch.setattr(
        task, "best_threshold", lambda parts: chosen_on.append(len(parts)) or best(parts)
    )
    looked_at_twice_from = []
    run = task.with_torch
    monkeypatch.setattr(
        task,
        "with_torch",
        lambda net, *halves: looked_at_twice_from.append(halves) or run(net, *halves),
    )
    judged = []
    tally = task.tally_pictures
    monkeypatch.setattr(
        task, "tally_pictures", lambda detect, some: judged.append(len(some)) or tally(detect, some)
    )
    arguments = words(recipe, (*clips, stock), tmp_path / "out")
    assert main(arguments) == 0
    assert judged == [4, 4, 4]  # of steps 2, 4 and 5
    assert chosen_on == [1, 1, 1]
    # Clips by their width, pasted pictures always.
    assert looked_at_twice_from == [(2000, 75), (1, 75)] * 3
    (other := tmp_path / "other").mkdir()
    shutil.copytree(stock, other / "stock")
    table = other / "stock" / "stock.json"
    table.write_text(table.read_text().replace('"seed": 2', '"seed": 3'))
    assert main(words(recipe, (*clips, other / "stock"), tmp_path / "out")) == 2
    assert "--data names another file" in capsys.readouterr().err


def test_another_recipe_other_clips_or_another_start_are_another_run(
    unbroken: Path, recipe: Path, recipe_text: str, clips: tuple[Path, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    longer = tmp_path / "longer.toml"
    longer.write_text(recipe_text.replace("steps = 5", "steps = 6"))
    other = tmp_path / "other"
    shutil.copytree(clips[0], other)
    truth = other / "gt" / "cam6.txt"
    truth.write_text(truth.read_text().replace(",1.00", ",0.90"))
    start = str(unbroken / BEST)
    for arguments, said in (
        (words(longer, clips, unbroken), "run.steps was 5 and is 6"),
        (words(recipe, (other, clips[1]), unbroken), "--data names another file"),
        (words(recipe, clips, unbroken, "--start", start), "--start names another file"),
    ):
        assert main(arguments) == 2
        assert said in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_start_gives_its_weights_and_must_be_the_same_network_of_other_clips(
    unbroken: Path, recipe: Path, recipe_text: str, clips: tuple[Path, Path], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    started = ["--start", str(unbroken / LAST)]
    still = tmp_path / "still.toml"  # one step of a rate that is nothing
    text = recipe_text.replace("steps = 5", "steps = 1")
    still.write_text(text.replace("warmup_steps = 1", "warmup_steps = 1000000000"))
    assert main(words(still, clips, tmp_path / "still", *started)) == 0
    begun = checkpoint.load(tmp_path / "still" / LAST).state
    for name, value in checkpoint.load(unbroken / LAST).state.items():
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):
            torch.testing.assert_close(begun[name], value, atol=1e-6, rtol=0)

    wider = tmp_path / "wider.toml"
    wider.write_text(recipe_text.replace("stem = 4", "stem = 8"))
    swapped = (clips[1], clips[0])
    for arguments, said in (
        (words(wider, clips, tmp_path / "1", *started), "holds another network"),
        (words(recipe, swapped, tmp_path / "2", *started), "trained on 1 of the 1 videos"),
    ):
        capsys.readouterr()
        assert main(arguments) == 2
        assert said in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_batch_and_the_checkpoints(
    recipe: Path, clips: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    whole, out, calls, kept = task.box_loss, tmp_path / "out", [], {}

    def spoilt(*arguments: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 4:
            kept.update({p.name: p.read_bytes() for p in out.glob("*.safetensors")})
            return whole(*arguments) * float("nan")
        return whole(*arguments)

    monkeypatch.setattr(task, "box_loss", spoilt)
    assert main(words(recipe, clips, out)) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "step 4: box is nan" in said
    assert f"its 2 pictures are in {out / BROKEN}" in said
    assert kept.keys() == {BEST, LAST, STATE}
    for name, content in kept.items():
        assert (out / name).read_bytes() == content
    broken = np.load(out / BROKEN)  # without pickles
    assert broken["images"].shape == (2, 64, 64, 3)
    assert broken["heat"].shape == broken["box_weight"].shape == (2, 16, 16)
    assert int(broken["step"]) == 4


@pytest.mark.parametrize(("precision", "half"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_in_half_precision_the_network_alone_is_halved(
    precision: str, half: torch.dtype, recipe: Path, recipe_text: str, clips: tuple[Path, Path],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    recipe.write_text(recipe_text.replace("steps = 5", f'steps = 2\nprecision = "{precision}"'))
    raw, whole = PersonDetector.raw, task.heat_loss
    multiplied, judged = set(), set()

    def watched(self: PersonDetector, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = raw(self, images)
        if self.training:
            multiplied.add(found[0].dtype)
        return found

    def seen(logits: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        judged.add(logits.dtype)
        return whole(logits, *others)

    monkeypatch.setattr(PersonDetector, "raw", watched)
    monkeypatch.setattr(task, "heat_loss", seen)
    assert main(words(recipe, clips, tmp_path / "out", "--device", "cpu")) == 0
    assert multiplied == {half}
    assert judged == {torch.float32}


def test_the_board_takes_the_curves(
    recipe: Path, recipe_text: str, clips: tuple[Path, Path], tmp_path: Path
) -> None:
    pytest.importorskip("tensorboard", reason="the package tensorboard is optional")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    longer = recipe_text.replace("steps = 5", "steps = 20")
    recipe.write_text(longer.replace("evaluate_every = 2", "evaluate_every = 15"))
    assert main(words(recipe, clips, tmp_path / "out", "--board")) == 0
    read = EventAccumulator(str(tmp_path / "out" / "board"))
    read.Reload()
    assert [event.step for event in read.Scalars("loss/heat")] == [20]
    assert [event.step for event in read.Scalars("held_out/AP")] == [15, 20]


def test_two_processes_end_with_the_weights_of_one(
    recipe: Path, recipe_text: str, clips: tuple[Path, Path], tmp_path: Path
) -> None:
    # Not with AdamW: it makes steps of the same size of gradients that are nothing but rounding.
    sgd = 'kind = "sgd"\nlearning_rate = 0.1\nwarmup_steps = 1'
    recipe.write_text(recipe_text.replace("warmup_steps = 1", sgd))
    assert main(words(recipe, clips, tmp_path / "one", "--device", "cpu")) == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in ("0", "1"):
        environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "OMP_NUM_THREADS": "1", "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
        arguments = words(recipe, clips, tmp_path / "two", "--device", "cpu")
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "skyreid.train", *arguments],
                env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
    try:
        said = [process.communicate()[1].decode() for process in started]
    finally:
        for process in started:
            process.kill()  # one that waits for another that failed
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)[-5000:]
    one, two = (checkpoint.load(tmp_path / name / LAST).state for name in ("one", "two"))
    settings = read_recipe(recipe)
    torch.manual_seed(settings.run.seed)
    begun = PersonDetector(settings.model).state_dict()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-5, rtol=1e-4)
    assert (one["head.weight"] - begun["head.weight"]).abs().max() > 1e-3


def test_batches_follow_from_the_seed_and_their_number(recipe: Path) -> None:
    def source(random: np.random.Generator) -> Sample:
        picture = random.integers(0, 256, (32, 32, 3)).astype(np.uint8)
        return picture, np.zeros((0, 4), np.float32), np.zeros(0, bool)

    def built(seed: int) -> task.Detection:
        text = {"kind": "detector", "run": {"steps": 1, "seed": seed}}
        settings = DetectorRecipe.model_validate(text)
        return task.Detection(settings, source, 9, [], [], {}, PersonDetector(settings.model))

    first, again, other = built(1), built(1), built(2)

    def draw(one: task.Detection) -> torch.Tensor:
        return one.begin(one.plan())().images

    drawn = [draw(first) for _ in range(3)]
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0][0], drawn[0][1])
    assert not torch.equal(drawn[0], draw(other))
    again.plan()
    other.restore(again.state())
    assert torch.equal(draw(again), drawn[1])
    assert other.state() == {"drawn": 1}


def test_a_video_that_ends_before_its_truth_is_refused(
    unbroken: Path, clips: tuple[Path, Path], tmp_path: Path
) -> None:
    clip = Path(shutil.copytree(clips[0], tmp_path / "clip"))
    truth = clip / "gt" / "cam6.txt"
    truth.write_text(truth.read_text() + "9,1,20,20,16,40,1,1,1.00\n")
    with pytest.raises(InputError, match=r"cam6.mp4 ends at frame 4, and 1 frames after it"):
        command.measure(unbroken / BEST, clip)
