import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skyreid.train.models import losses

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


@settings(max_examples=20, deadline=None)
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


@settings(max_examples=30, deadline=None)
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


def test_orthogonality_is_one_for_opposite_and_zero_for_perpendicular_rows() -> None:
    left = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    assert losses.orthogonality(left, -left).item() == pytest.approx(1)
    assert losses.orthogonality(left, left.roll(1, 1)).item() == pytest.approx(0)
