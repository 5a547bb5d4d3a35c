"""The two forms that bench/visa.py measures compute the same; otherwise its ratios say nothing."""

import pytest
import torch
import visa

SMALL = dict(dim=48, depth=3, heads=3, stride=16)
OPTIONS = dict(graph_top_k=10, prompt_length=4, experts=4)


def test_the_naive_form_and_ours_embed_alike() -> None:
    network = visa.make("tiny", 128, 64, **SMALL, options=OPTIONS)
    images = torch.randn(6, 3, 128, 64)
    assert visa.agree(network, images, torch.arange(6) % 2) < 1e-5
    with torch.no_grad():  # a form that differs must be noticed
        network.backbone.share_gcn.gcn_weights.add_(0.5)
        naive = visa.visa_naive.embed(network, images, torch.zeros(6, dtype=torch.int64))
        network.backbone.share_gcn.gcn_weights.sub_(0.5)
        ours = network(images, torch.zeros(6, dtype=torch.int64))
    assert (naive - ours).abs().max() > 1e-3


def test_a_training_step_has_the_same_losses_and_gradients_either_way() -> None:
    network = visa.make("tiny", 128, 64, **SMALL, options={**OPTIONS, "balance_weight": 0.0})
    images, people = torch.randn(8, 3, 128, 64), torch.arange(8) // 2
    views = torch.arange(8) % 2
    network.train()
    found = []
    for naive in (False, True):
        network.zero_grad()
        if naive:
            with visa.Naively(network):
                terms = network.losses(images, people, views)
        else:
            terms = network.losses(images, people, views)
        torch.autograd.backward(torch.stack(list(terms.values())).sum())
        grads = {
            name: parameter.grad.clone()
            for name, parameter in network.named_parameters()
            if parameter.grad is not None
        }
        found.append((terms, grads))
    (ours, mine), (theirs, naive_grads) = found
    for name, term in theirs.items():
        torch.testing.assert_close(ours[name], term, atol=1e-5, rtol=1e-5)
    for name, gradient in mine.items():
        if name in naive_grads:
            torch.testing.assert_close(gradient, naive_grads[name], atol=1e-5, rtol=1e-4)
        else:  # experts nobody chose: zero here, absent there
            assert not gradient.any(), name


def test_operations_are_counted_with_attention() -> None:
    from torch.nn import functional as F

    query = torch.zeros(2, 3, 5, 4)
    counted = visa.operations(lambda: F.scaled_dot_product_attention(query, query, query))
    assert counted == pytest.approx(2 * (2 * 3 * 5 * 5 * 4) / 1e9)
