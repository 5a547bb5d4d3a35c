import math
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from skyreid.contract.errors import InputError, SettingsError
from skyreid.train import recipe
from skyreid.train.fit import optimise
from skyreid.train.fit.optimise import Length, learning_rate
from skyreid.train.recipe import AdamSection, AdamwSection, RunSection, SgdSection


def test_the_learning_rate_warms_up_by_step_and_falls_to_zero_by_share() -> None:
    section = AdamwSection(learning_rate=1.0, warmup_steps=10)
    run = Length(1000, 100)
    assert learning_rate(section, run, 5, 0.0) == pytest.approx(0.5)
    assert learning_rate(section, run, 10, 0.0) == pytest.approx(1.0)
    assert learning_rate(section, run, 500, 0.5) == pytest.approx(0.5)
    assert learning_rate(section, run, 1000, 1.0) == pytest.approx(0.0)


def test_sgd_begins_with_no_momentum_where_fp16_overflows_in_the_first_step() -> None:
    for _ in range(20):  # what was not filled is often 0 by chance
        network = nn.Linear(64, 64)
        optimiser = optimise.sgd(network, SgdSection(kind="sgd", learning_rate=1.0))
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        before = network.weight.detach().clone()
        for gradient in (math.inf, 1.0):
            for parameter in network.parameters():
                parameter.grad = torch.full_like(parameter, scaler.get_scale() * gradient)
            scaler.scale(torch.zeros(()))
            scaler.step(optimiser)
            scaler.update()
        decay = 1e-4 * before
        torch.testing.assert_close(network.weight.detach(), before - (1.0 + decay))
        torch.empty(64, 64).fill_(1e30)  # for the allocator to hand out again


def published_rates(epochs: int, epoch_steps: int, warmup: int) -> list[float]:
    """Every step's rate by torch's own schedules, stepped as the published trainer does."""
    parameter = nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=0.008)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimiser, T_max=epochs - math.ceil(warmup / epoch_steps), eta_min=1.6e-6
    )
    rates = []
    done = 0
    group = optimiser.param_groups[0]
    group["lr"] = 0.008 * 0.01
    for _ in range(epochs):
        for _ in range(epoch_steps):
            rates.append(group["lr"])
            optimiser.step()
            done += 1
            if done <= warmup:  # the warm-up's own schedule, a step at a time
                share = done / warmup
                group["lr"] = 0.008 * (0.01 * (1 - share) + share)
        if done >= warmup:
            cosine.step()
    return rates


@pytest.mark.parametrize(
    ("epochs", "epoch_steps", "warmup"),
    [(12, 401, 2000), (14, 200, 2000), (9, 7, 20), (6, 50, 3)],
)
def test_the_published_schedule_has_the_same_rate_at_every_step(
    epochs: int, epoch_steps: int, warmup: int
) -> None:
    section = SgdSection(kind="sgd", warmup_steps=warmup)
    run = Length(epochs * epoch_steps, epoch_steps)
    rates = [learning_rate(section, run, step, 0.0) for step in range(1, run.steps + 1)]
    assert rates == pytest.approx(published_rates(epochs, epoch_steps, warmup), rel=1e-9)


def test_the_published_schedule_on_cargo_by_hand() -> None:
    section = SgdSection(kind="sgd")
    run = optimise.length(RunSection(epochs=120), 51_451, 128)
    assert run == Length(120 * 401, 401)

    def rate(done: int) -> float:
        return learning_rate(section, run, done + 1, 0.0)

    assert rate(0) == pytest.approx(8e-5)
    assert rate(1000) == pytest.approx(0.008 * 0.505)
    assert rate(2000) == pytest.approx(0.008)
    assert rate(2004) == pytest.approx(0.008)  # the fifth epoch ends at 2,005
    first = 1.6e-6 + (0.008 - 1.6e-6) * 0.5 * (1 + math.cos(math.pi / 115))
    assert rate(2005) == rate(2405) == pytest.approx(first)
    assert rate(119 * 401) == rate(run.steps - 1) == pytest.approx(1.6e-6)


def test_a_run_that_ends_within_its_warm_up_has_no_cosine() -> None:
    section = SgdSection(kind="sgd", warmup_steps=100)
    assert learning_rate(section, Length(60, 30), 60, 1.0) == pytest.approx(
        0.008 * (0.01 * 0.41 + 0.59)
    )


def test_clip_reid_s_rates_warm_up_by_epoch_and_fall_at_their_milestones() -> None:
    section = AdamSection(kind="adam")
    run = Length(60 * 10, 10)
    by_epoch = [learning_rate(section, run, 10 * epoch + 1, 0.0) for epoch in range(60)]
    for epoch in range(1, 61):
        wanted = 5e-6
        if epoch < 10:
            wanted *= 0.1 + 0.9 * epoch / 10
        if epoch >= 30:
            wanted *= 0.1
        if epoch >= 50:
            wanted *= 0.1
        assert by_epoch[epoch - 1] == pytest.approx(wanted), epoch


class Little(nn.Module):
    """One parameter of every kind that is told apart, and one nothing reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.ones(1, 1, 4))
        self.linear = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.neck = nn.BatchNorm1d(4)
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.dead = nn.Parameter(torch.ones(2, 2))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        tokens = self.norm(self.linear(rows)) + self.cls_token
        mixed: torch.Tensor = self.neck(self.attention(tokens, tokens, tokens)[0][0])
        return mixed


def little() -> Little:
    torch.manual_seed(0)
    return Little()


def stepped(network: Little, section: SgdSection, optimiser: torch.optim.Optimizer) -> None:
    torch.manual_seed(1)
    optimiser.zero_grad()
    (1e3 * (network(torch.randn(1, 6, 4)) ** 3).sum()).backward()
    optimise.clip(optimiser, section)
    optimiser.step()


def test_published_sgd_moves_every_parameter_as_its_formula_says() -> None:
    section = SgdSection(kind="sgd")
    network = little()
    optimiser = optimise.build(network, section)
    optimise.set_rate(optimiser, 0.1)
    before = {name: p.detach().double() for name, p in network.named_parameters()}
    velocity: dict[str, torch.Tensor] = {}
    small = {name for name in before if name.startswith(("norm.", "neck."))}
    small |= {"linear.bias", "attention.out_proj.bias"}
    assert "attention.in_proj_bias" in before  # a bias by another name decays as a weight
    for _ in range(3):
        torch.manual_seed(1)
        network.zero_grad()
        (1e3 * (network(torch.randn(1, 6, 4)) ** 3).sum()).backward()
        gradients = {
            name: torch.zeros_like(p).double() if p.grad is None else p.grad.double()
            for name, p in network.named_parameters()
        }
        for names, decay in ((set(before) - small, 1e-4), (small, 5e-4)):
            names = names - {"frozen"}
            norm = math.sqrt(sum(float((gradients[n] ** 2).sum()) for n in names))
            assert norm > 5  # else nothing would be clipped
            for name in names:
                push = gradients[name] * 5 / (norm + 1e-6) + decay * before[name]
                velocity[name] = 0.9 * velocity[name] + push if name in velocity else push
                before[name] = before[name] - 0.1 * velocity[name]
        stepped(network, section, optimiser)
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(
                parameter.detach().double(), before[name], rtol=2e-5, atol=1e-6, msg=name
            )
    assert float(network.dead.detach()[0, 0]) < 1  # decayed though nothing reaches it
    assert float(network.frozen[0]) == 1


def test_adamw_clips_all_gradients_together_and_leaves_unreached_parameters_alone() -> None:
    section = AdamwSection(clip_norm=2.0)
    network = little()
    optimiser = optimise.build(network, section)
    (1e3 * (network(torch.randn(1, 6, 4)) ** 3).sum()).backward()
    optimise.clip(optimiser, section)
    grads = [p.grad for p in network.parameters() if p.grad is not None]
    assert math.sqrt(sum(float((g**2).sum()) for g in grads)) == pytest.approx(2.0, rel=1e-4)
    assert network.dead.grad is None


def test_adam_learns_biases_twice_as_fast_and_clips_nothing() -> None:
    section = AdamSection(kind="adam")
    network = little()
    optimiser = optimise.build(network, section)
    optimise.set_rate(optimiser, 1e-3)
    rates = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    assert rates[id(network.linear.weight)] == 1e-3
    assert rates[id(network.norm.bias)] == 2e-3
    assert rates[id(network.attention.in_proj_bias)] == 2e-3
    assert {group["weight_decay"] for group in optimiser.param_groups} == {1e-4}
    network.linear.weight.grad = torch.full((4, 4), 1e6)
    optimise.clip(optimiser, section)
    assert float(network.linear.weight.grad[0, 0]) == 1e6


def test_epochs_are_counted_in_whole_batches() -> None:
    assert optimise.length(RunSection(epochs=3), 1000, 64) == Length(45, 15)
    assert optimise.length(RunSection(steps=7), 1000, 64) == Length(7, 15)
    assert Length(7, 15).epochs == 1
    with pytest.raises(InputError, match="63 pictures do not fill one batch of 64"):
        optimise.length(RunSection(epochs=3), 63, 64)


def test_a_run_has_steps_or_epochs_and_not_both() -> None:
    with pytest.raises(ValidationError, match="exactly one"):
        RunSection()
    with pytest.raises(ValidationError, match="exactly one"):
        RunSection(steps=1, epochs=1)


MINIMAL = """
optimiser = { kind = "KIND" }
model = { variant = "vdt-tiny" }
input = { height = 32, width = 16 }
run = { epochs = 2, LIMIT }
"""


def test_a_recipe_names_its_optimiser_and_gets_its_published_defaults(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"

    def read(kind: str, limit: str = "seed = 0") -> recipe.Recipe:
        path.write_text(MINIMAL.replace("KIND", kind).replace("LIMIT", limit))
        return recipe.read(path)

    assert read("sgd").optimiser == SgdSection(kind="sgd")
    assert read("adam").optimiser == AdamSection(kind="adam")
    assert read("adamw").optimiser == AdamwSection()
    with pytest.raises(SettingsError, match="sgdd"):
        read("sgdd")
    with pytest.raises(SettingsError, match="time_limit_s cannot shorten"):
        read("sgd", "time_limit_s = 60.0")
