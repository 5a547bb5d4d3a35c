import numpy as np
import pytest
import torch

from skyreid.contract.errors import InputError, SettingsError
from skyreid.train.models.heatmap import INPUT_SPEC, DetectorConfig, PersonDetector, build

TINY = DetectorConfig(stem=4, quarter=4, eighth=8, sixteenth=8, dilations=(2,))


@pytest.mark.parametrize(("height", "width"), [(16, 16), (48, 80), (720, 16), (176, 320)])
def test_outputs_are_a_quarter_of_the_input_for_every_multiple_of_16(
    height: int, width: int
) -> None:
    heat, box = PersonDetector(TINY).eval()(torch.zeros(2, height, width, 3, dtype=torch.uint8))
    assert heat.shape == (2, height // 4, width // 4)
    assert box.shape == (2, 4, height // 4, width // 4)
    assert heat.dtype == box.dtype == torch.float32
    assert (box > 0).all()


def test_heat_keeps_only_local_maxima() -> None:
    torch.manual_seed(0)
    model = PersonDetector(TINY).eval()
    images = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    heat = model(images)[0][0].detach().numpy()
    raw = model.raw(images)[0][0].sigmoid().detach().numpy()
    padded = np.pad(raw, 1)
    for y in range(16):
        for x in range(16):
            peak = raw[y, x] == padded[y : y + 3, x : x + 3].max()
            assert heat[y, x] == (raw[y, x] if peak else 0)
    assert 0 < (heat > 0).sum() < heat.size / 2


def test_a_config_survives_its_mapping_and_a_state_builds_the_same_network() -> None:
    torch.manual_seed(1)
    model = PersonDetector(TINY).eval()
    again = build({"trunk": TINY.model_dump(mode="json"), "score_min": 0.3}, model.state_dict())
    images = torch.randint(0, 256, (1, 32, 48, 3), dtype=torch.uint8)
    assert again.config == TINY
    assert all(torch.equal(a, b) for a, b in zip(model(images), again(images), strict=True))


def test_weights_of_another_network_are_refused_by_name() -> None:
    state = PersonDetector(TINY).state_dict()
    with pytest.raises(InputError, match="do not fit its config"):
        build({"trunk": DetectorConfig().model_dump()}, state)
    with pytest.raises(SettingsError, match="colour: unknown key"):
        build({"trunk": {"colour": 1}}, state)
    with pytest.raises(InputError, match="how its detector is built"):
        build({}, state)


def test_the_default_network_has_about_half_a_million_parameters() -> None:
    count = sum(p.numel() for p in PersonDetector(DetectorConfig()).parameters())
    assert 400_000 < count < 600_000
    assert (INPUT_SPEC.height, INPUT_SPEC.width) == (0, 0)
