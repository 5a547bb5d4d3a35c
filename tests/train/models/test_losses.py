import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skyreid.train.models import losses
from skyreid.train.models.method import AERIAL, GROUND

SEEDS = st.integers(0, 2**31 - 1)


def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    features = torch.from_numpy(rng.normal(0, 2, (12, 5)))
    people = torch.from_numpy(rng.permutation(np.repeat(np.arange(4), 3)))
    return features, people, torch.from_numpy(rng.integers(0, 2, 12))


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return math.sqrt(
        max(sum((x - y) ** 2 for x, y in zip(a.tolist(), b.tolist(), strict=True)), 1e-12)
    )


@settings(max_examples=20)
@given(SEEDS)
def test_batch_hard_triplet_equals_a_loop_over_explicit_triplets(seed: int) -> None:
    features, people, _ = batch(seed)
    terms = []
    for i, anchor in enumerate(features):
        others = [(j, distance(anchor, f)) for j, f in enumerate(features)]
        positive = max(d for j, d in others if people[j] == people[i])
        negative = min(d for j, d in others if people[j] != people[i])
        terms.append(math.log1p(math.exp(positive - negative)))
    wanted = sum(terms) / len(terms)
    assert losses.batch_hard_triplet(features, people).item() == pytest.approx(wanted, rel=1e-6)


@settings(max_examples=20)
@given(SEEDS, st.floats(0, 3))
def test_with_a_margin_the_triplet_is_a_hinge_over_the_same_triplets(
    seed: int, margin: float
) -> None:
    features, people, _ = batch(seed)
    wanted = 0.0
    for i, anchor in enumerate(features):
        others = [(j, distance(anchor, f)) for j, f in enumerate(features)]
        positive = max(d for j, d in others if people[j] == people[i])
        negative = min(d for j, d in others if people[j] != people[i])
        wanted += max(0.0, positive - negative + margin) / len(features)
    found = losses.batch_hard_triplet(features, people, margin=margin).item()
    assert found == pytest.approx(wanted, rel=1e-6)


def test_the_soft_margin_stays_finite_where_the_exponential_overflows() -> None:
    """Two far pairs of one person each, the nearest stranger next door: exp(1000) is no number."""
    features = torch.tensor([[0.0], [1000.0], [0.0], [1000.0]], requires_grad=True)
    loss = losses.batch_hard_triplet(features, torch.tensor([0, 0, 1, 1]))
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(1000)
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


@settings(max_examples=30)
@given(SEEDS)
def test_cross_view_triplet_equals_a_loop_that_skips_rows_without_a_counterpart(seed: int) -> None:
    features, people, views = batch(seed)
    terms = []
    for i, anchor in enumerate(features):
        others = [(j, distance(anchor, f)) for j, f in enumerate(features) if views[j] != views[i]]
        positives = [d for j, d in others if people[j] == people[i]]
        negatives = [d for j, d in others if people[j] != people[i]]
        if positives and negatives:
            terms.append(math.log1p(math.exp(max(positives) - min(negatives))))
    wanted = sum(terms) / len(terms) if terms else 0.0
    found = losses.cross_view_triplet(features, people, views).item()
    assert found == pytest.approx(wanted, rel=1e-6)


def test_cross_view_triplet_of_one_view_is_zero_with_finite_gradients() -> None:
    features = torch.randn(6, 4, requires_grad=True)
    people = torch.tensor([0, 0, 1, 1, 2, 2])
    loss = losses.cross_view_triplet(features, people, torch.zeros(6))
    torch.autograd.backward(loss)
    assert loss.item() == 0
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_triplet_gradients_are_finite_where_features_coincide() -> None:
    features = torch.ones(4, 3, requires_grad=True)
    torch.autograd.backward(losses.batch_hard_triplet(features, torch.tensor([0, 0, 1, 1])))
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.4])
def test_cross_entropy_shares_the_smoothing_among_the_wrong_classes_only(smoothing: float) -> None:
    logits = torch.from_numpy(np.random.default_rng(0).normal(0, 1, (5, 7)))
    classes = torch.tensor([0, 3, 6, 2, 2])
    wanted = 0.0
    for row, right in zip(logits.tolist(), classes.tolist(), strict=True):
        log_sum = math.log(sum(math.exp(v) for v in row))
        for index, value in enumerate(row):
            target = 1 - smoothing if index == right else smoothing / 6
            wanted -= target * (value - log_sum) / 5
    assert losses.cross_entropy(logits, classes, smoothing).item() == pytest.approx(
        wanted, rel=1e-9
    )


def test_rows_whose_term_is_zero_leave_the_mean_to_the_others() -> None:
    logits = torch.tensor([[100.0, 0.0], [0.0, 1.0], [0.0, 50.0], [2.0, 0.0]])
    classes = torch.tensor([0, 0, 1, 0])
    wanted = (math.log1p(math.exp(1)) + math.log1p(math.exp(-2))) / 2  # of rows 1 and 3
    assert losses.cross_entropy(logits, classes).item() == pytest.approx(wanted, rel=1e-6)


def test_cross_entropy_of_what_is_all_certain_is_zero_with_zero_gradients() -> None:
    logits = torch.tensor([[100.0, 0.0], [0.0, 100.0]], requires_grad=True)
    loss = losses.cross_entropy(logits, torch.tensor([0, 1]))
    torch.autograd.backward(loss)
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-6


def test_cross_entropy_of_views_wants_aerial_as_one() -> None:
    logits = torch.tensor([[0.0, 3.0], [3.0, 0.0]])
    wanted = math.log1p(math.exp(-3))
    found = losses.cross_entropy(logits, torch.tensor([AERIAL, GROUND])).item()
    assert found == pytest.approx(wanted, rel=1e-6)


def test_orthogonality_is_one_for_opposite_and_zero_for_perpendicular_rows() -> None:
    left = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    assert losses.orthogonality(left, -left).item() == pytest.approx(1)
    assert losses.orthogonality(left, left.roll(1, 1)).item() == pytest.approx(0)


@settings(max_examples=20)
@given(SEEDS)
def test_orthogonality_equals_a_loop_over_rows(seed: int) -> None:
    left, right = torch.from_numpy(np.random.default_rng(seed).normal(0, 2, (2, 6, 5)))
    wanted = 0.0
    for a, b in zip(left.tolist(), right.tolist(), strict=True):
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        wanted += abs(dot) / math.hypot(*a) / math.hypot(*b) / 6
    assert losses.orthogonality(left, right).item() == pytest.approx(wanted, rel=1e-9)


@settings(max_examples=20)
@given(SEEDS, st.integers(1, 9), st.integers(1, 8))
def test_balance_equals_a_loop_and_lies_between_one_and_the_number_of_experts(
    seed: int, samples: int, experts: int
) -> None:
    rows = np.random.default_rng(seed).dirichlet(np.full(experts, 0.3), samples)
    load = [sum(row[e] for row in rows.tolist()) / samples for e in range(experts)]
    wanted = experts * sum((p / (sum(load) + 1e-6)) ** 2 for p in load)
    found = losses.balance(torch.from_numpy(rows)).item()
    assert found == pytest.approx(wanted, rel=1e-9)
    assert 1 - 1e-5 < found < experts + 1e-5


def test_balance_without_a_sample_is_zero() -> None:
    assert losses.balance(torch.zeros(0, 4)).item() == 0


def test_gradients_of_every_term_are_those_of_its_values() -> None:
    features, people, views = batch(5)
    features.requires_grad_()
    logits = torch.randn(12, 4, dtype=torch.float64, requires_grad=True)
    other = torch.randn(12, 5, dtype=torch.float64, requires_grad=True)
    terms: list[tuple[Callable[..., torch.Tensor], tuple[torch.Tensor, ...]]] = [
        (lambda f: losses.batch_hard_triplet(f, people), (features,)),
        (lambda f: losses.batch_hard_triplet(f, people, margin=0.3), (features,)),
        (lambda f: losses.cross_view_triplet(f, people, views), (features,)),
        (lambda x: losses.cross_entropy(x, people), (logits,)),
        (lambda x: losses.cross_entropy(x, people, 0.1), (logits,)),
        (losses.orthogonality, (features, other)),
        (lambda x: losses.balance(x.softmax(1)), (logits,)),
    ]
    for term, inputs in terms:
        assert torch.autograd.gradcheck(term, inputs)
