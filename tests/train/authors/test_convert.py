import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from weights import DEPTH, DIM, TINY, State, clip, converted, network_state, timm, written

from skyreid.contract.input_spec import InputSpec
from skyreid.train import checkpoint
from skyreid.train.__main__ import main
from skyreid.train.fit.start import begin_with
from skyreid.train.models import variants
from skyreid.train.models.registry import methods


def resized(positions: Tensor, rows: int, columns: int) -> Tensor:
    """Bilinear at pixel centres with clamped borders, cell by cell, in float64."""
    side = int(len(positions) ** 0.5)
    grid = positions.reshape(side, side, -1).to(torch.float64)
    out = torch.empty(rows, columns, grid.shape[-1], dtype=torch.float64)
    for r in range(rows):
        for c in range(columns):
            y = max((r + 0.5) * side / rows - 0.5, 0.0)
            x = max((c + 0.5) * side / columns - 0.5, 0.0)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, side - 1), min(left + 1, side - 1)
            dy, dx = y - top, x - left
            above = grid[top, left] * (1 - dx) + grid[top, right] * dx
            below = grid[bottom, left] * (1 - dx) + grid[bottom, right] * dx
            out[r, c] = above * (1 - dy) + below * dy
    return out.reshape(rows * columns, -1).to(torch.float32)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_imagenet_weights_become_a_vit_with_resized_positions(tmp_path: Path, suffix: str) -> None:
    source = timm()
    report, state = converted(written(tmp_path / f"w.{suffix}", source), "vit-tiny")
    positions = source["pos_embed"][0]
    expected = torch.cat([positions[:1], resized(positions[1:], 4, 2)])
    torch.testing.assert_close(state["backbone.pos_embed"][0], expected, atol=1e-5, rtol=0)
    taken = {k: v for k, v in source.items() if not k.startswith(("head", "pos_embed"))}
    for key, tensor in taken.items():
        assert torch.equal(state["backbone." + key], tensor), key
    assert set(report.loaded) == {"backbone." + key for key in taken}
    assert set(report.dropped) == {"head.weight", "head.bias"}
    assert report.resized == {"backbone.pos_embed": "14x14 to 4x2, bilinear"}
    assert set(state) == {*report.loaded, *report.initialised, "backbone.pos_embed"}


def test_the_kernel_is_kept_at_any_stride_and_an_equal_grid_is_not_resampled(
    tmp_path: Path,
) -> None:
    source = timm(side=4)
    path = written(tmp_path / "w.pth", source)
    report, state = converted(path, "vit-tiny", height=52, width=52, trunk={"stride": 12})
    assert torch.equal(state["backbone.pos_embed"], source["pos_embed"])
    assert torch.equal(state["backbone.patch_embed.proj.weight"], source["patch_embed.proj.weight"])
    assert report.resized == {}


def test_a_view_token_stays_zero_and_begins_at_the_place_of_the_first_cell(tmp_path: Path) -> None:
    source = timm()
    report, state = converted(written(tmp_path / "w.pth", source), "vdt-tiny")
    positions = source["pos_embed"][0]
    assert torch.equal(state["backbone.pos_embed"][0, :2], positions[:2])
    torch.testing.assert_close(
        state["backbone.pos_embed"][0, 2:], resized(positions[1:], 4, 2), atol=1e-5, rtol=0
    )
    assert not state["backbone.view_token"].any()
    assert "backbone.view_token" in report.initialised
    assert "backbone.pos_embed[1]" in report.copied


def test_the_separate_last_block_is_a_copy_of_the_trunks(tmp_path: Path) -> None:
    source = timm()
    _, state = converted(written(tmp_path / "w.pth", source), "secap-tiny", trunk={"stride": 16})
    for key, tensor in source.items():
        if key.startswith("blocks.1."):
            assert torch.equal(state[key.replace("blocks.1.", "backbone.b1.0.")], tensor)
            assert torch.equal(state["backbone.base." + key], tensor)
    assert torch.equal(state["backbone.b1.1.weight"], source["norm.weight"])
    assert torch.equal(state["backbone.b1.1.bias"], source["norm.bias"])


def test_what_imagenet_has_nothing_for_follows_from_the_seed(tmp_path: Path) -> None:
    path = written(tmp_path / "w.pth", timm())
    first, again, other = (
        converted(path, "vit-tiny", people=4, seed=s)[1]["heads.weight"] for s in (0, 0, 1)
    )
    assert first.shape == (4, DIM)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_flattened_kernels_wrappers_and_distillation_tokens_are_understood(tmp_path: Path) -> None:
    source = timm()
    odd = dict(source)
    odd["patch_embed.proj.weight"] = odd["patch_embed.proj.weight"].flatten(1)
    odd["pos_embed"] = torch.cat(
        [odd["pos_embed"][:, :1], torch.ones(1, 1, DIM), odd["pos_embed"][:, 1:]], dim=1
    )
    odd |= {"dist_token": torch.ones(1, 1, DIM), "pre_logits.fc.weight": torch.ones(2, 2)}
    report, state = converted(written(tmp_path / "w.pth", odd, wrap="model"), "vdt-tiny")
    _, plain = converted(written(tmp_path / "plain.pth", source), "vdt-tiny")
    assert all(torch.equal(plain[key], value) for key, value in state.items())
    assert {"dist_token", "pre_logits.fc.weight"} < set(report.dropped)
    assert report.set_aside == ["epoch"]


def test_a_network_with_imagenet_weights_at_their_own_size_computes_a_plain_vit(
    tmp_path: Path,
) -> None:
    source = {key: 0.2 * value for key, value in timm(side=3).items()}
    source |= {f"blocks.{b}.norm{n}.weight": torch.ones(DIM) for b in (0, 1) for n in (1, 2)}
    _, state = converted(written(tmp_path / "w.pth", source), "vit-tiny", height=48, width=48)
    config = variants.variant("vit-tiny", height=48, width=48, people=1, trunk=TINY)
    network = variants.construct(config).eval()
    checkpoint.fill(network, state)
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = network.backbone(images)[:, 0]  # type: ignore[operator]
    torch.testing.assert_close(found, plain_vit(source, images), atol=1e-5, rtol=0)


def plain_vit(w: State, images: Tensor) -> Tensor:
    """CLS after the norm, written from the definition."""

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ w[name + ".weight"].T + w[name + ".bias"]

    def norm(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-6)
        return scaled * w[name + ".weight"] + w[name + ".bias"]

    patches = F.unfold(images, 16, stride=16).transpose(1, 2)
    x = patches @ w["patch_embed.proj.weight"].flatten(1).T + w["patch_embed.proj.bias"]
    x = torch.cat([w["cls_token"].expand(len(x), -1, -1), x], dim=1) + w["pos_embed"]
    for block in range(DEPTH):
        name = f"blocks.{block}."
        query, key, value = linear(name + "attn.qkv", norm(name + "norm1", x)).chunk(3, dim=-1)
        heads = []
        for part in range(3):
            columns = slice(16 * part, 16 * part + 16)
            scores = query[..., columns] @ key[..., columns].transpose(1, 2) / 4
            heads.append(scores.softmax(-1) @ value[..., columns])
        x = x + linear(name + "attn.proj", torch.cat(heads, dim=-1))
        hidden = F.gelu(linear(name + "mlp.fc1", norm(name + "norm2", x)))
        x = x + linear(name + "mlp.fc2", hidden)
    return norm("norm", x)[:, 0]


def test_an_authors_checkpoint_keeps_every_number_and_brings_people_and_stride(
    tmp_path: Path,
) -> None:
    source = network_state("vdt-tiny", people=5, height=256, width=128, stride=12)
    published_form = {"module." + key: value for key, value in source.items()}
    published_form["module.pixel_mean"] = torch.full((1, 3, 1, 1), 120.0)
    path = written(tmp_path / "model_best.pth", published_form, wrap="model")
    report, state = converted(path, "vdt-tiny", height=256, width=128)
    assert set(state) == set(source)
    assert all(torch.equal(state[key], value) for key, value in source.items())
    assert report.config["people"] == 5
    assert report.config["trunk"]["stride"] == 12
    assert report.initialised == []
    assert list(report.dropped) == ["pixel_mean"]
    spec = checkpoint.load(tmp_path / "out.safetensors").input_spec
    assert spec == InputSpec(height=256, width=128, mean=(120.0, 120.0, 120.0))


def test_the_number_of_prompts_is_read_from_the_file(tmp_path: Path) -> None:
    config = variants.variant(
        "secap-tiny", height=64, width=32, people=5, trunk=TINY, options={"prompts": 7}
    )
    path = written(tmp_path / "w.pth", variants.construct(config).state_dict(), wrap="model")
    report, _ = converted(path, "secap-tiny")
    assert report.config["options"] == {"prompts": 7}


def test_half_precision_is_widened_and_counted(tmp_path: Path) -> None:
    source = network_state("vit-tiny")
    half = {k: v.half() if v.is_floating_point() else v for k, v in source.items()}
    report, state = converted(written(tmp_path / "w.pth", half), "vit-tiny")
    assert report.widened == sum(v.is_floating_point() for v in source.values())
    assert state["backbone.norm.weight"].dtype == torch.float32


def test_batch_counters_may_be_missing_and_are_said_to_be(tmp_path: Path) -> None:
    source = network_state("vit-tiny")
    del source["heads.bottleneck.0.num_batches_tracked"]
    report, state = converted(written(tmp_path / "w.pth", source), "vit-tiny")
    assert report.initialised == ["heads.bottleneck.0.num_batches_tracked"]
    assert state["heads.bottleneck.0.num_batches_tracked"] == 0


def test_the_command_prints_one_json_object_or_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path / "w.pth", timm())
    arguments = ["convert", str(path), "--to", "vdt-tiny", "--out", str(tmp_path / "o.safetensors")]
    arguments += ["--height", "64", "--width", "32", "--trunk", "dim=48", "depth=2", "heads=3"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out
    assert "resized      backbone.pos_embed: 14x14 to 4x2, bilinear" in lines
    assert "dropped      head.weight: ImageNet's classifier" in lines
    assert main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["origin"] == "imagenet"
    assert report["config"]["trunk"]["dim"] == 48
    assert len(report["source_sha256"]) == 64


def test_training_begins_with_converted_weights_and_a_new_classifier(tmp_path: Path) -> None:
    _, state = converted(written(tmp_path / "w.pth", timm()), "vdt-tiny", people=4)
    start = checkpoint.load(tmp_path / "out.safetensors")
    recipe_trunk = TINY | {"drop_path": 0.0}
    config = variants.variant("vdt-tiny", height=64, width=32, people=4, trunk=recipe_trunk)
    network = variants.construct(config)
    classifier = network.heads.weight.clone()
    begin_with(network, {**config, "fitted": ["3", "4"], "held_out": ["1", "2"]}, start)
    assert torch.equal(network.heads.weight, classifier)
    assert torch.equal(network.state_dict()["backbone.pos_embed"], state["backbone.pos_embed"])


def test_a_start_from_the_authors_weights_says_what_they_may_have_seen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    converted(written(tmp_path / "w.pth", network_state("vdt-tiny"), wrap="model"), "vdt-tiny")
    start = checkpoint.load(tmp_path / "out.safetensors")
    network = variants.construct(start.config)
    begin_with(network, {**start.config, "held_out": ["1"]}, start)
    assert "held-out people were seen before" in caplog.text


@pytest.mark.parametrize("method", methods())
def test_a_checkpoint_of_every_method_keeps_every_number(tmp_path: Path, method: str) -> None:
    size = {"height": 128, "width": 128}
    source = network_state(f"{method}-tiny", **size)
    constants = {k for k in source if ".grid_gen." in k or k.endswith(".tps.dst_points")}
    assert bool(constants) == (method == "gsalign")
    given = {key: value for key, value in source.items() if key not in constants}
    path = written(tmp_path / "w.pth", given, wrap="model")
    report, state = converted(path, f"{method}-tiny", **size)
    assert report.config["people"] == 5
    assert set(report.initialised) == constants
    assert set(state) == set(source)
    assert all(torch.equal(state[key], value) for key, value in source.items())


def test_experts_and_prompts_of_visa_are_read_from_the_file(tmp_path: Path) -> None:
    options = {"prompt_length": 4, "experts": 3}
    config = variants.variant(
        "visa-tiny", height=128, width=128, people=5, trunk=TINY, options=options
    )
    path = written(tmp_path / "w.pth", variants.construct(config).state_dict(), wrap="model")
    report, _ = converted(path, "visa-tiny", height=128, width=128)
    assert report.config["options"] == options


def test_clips_image_encoder_is_taken_and_its_text_side_named(tmp_path: Path) -> None:
    source = clip()
    report, state = converted(written(tmp_path / "w.pt", source), "clip-reid-tiny")
    positions = source["visual.positional_embedding"]
    expected = torch.cat([positions[:1], resized(positions[1:], 4, 2)])
    found = state["image_encoder.positional_embedding"]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    for key in (k for k in source if k.startswith("visual.") and "positional" not in k):
        assert torch.equal(state["image_encoder." + key.removeprefix("visual.")], source[key])
    assert set(report.dropped) == {"token_embedding.weight", "logit_scale"}
