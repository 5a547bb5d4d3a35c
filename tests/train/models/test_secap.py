import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skyreid.contract.errors import SettingsError
from skyreid.train.authors import parity
from skyreid.train.models import variants
from skyreid.train.models.losses import LossOptions
from skyreid.train.models.secap import Secap
from skyreid.train.models.two_way import PlacedLinear

PEOPLE = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
VIEWS = torch.tensor([0, 1] * 4)
TRUNK = dict(dim=48, depth=2, heads=3, stride=16, drop_path=0.0)
UNREAD = (
    "backbone.base.blocks.1.",
    "backbone.base.norm.",
    "backbone.prm.cross_attn.q_proj.",
    "backbone.prm.cross_attn.k_proj.",
    "backbone.prm.attn2.",
    "backbone.lfrm.out_token",
)


def made(loss: LossOptions | None = None, **options: Any) -> Secap:
    torch.manual_seed(0)
    config = variants.variant(
        "secap-tiny",
        height=64,
        width=32,
        people=4,
        trunk=TRUNK,
        options={"prompts": 5, **options},
    )
    network = variants.construct(config, loss)
    assert isinstance(network, Secap)
    with torch.no_grad():  # at .02 a fresh decoder does next to nothing
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for head in (network.heads, network.local_heads):
            head.bottleneck[0].running_mean.normal_()
            head.bottleneck[0].running_var.uniform_(0.5, 2)
    return network


def test_the_published_keys_fit_and_a_decoder_moved_by_little_is_off_the_recording(
    shared: Path,
) -> None:
    keys = json.loads((shared / "parity" / "secap.keys.json").read_text())
    network = parity.construct(shared / "parity", "secap", 11)
    assert isinstance(network, Secap)
    own = {key: list(value.shape) for key, value in network.state_dict().items()}
    assert own == {entry["key"]: entry["shape"] for entry in keys}
    assert len(own) == 306
    recorded = np.load(shared / "parity" / "secap.seed11.npz")
    images = parity.normalised(recorded["images"][:1])
    with torch.inference_mode():
        network.backbone.image_pe[0, 7] += 1
        found = network(images, torch.zeros(1, dtype=torch.int64)).numpy()
    off = np.abs(found - recorded["embedding"][:1])
    assert off[:, :768].max() < 1e-4
    assert off[:, 768:].max() > 1e-3


@pytest.mark.parametrize("use_prm", [True, False])
def test_the_form_to_serve_equals_the_one_to_train(use_prm: bool) -> None:
    network = made(use_prm=use_prm).eval()
    images = torch.randn(3, 3, 64, 32)
    with torch.inference_mode():
        wanted = network(images, VIEWS[:3])
        for view in ("aerial", "ground", None):
            torch.testing.assert_close(network.serving(view)(images), wanted, rtol=1e-4, atol=2e-5)
    assert wanted.shape == (3, 96)


def test_a_batch_of_one_and_the_view_make_no_difference() -> None:
    network = made().eval()
    images = torch.randn(2, 3, 64, 32)
    with torch.inference_mode():
        both = network(images, torch.tensor([1, 1]))
        torch.testing.assert_close(network(images[:1], torch.tensor([0])), both[:1])


def test_what_nothing_reads_is_kept_frozen_and_changes_nothing() -> None:
    network = made().eval()
    images = torch.randn(2, 3, 64, 32)
    with torch.inference_mode():
        before = network(images, VIEWS[:2])
        for name, parameter in network.named_parameters():
            if name.startswith(UNREAD):
                parameter.fill_(float("nan"))
        torch.testing.assert_close(network(images, VIEWS[:2]), before, rtol=0, atol=0)


def test_all_else_gets_a_gradient() -> None:
    network = made().train()
    losses = network.losses(torch.randn(8, 3, 64, 32), PEOPLE, VIEWS)
    torch.stack(list(losses.values())).sum().backward()
    still = [n for n, p in network.named_parameters() if p.grad is None]
    necks = {f"{head}.bottleneck.0.bias" for head in ("heads", "view_heads", "local_heads")}
    assert {n for n in still if not n.startswith(UNREAD)} == necks
    frozen = {n for n, p in network.named_parameters() if not p.requires_grad}
    assert frozen == set(still)


def test_the_form_to_serve_holds_none_of_what_nothing_reads() -> None:
    network = made()
    sizes = {name: p.numel() for name, p in network.named_parameters()}
    unread = sum(n for name, n in sizes.items() if name.startswith(UNREAD))
    heads = sum(n for name, n in sizes.items() if "heads." in name)
    dim, patches, inner = 48, 8, 24
    served = network.serving(None)
    held = sum(t.numel() for t in served.state_dict().values())
    # One product for two projections, positions and biases folded; two necks of 2 D.
    folded = dim * dim + dim  # of the calibration, two before and one now
    positions = dim * patches  # image_pe, and an offset a patch for each projection instead
    offsets = patches * (2 * 3 * inner + 2 * dim) - (2 * 3 * inner + 2 * dim)
    assert held == sum(sizes.values()) - unread - heads - folded - positions + offsets + 4 * dim


def test_calibration_equals_attention_to_one_key_whatever_is_asked() -> None:
    module = made().backbone.prm
    assert module is not None
    prompts, free = torch.randn(1, 5, 48), torch.randn(2, 48)
    with torch.no_grad():
        literal = module.cross_attn(prompts.expand(2, -1, -1), free[:, None], free[:, None])
        torch.testing.assert_close(module.shift(free)[:, None].expand(-1, 5, -1), literal)


def test_positions_folded_into_projections_equal_positions_added() -> None:
    torch.manual_seed(0)
    moved, still = torch.nn.Linear(6, 4), torch.nn.Linear(6, 3)
    image, pe = torch.randn(2, 5, 6), torch.randn(1, 5, 6)
    one, other = PlacedLinear([(moved, True), (still, False)], pe)(image)
    torch.testing.assert_close(one, moved(image + pe))
    torch.testing.assert_close(other, still(image))


def test_the_running_last_block_begins_as_a_copy_of_the_trunks() -> None:
    network = variants.construct(
        variants.variant("secap-tiny", height=64, width=32, people=2, trunk=TRUNK)
    )
    state = network.state_dict()
    for key in [k for k in state if k.startswith("backbone.b1.0.")]:
        twin = key.replace("b1.0.", "base.blocks.1.")
        torch.testing.assert_close(state[key], state[twin], rtol=0, atol=0)


def test_terms_equal_loops_over_the_features_in_float64(naive_terms: Callable[..., Any]) -> None:
    network = made(view_weight=10.0).double().train()
    for head in (network.heads, network.view_heads, network.local_heads):
        head.bottleneck[0].weight.data.fill_(1.0)
        head.bottleneck[0].bias.data.zero_()
    images = torch.randn(8, 3, 64, 32, dtype=torch.float64)
    with torch.no_grad():
        whole, view, local = (t.numpy() for t in copy.deepcopy(network).backbone(images))
        found = {
            name: value.item() for name, value in network.losses(images, PEOPLE, VIEWS).items()
        }
    weights = {
        name: getattr(network, name).weight.detach().numpy()
        for name in ("heads", "local_heads", "view_heads")
    }
    wanted = naive_terms(whole, view, local, weights, PEOPLE, VIEWS)
    wanted["view"] *= 10
    wanted["orthogonality"] *= 10
    assert found == pytest.approx(wanted, rel=1e-6)


def test_the_neck_of_the_local_feature_sees_it_once_and_the_other_also_the_whole() -> None:
    network = made().train()
    network.losses(torch.randn(8, 3, 64, 32), PEOPLE, VIEWS)
    counts = [
        int(getattr(network, name).bottleneck[0].num_batches_tracked)
        for name in ("heads", "local_heads", "view_heads")
    ]
    assert counts == [2, 1, 1]


def test_local_triplets_on_the_sphere_do_not_depend_on_the_features_scale() -> None:
    network = made(LossOptions(sphere_scale=8.0)).train()
    images = torch.randn(8, 3, 64, 32)
    before = network.losses(images, PEOPLE, VIEWS)["local_triplet"].item()
    with torch.no_grad():
        network.backbone.lfrm.norm_final_attn.weight.mul_(50)
        network.backbone.lfrm.norm_final_attn.bias.mul_(50)
    after = network.losses(images, PEOPLE, VIEWS)["local_triplet"].item()
    assert after == pytest.approx(before, abs=1e-2)


@pytest.mark.filterwarnings("ignore")  # the exporter's, about its own internals
def test_the_exported_graph_computes_the_same_without_operators_that_targets_lack(
    exported: Callable[..., Any],
) -> None:
    graph = exported(made().serving(None))
    assert graph.lacks("Scatter", "NonZero", "Loop", "If", "Att")
    graph.agrees(rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompts": 0}, "prompts: .* 1 .got 0."),
        ({"view_weight": -1.0}, "view_weight: .* 0 .got -1.0."),
        ({"prompt": 64}, "prompt: unknown key, did you mean prompts"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        made(**options)


def test_more_prompts_are_an_option_and_the_default_is_sixty_four() -> None:
    config = variants.variant("secap-tiny", height=64, width=32, people=2, trunk=TRUNK)
    assert variants.construct(config).state_dict()["backbone.prompt"].shape == (1, 64, 48)
