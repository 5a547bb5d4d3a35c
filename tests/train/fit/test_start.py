from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skyreid.contract.errors import InputError
from skyreid.contract.input_spec import InputSpec
from skyreid.train import checkpoint
from skyreid.train.fit.split import Split
from skyreid.train.fit.start import begin_with, rows_from_means
from skyreid.train.models import positions, variants


@pytest.fixture
def first(tmp_path: Path) -> checkpoint.Checkpoint:
    """What a run on four people leaves that held out two others."""
    torch.manual_seed(3)
    config = variants.variant("vdt-tiny", height=32, width=16, people=4, trunk={"depth": 2})
    path = tmp_path / "first.safetensors"
    checkpoint.save(
        path,
        kind="embedder",
        config={**config, "fitted": ["3/c", "4/d", "5/e", "6/f"], "held_out": ["1/a", "2/b"]},
        state=variants.construct(config).state_dict(),
        input_spec=InputSpec(height=32, width=16),
    )
    return checkpoint.load(path)


def test_a_second_stage_begins_with_the_weights_of_the_first(first: checkpoint.Checkpoint) -> None:
    network = variants.construct(first.config)
    begin_with(network, first.config, first)
    for key, value in network.state_dict().items():
        assert torch.equal(value, first.state[key]), key


def test_with_other_people_the_classifier_alone_begins_anew(first: checkpoint.Checkpoint) -> None:
    config = {**first.config, "people": 9, "fitted": ["3/c", *"hijklmno"]}
    network = variants.construct(config)
    classifier = network.heads.weight.clone()
    begin_with(network, config, first)
    assert torch.equal(network.heads.weight, classifier)
    assert torch.equal(network.backbone.pos_embed, first.state["backbone.pos_embed"])


def test_a_start_that_would_spoil_the_selection_or_does_not_fit_is_refused(
    first: checkpoint.Checkpoint,
) -> None:
    network = variants.construct(first.config)
    with pytest.raises(InputError, match=r"fitted on 1 of the people who are held out now .4/d."):
        begin_with(network, {**first.config, "held_out": ["1/a", "4/d"]}, first)
    begin_with(network, {**first.config, "held_out": ["of another data set"]}, first)
    other = {**first.config, "trunk": {**first.config["trunk"], "depth": 3}}
    said = r"another network than the recipe: trunk\.depth is \d there and 3 here$"
    with pytest.raises(InputError, match=said):
        begin_with(network, other, first)


def test_as_many_other_people_do_not_get_the_rows_of_the_first(
    first: checkpoint.Checkpoint,
) -> None:
    config = {**first.config, "fitted": ["3/x", "4/x", "5/x", "6/x"]}
    network = variants.construct(config)
    classifier = network.heads.weight.clone()
    begin_with(network, config, first)
    assert torch.equal(network.heads.weight, classifier)


def test_other_options_of_the_same_people_are_refused_in_one_line(tmp_path: Path) -> None:
    options = {"experts": 3, "graph_top_k": 2}
    config = variants.variant(
        "visa-tiny", height=32, width=32, people=2, trunk={"depth": 1}, options=options
    )
    config |= {"fitted": ["1", "2"], "held_out": []}
    checkpoint.save(
        tmp_path / "x",
        kind="embedder",
        config=config,
        state=variants.construct(config).state_dict(),
        input_spec=InputSpec(height=32, width=32),
    )
    other = {**config, "options": {**options, "experts": 2}}
    with pytest.raises(InputError, match="do not fit"):
        begin_with(variants.construct(other), other, checkpoint.load(tmp_path / "x"))


@pytest.mark.parametrize(
    ("method", "options"),
    [("vdt", {}), ("gsalign", {}), ("clip-reid", {"text": False})],
)
def test_another_resolution_or_stride_begins_with_resampled_positions(
    tmp_path: Path, method: str, options: dict[str, bool]
) -> None:
    trunk = {"depth": 1, **({"heads": 1, "dim": 64} if method == "clip-reid" else {})}

    def config_of(height: int, width: int, stride: int) -> dict[str, Any]:
        config = variants.variant(
            f"{method}-tiny", height=height, width=width, people=2,
            trunk={**trunk, "stride": stride}, options=options,
        )  # fmt: skip
        return {**config, "fitted": ["1", "2"], "held_out": []}

    old, new = config_of(64, 32, 16), config_of(128, 48, 8)
    checkpoint.save(
        tmp_path / "x",
        kind="embedder",
        config=old,
        state=variants.construct(old).state_dict(),
        input_spec=InputSpec(height=64, width=32),
    )
    source = checkpoint.load(tmp_path / "x")
    network = variants.construct(new)
    begin_with(network, new, source)
    (name,) = [key for key in source.state if key.endswith(positions.NAMES)]
    found, table = network.state_dict()[name].flatten(0, -2), source.state[name].flatten(0, -2)
    leading = len(table) - 4 * 2
    assert len(found) == leading + 15 * 5
    assert torch.equal(found[:leading], table[:leading])
    grid = table[leading:].reshape(4, 2, -1)
    # The middle row and column of the new grid lie between the old ones.
    torch.testing.assert_close(found[leading:].reshape(15, 5, -1)[7, 2], grid[1:3].mean((0, 1)))
    for key, value in network.state_dict().items():
        if "blocks" in key and "tps" not in key:
            assert torch.equal(value, source.state[key]), key


def test_rows_from_means_let_the_first_step_know_who_is_who(first: checkpoint.Checkpoint) -> None:
    random = np.random.default_rng(0)
    people = np.repeat(np.arange(4), 6)
    faces = random.integers(0, 256, (4, 32, 16, 3))
    noise = random.integers(-9, 10, (24, 32, 16, 3))
    images = np.clip(faces[people] + noise, 0, 255).astype(np.uint8)
    views = np.tile([0, 1], 12)
    split = Split((), images, people, views, (), np.zeros((0, 32, 16, 3), np.uint8), Path())
    network = variants.construct(first.config)
    rows_from_means(network, split, first.input_spec)
    pixels = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - 127.5) / 127.5
    with torch.no_grad():
        embeddings = network.eval()(pixels, torch.from_numpy(views))
        logits = embeddings @ network.classifier_weight.T
    assert torch.equal(logits.argmax(1), torch.from_numpy(people))
    assert float(logits.gather(1, torch.from_numpy(people)[:, None]).mean()) == pytest.approx(9.0)
