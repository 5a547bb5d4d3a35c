import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from skyreid.contract.errors import InputError, SettingsError, SkyreidError
from skyreid.contract.input_spec import InputSpec
from skyreid.train import checkpoint, recipe, serving
from skyreid.train.__main__ import main
from skyreid.train.data import cargo, pictures
from skyreid.train.data.records import Record
from skyreid.train.fit import dry_run, setup
from skyreid.train.fit import split as splitting
from skyreid.train.fit.embedder import look_alikes
from skyreid.train.fit.parallel import ALONE
from skyreid.train.fit.steps import BEST, LAST, STATE

RECIPE = """
[model]
variant = "vdt-tiny"
trunk = { depth = 2 }
[input]
height = 32
width = 16
[loss]
cross_view_weight = 1.0
[batch]
people = 4
crops = 4
group = 2
group_after = 0.0
[optimiser]
warmup_steps = 1
[run]
steps = 3
held_out_people = 2
evaluate_every = 2
"""


@pytest.fixture(scope="session")
def fitted(tiny_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what three steps leave behind."""
    folder = tmp_path_factory.mktemp("fit")
    (folder / "recipe.toml").write_text(RECIPE)
    out = folder / "out"
    arguments = ["fit", str(folder / "recipe.toml"), "--data", str(tiny_tree), "--out", str(out)]
    assert main(arguments) == 0
    return out


def test_fit_leaves_two_checkpoints_and_the_priors(fitted: Path) -> None:
    best = checkpoint.load(fitted / BEST)
    assert best.kind == "embedder"
    assert best.config["people"] == 4
    assert len(best.config["held_out"]) == 2
    assert best.input_spec == InputSpec(height=32, width=16)
    assert checkpoint.load(fitted / LAST).config["step"] == 3
    priors = json.loads((fitted / setup.SCORE_PRIORS).read_text())
    # Two held-out people in two aerial and two ground cameras.
    # Either of two may be the grey one, so there are twice as many of them.
    assert {name: row["pairs"] for name, row in priors.items()} == {
        f"{views}{looks}": count * times
        for views, count in (("aerial-aerial", 2), ("aerial-ground", 8), ("ground-ground", 2))
        for looks, times in (("", 1), ("/colour-grey", 2), ("/grey-grey", 1))
    }


def test_evaluating_on_people_who_were_trained_on_is_said(
    fitted: Path, tiny_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warning = "WARNING: the model was fitted on, or chosen by, 6 of these 6 people (1, 2, 3, ...)"
    assert main(["evaluate", str(fitted / BEST), "--data", str(tiny_tree), "--json"]) == 0
    assert warning in capsys.readouterr().err
    strangers = shutil.copytree(tiny_tree, tmp_path / "strangers")
    for picture in (strangers / "train").rglob("*.jpg"):
        picture.write_bytes(picture.read_bytes() + b"others")
    assert main(["evaluate", str(fitted / BEST), "--data", str(strangers)]) == 0
    said = capsys.readouterr()
    assert "WARNING" not in said.out + said.err


def test_a_built_checkpoint_maps_bytes_to_unit_vectors_in_any_batch(fitted: Path) -> None:
    embedder = serving.build(checkpoint.load(fitted / BEST))
    images = torch.randint(0, 256, (5, 32, 16, 3), dtype=torch.uint8)
    with torch.inference_mode():
        whole = embedder(images)
        single = torch.cat([embedder(images[i : i + 1]) for i in range(5)])
    assert whole.shape == (5, 192)
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(whole, single, atol=1e-5, rtol=0)


def test_a_saved_checkpoint_loads_as_it_was_and_the_digest_follows_the_content(
    fitted: Path, tmp_path: Path
) -> None:
    read = checkpoint.load(fitted / BEST)
    for name, config in (("same", read.config), ("other", {**read.config, "step": -1})):
        checkpoint.save(
            tmp_path / name,
            kind=read.kind,
            config=config,
            state=read.state,
            input_spec=read.input_spec,
        )
    again = checkpoint.load(tmp_path / "same")
    assert again == read.__class__(
        read.kind, read.config, again.state, read.input_spec, read.sha256
    )
    assert all(torch.equal(read.state[key], value) for key, value in again.state.items())
    assert checkpoint.load(tmp_path / "other").sha256 != read.sha256


def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(
    tmp_path: Path, tiny_tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nonsense")
    code = main(["evaluate", str(tmp_path / "x.safetensors"), "--data", str(tiny_tree)])
    said = capsys.readouterr().err
    assert code == 2
    assert said.count("\n") == 1
    assert "x.safetensors" in said


def test_evaluate_prints_one_json_object_with_every_protocol_and_its_queries(
    fitted: Path, tiny_tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    model = fitted / BEST
    assert main(["evaluate", str(model), "--data", str(tiny_tree), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert {name: row["queries"] for name, row in scores.items()} == {
        "ALL": 24, "A-A": 12, "G-G": 12, "A<->G": 24, "A->G": 12, "G->A": 12,
    }  # fmt: skip
    for row in scores.values():
        assert list(row)[:6] == ["rank1", "rank5", "rank10", "mAP", "mINP", "queries"]
        assert 0 <= row["mINP"] <= row["mAP"] <= 100


def test_evaluate_prints_a_table_with_what_was_ranked(
    fitted: Path, tiny_tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["evaluate", str(fitted / BEST), "--data", str(tiny_tree)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[4].startswith("A<->G")
    assert any(line.startswith("6 people, 24 query and 48 gallery pictures") for line in said)


def test_two_runs_of_one_recipe_end_with_the_same_weights(tiny_tree: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    settings = recipe.read(tmp_path / "recipe.toml")
    records = cargo.read(tiny_tree, "train").records
    digests = {
        checkpoint.load(setup.fit(settings, records, tmp_path / name).last).sha256
        for name in ("one", "two")
    }
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("model", "more", "clip", "said"),
    [
        ('variant = "vit-tiny"\ntrunk = { heads = 5 }', "", None, "not divisible by 5 heads"),
        ('variant = "gsalign-tiny"\noptions = { eta = 1 }', "", None, "eta: unknown key"),
        ('variant = "vit-tiny"', "[distil]\n", None, "give --teacher"),
        ('variant = "clip-reid-tiny"', "", None, "give --clip"),
        ('variant = "clip-reid-tiny"', "", Path("none.pt"), "--clip none.pt: there is no such"),
        ('variant = "vit-tiny"', "", Path("clip.pt"), "leave it out"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_a_picture_is_read(
    tmp_path: Path, model: str, more: str, clip: Path | None, said: str
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(f"[model]\n{model}\n[input]\nheight = 64\nwidth = 32\n[run]\nsteps = 1\n{more}")
    missing = [Record(tmp_path / "none.jpg", str(i), 1, "ground") for i in range(99)]
    with pytest.raises(SkyreidError, match=said):
        setup.fit(recipe.read(path), missing, tmp_path / "out", clip=clip)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--start", "none.safetensors"], "none.safetensors"),
        (["--teacher", "recipe.toml"], "cannot read the checkpoint recipe.toml"),
        (["--workers", "-1"], "--workers -1: give 0 or more"),
        (["--model.trunk.heads", "5"], "not divisible by 5 heads"),
        (["--run.accumulate", "3"], "does not divide the 16 pictures"),
        (
            ["--run.accumulate", "2", "--model.trunk.stem", "conv"],
            "would not equal the whole batch",
        ),
        (["--model.variant", "vdt-tny"], "vdt-tny"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_what_a_command_asks_in_vain_is_said_before_the_data_set_is_looked_at(
    words: list[str], said: str, dry: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """A report hashes every picture of it: minutes, of which nothing would be left."""
    monkeypatch.chdir(tmp_path)
    Path("recipe.toml").write_text(RECIPE)
    command = ["fit", "recipe.toml", "--data", "nowhere", "--out", "out", *words, *dry]
    assert main(command) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not Path("out").exists()


def test_a_finished_run_is_not_written_over_when_its_state_is_gone(
    fitted: Path, tiny_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(fitted, tmp_path / "out"))
    (out / STATE).unlink()
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    arguments = ["fit", str(fitted.parent / "recipe.toml"), "--data", str(tiny_tree)]
    assert main([*arguments, "--out", str(out)]) == 2
    assert "of a run whose state is gone" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_people_of_one_camera_cannot_choose_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Said before a picture is read, and by a dry run too."""
    monkeypatch.setattr(pictures, "load", None)
    records = [Record(tmp_path / f"{i}.jpg", str(i % 9), 1, "ground") for i in range(99)]
    settings = recipe.read(written(tmp_path / "recipe.toml"))
    said = "none of the 2 held-out people is seen by two cameras"
    with pytest.raises(InputError, match=said):
        setup.fit(settings, records, tmp_path / "out")
    with pytest.raises(InputError, match=said):
        dry_run.cost(settings, records, ALONE)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("crops = 4", "crops = 3"), "batch: crops = 3 cannot be half aerial and half ground"),
        (("group = 2", "group = 5"), "batch: group = 5 is more than the 4 people"),
        (("steps = 3", "steps = 3\nseed = -1"), "run.seed: .*got -1"),
        (("depth = 2", "depth = true"), "trunk.*depth"),
    ],
)
def test_a_recipe_that_cannot_run_is_refused_in_one_line(
    tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.replace(*change))
    with pytest.raises(SettingsError, match=said):
        recipe.read(path)


def test_a_recipe_with_wrong_keys_names_them_all(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.replace("people = 4", "peple = 4").replace("steps = 3", "steps = 0"))
    with pytest.raises(SettingsError) as caught:
        recipe.read(path)
    assert "batch.peple" in str(caught.value)
    assert "run.steps" in str(caught.value)


def test_a_recipe_that_draws_in_passes_cannot_balance_views(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    freely = RECIPE.replace("group = 2", "passes = true\nbalance_views = false")
    path.write_text(freely)
    assert recipe.read(path).batch.passes
    path.write_text(freely.replace("balance_views = false", "balance_views = true"))
    with pytest.raises(SettingsError, match="balance_views = false"):
        recipe.read(path)


def test_look_alikes_are_the_nearest_other_rows() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 2.0], [0.1, 1.0]])
    assert look_alikes(rows, 1)[:, 0].tolist() == [1, 0, 3, 2]
    assert look_alikes(rows, 1).dtype == np.int64


def test_a_run_stops_in_the_middle_of_its_schedule_when_told_to(
    tiny_tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE.replace("steps = 3", "steps = 9\nstop_after = 1"))
    records = cargo.read(tiny_tree, "train").records
    outcome = setup.fit(recipe.read(tmp_path / "recipe.toml"), records, tmp_path / "out")
    assert checkpoint.load(outcome.last).config["step"] == 1


def test_a_final_run_trains_on_everybody_with_values_of_the_command_line(
    tiny_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe_file, out = tmp_path / "recipe.toml", tmp_path / "out"
    recipe_file.write_text(RECIPE)
    arguments = ["fit", str(recipe_file), "--data", str(tiny_tree), "--out", str(out)]
    words = ["--run.held_out_people", "0", "--run.steps=2", "--batch.people", "6"]
    assert main([*arguments, *words]) == 0
    said = capsys.readouterr().out
    assert "step 2, nobody held out" in said
    assert re.search(r" \d+ pictures/s, \d+% of it waiting for pictures$", said)
    best = checkpoint.load(out / BEST)
    assert (best.config["people"], best.config["step"], best.config["held_out"]) == (6, 2, [])
    assert best.config["recipe"]["batch"]["people"] == 6
    assert not (out / setup.SCORE_PRIORS).exists()
    assert main([*arguments, *words, "--run.seed", "9"]) == 2
    assert "run.seed was 0 and is 9" in capsys.readouterr().err
    assert main([*arguments, "--run.stepps", "9"]) == 2
    assert "did you mean run.steps?" in capsys.readouterr().err
    assert main([*arguments, "--run.held_out_people", "1"]) == 2
    assert "one alone finds nobody" in capsys.readouterr().err


def test_a_dry_run_says_what_the_run_costs_and_writes_nothing(
    tiny_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe_file, out = tmp_path / "recipe.toml", tmp_path / "out"
    recipe_file.write_text(RECIPE)
    arguments = ["fit", str(recipe_file), "--data", str(tiny_tree), "--out", str(out)]
    assert main([*arguments, "--dry-run"]) == 0
    said = capsys.readouterr()
    assert re.search(r"dry run: 0\.\d\d h for 3 steps of 16 pictures.* \d+ pictures/s", said.out)
    assert re.search(r"peak memory \d\.\d\d GiB", said.out)
    assert "6 people in 48 pictures" in said.err
    assert not out.exists()
    assert main([*arguments, "--dry-run", "--batch.people", "5"]) == 2
    assert "4 people are left for training and a batch needs 5" in capsys.readouterr().err


def test_people_who_lose_their_last_picture_are_said_to_be_missing(
    tiny_tree: Path, tmp_path: Path
) -> None:
    tree = shutil.copytree(tiny_tree, tmp_path / "tree")
    records = cargo.read(tree, "train").records
    last = next(r for r in records if r.person == "1")
    many = [r for r in records if r.person != "1"] * 3 + [last]
    settings = recipe.read(written(tmp_path / "recipe.toml"))
    held_out = {r.person for r in splitting.hold_out(many, 2, settings.run.seed)[1]}
    assert "1" not in held_out
    last.path.write_bytes(b"")
    with pytest.raises(InputError, match="3 people are left for training and a batch needs 4"):
        setup.fit(settings, many, tmp_path / "out")


def written(path: Path) -> Path:
    path.write_text(RECIPE)
    return path
