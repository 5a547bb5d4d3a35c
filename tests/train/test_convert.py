import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from skyreid.contract.errors import InputError, SettingsError
from skyreid.contract.input_spec import InputSpec
from skyreid.train import checkpoint, convert, published
from skyreid.train.__main__ import main
from skyreid.train.models import variants
from skyreid.train.start import PER_PERSON, begin_with

DIM, DEPTH = 48, 2
TINY: dict[str, Any] = {"dim": DIM, "depth": DEPTH, "heads": 3}
State = dict[str, Tensor]


def timm(dim: int = DIM, depth: int = DEPTH, side: int = 14) -> State:
    """Random tensors under timm's names for a ViT of patch 16."""
    rng = torch.Generator().manual_seed(3)
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, dim),
        "pos_embed": (1, 1 + side * side, dim),
        "patch_embed.proj.weight": (dim, 3, 16, 16),
        "patch_embed.proj.bias": (dim,),
        "norm.weight": (dim,),
        "norm.bias": (dim,),
        "head.weight": (7, dim),
        "head.bias": (7,),
    }
    for block in range(depth):
        for name, rows, columns in (
            ("attn.qkv", 3 * dim, dim),
            ("attn.proj", dim, dim),
            ("mlp.fc1", 4 * dim, dim),
            ("mlp.fc2", dim, 4 * dim),
        ):
            shapes[f"blocks.{block}.{name}.weight"] = (rows, columns)
            shapes[f"blocks.{block}.{name}.bias"] = (rows,)
        for name in ("norm1", "norm2"):
            shapes[f"blocks.{block}.{name}.weight"] = (dim,)
            shapes[f"blocks.{block}.{name}.bias"] = (dim,)
    return {key: torch.randn(shape, generator=rng) for key, shape in shapes.items()}


def network_state(variant: str, people: int = 5, **trunk: Any) -> State:
    """A fresh network's entries at the tiny size."""
    size = {name: trunk.pop(name, default) for name, default in (("height", 64), ("width", 32))}
    config = variants.variant(variant, **size, people=people, trunk=TINY | trunk)
    torch.manual_seed(1)
    state: State = variants.construct(config).state_dict()
    return state


def written(path: Path, state: State, *, wrap: str | None = None) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({wrap: state, "epoch": 9} if wrap else state, path)
    return path


def converted(source: Path, variant: str, **kwargs: Any) -> tuple[convert.Report, State]:
    out = source.with_name("out.safetensors")
    trunk = TINY | kwargs.pop("trunk", {})
    size = {"height": 64, "width": 32} | kwargs
    report = convert.convert(source, variant, out, trunk=trunk, **size)
    return report, checkpoint.load(out).state


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


def test_every_missing_unexpected_and_wrongly_shaped_entry_is_named(tmp_path: Path) -> None:
    source = network_state("vdt-tiny")
    del source["backbone.blocks.0.attn.qkv.bias"], source["backbone.norm.weight"]
    source["backbone.strange"] = torch.ones(1)
    source["view_heads.odd"] = torch.ones(1)
    source["backbone.blocks.1.mlp.fc1.weight"] = torch.ones(3, 4)
    source["backbone.pos_embed"] = torch.ones(1, 6, DIM)
    with pytest.raises(InputError) as caught:
        converted(written(tmp_path / "w.pth", source, wrap="model"), "vdt-tiny")
    message = str(caught.value)
    for part in (
        "missing 2: backbone.blocks.0.attn.qkv.bias, backbone.norm.weight",
        "unexpected 2: backbone.strange, view_heads.odd",
        f"of another shape 2: backbone.blocks.1.mlp.fc1.weight [3, 4] instead of [192, {DIM}]",
        f"backbone.pos_embed [1, 6, {DIM}] instead of [1, 10, {DIM}]",
    ):
        assert part in message
    assert not (tmp_path / "out.safetensors").exists()


def test_imagenet_weights_with_parts_our_trunk_lacks_are_refused_by_name(tmp_path: Path) -> None:
    source = timm() | {"blocks.0.ls1.gamma": torch.ones(DIM)}
    del source["norm.bias"]
    with pytest.raises(InputError, match=r"missing 1: .*norm\.bias; unexpected 1: .*ls1\.gamma"):
        converted(written(tmp_path / "w.pth", source), "vit-tiny")


def test_a_file_of_another_method_says_whose_names_it_has(tmp_path: Path) -> None:
    path = written(tmp_path / "w.pth", network_state("vdt-tiny"), wrap="model")
    with pytest.raises(InputError, match="names are those of vdt"):
        converted(path, "dtst-tiny")


def test_batch_counters_may_be_missing_and_are_said_to_be(tmp_path: Path) -> None:
    source = network_state("vit-tiny")
    del source["heads.bottleneck.0.num_batches_tracked"]
    report, state = converted(written(tmp_path / "w.pth", source), "vit-tiny")
    assert report.initialised == ["heads.bottleneck.0.num_batches_tracked"]
    assert state["heads.bottleneck.0.num_batches_tracked"] == 0


def test_a_superseded_dtst_is_refused_as_such(tmp_path: Path) -> None:
    source = network_state("vdt-tiny")
    source["backbone.token_selector.score_predictor.in_conv.1.weight"] = torch.ones(24, DIM)
    with pytest.raises(InputError, match="superseded DTST"):
        converted(written(tmp_path / "w.pth", source, wrap="model"), "dtst-tiny")


def test_several_strides_with_one_number_of_patches_are_asked_about(tmp_path: Path) -> None:
    source = network_state("secap-tiny", stride=14)  # 4 x 2 cells, as strides 13 to 16 give
    path = written(tmp_path / "w.pth", source)
    with pytest.raises(SettingsError, match="strides 13, 14, 15, 16"):
        converted(path, "secap-tiny")
    report, _ = converted(path, "secap-tiny", trunk={"stride": 14})
    assert report.config["trunk"]["stride"] == 14


class Harmful:
    """What a pickle may do to whoever loads it."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (Path("harmed"),)


def test_a_pickle_with_code_is_refused_in_one_line_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": timm(), "extra": Harmful()}, tmp_path / "w.pth")
    out = tmp_path / "out.safetensors"
    assert main(["convert", "w.pth", "--to", "vit-tiny", "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "holds objects besides tensors" in said
    assert not (tmp_path / "harmed").exists()
    assert not out.exists()


def test_a_torchscript_archive_is_refused_with_the_way_out(tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "ViT-B-16.pt"))
    with pytest.raises(InputError, match=r"TorchScript archive.*state_dict\(\)"):
        published.read(tmp_path / "ViT-B-16.pt")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"nonsense", "not a file of torch.save"),
        (pickle.dumps([1, 2], protocol=2), "cannot read|no state_dict"),
        (b"\x08\x00\x00\x00\x00\x00\x00\x00{bad    ", "cannot read"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(InputError, match=said):
        published.read(tmp_path / "w.pth")


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path) -> None:
    source = timm()
    source["norm.weight"][3] = float("nan")
    with pytest.raises(InputError, match=r"norm\.weight"):
        published.read(written(tmp_path / "w.pth", source))


def test_a_checkpoint_of_ours_and_unknown_names_are_refused(tmp_path: Path) -> None:
    converted(written(tmp_path / "w.pth", timm()), "vit-tiny")
    with pytest.raises(InputError, match="of ours already"):
        published.read(tmp_path / "out.safetensors")
    unknown = written(tmp_path / "x.pth", {"encoder.layer.0": torch.ones(1)})
    with pytest.raises(InputError, match=r"encoder\.layer\.0"):
        converted(unknown, "vit-tiny")


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
    begin_with(network, {**config, "held_out": ["0/1", "0/2"]}, start)
    assert torch.equal(network.heads.weight, classifier)
    assert torch.equal(network.state_dict()["backbone.pos_embed"], state["backbone.pos_embed"])


def test_a_start_from_the_authors_weights_says_what_they_may_have_seen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    converted(written(tmp_path / "w.pth", network_state("vdt-tiny"), wrap="model"), "vdt-tiny")
    start = checkpoint.load(tmp_path / "out.safetensors")
    network = variants.construct(start.config)
    begin_with(network, {**start.config, "held_out": ["0/1"]}, start)
    assert "held-out people were seen before" in caplog.text


@pytest.mark.parametrize("method", variants.METHODS)
def test_the_entries_with_a_row_per_person_are_known(method: str) -> None:
    few, more = (network_state(f"{method}-tiny", people=n, height=128, width=128) for n in (5, 6))
    differing = {key for key, value in few.items() if value.shape != more[key].shape}
    assert differing == set(few) & set(PER_PERSON)


@pytest.mark.parametrize("method", variants.METHODS)
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


def test_a_gsalign_that_learned_its_targets_is_refused(tmp_path: Path) -> None:
    source = network_state("gsalign-tiny")
    source["backbone.blocks.1.tps.dst_points"] = torch.full((4, 2), 0.3)
    with pytest.raises(InputError, match=r"blocks\.1\.tps\.dst_points is not the constant"):
        converted(written(tmp_path / "w.pth", source, wrap="model"), "gsalign-tiny")


def clip() -> State:
    """An image encoder of our own under OpenAI's names, at a grid of 14 x 14, and a text side."""
    rng = torch.Generator().manual_seed(5)
    state = {
        "visual." + key.removeprefix("image_encoder."): torch.randn(value.shape, generator=rng)
        for key, value in network_state("clip-reid-tiny").items()
        if key.startswith("image_encoder.")
    }
    state["visual.positional_embedding"] = torch.randn(197, DIM, generator=rng)
    return state | {"token_embedding.weight": torch.ones(3, 4), "logit_scale": torch.ones(())}


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


@pytest.mark.parametrize(("make", "variant"), [(clip, "vit-tiny"), (timm, "clip-reid-tiny")])
def test_clip_and_imagenet_weights_do_not_fit_each_others_trunk(
    tmp_path: Path, make: Callable[[], State], variant: str
) -> None:
    with pytest.raises(InputError, match="CLIP's"):
        converted(written(tmp_path / "w.pt", make()), variant)
