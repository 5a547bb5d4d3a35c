"""GSAlign: before each block the patches are turned upright; a mask says what of a person shows.

"GSAlign: Geometric and Semantic Alignment Network for Aerial-Ground Person Re-Identification",
NeurIPS 2025. Re-written from the paper's description and held against recorded outputs of the
authors' code (WHU-liqiaoqiao/GSAlign).

What it adds to VDT, whose trunk, losses and embedding it keeps:

* LTPS (`tps`), geometry: before every block the patches get a share eta of themselves, sampled
  along a thin-plate spline that turns four learned points by an angle read off the patches.
* DAM (`MaskGenerator`), semantics: from a picture's mean feature a mask over channels says what of
  its person is visible; masked, the mean of the person's pictures in the batch shall be the
  picture's own. A loss of training, without a part in inference.

Where paper and code differ (`GsalignOptions`). The default `deform = "code"` computes what the
published CARGO configuration does: no term on the angles, and DAM on means of the patch
*embeddings*, before positions and blocks, so that it teaches the stem alone. `deform = "paper"`
counts the deformation (its L_deform: mean |angle|, summed over the blocks) and gives DAM the
features of people, of which the paper makes its prototypes; we read that as the view-free feature
the embedding is made of. Unknown, and the same in both: the paper's eta and its weights of the
three terms. The "learned keypoints" are four corners and one angle in the code; learned are
the points that are turned, fixed the corners they are compared with. An older form in the authors'
repository has it the other way round and takes every map for a square: of 16x8 patches it turned
none, and it is not known which of the two the published scores are of.

Kept for the state_dict and frozen: both heads' `head_body_distill`, which no loss reads.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from skyreid.train.data.records import View
from skyreid.train.models.heads import EmbeddingHead, FoldedNeck
from skyreid.train.models.losses import LossOptions
from skyreid.train.models.registry import register
from skyreid.train.models.tps import Ltps, Sampling, ServingLtps
from skyreid.train.models.vdt import Vdt, VdtTrunk, without_view
from skyreid.train.models.vit import Block, TrunkConfig
from skyreid.train.options import Options

ANGLE_WEIGHT = 0.5  # of the deformation where the published code counts it (AG-ReID)
MASK_FLOOR = 1e-6  # of a mask in its logarithm


class GsalignOptions(Options):
    """What the authors' code leaves to set, and where it is not the paper."""

    deform: Literal["code", "paper"] = "code"
    ltps_eta: float = Field(0.1, ge=0)
    """Share of the warped patches; comments in the code name .2 and .5."""
    mask_weight: float = Field(10.0, ge=0)  # of DAM's loss; 0 leaves it out
    entropy_weight: float = Field(0.1, ge=0)  # of the mask's entropy within it
    angle_weight: float | None = Field(None, ge=0)
    """Of the deformation; None: 0 as in "code", .5 in "paper"."""
    sampling: Sampling = "hat"  # "grid": torch's grid_sample, and GridSample in the export

    def weight_of_angles(self) -> float:
        """Of `deformation` in the sum of losses."""
        if self.angle_weight is not None:
            return self.angle_weight
        return ANGLE_WEIGHT if self.deform == "paper" else 0.0


class MaskGenerator(nn.Module):
    """DAM: which channels of a person a picture shows."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(dim, dim), nn.LayerNorm(dim), nn.ReLU(), nn.Linear(dim, dim), nn.Sigmoid()
        )

    def forward(self, features: Tensor, people: Tensor, entropy_weight: float) -> Tensor:
        """The loss: how far each picture is from its person's masked mean, and the masks' entropy.

        With features f and means c of each person's rows, both of unit length, and m = mask(f): the
        mean square of f - c * m / |c * m| over rows and channels, plus `entropy_weight` times the
        mean of -m log m.

        Args:
            features: float32 [B, D].
            people: int64 [B].
            entropy_weight: at least 0.
        """
        same = (people[:, None] == people[None, :]).to(features.dtype)
        means = F.normalize(same @ features / same.sum(1, keepdim=True), dim=1)
        own = F.normalize(features, dim=1)
        mask = self.mlp(own)
        aligned = F.mse_loss(own, F.normalize(means * mask, dim=1))
        entropy: Tensor = -(mask * mask.clamp(min=MASK_FLOOR).log()).mean()
        return aligned + entropy_weight * entropy


def deformation(angles: Tensor) -> Tensor:
    """Sum over the blocks of the batch's mean |angle|, of radians [B, blocks]."""
    return angles.abs().mean(0).sum()


class AligningBlock(Block):
    """A transformer block with the alignment of patches before it."""

    def __init__(self, config: TrunkConfig, drop_path: float, options: GsalignOptions) -> None:
        super().__init__(config, drop_path)
        rows, columns = config.grid()
        self.tps = Ltps(config.dim, rows, columns, eta=options.ltps_eta, sampling=options.sampling)

    def aligned(self, tokens: Tensor, first: int | None = None) -> tuple[Tensor, Tensor]:
        """The block's output for tokens [B, 2 + P, D], and the patches' angles [B], radians."""
        patches = tokens[:, 2:]
        angle = self.tps.angle(patches)
        turned = torch.cat([tokens[:, :2], self.tps.warp(patches, angle)], dim=1)
        return self.unaligned(turned, first), angle

    def unaligned(self, tokens: Tensor, first: int | None = None) -> Tensor:
        """The transformer block alone."""
        return super().forward(tokens, first)

    def forward(self, tokens: Tensor, first: int | None = None) -> Tensor:
        """See `Block.forward`."""
        return self.aligned(tokens, first)[0]


class GsalignTrunk(VdtTrunk):
    """VDT's trunk of aligning blocks, and the mask generator that training adds to it."""

    def __init__(self, config: TrunkConfig, options: GsalignOptions) -> None:
        super().__init__(config.model_copy(update={"depth": 0}))
        rates = torch.linspace(0, config.drop_path, config.depth, device="cpu").tolist()
        blocks = [AligningBlock(config, rate, options) for rate in rates]
        self.blocks = nn.ModuleList(blocks)
        self.mask_generator = MaskGenerator(config.dim)
        for part in (self.blocks, self.mask_generator):
            for linear in (m for m in part.modules() if isinstance(m, nn.Linear)):
                nn.init.trunc_normal_(linear.weight, std=0.02)
                nn.init.zeros_(linear.bias)

    def aligned(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Embedded patches [B, P, D] to CLS and VIEW [B, 2, D], and angles [B, blocks], radians."""
        tokens, angles = self.place(patches), []
        for index, block in enumerate(self.blocks):
            assert isinstance(block, AligningBlock)
            last = index == len(self.blocks) - 1
            tokens, angle = block.aligned(tokens, self.extra_tokens if last else None)
            tokens = without_view(tokens)
            angles.append(angle)
        return self.norm(tokens), torch.stack(angles, dim=1)


class DistillHead(EmbeddingHead):
    """The head with the branch its published state_dict has and its forward never reads."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__(dim, classes)
        self.head_body_distill = nn.Sequential(
            nn.Conv2d(dim, dim, 1, bias=False), nn.BatchNorm2d(dim), nn.ReLU()
        ).requires_grad_(False)


@register(
    "gsalign",
    options=GsalignOptions,
    form=("sampling",),
    pretrained={"imagenet": "backbone."},
    marks=(*Vdt.declaration.marks, ".tps."),
    computed=(".tps.dst_points", ".tps.grid_gen."),
    fixture="gsalign",
)
class Gsalign(Vdt):
    """VDT on a trunk that aligns, with what teaches that."""

    backbone: GsalignTrunk
    head = DistillHead

    def __init__(
        self,
        config: TrunkConfig,
        *,
        people: int,
        options: GsalignOptions | None = None,
        loss: LossOptions | None = None,
    ) -> None:
        options = options or GsalignOptions()
        backbone = GsalignTrunk(config, options)
        super().__init__(config, people=people, loss=loss, backbone=backbone)
        self.options = options
        if options.mask_weight == 0:
            backbone.mask_generator.requires_grad_(False)

    def angles(self, images: Tensor) -> Tensor:
        """By how much each block turns the patches of pictures: float32 [B, blocks], radians."""
        return self.backbone.aligned(self.backbone.patch_embed(images))[1]

    def see(self, images: Tensor, views: Tensor) -> dict[str, Tensor]:
        """See `Method.see`."""
        patches = self.backbone.patch_embed(images)
        tokens, angles = self.backbone.aligned(patches)
        whole, view = tokens.unbind(1)
        return {"whole": whole, "view": view, "angles": angles, "patches": patches.mean(1)}

    def judge(self, seen: Mapping[str, Tensor], people: Tensor, views: Tensor) -> dict[str, Tensor]:
        """See `Method.losses`; VDT's, then `mask` and `deform` where they count."""
        options = self.options
        terms = super().judge(seen, people, views)
        if options.mask_weight > 0:
            masked = seen["patches"] if options.deform == "code" else seen["whole"] - seen["view"]
            with torch.autocast(masked.device.type, enabled=False):  # of small differences
                mask = self.backbone.mask_generator(masked.float(), people, options.entropy_weight)
            terms["mask"] = options.mask_weight * mask
        if options.weight_of_angles() > 0:
            terms["deform"] = options.weight_of_angles() * deformation(seen["angles"])
        return terms

    def serving(self, view: View | None) -> nn.Module:
        """See `Method.serving`; the same for both views."""
        return ServingGsalign(self)


class ServingGsalign(nn.Module):
    """GSAlign as it is exported: no mask generator, the splines folded (`ServingLtps`)."""

    def __init__(self, network: Gsalign) -> None:
        super().__init__()
        backbone = copy.deepcopy(network.backbone)
        alignments, blocks = [], []
        for block in backbone.blocks:
            assert isinstance(block, AligningBlock)
            alignments.append(ServingLtps(block.tps))
            del block.tps
            blocks.append(block)
        del backbone.blocks, backbone.mask_generator
        self.stem = backbone  # patches, positions and the final norm
        self.alignments, self.blocks = nn.ModuleList(alignments), nn.ModuleList(blocks)
        self.neck = FoldedNeck(network.heads)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Float32 [B, 3, H, W] normalised to [B, D]."""
        tokens = self.stem.embed(images)
        last = len(self.blocks) - 1
        for index, (align, block) in enumerate(zip(self.alignments, self.blocks, strict=True)):
            turned = torch.cat([tokens[:, :2], align(tokens[:, 2:])], dim=1)
            assert isinstance(block, AligningBlock)
            tokens = without_view(block.unaligned(turned, 2 if index == last else None))
        normed = self.stem.norm(tokens)
        embedding: Tensor = self.neck(normed[:, 0] - normed[:, 1])
        return embedding
