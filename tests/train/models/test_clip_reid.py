import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skyreid.contract.errors import InputError, SettingsError
from skyreid.train.models import variants
from skyreid.train.models.clip_reid import ClipReid, ImageEncoder
from skyreid.train.models.losses import LossOptions
from skyreid.train.models.vit import TrunkConfig

PEOPLE = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
VIEWS = torch.tensor([0, 1] * 4)
TRUNK = dict(dim=48, depth=2, heads=3)


def made(loss: LossOptions | None = None, **options: Any) -> ClipReid:
    torch.manual_seed(0)
    config = variants.variant(
        "clip-reid-tiny", height=64, width=32, people=4, trunk=TRUNK, options=options
    )
    network = variants.construct(config, loss)
    assert isinstance(network, ClipReid)
    with torch.no_grad():
        for norm in (network.bottleneck, network.bottleneck_proj):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            norm.weight.uniform_(0.5, 2)
    return network


def test_the_state_dict_is_the_published_image_side(shared: Path) -> None:
    listed = json.loads((shared / "parity" / "clip-reid.keys.json").read_text())
    config = variants.variant("clip-reid-base", height=256, width=128, people=2500)
    with torch.device("meta"):
        state = variants.construct(config).state_dict()
    assert {key: list(tensor.shape) for key, tensor in state.items()} == {
        entry["key"]: entry["shape"] for entry in listed
    }


@pytest.mark.parametrize(("width", "embedding"), [("base", 1280), ("small", 640), ("tiny", 320)])
def test_an_embedding_is_the_last_feature_and_two_thirds_as_many_channels_of_its_projection(
    width: str, embedding: int
) -> None:
    config = variants.variant(
        f"clip-reid-{width}", height=32, width=16, people=2, trunk={"depth": 1}
    )
    network = variants.construct(config).eval()
    assert config["trunk"]["stride"] == 16
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 32, 16), VIEWS[:1]).shape == (1, embedding)


def naive_block(state: dict[str, torch.Tensor], tokens: torch.Tensor, heads: int) -> torch.Tensor:
    """A block of float64 [N, D] tokens of one picture, a head and a token at a time."""

    def norm(rows: torch.Tensor, name: str) -> torch.Tensor:
        centred = rows - rows.mean(1, keepdim=True)
        spread = (centred.pow(2).mean(1, keepdim=True) + 1e-5).sqrt()
        return centred / spread * state[f"{name}.weight"] + state[f"{name}.bias"]

    dim = tokens.shape[1]
    size = dim // heads
    mapped = norm(tokens, "ln_1") @ state["attn.in_proj_weight"].T + state["attn.in_proj_bias"]
    mixed = torch.zeros_like(tokens)
    for head in range(heads):
        here = slice(head * size, (head + 1) * size)
        query, key, value = (mapped[:, i * dim : (i + 1) * dim][:, here] for i in range(3))
        for n in range(len(tokens)):
            weights = torch.softmax(key @ query[n] / math.sqrt(size), dim=0)
            mixed[n, here] = weights @ value
    tokens = tokens + mixed @ state["attn.out_proj.weight"].T + state["attn.out_proj.bias"]
    hidden = norm(tokens, "ln_2") @ state["mlp.c_fc.weight"].T + state["mlp.c_fc.bias"]
    hidden = hidden / (1 + torch.exp(-1.702 * hidden))
    return tokens + hidden @ state["mlp.c_proj.weight"].T + state["mlp.c_proj.bias"]


def test_the_three_features_are_those_of_a_trunk_written_out() -> None:
    torch.manual_seed(0)
    encoder = ImageEncoder(TrunkConfig(height=32, width=32, drop_path=0.0, **TRUNK)).double()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    state = {key: tensor.detach() for key, tensor in encoder.state_dict().items()}
    image = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    rows = [state["class_embedding"]]
    for y in (0, 16):
        for x in (0, 16):
            patch = image[0, :, y : y + 16, x : x + 16]
            rows.append((state["conv1.weight"] * patch).sum((1, 2, 3)))
    tokens = torch.stack(rows) + state["positional_embedding"]
    tokens = torch.nn.functional.layer_norm(
        tokens, (48,), state["ln_pre.weight"], state["ln_pre.bias"], 1e-5
    )
    before = tokens
    for block in range(2):
        before = tokens
        prefix = f"transformer.resblocks.{block}."
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        tokens = naive_block(own, tokens, heads=3)
    last = torch.nn.functional.layer_norm(
        tokens[0], (48,), state["ln_post.weight"], state["ln_post.bias"], 1e-5
    )
    with torch.no_grad():
        found = encoder(image)
    for mine, wanted in zip(found, (before[0], last, last @ state["proj"]), strict=True):
        torch.testing.assert_close(mine[0], wanted)


def naive_entropy(logits: np.ndarray, people: list[int], smoothing: float) -> float:
    total, classes = 0.0, logits.shape[1]
    for row, person in zip(logits, people, strict=True):
        whole = math.log(sum(math.exp(value) for value in row))
        for other in range(classes):
            share = smoothing / classes + (1 - smoothing if other == person else 0.0)
            total += share * (whole - row[other])
    return total / len(people)


def naive_triplet(features: np.ndarray, people: list[int], margin: float) -> float:
    total = 0.0
    for i, own in enumerate(people):
        gaps: dict[bool, list[float]] = {True: [], False: []}
        for j, other in enumerate(people):
            gaps[own == other].append(math.dist(features[i], features[j]))
        total += max(0.0, max(gaps[True]) - min(gaps[False]) + margin)
    return total / len(people)


def test_every_term_is_the_published_one_computed_by_loops() -> None:
    network = made().train().double()
    texts = torch.randn(4, 32, dtype=torch.float64)
    network.read_texts(texts)
    images = torch.randn(8, 3, 64, 32, dtype=torch.float64)
    people = PEOPLE.tolist()
    terms = {name: term.item() for name, term in network.losses(images, PEOPLE, VIEWS).items()}
    with torch.no_grad():
        features = [feature.numpy() for feature in network.image_encoder(images)]
    wanted = {}
    for name, feature in zip(("triplet_before", "triplet", "triplet_proj"), features, strict=True):
        wanted[name] = naive_triplet(feature, people, 0.3)
    for name, feature, norm, classifier in (
        ("identity", features[1], network.bottleneck, network.classifier),
        ("identity_proj", features[2], network.bottleneck_proj, network.classifier_proj),
    ):
        spread = np.sqrt(feature.var(0) + 1e-5)
        normed = (feature - feature.mean(0)) / spread * norm.weight.detach().numpy()
        logits = normed @ classifier.weight.detach().numpy().T
        wanted[name] = 0.25 * naive_entropy(logits, people, 0.1)
    wanted["text"] = naive_entropy(features[2] @ texts.numpy().T, people, 0.1)
    assert terms == pytest.approx(wanted, rel=1e-6)


def test_options_weigh_the_terms() -> None:
    images = torch.randn(8, 3, 64, 32)
    terms = made(text=False).losses(images, PEOPLE, VIEWS)
    other = made(text=False, identity_weight=1.0, triplet_weight=0.5).losses(images, PEOPLE, VIEWS)
    assert set(terms) == {
        "identity", "identity_proj", "triplet_before", "triplet", "triplet_proj",
    }  # fmt: skip
    for name, term in terms.items():
        torch.testing.assert_close(other[name], term * (4 if name.startswith("identity") else 0.5))


def test_without_texts_the_loss_is_refused_and_says_what_to_do() -> None:
    with pytest.raises(SettingsError, match=r"learn the prompts first.*model\.options\.text"):
        made().losses(torch.randn(8, 3, 64, 32), PEOPLE, VIEWS)


@pytest.mark.parametrize("shape", [(3, 32), (4, 48)])
def test_texts_of_other_people_or_widths_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="text features of shape"):
        made().read_texts(torch.zeros(shape))


def test_texts_stand_still_and_are_not_saved_with_the_image_side() -> None:
    network = made()
    texts = torch.randn(4, 32, requires_grad=True)
    network.read_texts(texts)
    terms = network.losses(torch.randn(8, 3, 64, 32), PEOPLE, VIEWS)
    torch.autograd.backward(terms["text"])
    assert texts.grad is None
    assert network.image_encoder.proj.grad is not None
    assert not [key for key in network.state_dict() if "text" in key]


def test_a_step_moves_each_necks_statistics_once_and_never_its_offset() -> None:
    network = made(text=False).train()
    terms = network.losses(torch.randn(8, 3, 64, 32), PEOPLE, VIEWS)
    torch.autograd.backward(torch.stack(list(terms.values())).sum())
    for norm in (network.bottleneck, network.bottleneck_proj):
        assert norm.num_batches_tracked == 1
        assert norm.bias.grad is None
    assert network.classifier_weight is network.classifier.weight


@pytest.mark.parametrize("neck", ["before", "after"])
def test_the_serving_form_equals_the_training_form_and_holds_nothing_unread(neck: str) -> None:
    network = made(neck=neck).eval()
    served = network.serving(None)
    images = torch.randn(3, 3, 64, 32)
    with torch.no_grad():
        wanted = network(images, VIEWS[:3])
    torch.testing.assert_close(served(images), wanted, atol=1e-5, rtol=1e-5)
    necks = {key for key in served.state_dict() if not key.startswith("image_encoder.")}
    assert len(necks) == (4 if neck == "after" else 0)
    assert not any(parameter.requires_grad for parameter in served.parameters())
    with torch.no_grad():
        network.image_encoder.proj.zero_()
    torch.testing.assert_close(served(images), wanted, atol=1e-5, rtol=1e-5)


def test_the_embedding_before_the_necks_does_not_depend_on_them() -> None:
    network = made().eval()
    images = torch.randn(2, 3, 64, 32)
    with torch.no_grad():
        before = network(images, VIEWS[:2])
        network.bottleneck.running_mean.add_(1)
        torch.testing.assert_close(network(images, VIEWS[:2]), before)
        after = made(neck="after").eval()(images, VIEWS[:2])
    assert (after - before).abs().max() > 0.1


@pytest.mark.filterwarnings("ignore")  # the exporter's, about its own internals
def test_the_exported_graph_computes_the_same_without_operators_that_targets_lack(
    exported: Callable[..., Any],
) -> None:
    graph = exported(made(neck="after").serving(None))
    assert graph.lacks("Scatter", "NonZero", "Loop", "If", "Att")
    graph.agrees(rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"neck": "none"}, "neck: .*'none'"),
        ({"margin": -0.1}, "margin: .*-0.1"),
        ({"text_weight": math.nan}, "text_weight: .*nan"),
        ({"label_smoothing": 1.0}, "label_smoothing: .*got 1.0"),
        ({"sie": True}, "sie: unknown key"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(options: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        made(**options)


@pytest.mark.parametrize(
    ("name", "value"), [("stem", "conv"), ("drop_path", 0.1), ("mlp_ratio", 3.0)]
)
def test_a_trunk_clip_has_not_is_refused(name: str, value: str | float) -> None:
    config = variants.variant(
        "clip-reid-tiny", height=64, width=32, people=4, trunk={**TRUNK, name: value}
    )
    with pytest.raises(SettingsError, match=rf"trunk\.{name}"):
        variants.construct(config)


def test_loss_options_of_the_other_methods_are_not_ignored_in_silence() -> None:
    made(LossOptions())
    with pytest.raises(SettingsError, match=r"model\.options"):
        made(LossOptions(label_smoothing=0.2))
