"""`unfold` of an embedder: the network comes back from the graph, and training goes on from it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from skyreid.bundle.archive import open_bundle
from skyreid.bundle.runner import start
from skyreid.contract.input_spec import InputSpec
from skyreid.export import unfold_embedder
from skyreid.export.__main__ import main
from skyreid.export.bundle import export_bundle
from skyreid.train import checkpoint
from skyreid.train.__main__ import main as train
from skyreid.train.models.variants import construct
from skyreid.train.serving import build

RECIPE = """
[model]
variant = "vdt-tiny"
trunk = {{ stem = "conv", stride = 16, dim = 24, depth = 2, heads = 3, drop_path = 0.0 }}
[input]
height = 32
width = 16
[batch]
people = 2
crops = 2
[run]
steps = 1
held_out_people = {held_out}
rows_from_means = true
"""


@pytest.fixture(scope="module")
def unfolded(embedder_bundle: Path, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unfolded") / "start.safetensors"
    assert main(["unfold", str(embedder_bundle), "--data", str(tree), "-o", str(out)]) == 0
    return out


def test_it_answers_as_the_bundle_and_names_it(unfolded: Path, embedder_bundle: Path) -> None:
    read, bundle = checkpoint.load(unfolded), open_bundle(embedder_bundle)
    assert read.config["unfolded_from"] == bundle.sha256
    pictures = np.random.default_rng(5).integers(0, 256, (3, 32, 16, 3)).astype(np.uint8)
    with torch.no_grad():
        found = build(read)(torch.from_numpy(pictures)).numpy()
    np.testing.assert_allclose(found, start(bundle).run(pictures)["embedding"], atol=1e-5)


def test_in_training_it_answers_as_the_bundle_too(
    unfolded: Path, embedder_bundle: Path, tree: Path
) -> None:
    """When the statistics of a batch are those of the pictures."""
    read = checkpoint.load(unfolded)
    network = construct(read.config)
    checkpoint.fill(network, read.state)
    pictures = unfold_embedder._pictures([tree], read.input_spec)
    images = (torch.from_numpy(pictures).permute(0, 3, 1, 2) - 127.5) / 127.5
    network.train()
    with torch.no_grad():
        seen = network.see(images, torch.zeros(len(images), dtype=torch.int64))
        trained = network.heads.embed(seen["whole"] - seen["view"]).numpy()
    theirs = start(open_bundle(embedder_bundle)).run(pictures[:16])["embedding"]
    apart = trained - trained.mean(0)  # the neck's mean is that of those it was trained on
    ours = apart[:16] / np.linalg.norm(apart[:16], axis=1, keepdims=True)
    assert np.corrcoef((ours @ ours.T).ravel(), (theirs @ theirs.T).ravel())[0, 1] > 0.8


@pytest.mark.parametrize("held_out", [0, 3])
def test_training_goes_on_from_it_and_says_what_it_cannot_know(
    unfolded: Path, tree: Path, held_out: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE.format(held_out=held_out))
    given = ["--data", str(tree), "--out", str(tmp_path / "out"), "--start", str(unfolded)]
    assert train(["fit", str(tmp_path / "recipe.toml"), *given]) == 0
    assert ("does not say whom it was fitted on" in caplog.text) == bool(held_out)


def _bundle(method: str, trunk: dict[str, object], tmp_path: Path) -> Path:
    torch.manual_seed(1)
    config = {"variant": "test", "method": method, "trunk": trunk, "people": 4}
    network = construct(config)
    with torch.no_grad():
        for value in network.parameters():
            value.add_(0.1 * torch.randn_like(value))
        for name, value in network.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                value.add_(0.3 * torch.rand_like(value))
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.save(
        path, kind="embedder", config=config, state=network.state_dict(),
        input_spec=InputSpec(height=32, width=16),
    )  # fmt: skip
    return export_bundle(path, tmp_path / "bundle", view="ground", name=method).path


@pytest.mark.parametrize(
    ("method", "trunk"),
    [
        ("vdt", dict(stem="conv", stride=8, dim=48, depth=1, heads=2, mlp_ratio=2.0)),
        ("vdt", dict(patch=16, stride=8, dim=24, depth=3, heads=3)),
        ("vit", dict(patch=8, stride=[8, 4], dim=24, depth=2, heads=4)),
    ],
)
def test_other_shapes_and_the_plain_trunk(
    method: str, trunk: dict[str, object], tree: Path, tmp_path: Path
) -> None:
    bundle = _bundle(method, {**trunk, "height": 32, "width": 16}, tmp_path)
    out = tmp_path / "start.safetensors"
    assert main(["unfold", str(bundle), "--data", str(tree), "-o", str(out)]) == 0
    read = checkpoint.load(out).config
    assert read["method"] == method
    assert {key: read["trunk"][key] for key in trunk if key != "stride"} == {
        key: value for key, value in trunk.items() if key != "stride"
    }


def test_other_methods_other_answers_and_too_few_pictures_are_refused(
    embedder_bundle: Path, tree: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "start.safetensors"
    words = ["--data", str(tree), "-o", str(out)]
    other = _bundle("secap", dict(dim=24, depth=2, heads=3, height=32, width=16), tmp_path)
    assert main(["unfold", str(other), *words]) == 2
    assert "not that of VDT or the plain trunk" in capsys.readouterr().err
    with monkeypatch.context() as patched:
        patched.setattr(unfold_embedder, "FEWEST", 65)
        assert main(["unfold", str(embedder_bundle), *words]) == 2
    assert "64 pictures for the statistics" in capsys.readouterr().err
    monkeypatch.setattr(unfold_embedder, "LARGEST", -1.0)
    assert main(["unfold", str(embedder_bundle), *words]) == 3
    assert "it answers otherwise by" in capsys.readouterr().err
    assert not out.exists()
