"""A batch in parts has the gradient of the whole one, of batch-hard terms and drop path too."""

from typing import Any

import pytest
import torch
from torch import Tensor

from skyreid.contract.errors import SettingsError
from skyreid.train.fit import accumulate
from skyreid.train.models import variants
from skyreid.train.models.method import Method
from skyreid.train.models.recompute import recompute

ROWS = slice(0, 8)
PEOPLE = torch.arange(8) // 2
VIEWS = torch.arange(8) % 2

NETWORKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "vit": ({}, {}),
    "vdt": ({}, {}),
    "dtst": ({}, {"k": 4, "samples": 20, "after_block": 0}),
    "secap": ({}, {"prompts": 4}),
    "visa": ({}, {"experts": 3, "graph_top_k": 4, "prompt_length": 2}),
    "clip-reid": ({"drop_path": 0.0, "dim": 64, "heads": 1}, {"text": False}),
}


def network_of(method: str, **trunk: Any) -> Method:
    torch.manual_seed(0)
    own, options = NETWORKS[method]
    config = variants.variant(
        f"{method}-tiny",
        height=32,
        width=32,
        people=4,
        trunk={"depth": 2, "dim": 48, "drop_path": 0.3, **own, **trunk},
        options=options,
    )
    return variants.construct(config).double().train()


def images() -> Tensor:
    return torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()


def gradients(network: Method, parts: int) -> tuple[dict[str, float], dict[str, Tensor], Tensor]:
    """The terms, the gradient of each parameter, and what torch draws next."""
    pictures = images()

    def see(rows: slice) -> dict[str, Tensor]:
        return network.see(pictures[rows], VIEWS[rows])

    torch.manual_seed(5)
    network.zero_grad()
    if parts == 1:
        terms = network.judge(see(ROWS), PEOPLE, VIEWS)
        torch.autograd.backward(torch.stack(list(terms.values())).sum())
    else:
        cut = accumulate.look(network, see, ROWS, parts)
        terms = network.judge(cut.seen, PEOPLE, VIEWS)
        torch.autograd.backward(torch.stack(list(terms.values())).sum())
        accumulate.learn(network, see, cut)
    found = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    return {name: term.item() for name, term in terms.items()}, found, torch.rand(3)


@pytest.mark.parametrize("method", NETWORKS)
def test_parts_of_a_batch_learn_what_the_whole_one_does(method: str) -> None:
    network = network_of(method)
    terms, whole, drawn = gradients(network, 1)
    for parts in (2, 4):
        again, found, drawn_then = gradients(network, parts)
        assert again == pytest.approx(terms, rel=1e-9)
        assert found.keys() == whole.keys()
        for name, gradient in whole.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-7, atol=1e-9, msg=name)
        assert torch.equal(drawn, drawn_then)


@pytest.mark.parametrize("method", ["vit", "clip-reid"])
def test_what_is_recomputed_is_learned_alike(method: str) -> None:
    network = network_of(method)
    _, whole, drawn = gradients(network, 1)
    assert recompute(network) == 2
    for parts in (1, 2):
        _, found, drawn_then = gradients(network, parts)
        for name, gradient in whole.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-7, atol=1e-9, msg=name)
        assert torch.equal(drawn, drawn_then)


def test_what_would_not_be_the_whole_batch_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"run.accumulate = 3 does not divide the 8 pictures"):
        accumulate.require(network_of("vit"), ROWS, 3)
    convolutional = network_of("vit", stem="conv", stride=16)
    accumulate.require(convolutional, ROWS, 1)
    with pytest.raises(SettingsError, match=r"stages.1 takes its statistics over what goes"):
        accumulate.require(convolutional, ROWS, 2)
