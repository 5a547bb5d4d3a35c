import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from weights import DIM, State, clip, converted, network_state, timm, written

from skyreid.contract.errors import InputError, SettingsError
from skyreid.train.__main__ import main
from skyreid.train.authors import published


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
    assert "--height" not in message
    assert not (tmp_path / "out.safetensors").exists()


def test_positions_alone_of_another_shape_are_those_of_another_size(tmp_path: Path) -> None:
    source = network_state("vdt-tiny")
    source["backbone.pos_embed"] = torch.ones(1, 6, DIM)
    with pytest.raises(InputError, match="give the --height and --width that it was"):
        converted(written(tmp_path / "w.pth", source, wrap="model"), "vdt-tiny")


def test_a_checkpoint_goes_by_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`fit` took one called .pth, and `evaluate` called it a bundle without sums."""
    source = written(tmp_path / "w.pth", network_state("vdt-tiny"), wrap="model")
    assert main(["convert", str(source), "--to", "vdt-tiny", "--out", str(tmp_path / "x.pth")]) == 2
    assert "x.pth: a checkpoint's name ends in .safetensors" in capsys.readouterr().err
    assert not (tmp_path / "x.pth").exists()


def test_imagenet_weights_with_parts_our_trunk_lacks_are_refused_by_name(tmp_path: Path) -> None:
    source = timm() | {"blocks.0.ls1.gamma": torch.ones(DIM)}
    del source["norm.bias"]
    with pytest.raises(InputError, match=r"missing 1: .*norm\.bias; unexpected 1: .*ls1\.gamma"):
        converted(written(tmp_path / "w.pth", source), "vit-tiny")


def test_a_file_of_another_method_says_whose_names_it_has(tmp_path: Path) -> None:
    path = written(tmp_path / "w.pth", network_state("vdt-tiny"), wrap="model")
    with pytest.raises(InputError, match="names are those of vdt"):
        converted(path, "dtst-tiny")


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
        (b"", "it is empty or ends too early; fetch it again"),
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


def test_a_gsalign_that_learned_its_targets_is_refused(tmp_path: Path) -> None:
    source = network_state("gsalign-tiny")
    source["backbone.blocks.1.tps.dst_points"] = torch.full((4, 2), 0.3)
    with pytest.raises(InputError, match=r"blocks\.1\.tps\.dst_points is not the constant"):
        converted(written(tmp_path / "w.pth", source, wrap="model"), "gsalign-tiny")


@pytest.mark.parametrize(("make", "variant"), [(clip, "vit-tiny"), (timm, "clip-reid-tiny")])
def test_clip_and_imagenet_weights_do_not_fit_each_others_trunk(
    tmp_path: Path, make: Callable[[], State], variant: str
) -> None:
    with pytest.raises(InputError, match="CLIP's"):
        converted(written(tmp_path / "w.pt", make()), variant)


def test_the_line_that_a_refusal_prints_turns_such_files_into_plain_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = torch.nn.Linear(2, 2)
    files = {"a.pth": {"state_dict": timm(), "rank1": np.float64(71.2)}, "b.pth": whole}
    for name, content in files.items():
        torch.save(content, name)
        with pytest.raises(InputError, match="where you trust it") as caught:
            published.read(tmp_path / name)
        line = str(caught.value).partition("alone: ")[2].replace("FILE", repr(name))
        assert "\n" not in line
        exec(line, {})
        wanted = timm() if name == "a.pth" else whole.state_dict()
        assert published.read(tmp_path / "weights.pt").state.keys() == wanted.keys()


def test_averaged_weights_are_taken_when_they_are_asked_for(tmp_path: Path) -> None:
    averaged = {key: value + 1 for key, value in timm().items()}
    path = tmp_path / "w.pth"
    torch.save({"state_dict": timm(), "state_dict_ema": averaged, "epoch": 3}, path)
    read = published.read(path)
    torch.testing.assert_close(read.state["cls_token"], timm()["cls_token"])
    assert "state_dict_ema, weights too: --key state_dict_ema takes them" in read.set_aside
    found = published.read(path, "state_dict_ema")
    torch.testing.assert_close(found.state["cls_token"], averaged["cls_token"])
    with pytest.raises(InputError, match=r"--key ema: .* it has state_dict, state_dict_ema"):
        published.read(path, "ema")
    torch.save({"model_ema": averaged, "epoch": 3}, path)  # alone, there is nothing to choose
    torch.testing.assert_close(published.read(path).state["norm.bias"], averaged["norm.bias"])
    torch.save({"teacher": averaged, "student": timm()}, path)
    with pytest.raises(InputError, match="several weights: choose with --key teacher or --key stu"):
        published.read(path)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "model.", "module._orig_mod.", "net."])
def test_what_wrappers_put_before_all_names_is_taken_off(tmp_path: Path, prefix: str) -> None:
    source = {prefix + key: value for key, value in network_state("vdt-tiny").items()}
    report, state = converted(written(tmp_path / "w.ckpt", source, wrap="state_dict"), "vdt-tiny")
    assert torch.equal(state["backbone.cls_token"], source[f"{prefix}backbone.cls_token"])
    assert any(prefix.endswith(said.partition(" ")[0]) for said in report.set_aside)


def test_what_only_self_supervised_training_reads_is_dropped_by_name(tmp_path: Path) -> None:
    extra = {"mask_token": torch.ones(1, DIM), "decoder_pos_embed": torch.ones(1, 5, DIM)}
    for number, source in enumerate(
        (timm() | extra, {f"backbone.{key}": value for key, value in timm().items()})
    ):
        path = written(tmp_path / f"{number}.pth", source, wrap="teacher")
        report, state = converted(path, "vdt-tiny")
        assert torch.equal(state["backbone.norm.weight"], timm()["norm.weight"])
        assert (set(extra) <= set(report.dropped)) == (number == 0)
    with pytest.raises(InputError, match=r"unexpected 1: .*norm_pre\.weight"):
        converted(written(path, timm() | {"norm_pre.weight": torch.ones(DIM)}), "vdt-tiny")
