import contextlib
import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from skyreid.contract.errors import InputError, SettingsError
from skyreid.contract.input_spec import InputSpec, fit
from skyreid.train import checkpoint, serving
from skyreid.train.__main__ import main
from skyreid.train.fit import distil
from skyreid.train.fit.ema import Average
from skyreid.train.models import variants
from skyreid.train.models.method import Method
from skyreid.train.recipe import DistilSection

SPEC = InputSpec(height=32, width=32)
TRUNK = {"dim": 48, "depth": 2, "heads": 3, "stride": 8, "drop_path": 0.0}
OPTIONS = {
    "visa": {"experts": 2, "top_k": 1, "prompt_length": 2, "graph_top_k": 4},
    "secap": {"prompts": 3},
    "dtst": {"samples": 20},
}
HELD_OUT = ["1/a", "2/b"]
FITTED = ["3/c", "4/d", "5/e"]


def method(name: str, spec: InputSpec = SPEC, **trunk: float) -> Method:
    torch.manual_seed(1)
    config = settings(name, spec, **trunk)
    return variants.construct(config)


def settings(name: str, spec: InputSpec = SPEC, **trunk: float) -> dict[str, object]:
    return variants.variant(
        f"{name}-tiny",
        height=spec.height,
        width=spec.width,
        people=3,
        trunk={**TRUNK, **trunk},
        options=OPTIONS.get(name, {}),
    )


def batch() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(2)
    return torch.randn(6, 3, 32, 32), torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([1, 0] * 3)


def saved(path: Path, name: str, spec: InputSpec = SPEC, **notes: object) -> Path:
    network = method(name, spec)
    with torch.no_grad():  # a neck that does something
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
    checkpoint.save(
        path,
        kind="embedder",
        config={**settings(name, spec), "fitted": FITTED, "held_out": HELD_OUT, **notes},
        state=network.state_dict(),
        input_spec=spec,
    )
    return path


def teach(path: Path) -> tuple[distil.Teacher, ...]:
    return distil.read([path], HELD_OUT)


@pytest.mark.parametrize("name", ["vit", "vdt", "visa", "secap", "gsalign", "dtst"])
def test_what_is_compared_is_the_embedding_the_loss_was_made_of(name: str) -> None:
    network = method(name).train()
    images, people, views = batch()
    torch.manual_seed(3)
    with distil.watched(network.embedding_heads) as found:
        network.losses(images, people, views)
    torch.manual_seed(3)
    torch.testing.assert_close(torch.cat(found, 1), network(images, views), atol=1e-5, rtol=1e-4)


def test_a_student_without_such_a_head_is_refused() -> None:
    with pytest.raises(SettingsError, match="clip-reid cannot learn from a teacher"):
        distil.Distilled(method("clip-reid"), (), SPEC, DistilSection())


@pytest.mark.parametrize("name", ["vdt", "visa"])
def test_a_teacher_embeds_each_crop_in_the_form_of_its_view(name: str, tmp_path: Path) -> None:
    (teacher,) = teach(saved(tmp_path / "teacher", name))
    images, _, views = batch()
    found = teacher.embed(images, views, SPEC)
    network = variants.construct(settings(name))
    checkpoint.fill(network, checkpoint.load(tmp_path / "teacher").state)
    with torch.no_grad():
        wanted = nn.functional.normalize(network.eval()(images, views), dim=1)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    assert teacher.dim == found.shape[1]
    if network.needs_view:
        assert not torch.allclose(teacher.embed(images, 1 - views, SPEC), wanted, atol=1e-3)
    one_sided = teacher.embed(images, torch.ones_like(views), SPEC)
    torch.testing.assert_close(one_sided[views == 1], wanted[views == 1], atol=1e-5, rtol=1e-4)


def test_a_crop_is_resized_and_normalised_for_the_teacher_as_the_reference_would() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (40, 24, 3), dtype=torch.uint8, generator=generator)
    mine = InputSpec(height=40, width=24)
    for height, width in ((64, 48), (20, 12)):
        theirs = InputSpec(height=height, width=width, mean=(120, 110, 100), std=(58, 57, 56))
        normal = (pixels.permute(2, 0, 1)[None].float() - 127.5) / 127.5
        found = distil.as_input(normal, mine, theirs)
        bytes_ = torch.from_numpy(fit(pixels.numpy(), theirs)).permute(2, 0, 1).float()
        mean, std = (torch.tensor(v)[:, None, None] for v in (theirs.mean, theirs.std))
        off = ((found[0] - (bytes_ - mean) / std) * std).abs()
        assert float(off.max()) < 0.6  # half a grey level of rounding
    assert distil.as_input(normal, mine, mine) is normal


def test_the_embedding_loss_is_that_of_a_naive_loop() -> None:
    torch.manual_seed(0)
    mine, taught = torch.randn(5, 7), nn.functional.normalize(torch.randn(5, 7), dim=1)
    cosine = l2 = 0.0
    for row, other in zip(mine.double().tolist(), taught.double().tolist(), strict=True):
        length = math.sqrt(sum(a * a for a in row))
        cosine += (1 - sum(a * b for a, b in zip(row, other, strict=True)) / length) / 5
        l2 += sum((a - b) ** 2 for a, b in zip(row, other, strict=True)) / 5
    assert distil.embedding_loss(mine, taught, "cosine").item() == pytest.approx(cosine, rel=1e-5)
    assert distil.embedding_loss(mine, taught, "l2").item() == pytest.approx(l2, rel=1e-5)


@pytest.mark.parametrize("views", [[1, 0, 0, 1, 1], [1, 1, 1, 1, 1], [1, 0]])
def test_the_relation_loss_is_that_of_a_naive_loop(views: list[int]) -> None:
    torch.manual_seed(0)
    count = len(views)
    mine = nn.functional.normalize(torch.randn(count, 4, dtype=torch.float64), dim=1)
    taught = nn.functional.normalize(torch.randn(count, 9, dtype=torch.float64), dim=1)
    groups: dict[bool, list[float]] = {True: [], False: []}
    for i in range(count):
        for j in range(count):
            if i != j:
                difference = float(mine[i] @ mine[j] - taught[i] @ taught[j])
                groups[views[i] == views[j]].append(difference**2)
    means = [sum(group) / len(group) for group in groups.values() if group]
    found = distil.relation_loss(mine, taught, torch.tensor(views))
    assert found.item() == pytest.approx(sum(means) / len(means), rel=1e-9)


def test_distilled_losses_are_the_student_s_and_the_two_terms(tmp_path: Path) -> None:
    teachers = (
        *teach(saved(tmp_path / "one", "visa")),
        *teach(saved(tmp_path / "two", "vit", InputSpec(height=48, width=32))),
    )
    images, people, views = batch()
    plain = method("vdt").train().losses(images, people, views)
    section = DistilSection(embedding_weight=2.0, relation_weight=5.0)
    trained = distil.Distilled(method("vdt"), teachers, SPEC, section).train()
    terms = trained.losses(images, people, views)
    assert set(terms) == {*plain, "taught_embedding", "taught_relation"}
    for name, value in plain.items():
        torch.testing.assert_close(terms[name], value)
    embedding = nn.functional.normalize(method("vdt").train()(images, views), dim=1)
    sides = [t.embed(images, views, SPEC) for t in teachers]
    taught = torch.cat(sides, 1) / math.sqrt(2)
    torch.testing.assert_close(taught @ taught.T, sum(s @ s.T for s in sides) / 2)
    assert trained.map is not None
    torch.testing.assert_close(
        terms["taught_embedding"],
        2 * distil.embedding_loss(trained.map(embedding), taught, "cosine"),
    )
    torch.testing.assert_close(
        terms["taught_relation"], 5 * distil.relation_loss(embedding, taught, views)
    )


def test_a_teacher_is_neither_trained_nor_saved_nor_put_into_training_mode(tmp_path: Path) -> None:
    teachers = teach(saved(tmp_path / "teacher", "vdt"))
    trained = distil.Distilled(method("vit"), teachers, SPEC, DistilSection()).train()
    assert not teachers[0].forms["aerial"].training
    assert trained.map is None  # both are 48 wide: the student's embedding becomes the teacher's
    assert {name.partition(".")[0] for name in trained.state_dict()} == {"student"}
    images, people, views = batch()
    before = teachers[0].embed(images, views, SPEC)
    sum(trained.losses(images, people, views).values()).backward()
    assert all(p.grad is None for p in teachers[0].forms["aerial"].parameters())
    assert torch.equal(before, teachers[0].embed(images, views, SPEC))


def test_a_student_moves_towards_its_teacher(tmp_path: Path) -> None:
    network = method("visa").train()
    images, people, views = batch()
    with torch.no_grad():  # a neck that knows its pictures, as that of a trained teacher does
        for _ in range(30):
            network(images, views)
    checkpoint.save(
        tmp_path / "teacher",
        kind="embedder",
        config={**settings("visa"), "fitted": FITTED, "held_out": HELD_OUT},
        state=network.state_dict(),
        input_spec=SPEC,
    )
    teachers = teach(tmp_path / "teacher")
    trained = distil.Distilled(method("vdt"), teachers, SPEC, DistilSection()).train()
    optimiser = torch.optim.AdamW(trained.parameters(), lr=3e-3)
    seen = []
    for _ in range(30):
        terms = trained.losses(images, people, views)
        seen.append((terms["taught_embedding"].item(), terms["taught_relation"].item()))
        optimiser.zero_grad()
        (terms["taught_embedding"] + terms["taught_relation"]).backward()
        optimiser.step()
    assert seen[-1][0] < 0.4 * seen[0][0]
    assert seen[-1][1] < 0.3 * seen[0][1]


def test_a_teacher_that_knows_the_held_out_people_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "teacher", "vit", fitted=[*FITTED, HELD_OUT[1]])
    with pytest.raises(InputError, match="fitted on 1 of the people who are held out now"):
        teach(path)
    assert teach(saved(tmp_path / "stranger", "vit", fitted=["of another data set"]))


def test_what_is_no_embedder_cannot_teach(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "x", kind="detector", config={}, state={}, input_spec=SPEC)
    with pytest.raises(InputError, match="is a detector"):
        teach(tmp_path / "x")


RECIPE = """
model = { variant = "VARIANT", trunk = { depth = 2 } }
input = { height = 32, width = 16 }
batch = { people = 4, crops = 4 }
run = { steps = 3, held_out_people = 2, evaluate_every = 3, seed = SEED }
"""


def run(tree: Path, folder: Path, name: str, *more: str, text: str = RECIPE, seed: int = 0) -> int:
    path = folder / f"{name}.toml"
    path.write_text(text.replace("SEED", str(seed)))
    out = str(folder / name)
    return main(["fit", str(path), "--data", str(tree), "--out", out, *more])


def test_fit_distils_a_teacher_and_keeps_its_digest(
    tiny_tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher_text = RECIPE.replace("VARIANT", "vit-tiny")
    student_text = (
        RECIPE.replace("VARIANT", "vdt-tiny").replace("depth = 2", "depth = 2, dim = 96")
        + "distil = { embedding_weight = 2.0 }\n"
    )
    assert run(tiny_tree, tmp_path, "teacher", text=teacher_text) == 0
    best = str(tmp_path / "teacher" / "best.safetensors")
    assert run(tiny_tree, tmp_path, "student", "--teacher", best, text=student_text) == 0
    student = checkpoint.load(tmp_path / "student" / "last.safetensors")
    assert student.config["teachers"] == [checkpoint.load(Path(best)).sha256]
    serving.build(student)  # a plain embedder, with nothing of the teacher in it
    capsys.readouterr()
    assert run(tiny_tree, tmp_path, "alone", text=student_text) == 2
    assert "give --teacher" in capsys.readouterr().err
    assert run(tiny_tree, tmp_path, "other", "--teacher", best, text=student_text, seed=4) == 2
    assert "held out now" in capsys.readouterr().err
    json.dumps(student.config)


def test_an_interrupted_distillation_goes_on_to_the_same_bytes(
    tiny_tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(tiny_tree, tmp_path, "teacher", text=RECIPE.replace("VARIANT", "vit-tiny")) == 0
    best = str(tmp_path / "teacher" / "best.safetensors")
    text = (
        RECIPE.replace("VARIANT", "vdt-tiny")
        .replace("depth = 2", "depth = 2, dim = 96")
        .replace("steps = 3,", "steps = 5, save_every = 2,")
        .replace("evaluate_every = 3", "evaluate_every = 5")
    )
    text += 'distil = {}\noptimiser = { kind = "sgd", warmup_steps = 2 }\n'
    text += "augment = { pad = 2, black_border = true, erase_tries = 10, augmix = 0.5 }\n"
    assert run(tiny_tree, tmp_path, "unbroken", "--teacher", best, text=text) == 0
    update, steps = Average.update, []

    def interrupted(self: Average, network: nn.Module) -> None:
        steps.append(1)
        if len(steps) == 4:
            raise KeyboardInterrupt
        update(self, network)

    with monkeypatch.context() as patch:
        patch.setattr(Average, "update", interrupted)
        with contextlib.suppress(KeyboardInterrupt):
            run(tiny_tree, tmp_path, "broken", "--teacher", best, text=text)
    assert len(steps) == 4
    assert not (tmp_path / "broken" / "last.safetensors").exists()
    assert run(tiny_tree, tmp_path, "broken", "--teacher", best, text=text) == 0
    left = [(tmp_path / name / "last.safetensors").read_bytes() for name in ("unbroken", "broken")]
    assert left[0] == left[1]
