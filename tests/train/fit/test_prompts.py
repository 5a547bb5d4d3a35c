from pathlib import Path

import pytest
import torch

from skyreid.contract.errors import InputError, SettingsError
from skyreid.contract.input_spec import InputSpec
from skyreid.train import checkpoint, serving
from skyreid.train.__main__ import main
from skyreid.train.fit import prompts, steps
from skyreid.train.models import clip_text, variants
from skyreid.train.models.clip_reid import ClipReid
from skyreid.train.models.clip_text import PromptOptions
from skyreid.train.models.method import Method

SPEC = InputSpec(height=32, width=16, mean=(127.5,) * 3, std=(127.5,) * 3)
SHORT = PromptOptions(epochs=2, batch=8)
RECIPE = """
[model]
variant = "clip-reid-tiny"
trunk = { dim = 48, depth = 2 }
[input]
height = 32
width = 16
[batch]
people = 4
crops = 4
group = 2
group_after = 0.0
[optimiser]
learning_rate = 1e-4
warmup_steps = 1
[prompts]
epochs = 2
[run]
steps = 21
held_out_people = 2
evaluate_every = 20
"""


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the names of OpenAI's CLIP, of one block and random weights."""
    torch.manual_seed(0)
    encoder = clip_text.TextEncoder(clip_text.TextConfig(dim=64, depth=1, heads=1, joint=32))
    path = tmp_path_factory.mktemp("clip") / "clip.pt"
    vocabulary = 0.02 * torch.randn(49408, 64)
    torch.save({**encoder.state_dict(), "token_embedding.weight": vocabulary}, path)
    return path


def network(method: str = "clip-reid", **options: bool) -> Method:
    torch.manual_seed(0)
    trunk = dict(dim=48, depth=1, heads=3)
    return variants.construct(
        variants.variant(
            f"{method}-tiny", height=32, width=16, people=3, trunk=trunk, options=options
        )
    )


def learn(made: Method, clip: Path | None, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (9, 32, 16, 3), dtype=torch.uint8, generator=generator)
    people = torch.arange(9) % 3
    prompts.learn(made, images, people, clip=clip, spec=SPEC, options=SHORT, seed=seed)


def test_a_clip_reid_gets_a_text_for_each_person_that_follows_from_the_seed(clip: Path) -> None:
    found = []
    for seed in (0, 0, 1):
        made = network()
        assert isinstance(made, ClipReid)
        learn(made, clip, seed)
        assert made.text_features is not None
        found.append(made.text_features)
    assert found[0].shape == (3, 32)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_clip_is_asked_for_where_it_is_needed_and_refused_where_it_is_not(clip: Path) -> None:
    with pytest.raises(SettingsError, match="--clip FILE"):
        learn(network(), None)
    for made in (network("vit"), network(text=False)):
        learn(made, None)
        with pytest.raises(SettingsError, match="leave it out"):
            learn(made, clip)


def test_a_clip_of_another_width_is_refused(clip: Path, tmp_path: Path) -> None:
    state = torch.load(clip, weights_only=True)
    state["text_projection"] = state["text_projection"][:, :24].clone()
    torch.save(state, tmp_path / "narrow.pt")
    with pytest.raises(InputError, match="texts of 24 channels"):
        learn(network(), tmp_path / "narrow.pt")


def test_fit_runs_both_stages_and_leaves_a_checkpoint_of_the_image_side(
    tiny_tree: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    words = ["fit", str(tmp_path / "recipe.toml"), "--data", str(tiny_tree), "--out"]
    out = tmp_path / "out"
    assert main([*words, str(out)]) != 0
    assert "--clip FILE" in capsys.readouterr().err
    assert main([*words, str(out), "--clip", str(clip)]) == 0
    best = checkpoint.load(out / steps.BEST)
    assert best.config["recipe"]["prompts"]["epochs"] == 2
    assert not [key for key in best.state if key.startswith(("text", "prompt"))]
    with torch.inference_mode():
        embedded = serving.build(best)(torch.zeros(2, 32, 16, 3, dtype=torch.uint8))
    assert embedded.shape == (2, 48 + 32)
