import numpy as np
import pytest
import torch
from torch import nn

from skyreid.train.models.experts import Expert, Router, ServingExperts, Source, routed

DIM, HEADS, EXPERTS, TOP_K = 12, 3, 5, 2


def group(source: Source) -> tuple[nn.ModuleList, Router]:
    torch.manual_seed(0)
    experts = nn.ModuleList(
        Expert(DIM, HEADS, prompt_length=4, mlp_ratio=2.0, source=source) for _ in range(EXPERTS)
    )
    router = Router(DIM, EXPERTS, TOP_K)
    for parameter in [*experts.parameters(), *router.parameters()]:
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return experts.double(), router.double()


def inputs(source: Source, count: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    feature = torch.randn(count, DIM, dtype=torch.float64)
    patches = torch.randn(count, 6, DIM, dtype=torch.float64)
    return feature, patches if source == "patches" else None


@pytest.mark.parametrize("source", ["vector", "patches"])
def test_sorting_by_expert_equals_asking_each_chosen_expert_for_each_picture(
    source: Source,
) -> None:
    experts, router = group(source)
    feature, patches = inputs(source, 7)
    with torch.no_grad():
        found, probabilities = routed(experts, router, feature, patches)
        logits = router.gate(feature).numpy()
        for i in range(7):
            best = np.argsort(-logits[i])[:TOP_K]
            weights = np.exp(logits[i][best]) / np.exp(logits[i][best]).sum()
            wanted = torch.zeros(4, DIM, dtype=torch.float64)
            for weight, index in zip(weights, best, strict=True):
                own = None if patches is None else patches[i : i + 1]
                wanted += weight * experts[index](feature[i : i + 1], own)[0]
            torch.testing.assert_close(found[i], wanted)
            every = np.exp(logits[i]) / np.exp(logits[i]).sum()
            np.testing.assert_allclose(probabilities[i].numpy(), every)


@pytest.mark.parametrize("source", ["vector", "patches"])
def test_all_experts_weighted_as_exported_equal_the_chosen_ones(source: Source) -> None:
    experts, router = group(source)
    feature, patches = inputs(source, 7)
    seen = torch.zeros(7, 6, DIM, dtype=torch.float64) if patches is None else patches
    with torch.no_grad():
        wanted, _ = routed(experts, router, feature, patches)
        served = ServingExperts(experts, router).double()
        torch.testing.assert_close(served(feature, seen), wanted, rtol=1e-6, atol=1e-6)


def test_attention_to_one_key_equals_the_shift_it_is_replaced_by() -> None:
    experts, _ = group("vector")
    feature, _ = inputs("vector", 2)
    expert = experts[0]
    with torch.no_grad():
        asked = expert.prompt.expand(2, -1, -1)
        literal = expert.prm.cross_attn(asked, feature[:, None], feature[:, None])
        wanted = expert.prm.settle(expert.prompt + literal)
        torch.testing.assert_close(expert(feature, None), wanted)


@pytest.mark.parametrize("count", [0, 1])
def test_an_expert_nobody_chose_gets_a_gradient_of_zero(count: int) -> None:
    experts, router = group("vector")
    feature, _ = inputs("vector", count)
    made, probabilities = routed(experts, router, feature, None)
    assert made.shape == (count, 4, DIM)
    assert probabilities.shape == (count, EXPERTS)
    (made.sum() + probabilities.sum()).backward()
    live = [p for p in experts.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in live)
    idle = [
        e for e in experts if all((p.grad == 0).all() for p in e.parameters() if p.grad is not None)
    ]
    assert len(idle) == EXPERTS - count * TOP_K
