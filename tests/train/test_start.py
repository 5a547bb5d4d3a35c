from pathlib import Path

import pytest
import torch

from skyreid.contract.errors import InputError
from skyreid.contract.input_spec import InputSpec
from skyreid.train import checkpoint
from skyreid.train.models import variants
from skyreid.train.start import begin_with


@pytest.fixture
def first(tmp_path: Path) -> checkpoint.Checkpoint:
    """What a run on four people leaves that held out two others."""
    torch.manual_seed(3)
    config = variants.variant("vdt-tiny", height=32, width=16, people=4, trunk={"depth": 2})
    path = tmp_path / "first.safetensors"
    checkpoint.save(
        path,
        kind="embedder",
        config={**config, "held_out": ["0/1", "0/2"]},
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
    config = {**first.config, "people": 9}
    network = variants.construct(config)
    classifier = network.heads.weight.clone()
    begin_with(network, config, first)
    assert torch.equal(network.heads.weight, classifier)
    assert torch.equal(network.backbone.pos_embed, first.state["backbone.pos_embed"])


def test_a_start_that_would_spoil_the_selection_or_does_not_fit_is_refused(
    first: checkpoint.Checkpoint,
) -> None:
    network = variants.construct(first.config)
    with pytest.raises(InputError, match="held out"):
        begin_with(network, {**first.config, "held_out": ["0/99"]}, first)
    other = {**first.config, "trunk": {**first.config["trunk"], "depth": 3}}
    with pytest.raises(InputError, match="another network"):
        begin_with(network, other, first)
