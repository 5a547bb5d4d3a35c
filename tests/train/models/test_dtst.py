import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skyreid.contract.errors import SettingsError
from skyreid.train.authors import parity
from skyreid.train.models import variants
from skyreid.train.models.dtst import Dtst, DtstOptions, banked_top_k, perturbed_top_k
from skyreid.train.models.vdt import Vdt

SEED = 11
PEOPLE = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
VIEWS = torch.tensor([0, 1] * 4)
TRUNK = dict(dim=48, depth=4, heads=3, drop_path=0.0)
SELECTOR = "backbone.visual_token_selector."


def made(**options: Any) -> Dtst:
    torch.manual_seed(0)
    config = variants.variant(
        "dtst-tiny", height=64, width=32, people=4, trunk=TRUNK, options=options
    )
    network = variants.construct(config)
    assert isinstance(network, Dtst)
    with torch.no_grad():  # makes patches, and so scores, differ
        for parameter in network.backbone.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return network


@pytest.fixture(scope="module")
def recorded(shared: Path) -> dict[str, np.ndarray[Any, Any]]:
    with np.load(shared / "parity" / f"dtst.seed{SEED}.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def drawn(shared: Path) -> dict[str, torch.Tensor]:
    keys = json.loads((shared / "parity" / "dtst.keys.json").read_text())
    assert len(keys) == 172
    return parity.draw(keys, SEED)


def published(drawn: dict[str, torch.Tensor], **options: Any) -> Dtst:
    """The base network with the drawn weights."""
    config = variants.variant("dtst-base", height=256, width=128, people=2500, options=options)
    network = variants.construct(config)
    network.load_state_dict(drawn, strict=True, assign=True)
    assert isinstance(network, Dtst)
    return network.eval()


@pytest.mark.parametrize(
    ("after_block", "embedding", "selected"),
    [
        ("middle", "embedding", "selected"),
        (10, "embedding_after10", "selected_after10"),
        (11, "embedding_released", None),
        (None, "embedding_released", None),
    ],
)
def test_wherever_the_selector_stands_both_forms_give_the_recorded_output(
    drawn: dict[str, torch.Tensor],
    recorded: dict[str, np.ndarray[Any, Any]],
    after_block: int | str | None,
    embedding: str,
    selected: str | None,
) -> None:
    network = published(drawn, after_block=after_block)
    images = parity.normalised(recorded["images"])
    with torch.inference_mode():
        training = network(images, torch.zeros(4, dtype=torch.int64)).numpy()
        export = network.serving(None)(images).numpy()
        for found in (training, export):
            assert parity.agreement(found, recorded[embedding]).holds
        if selected is not None:
            scores, weights = network.selection(images)
            np.testing.assert_array_equal(weights.argmax(-1).numpy(), recorded[selected])
            np.testing.assert_array_equal(weights.amax(-1).numpy(), 1)
            if after_block == "middle":
                np.testing.assert_allclose(scores.numpy(), recorded["scores"], rtol=0, atol=1e-6)


def naive(
    scores: torch.Tensor, noise: torch.Tensor, k: int, sigma: float, onto: torch.Tensor
) -> tuple[list[Any], list[Any]]:
    """Rows and the gradient of (rows * onto).sum() by loops over images and draws."""
    batch, samples, patches = noise.shape
    rows = np.zeros((batch, k, patches))
    gradient = np.zeros((batch, patches))
    for b in range(batch):
        for s in range(samples):
            noisy = [float(scores[b, p] + sigma * noise[b, s, p]) for p in range(patches)]
            best = sorted(sorted(range(patches), key=lambda p: -noisy[p])[:k])
            for r, patch in enumerate(best):
                rows[b, r, patch] += 1 / samples
                for p in range(patches):
                    worth = float(onto[b, r, patch] * noise[b, s, p])
                    gradient[b, p] += worth / (samples * sigma)
    return rows.tolist(), gradient.tolist()


@settings(max_examples=20)
@given(st.integers(0, 2**31 - 1), st.integers(1, 4))
def test_perturbed_top_k_and_its_gradient_equal_loops_over_draws(seed: int, k: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    scores, noise, onto = draw(2, 6).requires_grad_(), draw(2, 7, 6), draw(2, k, 6)
    rows = perturbed_top_k(scores, noise, k, 0.3)
    (rows * onto).sum().backward()
    wanted_rows, wanted_gradient = naive(scores.detach(), noise, k, 0.3, onto)
    assert scores.grad is not None
    np.testing.assert_allclose(rows.detach(), wanted_rows, rtol=0, atol=1e-12)
    np.testing.assert_allclose(scores.grad, wanted_gradient, rtol=0, atol=1e-9)


def normal_cdf(x: np.ndarray[Any, Any] | float) -> Any:
    return 0.5 * (1 + np.vectorize(math.erf)(np.asarray(x) / math.sqrt(2)))


def expected_rows(scores: np.ndarray[Any, Any], sigma: float) -> np.ndarray[Any, Any]:
    """E[rows] for the top 2 of 3, by who is the smallest: one integral for each."""
    x = np.linspace(-8, 8, 4001)
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) * (x[1] - x[0])
    smallest = np.empty(3)
    for i in range(3):
        j, m = (n for n in range(3) if n != i)
        above = [1 - normal_cdf(x + (scores[i] - scores[n]) / sigma) for n in (j, m)]
        smallest[i] = (density * above[0] * above[1]).sum()
    # Without 0 the pair is (1, 2), without 1 it is (0, 2), without 2 it is (0, 1).
    first = [smallest[1] + smallest[2], smallest[0], 0]
    second = [0, smallest[2], smallest[0] + smallest[1]]
    return np.array([first, second])


def test_many_draws_come_to_the_expectation_and_its_slope() -> None:
    sigma, onto = 0.05, np.array([[0.7, -1.0, 0.0], [0.0, 0.4, 1.3]])
    at = np.array([0.02, -0.03, 0.05])
    torch.manual_seed(0)
    scores = torch.from_numpy(at)[None].requires_grad_()
    rows = perturbed_top_k(scores, torch.randn(1, 400_000, 3, dtype=torch.float64), 2, sigma)
    (rows * torch.from_numpy(onto)).sum().backward()
    np.testing.assert_allclose(rows[0].detach(), expected_rows(at, sigma), atol=4e-3)
    step = 1e-4
    slopes = [
        ((expected_rows(at + step * e, sigma) - expected_rows(at - step * e, sigma)) * onto).sum()
        / (2 * step)
        for e in np.eye(3)
    ]
    assert scores.grad is not None
    assert max(map(abs, slopes)) > 5  # the tolerance means something
    np.testing.assert_allclose(scores.grad[0], slopes, atol=0.2)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_the_form_for_a_noise_bank_equals_the_one_to_train(k: int) -> None:
    torch.manual_seed(k)
    scores, bank = 0.1 * torch.randn(3, 9), torch.randn(40, 9)
    wanted = perturbed_top_k(scores, bank.expand(3, -1, -1), k, 0.05)
    torch.testing.assert_close(banked_top_k(scores, bank, k, 0.05), wanted)


def test_scores_closer_than_the_noise_select_the_upper_and_the_lower_half_not_two_patches() -> None:
    torch.manual_seed(0)
    rows = perturbed_top_k(torch.zeros(1, 16), torch.randn(1, 100_000, 16), 2, 0.05)[0]
    places = torch.arange(16.0)
    torch.testing.assert_close(rows[0], (15 - places) / 120, rtol=0, atol=3e-3)
    torch.testing.assert_close(rows[1], places / 120, rtol=0, atol=3e-3)


def test_a_score_looks_at_its_token_and_at_the_mean_of_all_leading_ones_included() -> None:
    selector = made().backbone.visual_token_selector.eval()
    predictor = selector.score_predictor
    tokens = torch.randn(2, 10, 48)
    with torch.no_grad():
        local = predictor.attention(predictor.in_conv(tokens))
        mean = local.mean(1, keepdim=True).expand_as(local)
        literal = predictor.out_conv(torch.cat([local, mean], dim=-1))[..., 0]
        torch.testing.assert_close(selector.scores(tokens), literal[:, 2:])
        assert predictor.in_conv[0].eps == 1e-5


def test_the_selector_passes_cls_and_view_and_takes_patches_from_its_input() -> None:
    selector = made(k=3).backbone.visual_token_selector.eval()
    tokens = torch.randn(2, 10, 48)
    with torch.no_grad():
        out = selector(tokens)
        best = selector.scores(tokens).topk(3).indices
    torch.testing.assert_close(out[:, :2], tokens[:, :2], rtol=0, atol=0)
    for b in range(2):
        torch.testing.assert_close(out[b, 2:], tokens[b, 2 + best[b]], rtol=0, atol=0)


def test_selection_lies_between_its_block_and_that_blocks_subtraction() -> None:
    network = made(after_block=1).eval()
    shown: list[torch.Tensor] = []
    produced: list[torch.Tensor] = []
    selector, block = network.backbone.visual_token_selector, network.backbone.blocks[1]
    selector.register_forward_pre_hook(lambda _, given: shown.append(given[0]))
    block.register_forward_hook(lambda _, given, out: produced.append(out))
    with torch.no_grad():
        network(torch.randn(1, 3, 64, 32), VIEWS[:1])
    assert len(shown) == 1
    assert shown[0] is produced[0]


@pytest.mark.parametrize("after_block", [None, 3])
def test_where_nobody_reads_patches_it_is_vdt_to_the_last_bit_and_frozen(
    after_block: int | None,
) -> None:
    network = made(after_block=after_block).eval()
    control = variants.construct(
        variants.variant("vdt-tiny", height=64, width=32, people=4, trunk=TRUNK)
    ).eval()
    assert isinstance(control, Vdt)
    state = network.state_dict()
    control.load_state_dict({k: v for k, v in state.items() if not k.startswith(SELECTOR)})
    images = torch.randn(2, 3, 64, 32)
    served = network.serving(None)
    with torch.inference_mode():
        wanted = control(images, VIEWS[:2])
        torch.testing.assert_close(network(images, VIEWS[:2]), wanted, rtol=0, atol=0)
        torch.testing.assert_close(served(images), control.serving(None)(images), rtol=0, atol=0)
    assert set(served.state_dict()) == set(control.serving(None).state_dict())
    assert not any(p.requires_grad for p in network.backbone.visual_token_selector.parameters())
    with pytest.raises(SettingsError, match="selects nothing"):
        network.selection(images)


def test_in_the_middle_every_weight_of_the_selector_is_taught() -> None:
    network = made().train()
    torch.stack(
        list(network.losses(torch.randn(8, 3, 64, 32), PEOPLE, VIEWS).values())
    ).sum().backward()
    gradients = {
        name: parameter.grad
        for name, parameter in network.named_parameters()
        if name.startswith(SELECTOR)
    }
    assert len(gradients) == 9
    assert all(g is not None and g.abs().max() > 0 for g in gradients.values())


def test_training_draws_new_noise_and_evaluation_none() -> None:
    images = torch.randn(2, 3, 64, 32)
    network = made()
    with torch.no_grad():
        first, second = (network.train().backbone(images) for _ in range(2))
        assert not torch.equal(first, second)
        for options in ({}, {"eval": "soft"}):
            network = made(**options).eval()
            first, second = (network(images, VIEWS[:2]) for _ in range(2))
            torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_the_noise_bank_is_the_same_everywhere_and_in_no_state_dict() -> None:
    network, other = made(eval="soft"), made(eval="soft")
    bank = network.backbone.visual_token_selector.bank
    assert bank is not None
    assert bank.shape == (500, 8)
    torch.testing.assert_close(bank, other.backbone.visual_token_selector.bank, rtol=0, atol=0)
    assert set(network.state_dict()) == set(made().state_dict())


def test_soft_evaluation_comes_near_fresh_noise_and_hard_is_another_thing() -> None:
    images = torch.randn(4, 3, 64, 32)
    soft, hard = made(eval="soft", samples=4000).eval(), made().eval()
    fresh = made(samples=4000).eval()
    fresh.backbone.visual_token_selector.train()
    with torch.no_grad():
        banked, drawn, chosen = (n(images, VIEWS[:4]) for n in (soft, fresh, hard))
    assert (banked - drawn).norm() < 0.1 * (banked - chosen).norm()


@pytest.mark.parametrize("options", [{}, {"eval": "soft"}, {"after_block": 0, "k": 3}])
def test_the_form_to_serve_equals_the_one_to_train_also_for_one_picture(
    options: dict[str, Any],
) -> None:
    network = made(**options).eval()
    images = torch.randn(3, 3, 64, 32)
    with torch.inference_mode():
        wanted = network(images, VIEWS[:3])
        torch.testing.assert_close(network.serving(None)(images), wanted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(network(images[:1], VIEWS[:1]), wanted[:1])


def test_scores_stay_in_float32_under_autocast() -> None:
    network = made().eval()
    images = torch.randn(2, 3, 64, 32)
    tokens = torch.randn(2, 10, 48)
    selector = network.backbone.visual_token_selector
    with torch.no_grad():
        wanted = selector.scores(tokens)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = selector.scores(tokens)
            assert network(images, VIEWS[:2]).isfinite().all()
            terms = network.train().losses(images.repeat(4, 1, 1, 1), PEOPLE, VIEWS)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    assert all(term.isfinite() for term in terms.values())


def test_the_selector_keeps_torchs_initialisation() -> None:
    network = variants.construct(
        variants.variant("dtst-tiny", height=64, width=32, people=4, trunk=TRUNK)
    )
    assert isinstance(network, Dtst)
    linear = network.backbone.visual_token_selector.score_predictor.attention.query
    assert isinstance(linear, nn.Linear)
    bound = 1 / math.sqrt(24)  # uniform to +-1 / sqrt(inputs), where the trunk is normal at .02
    assert 0.8 * bound < linear.weight.abs().max() <= bound


@pytest.mark.filterwarnings("ignore")  # the exporter's, about its own internals
@pytest.mark.parametrize("eval", ["hard", "soft"])
def test_the_exported_graph_computes_the_same_without_operators_that_targets_lack(
    exported: Callable[..., Any], eval: str
) -> None:
    graph = exported(made(eval=eval, samples=20).serving(None))
    assert "TopK" in graph.operators
    assert graph.lacks("Scatter", "NonZero", "Loop", "If", "Att")
    graph.agrees(rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("depth", "block"), [(12, 9), (4, 1), (3, 0), (2, 0), (1, None)])
def test_the_middle_is_the_third_block_from_the_last(depth: int, block: int | None) -> None:
    assert DtstOptions().block_of(depth) == block


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"after_block": 4}, "after_block is 4, the last block is 3"),
        ({"after_block": -1}, "after_block.*-1"),
        ({"after_block": "end"}, "after_block.*'end'"),
        ({"k": 0}, "k: .* 1 .got 0."),
        ({"k": 9}, "k is 9, the picture has 8 patches"),
        ({"heads": 5}, "heads is 5"),
        ({"samples": 0}, "samples: .*got 0"),
        ({"sigma": 0.0}, "sigma: .*got 0.0"),
        ({"eval": "both"}, "eval: .*'both'"),
        ({"tokens": 2}, "tokens: unknown key"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        made(**options)
