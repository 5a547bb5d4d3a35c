import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skyreid.contract.errors import SettingsError
from skyreid.train.authors import parity
from skyreid.train.models import variants
from skyreid.train.models.gsalign import Gsalign, GsalignOptions, MaskGenerator, deformation
from skyreid.train.models.vdt import Vdt

SEED = 11
PEOPLE = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
VIEWS = torch.tensor([0, 1] * 4)
TRUNK = dict(dim=48, depth=2, heads=3, drop_path=0.0)


def made(
    *, height: int = 64, width: int = 32, trunk: dict[str, Any] | None = None, **options: Any
) -> Gsalign:
    torch.manual_seed(0)
    config = variants.variant(
        "gsalign-tiny",
        height=height,
        width=width,
        people=4,
        trunk={**TRUNK, **(trunk or {})},
        options=options,
    )
    network = variants.construct(config)
    assert isinstance(network, Gsalign)
    with torch.no_grad():  # makes patches, and so angles, differ
        for parameter in network.backbone.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


@pytest.fixture(scope="module")
def recorded(shared: Path) -> dict[str, np.ndarray[Any, Any]]:
    with np.load(shared / "parity" / f"gsalign.seed{SEED}.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def keys(shared: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((shared / "parity/gsalign.keys.json").read_text())
    return found


@pytest.fixture(scope="module")
def published(shared: Path) -> Gsalign:
    network = parity.construct(shared / "parity", "gsalign", SEED)
    assert isinstance(network, Gsalign)
    return network


def test_the_state_dict_has_the_published_names_and_shapes(
    published: Gsalign, keys: list[dict[str, Any]]
) -> None:
    assert len(keys) == 313
    own = {name: list(value.shape) for name, value in published.state_dict().items()}
    assert own == {entry["key"]: entry["shape"] for entry in keys}
    assert sum(parameter.numel() for parameter in published.parameters()) == 111_671_148


def test_published_weights_with_their_constants_load_strictly(
    published: Gsalign, keys: list[dict[str, Any]], recorded: dict[str, np.ndarray[Any, Any]]
) -> None:
    own = published.state_dict()
    state = parity.draw(keys, SEED, Gsalign.declaration.computed)
    for entry in keys:
        key = entry["key"]
        if key not in state:
            word = key.rsplit(".", 1)[-1]
            wanted = recorded[word] if word in recorded else np.zeros((3, 2), np.float32)
            state[key] = torch.from_numpy(wanted)
            torch.testing.assert_close(own[key], state[key], rtol=0, atol=2e-6)
    published.load_state_dict(state, strict=True)


def test_both_forms_give_the_recorded_embeddings(
    published: Gsalign, recorded: dict[str, np.ndarray[Any, Any]]
) -> None:
    images = parity.normalised(recorded["images"])
    with torch.inference_mode():
        for found in (published(images, torch.zeros(4).long()), published.serving(None)(images)):
            assert parity.agreement(found.numpy(), recorded["embedding"]).holds


def test_angles_and_the_first_grid_are_the_recorded_ones(
    published: Gsalign, recorded: dict[str, np.ndarray[Any, Any]]
) -> None:
    images = parity.normalised(recorded["images"])
    with torch.inference_mode():
        angles = published.angles(images)
        np.testing.assert_allclose(angles.numpy(), recorded["angles"], rtol=0, atol=1e-5)
        grid = published.backbone.blocks[0].tps.grid(angles[:, 0])
    np.testing.assert_allclose(grid.numpy(), recorded["grid0"], rtol=0, atol=1e-5)


def naive_mask_loss(
    features: list[list[float]], people: list[int], masks: list[list[float]]
) -> float:
    """DAM's loss for given masks, by loops."""

    def unit(row: list[float]) -> list[float]:
        length = math.sqrt(sum(x * x for x in row))
        return [x / length for x in row]

    aligned, entropy = 0.0, 0.0
    count, dim = len(features), len(features[0])
    for i in range(count):
        mates = [features[j] for j in range(count) if people[j] == people[i]]
        mean = unit([sum(mate[d] for mate in mates) / len(mates) for d in range(dim)])
        masked = unit([mean[d] * masks[i][d] for d in range(dim)])
        own = unit(features[i])
        for d in range(dim):
            aligned += (own[d] - masked[d]) ** 2
            entropy -= masks[i][d] * math.log(masks[i][d])
    return aligned / (count * dim) + 0.1 * entropy / (count * dim)


def test_the_mask_loss_equals_a_loop_in_float64() -> None:
    torch.manual_seed(0)
    dam = MaskGenerator(6).double()
    features = torch.randn(5, 6, dtype=torch.float64) + 1
    people = torch.tensor([4, 0, 4, 4, 0])
    with torch.no_grad():
        # Layer by layer, so that the features' unit length before the first is held as well.
        unit = features / features.square().sum(1, keepdim=True).sqrt()
        hidden = unit @ dam.mlp[0].weight.T + dam.mlp[0].bias
        hidden = hidden - hidden.mean(1, keepdim=True)
        hidden = hidden / (hidden.square().mean(1, keepdim=True) + 1e-5).sqrt()
        hidden = (hidden * dam.mlp[1].weight + dam.mlp[1].bias).clamp(min=0)
        masks = 1 / (1 + (-(hidden @ dam.mlp[3].weight.T + dam.mlp[3].bias)).exp())
        found = float(dam(features, people, 0.1))
    wanted = naive_mask_loss(features.tolist(), people.tolist(), masks.tolist())
    assert found == pytest.approx(wanted, rel=1e-12)


def test_the_mask_loss_of_two_pictures_is_what_a_hand_computes() -> None:
    dam = MaskGenerator(2)
    with torch.no_grad():
        dam.mlp[3].weight.zero_()
        dam.mlp[3].bias.zero_()  # the mask is one half everywhere
    # Unit already; their mean (.5, .5) is at 45 degrees to both, and halving does not turn it.
    features, people = torch.eye(2), torch.tensor([7, 7])
    half = math.sqrt(0.5)
    wanted = ((1 - half) ** 2 + half**2) / 2 + 0.1 * 0.5 * math.log(2)
    assert dam(features, people, 0.1).item() == pytest.approx(wanted, rel=1e-6)


def test_a_shut_mask_has_a_finite_loss_and_gradient() -> None:
    dam = MaskGenerator(4)
    with torch.no_grad():
        dam.mlp[3].bias.fill_(-200.0)
    features = torch.randn(4, 4, requires_grad=True)
    loss = dam(features, torch.tensor([0, 0, 1, 1]), 0.1)
    loss.backward()
    assert torch.isfinite(loss)
    assert features.grad is not None
    assert torch.isfinite(features.grad).all()


def test_the_deformation_equals_a_loop() -> None:
    angles = torch.randn(5, 3, dtype=torch.float64)
    rows = angles.tolist()
    wanted = sum(sum(abs(row[layer]) for row in rows) / len(rows) for layer in range(3))
    assert float(deformation(angles)) == pytest.approx(wanted, rel=1e-12)


def test_terms_of_the_code_and_of_the_paper_and_their_weights() -> None:
    images = torch.randn(8, 3, 64, 32)
    shared = {"identity", "triplet", "view", "orthogonality"}

    def terms(**options: Any) -> dict[str, float]:
        found = made(**options).losses(images, PEOPLE, VIEWS)
        return {name: term.item() for name, term in found.items()}

    code, paper = terms(), terms(deform="paper")
    assert set(code) == shared | {"mask"}
    assert set(paper) == shared | {"mask", "deform"}
    assert {k: paper[k] for k in shared} == {k: code[k] for k in shared}
    assert paper["mask"] != code["mask"]
    with torch.no_grad():
        angles = made(deform="paper").train().angles(images)
    assert paper["deform"] == pytest.approx(0.5 * float(deformation(angles)), rel=1e-5)
    assert terms(angle_weight=2.0)["deform"] == pytest.approx(4 * paper["deform"], rel=1e-5)
    assert set(terms(mask_weight=0.0)) == shared
    assert code["mask"] == pytest.approx(10 * terms(mask_weight=1.0)["mask"], rel=1e-5)
    assert terms(entropy_weight=0.0)["mask"] < code["mask"]


@pytest.mark.parametrize(("deform", "reached"), [("code", False), ("paper", True)])
def test_the_mask_teaches_the_stem_alone_in_the_code_and_the_blocks_in_the_paper(
    deform: str, reached: bool
) -> None:
    network = made(deform=deform)
    network.losses(torch.randn(8, 3, 64, 32), PEOPLE, VIEWS)["mask"].backward()
    taught = {name for name, p in network.named_parameters() if p.grad is not None}
    assert any(name.startswith("backbone.mask_generator.mlp.3") for name in taught)
    assert "backbone.patch_embed.proj.weight" in taught
    assert ("backbone.blocks.0.attn.qkv.weight" in taught) is reached
    assert ("backbone.pos_embed" in taught) is reached


def test_every_parameter_that_is_not_frozen_is_taught() -> None:
    network = made()
    sum(network.losses(torch.randn(8, 3, 64, 32), PEOPLE, VIEWS).values()).backward()
    idle = {n for n, p in network.named_parameters() if p.requires_grad and p.grad is None}
    frozen = {n for n, p in network.named_parameters() if not p.requires_grad}
    assert idle == set()
    assert {n.split(".", 1)[1].split(".")[0] for n in frozen} == {"head_body_distill", "bottleneck"}


def test_a_step_in_half_precision_has_the_terms_of_a_whole_one() -> None:
    images = torch.randn(8, 3, 64, 32)
    whole = made(angle_weight=0.5).losses(images, PEOPLE, VIEWS)
    network = made(angle_weight=0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network.losses(images, PEOPLE, VIEWS)
    sum(half.values()).backward()
    for name in ("mask", "deform"):
        assert half[name].dtype == torch.float32
        torch.testing.assert_close(half[name], whole[name], rtol=0.02, atol=0)
    gradients = [p.grad for p in network.parameters() if p.requires_grad]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)


def test_with_eta_zero_it_is_vdt() -> None:
    network = made(ltps_eta=0.0).eval()
    plain = variants.construct(
        variants.variant("vdt-tiny", height=64, width=32, people=4, trunk=TRUNK)
    ).eval()
    assert isinstance(plain, Vdt)
    names = plain.state_dict().keys()
    plain.load_state_dict({k: v for k, v in network.state_dict().items() if k in names})
    images = torch.randn(3, 3, 64, 32)
    with torch.inference_mode():
        wanted = plain(images, VIEWS[:3])
        torch.testing.assert_close(network(images, VIEWS[:3]), wanted)
        warped = made().eval()
        assert (warped(images, VIEWS[:3]) - wanted).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("height", "width", "trunk"),
    [
        (128, 64, {}),
        (128, 64, {"stem": "conv", "stride": 16}),
        (128, 64, {"stride": 12}),
        (96, 96, {"stem": "conv", "stride": 8}),
    ],
)
def test_the_alignment_follows_the_grid_of_other_pictures_and_stems(
    height: int, width: int, trunk: dict[str, Any]
) -> None:
    network = made(height=height, width=width, trunk=trunk)
    images = torch.randn(8, 3, height, width)
    losses = network.losses(images, PEOPLE, VIEWS)
    assert all(torch.isfinite(term) for term in losses.values())
    network.eval()
    with torch.inference_mode():
        wanted = network(images, VIEWS)
        torch.testing.assert_close(network.serving(None)(images), wanted, rtol=1e-4, atol=1e-4)


def test_the_form_to_serve_drops_the_mask_generator_and_what_is_folded() -> None:
    network = made()
    served = network.serving(None)
    names = [*dict(served.named_parameters()), *dict(served.named_buffers())]
    dead = ("mask_generator", "src_points", "dst_points", "grid_gen", "heads", "distill")
    assert not [name for name in names if any(part in name for part in dead)]
    assert hasattr(network.backbone, "mask_generator")  # of the original nothing is gone
    assert hasattr(network.backbone.blocks[0], "tps")


@pytest.mark.filterwarnings("ignore")  # the exporter's, about its own internals
@pytest.mark.parametrize("sampling", ["hat", "grid"])
def test_the_exported_graph_computes_the_same_and_samples_by_products(
    exported: Callable[..., Any], sampling: str
) -> None:
    graph = exported(made(sampling=sampling).serving(None))
    assert ("GridSample" in graph.operators) is (sampling == "grid")
    assert graph.lacks("Scatter", "NonZero", "Loop", "If")
    graph.agrees(rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"deform": "both"}, "deform: .*'code' or 'paper' .got 'both'."),
        ({"sampling": "nearest"}, "sampling: .*'nearest'"),
        ({"ltps_eta": -0.1}, "ltps_eta: .*-0.1"),
        ({"mask_weight": float("inf")}, "mask_weight: .*finite"),
        ({"angle_weight": float("nan")}, "angle_weight: .*nan"),
        ({"entropy_weight": -1.0}, "entropy_weight: .*-1.0"),
        ({"tps": 1}, "tps: unknown key"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        made(**options)


def test_the_weight_of_angles_follows_the_reading_unless_given() -> None:
    assert GsalignOptions().weight_of_angles() == 0
    assert GsalignOptions(deform="paper").weight_of_angles() == 0.5
    assert GsalignOptions(deform="paper", angle_weight=0.0).weight_of_angles() == 0
