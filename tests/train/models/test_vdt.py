import pytest
import torch

from skyreid.train.models import variants
from skyreid.train.models.losses import LossOptions
from skyreid.train.models.vdt import Vdt

PEOPLE = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
TRUNK = dict(stem="conv", depth=4, drop_path=0.0)
VIEWS = torch.tensor([0, 1] * 4)


def made(loss: LossOptions | None = None) -> Vdt:
    torch.manual_seed(0)
    config = variants.variant("vdt-tiny", height=64, width=32, people=4, trunk=TRUNK)
    network = variants.construct(config, loss)
    assert isinstance(network, Vdt)
    return network


def tokens_of(network: Vdt, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return network.backbone(images)


def test_as_published_the_neck_keeps_nine_parts_of_identity_and_ten_of_the_whole() -> None:
    network = made()
    images = torch.randn(8, 3, 64, 32)
    tokens = tokens_of(network.train(), images)
    neck = network.heads.bottleneck[0]
    before = neck.running_mean.clone()
    network.losses(images, PEOPLE, VIEWS)
    free, whole = tokens[:, 0] - tokens[:, 1], tokens[:, 0]
    wanted = 0.81 * before + 0.09 * free.mean(0) + 0.1 * whole.mean(0)
    torch.testing.assert_close(neck.running_mean, wanted)
    assert neck.num_batches_tracked == 2
    assert network.view_heads.bottleneck[0].num_batches_tracked == 1


def test_without_mixed_statistics_the_neck_keeps_identity_alone() -> None:
    network = made(LossOptions(mixed_statistics=False)).train()
    images = torch.randn(8, 3, 64, 32)
    tokens = tokens_of(network, images)
    network.losses(images, PEOPLE, VIEWS)
    free = tokens[:, 0] - tokens[:, 1]
    torch.testing.assert_close(network.heads.bottleneck[0].running_mean, 0.1 * free.mean(0))


def test_the_view_token_stays_and_the_class_token_loses_it_after_every_block() -> None:
    network = made().eval()
    with torch.no_grad():
        # With blocks that do nothing, CLS must end as CLS - depth * VIEW, and VIEW as it began.
        network.backbone.view_token.fill_(0.3)
        for block in network.backbone.blocks:
            for linear in (block.attn.proj, block.mlp.fc2):
                linear.weight.zero_()
                linear.bias.zero_()
        network.backbone.norm = torch.nn.Identity()
        images = torch.randn(2, 3, 64, 32)
        start = network.backbone.embed(images)
        end = network.backbone(images)
    depth = len(network.backbone.blocks)
    torch.testing.assert_close(end[:, 1], start[:, 1])
    torch.testing.assert_close(end[:, 0], start[:, 0] - depth * start[:, 1])


def test_terms_are_the_published_four_unless_the_cross_view_triplet_is_asked_for() -> None:
    images = torch.randn(8, 3, 64, 32)
    assert set(made().losses(images, PEOPLE, VIEWS)) == {
        "identity", "triplet", "view", "orthogonality",
    }  # fmt: skip
    assert "cross_view" in made(LossOptions(cross_view_weight=1)).losses(images, PEOPLE, VIEWS)


def test_triplets_on_the_sphere_do_not_depend_on_the_features_scale() -> None:
    network = made(LossOptions(sphere_scale=8.0)).train()
    images = torch.randn(8, 3, 64, 32)
    before = network.losses(images, PEOPLE, VIEWS)["triplet"].item()
    with torch.no_grad():
        network.backbone.norm.weight.mul_(50)
        network.backbone.norm.bias.mul_(50)
    assert network.losses(images, PEOPLE, VIEWS)["triplet"].item() == pytest.approx(
        before, abs=1e-2
    )
