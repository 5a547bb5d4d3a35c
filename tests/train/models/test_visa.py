import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skyreid.contract.errors import InputError, SettingsError
from skyreid.train.authors import parity
from skyreid.train.models import variants
from skyreid.train.models.losses import LossOptions
from skyreid.train.models.visa import Visa

PEOPLE = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
VIEWS = torch.tensor([0, 1] * 4)
TRUNK = dict(dim=48, depth=2, heads=3, stride=16, drop_path=0.0)
OFF = dict(view_tokens=False, experts=0, local=False)
ABLATION: list[dict[str, Any]] = [
    OFF,
    {**OFF, "view_tokens": True},
    {**OFF, "local": True},
    {**OFF, "view_tokens": True, "local": True},
    dict(view_tokens=False),
    {},
]
SWITCHES: list[dict[str, Any]] = [
    dict(etgm_kv="patches"),
    dict(separate_gcn=True),
    dict(fusion_token="cls"),
    dict(graph_grad=True),
    dict(top_k=3),
]


def made(loss: LossOptions | None = None, **options: Any) -> Visa:
    torch.manual_seed(0)
    given = {"graph_top_k": 5, "prompt_length": 3, "experts": 4, **options}
    config = variants.variant(
        "visa-tiny", height=64, width=32, people=4, trunk=TRUNK, options=given
    )
    network = variants.construct(config, loss)
    assert isinstance(network, Visa)
    with torch.no_grad():  # fresh view tokens are zero, fresh necks do nothing
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for head in (network.heads, network.local_heads):
            if head is not None:
                head.bottleneck[0].running_mean.normal_()
                head.bottleneck[0].running_var.uniform_(0.5, 2)
    return network


def test_both_forms_give_the_recorded_output_of_the_authors_code(shared: Path) -> None:
    keys = json.loads((shared / "parity" / "visa.keys.json").read_text())
    assert len(keys) == 737
    result = parity.measure_one(shared / "parity", "visa", 11)
    assert result.training.max_abs <= 1e-4
    assert result.export.max_abs <= 1e-4
    assert result.worst.min_cosine >= 0.999999


@pytest.mark.parametrize("options", [*ABLATION, *SWITCHES], ids=str)
def test_every_combination_trains_and_its_form_to_serve_equals_it(options: dict[str, Any]) -> None:
    network = made(**options).train()
    images = torch.randn(8, 3, 64, 32)
    terms = network.losses(images, PEOPLE, VIEWS)
    total = torch.stack(list(terms.values())).sum()
    assert torch.isfinite(total)
    total.backward()
    without = {n for n, p in network.named_parameters() if p.grad is None}
    frozen = {n for n, p in network.named_parameters() if not p.requires_grad}
    assert without == frozen
    network.eval()
    for view, label in (("aerial", 1), ("ground", 0)):
        with torch.inference_mode():
            wanted = network(images, torch.full((8,), label))
            torch.testing.assert_close(network.serving(view)(images), wanted, rtol=1e-4, atol=2e-5)
        assert wanted.shape == (8, 96 if network.options.local else 48)


@pytest.mark.parametrize("options", SWITCHES, ids=str)
def test_every_switch_changes_the_embedding_or_its_gradient(options: dict[str, Any]) -> None:
    def outcome(**given: Any) -> list[torch.Tensor]:
        network = made(**given).eval()
        network.load_state_dict(made().state_dict())
        torch.manual_seed(1)
        images = torch.randn(4, 3, 64, 32)
        embedding = network(images, VIEWS[:4])
        embedding.square().sum().backward()
        grad = network.backbone.base.patch_embed.proj.weight.grad
        assert grad is not None
        return [embedding.detach(), grad]

    plain, switched = outcome(), outcome(**options)
    same = torch.allclose(plain[0], switched[0], atol=1e-5)
    assert same == ("graph_grad" in options)
    assert not torch.allclose(plain[1], switched[1], atol=1e-4)


def test_what_nothing_reads_is_frozen_and_changes_nothing() -> None:
    network = made().eval()
    images = torch.randn(2, 3, 64, 32)
    necks = {f"{name}.bottleneck.0.bias" for name in ("heads", "view_heads", "local_heads")}
    with torch.inference_mode():
        before = network(images, VIEWS[:2])
        for name, parameter in network.named_parameters():
            if not parameter.requires_grad and name not in necks:
                parameter.fill_(float("nan"))
        torch.testing.assert_close(network(images, VIEWS[:2]), before, rtol=0, atol=0)
    assert network.backbone.image_pe.isnan().all()
    assert network.backbone.view_gcn.gcn_weights.isnan().all()


def test_the_view_is_needed_and_only_where_something_depends_on_it() -> None:
    images = torch.randn(2, 3, 64, 32)
    network = made().eval()
    assert network.needs_view
    with torch.inference_mode():
        aerial, ground = (network(images, torch.full((2,), label)) for label in (1, 0))
    assert (aerial - ground).abs().max() > 1e-2
    with pytest.raises(InputError, match="--view aerial"):
        network.serving(None)
    blind = made(**{**OFF, "local": True}).eval()
    assert not blind.needs_view
    with torch.inference_mode():
        torch.testing.assert_close(blind.serving(None)(images), blind(images, VIEWS[:2]))


def test_a_picture_is_embedded_alike_alone_and_among_others_of_both_views() -> None:
    network = made().eval()
    images, views = torch.randn(5, 3, 64, 32), torch.tensor([1, 0, 0, 1, 0])
    with torch.inference_mode():
        together = network(images, views)
        for i in range(5):
            alone = network(images[i : i + 1], views[i : i + 1])
            torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-5)


def test_the_form_to_serve_holds_one_views_experts_and_nothing_unread() -> None:
    network = made()
    served = network.serving("aerial")
    held = sum(tensor.numel() for tensor in served.state_dict().values())
    live = sum(
        p.numel()
        for n, p in network.named_parameters()
        if p.requires_grad and "heads." not in n and "ground_" not in n and "view_token" not in n
        and not n.startswith(("backbone.base.cls_token", "backbone.base.pos_embed"))
    )  # fmt: skip
    dim = 48
    folded = 2 * 4 * (dim * dim + dim)  # 8 experts: two projections became one
    positions = 8 * dim + 2 * dim
    copies = dim * dim  # the one convolution, in both branches
    length = network.options.prompt_length
    asked = 2 * 4 * (3 * dim * length + 2 * 3 * dim)  # constants of the prompts' questions
    assert held == live - folded + asked + positions + copies + 4 * dim + 2 * 4


def test_terms_equal_loops_over_the_features_in_float64(naive_terms: Callable[..., Any]) -> None:
    network = made(view_weight=0.7, balance_weight=0.3).double().train()
    views = torch.tensor([0, 1, 0, 0, 0, 0, 1, 1])
    heads = {n: getattr(network, n) for n in ("heads", "local_heads", "view_heads")}
    for head in heads.values():
        head.bottleneck[0].weight.data.fill_(1.0)
        head.bottleneck[0].bias.data.zero_()
    images = torch.randn(8, 3, 64, 32, dtype=torch.float64)
    with torch.no_grad():
        seen = network.backbone(images, views)
        found = {k: v.item() for k, v in network.losses(images, PEOPLE, views).items()}
        weights = {name: head.weight.numpy() for name, head in heads.items()}
        free, view = (seen.whole - seen.view).numpy(), seen.view.numpy()
        balances = 0.0
        for name, rows in (
            ("share", range(8)),
            ("sky", [i for i in range(8) if views[i] == 1]),
            ("ground", [i for i in range(8) if views[i] == 0]),
        ):
            gate = getattr(network.backbone, f"{name}_router").gate
            matrix, bias = gate.weight.numpy(), gate.bias.numpy()
            load = np.zeros(4)
            for i in rows:
                scores = np.exp(matrix @ (free if name == "share" else view)[i] + bias)
                load += scores / scores.sum() / len(rows)
            load /= load.sum() + 1e-6
            balances += len(rows) / 8 * 4 * sum(p * p for p in load)
    whole, local = seen.whole.numpy(), seen.local.numpy()
    wanted = naive_terms(whole, view, local, weights, PEOPLE, views)
    wanted["view"] *= 0.7
    wanted["orthogonality"] *= 0.7
    wanted["balance"] = 0.3 * balances
    assert found == pytest.approx(wanted, rel=1e-6)


def test_a_batch_of_one_view_trains_and_the_other_views_experts_get_zero() -> None:
    network = made().train()
    terms = network.losses(torch.randn(8, 3, 64, 32), PEOPLE, torch.ones(8, dtype=torch.int64))
    torch.stack(list(terms.values())).sum().backward()
    grads = [p.grad for p in network.backbone.ground_experts.parameters() if p.requires_grad]
    assert all(grad is not None and not grad.any() for grad in grads)


def test_the_neck_of_identity_moves_twice_a_step_and_the_others_once() -> None:
    network = made().train()
    network.losses(torch.randn(8, 3, 64, 32), PEOPLE, VIEWS)
    counts = [
        int(getattr(network, name).bottleneck[0].num_batches_tracked)
        for name in ("heads", "local_heads", "view_heads")
    ]
    assert counts == [2, 1, 1]


@pytest.mark.filterwarnings("ignore")  # the exporter's, about its own internals
@pytest.mark.parametrize("source", ["vector", "patches"])
def test_the_exported_graph_computes_the_same_without_operators_that_targets_lack(
    exported: Callable[..., Any], source: str
) -> None:
    graph = exported(made(experts=2, top_k=1, etgm_kv=source).serving("aerial"))
    assert graph.lacks("Scatter", "NonZero", "Loop", "If", "Att", "GridSample")
    graph.agrees(rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompt_length": 0}, "prompt_length: .*got 0"),
        ({"top_k": 5}, "experts is 4"),
        ({"experts": -1}, "experts: .*got -1"),
        ({"graph_top_k": 9}, "graph_top_k is 9.* has 8 patches"),
        ({"local": False}, "local is off"),
        ({"balance_weight": float("nan")}, "balance_weight: .*nan"),
        ({"view_weight": -1.0}, "view_weight: .*got -1.0"),
        ({"expert_mlp_ratio": 0.0}, "expert_mlp_ratio: .*got 0.0"),
        ({"etgm_kv": "pixels"}, "etgm_kv: .*'pixels'"),
        ({"fusion_token": "mean"}, "fusion_token: .*'mean'"),
        ({"expert": 8}, "expert: unknown key, did you mean experts"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        made(**options)
