"""Every committed recipe, held to what it says."""

from pathlib import Path

import pytest

from skyreid.contract.errors import SettingsError
from skyreid.train import recipe
from skyreid.train.data.augment import PUBLISHED, Strength
from skyreid.train.detector.command import is_recipe
from skyreid.train.fit.setup import network_of
from skyreid.train.models import variants
from skyreid.train.models.clip_text import PromptOptions
from skyreid.train.models.losses import LossOptions
from skyreid.train.recipe import AdamSection, AdamwSection, Recipe, SgdSection

ROOT = Path(__file__).resolve().parents[2]
FOUND = sorted(p for p in (ROOT / "recipes").glob("*.toml") if not is_recipe(p))  # no detectors
PAPERS = [p for p in FOUND if "-base-" in p.stem and not p.stem.endswith("-synth")]
DATA_SETS = {
    "cargo": ("vit", "vdt", "dtst", "secap", "gsalign", "visa", "clip-reid"),
    "agreid-v1": ("vit", "vdt", "dtst", "secap", "gsalign", "clip-reid"),
    "agreid-v2": ("vit", "vdt", "secap", "gsalign", "visa", "clip-reid"),
    "lagper": ("vit", "vdt", "secap", "visa", "clip-reid"),
}


def read(name: str) -> Recipe:
    return recipe.read(ROOT / "recipes" / f"{name}.toml")


def test_every_row_of_the_papers_tables_has_a_recipe() -> None:
    wanted = {f"{m}-base-{data}" for data, methods in DATA_SETS.items() for m in methods}
    wanted |= {f"visa-base-cargo-{part}" for part in ("vab", "dlfm", "vab-dlfm", "etgm-dlfm")}
    assert {p.stem for p in PAPERS} == wanted


@pytest.mark.parametrize("path", FOUND, ids=lambda p: p.stem)
def test_a_recipe_builds_its_network_and_names_its_own_command(path: Path) -> None:
    settings = recipe.read(path)
    config = network_of(settings, 8)
    width = variants.WIDTHS[settings.model.variant.rsplit("-", 1)[1]]
    assert config["trunk"]["dim"] == width["dim"]  # or the name would be wrong
    config["trunk"] |= {"dim": 96, "depth": 3, "heads": 3}  # the same network, built in no time
    network = variants.construct(config, settings.loss)
    assert len(network.classifier_weight) == 8
    text = path.read_text()
    assert f"skyreid-train fit recipes/{path.name}" in text
    assert max(len(line) for line in text.splitlines()) <= 100


@pytest.mark.parametrize("path", PAPERS, ids=lambda p: p.stem)
def test_a_paper_s_recipe_trains_as_the_paper_does(path: Path) -> None:
    settings = recipe.read(path)
    method = settings.model.variant.removesuffix("-base")
    assert path.stem.startswith(f"{method}-base-")
    assert (settings.input.height, settings.input.width) == (256, 128)
    assert settings.batch.passes
    assert settings.loss == LossOptions()
    assert settings.run.steps is None
    assert settings.run.precision == ("fp32" if method == "dtst" else "fp16")
    if method == "clip-reid":
        assert settings.optimiser == AdamSection(kind="adam")
        assert settings.run.epochs == 60
        assert settings.batch.people * settings.batch.crops == 64
        assert settings.prompts == PromptOptions()
    else:
        assert settings.optimiser == SgdSection(kind="sgd")
        assert settings.run.epochs == (
            150 if method == "gsalign" and "v2" not in path.stem else 120
        )
    changed = vars(PUBLISHED).copy()
    if method == "clip-reid":
        changed["erase_fill"] = "noise"
    if method == "gsalign" and "cargo" in path.stem:
        changed["rotate_deg"] = 30.0
    if method == "gsalign" and "agreid" in path.stem:
        changed |= {"erase": 0.3, "augmix": 0.3}
    assert settings.augment == Strength(**changed)


def test_what_differs_between_data_sets_is_what_the_authors_changed() -> None:
    assert read("secap-base-lagper").model.trunk == {"stride": 16}
    assert read("visa-base-lagper").model.trunk == {"stride": [12, 10]}
    assert read("secap-base-cargo").model.trunk == {}
    assert read("secap-base-agreid-v1").model.options == {"prompts": 128, "view_weight": 10.0}
    assert read("visa-base-lagper").model.options == {"prompt_length": 8, "top_k": 3}
    assert read("gsalign-base-agreid-v1").model.options == {"angle_weight": 0.5}
    assert read("gsalign-base-cargo").model.options == {}
    sizes = {
        name: (batch.people, batch.crops)
        for name in ("vdt-base-cargo", "visa-base-cargo", "visa-base-lagper", "secap-base-lagper")
        for batch in [read(name).batch]
    }
    assert sizes == {
        "vdt-base-cargo": (32, 4),
        "visa-base-cargo": (64, 4),
        "visa-base-lagper": (32, 8),
        "secap-base-lagper": (16, 4),
    }


def test_every_edge_size_has_a_recipe_for_a_rendered_world() -> None:
    for name in ("vdt-tiny-synth", "visa-tiny-synth", "visa-small-synth", "visa-base-synth"):
        settings = read(name)
        assert isinstance(settings.optimiser, AdamwSection)
        assert settings.model.trunk["stem"] == "conv"  # they start from random weights
        text = (ROOT / "recipes" / f"{name}.toml").read_text()
        people = int(text.split("--people ")[1].split()[0])
        assert people >= 1000
    assert read("visa-base-synth").run.precision == "bf16"


def test_the_distilled_student_holds_out_whom_its_teacher_held_out() -> None:
    student, teacher = read("vdt-tiny-synth-distilled"), read("visa-small-synth")
    assert student.distil == recipe.DistilSection()
    assert student.run.seed == teacher.run.seed
    assert student.run.held_out_people == teacher.run.held_out_people
    assert student.model == read("vdt-tiny-synth").model


@pytest.mark.parametrize("kind", ["", 'kind = "sgd"\n'])
def test_a_misspelled_key_is_told_as_it_was_written_with_what_was_meant(
    tmp_path: Path, kind: str
) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(
        '[model]\nvariant = "vit-tiny"\n[input]\nheight = 32\nwidth = 16\n'
        f"[optimiser]\n{kind}learning_rat = 1.0\n[run]\nsteps = 1\n"
    )
    with pytest.raises(
        SettingsError,
        match=r"recipe.toml: optimiser\.learning_rat: unknown key, "
        r"did you mean optimiser\.learning_rate\?$",
    ):
        recipe.read(file)
