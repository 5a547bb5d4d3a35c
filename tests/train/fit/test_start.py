from pathlib import Path

import pytest
import torch

from skyreid.contract.errors import InputError
from skyreid.contract.input_spec import InputSpec
from skyreid.train import checkpoint
from skyreid.train.fit.start import begin_with
from skyreid.train.models import variants


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
    with pytest.raises(InputError, match="another network"):
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
