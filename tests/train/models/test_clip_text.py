import math

import pytest
import torch
from torch import nn

from skyreid.contract.errors import InputError
from skyreid.train.models import clip_text
from skyreid.train.models.clip_reid import ImageEncoder
from skyreid.train.models.clip_text import PromptOptions, TextConfig, TextSide
from skyreid.train.models.vit import TrunkConfig

SMALL = TextConfig(dim=24, depth=2, heads=3, joint=16)
VOCABULARY = 49408


def text_side(people: int = 3) -> TextSide:
    torch.manual_seed(0)
    text = TextSide(people, SMALL, 0.1 * torch.randn(VOCABULARY, SMALL.dim))
    with torch.no_grad():  # at its first values a transformer does next to nothing
        for parameter in text.text_encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return text


def test_the_sentence_is_clips_tokens_with_four_words_to_replace() -> None:
    ids = clip_text.sentence()
    assert len(ids) == 77
    assert ids[:12] == (49406, 320, 1125, 539, 320, 343, 343, 343, 343, 2533, 269, 49407)
    assert set(ids[12:]) == {0}
    assert ids.index(max(ids[1:])) == clip_text.END  # CLIP reads where the largest id stands


def test_the_entries_are_those_published_with_clip_reid() -> None:
    with torch.device("meta"):
        text = TextSide(5, TextConfig(), torch.empty(VOCABULARY, 512))
        shapes = {key: list(tensor.shape) for key, tensor in text.state_dict().items()}
    block = "text_encoder.transformer.resblocks.11."
    assert {key: shapes[key] for key in shapes if not key.startswith("text_encoder.tr")} == {
        "text_encoder.positional_embedding": [77, 512],
        "text_encoder.text_projection": [512, 512],
        "text_encoder.ln_final.weight": [512],
        "text_encoder.ln_final.bias": [512],
        "prompt_learner.cls_ctx": [5, 4, 512],
        "prompt_learner.token_prefix": [1, 5, 512],
        "prompt_learner.token_suffix": [1, 68, 512],
    }
    assert {key.removeprefix(block) for key in shapes if key.startswith(block)} == {
        "attn.in_proj_weight", "attn.in_proj_bias", "attn.out_proj.weight", "attn.out_proj.bias",
        "ln_1.weight", "ln_1.bias", "ln_2.weight", "ln_2.bias",
        "mlp.c_fc.weight", "mlp.c_fc.bias", "mlp.c_proj.weight", "mlp.c_proj.bias",
    }  # fmt: skip


def test_words_stand_between_prefix_and_suffix_of_the_embedded_sentence() -> None:
    vocabulary = torch.randn(VOCABULARY, SMALL.dim)
    learner = TextSide(3, SMALL, vocabulary).prompt_learner
    prompts = learner(torch.tensor([2, 0]))
    torch.testing.assert_close(prompts[:, 5:9], learner.cls_ctx[[2, 0]])
    for position in (0, 1, 2, 3, 4, 9, 10, 11, 12, 76):
        wanted = vocabulary[clip_text.sentence()[position]]
        torch.testing.assert_close(prompts[:, position], wanted.expand(2, -1))


def test_the_encoder_is_torchs_causal_attention_over_all_77_tokens() -> None:
    text = text_side().double()
    encoder = text.text_encoder
    classes = torch.tensor([0, 2])
    with torch.no_grad():
        found = text(classes)
        tokens = text.prompt_learner(classes) + encoder.positional_embedding
        hidden_from = torch.full((77, 77), -math.inf, dtype=torch.float64).triu(1)
        for block in encoder.transformer.resblocks:
            attention = nn.MultiheadAttention(SMALL.dim, SMALL.heads, batch_first=True).double()
            attention.load_state_dict(block.attn.state_dict())
            normed = block.ln_1(tokens)
            mixed, _ = attention(normed, normed, normed, attn_mask=hidden_from)
            tokens = tokens + mixed
            hidden = block.mlp.c_fc(block.ln_2(tokens))
            tokens = tokens + block.mlp.c_proj(hidden / (1 + torch.exp(-1.702 * hidden)))
        wanted = encoder.ln_final(tokens)[:, 11] @ encoder.text_projection
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(text.everybody(batch=2)[classes], wanted)


def naive_contrast(
    left: torch.Tensor, right: torch.Tensor, people: list[int], others: list[int], heat: float
) -> float:
    total = 0.0
    for row, person in zip(left, people, strict=True):
        products = [float((row * column).sum()) / heat for column in right]
        whole = math.log(sum(math.exp(value) for value in products))
        own = [value for value, other in zip(products, others, strict=True) if other == person]
        total += sum(whole - value for value in own) / len(own)
    return total / len(people)


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_the_contrast_is_the_published_one_computed_by_loops(temperature: float) -> None:
    torch.manual_seed(1)
    left, right = (torch.randn(n, 6, dtype=torch.float64) for n in (4, 5))
    people, others = [0, 1, 1, 2], [2, 1, 0, 1, 0]
    found = clip_text.supervised_contrast(
        left, right, torch.tensor(people), torch.tensor(others), temperature
    )
    wanted = naive_contrast(left, right, people, others, temperature)
    assert found.item() == pytest.approx(wanted, rel=1e-12)


def test_the_loss_of_the_first_stage_goes_both_ways_and_sees_lengths() -> None:
    torch.manual_seed(1)
    pictures, texts = (torch.randn(5, 6, dtype=torch.float64) for _ in range(2))
    people = [0, 1, 1, 2, 0]
    labels = torch.tensor(people)
    wanted = naive_contrast(pictures, texts, people, people, 1.0)
    wanted += naive_contrast(texts, pictures, people, people, 1.0)
    found = clip_text.symmetric_contrast(pictures, texts, labels)
    assert found.item() == pytest.approx(wanted, rel=1e-12)
    assert clip_text.symmetric_contrast(2 * pictures, texts, labels).item() != pytest.approx(wanted)


def scene() -> tuple[ImageEncoder, TextSide, torch.Tensor, torch.Tensor]:
    """A tiny random CLIP, and three people of one colour each in five noisy pictures."""
    text = text_side()
    encoder = ImageEncoder(
        TrunkConfig(height=32, width=16, dim=24, depth=1, heads=3, drop_path=0.0)
    )
    people = torch.arange(15) % 3
    colours = 2 * torch.eye(3)[people]
    images = colours[:, :, None, None] + 0.2 * torch.randn(15, 3, 32, 16)
    return encoder, text, images, people


def cosines(pictures: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    return nn.functional.normalize(pictures, dim=1) @ nn.functional.normalize(texts, dim=1).T


def test_the_first_stage_finds_words_that_tell_people_apart_and_changes_nothing_else() -> None:
    encoder, text, images, people = scene()
    with torch.no_grad():
        pictures = encoder(images)[2]
        before = clip_text.symmetric_contrast(pictures, text.everybody()[people], people)
    kept = {key: t.clone() for key, t in (text.state_dict() | encoder.state_dict()).items()}
    # Batches of 4 leave a last one of 3.
    options = PromptOptions(epochs=40, batch=4, learning_rate=0.02, warmup_rate=0.01)
    texts = clip_text.stage_one(encoder, text, images.split(7), people, options)
    assert texts.shape == (3, 16)
    assert not texts.requires_grad
    after = clip_text.symmetric_contrast(pictures, texts[people], people)
    assert after < before - 0.2
    now = text.state_dict() | encoder.state_dict()
    assert [key for key in kept if not torch.equal(kept[key], now[key])] == [
        "prompt_learner.cls_ctx"
    ]
    encoders = [*text.text_encoder.parameters(), *encoder.parameters()]
    assert all(parameter.grad is None for parameter in encoders)
    # Each picture is nearest to its own text of all, and texts do not fall together.
    assert (pictures @ texts.T).argmax(1).tolist() == people.tolist()
    apart = cosines(texts, texts)
    assert apart[~torch.eye(3, dtype=torch.bool)].max() < 0.9


def test_the_same_seed_finds_the_same_words() -> None:
    options = PromptOptions(epochs=2, batch=4)
    runs = []
    for _ in range(2):
        encoder, text, images, people = scene()
        runs.append(clip_text.stage_one(encoder, text, [images], people, options, seed=3))
    assert torch.equal(*runs)


def test_labels_or_widths_that_do_not_fit_the_pictures_are_refused() -> None:
    encoder, text, images, people = scene()
    with pytest.raises(InputError, match="15 pictures of 16 channels do not go with 14 labels"):
        clip_text.stage_one(encoder, text, [images], people[1:])
    wide = TextSide(3, TextConfig(dim=24, depth=1, heads=3, joint=8), torch.zeros(VOCABULARY, 24))
    with pytest.raises(InputError, match="texts of 8 channels"):
        clip_text.stage_one(encoder, wide, [images], people)


def openai_state() -> dict[str, torch.Tensor]:
    """A state_dict with the names of OpenAI's CLIP, of one head of 64 channels."""
    torch.manual_seed(0)
    config = TextConfig(dim=64, depth=2, heads=1, joint=32)
    encoder = clip_text.TextEncoder(config)
    return {
        **encoder.state_dict(),
        "token_embedding.weight": torch.randn(VOCABULARY, 64),
        "visual.proj": torch.randn(96, 32),
        "logit_scale": torch.tensor(4.6),
    }


def test_the_text_side_of_openais_weights_is_read_by_its_names() -> None:
    state = openai_state()
    text = clip_text.from_clip(state, people=3)
    own = text.text_encoder.state_dict()
    assert len(own) == len(state) - 3
    assert all(torch.equal(own[key], state[key]) for key in own)
    embedded = state["token_embedding.weight"]
    assert torch.equal(text.prompt_learner.token_prefix[0, 2], embedded[1125])
    assert torch.equal(text.prompt_learner.token_suffix[0, :3], embedded[[2533, 269, 49407]])
    assert text.everybody().shape == (3, 32)


@pytest.mark.parametrize(
    "key", ["text_projection", "token_embedding.weight", "transformer.resblocks.1.ln_2.bias"]
)
def test_what_openais_weights_lack_is_named(key: str) -> None:
    state = openai_state()
    del state[key]
    with pytest.raises(InputError, match=key):
        clip_text.from_clip(state, people=3)


def test_another_vocabulary_is_refused() -> None:
    state = openai_state() | {"token_embedding.weight": torch.zeros(1000, 64)}
    with pytest.raises(InputError, match="1000 rows"):
        clip_text.from_clip(state, people=3)


def test_the_rate_warms_up_linearly_and_falls_along_a_cosine() -> None:
    options = PromptOptions()
    rates = [clip_text.rate(options, epoch) for epoch in range(1, 121)]
    assert rates[0] == pytest.approx(1e-5 + 0.2 * (3.5e-4 - 1e-5))
    assert rates[59] == pytest.approx((3.5e-4 + 1e-6) / 2)
    assert rates[-1] == pytest.approx(1e-6)
    assert rates[4:] == sorted(rates[4:], reverse=True)
