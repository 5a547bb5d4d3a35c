"""A small fully convolutional person detector.

Zhou et al., "Objects as Points", arXiv 1904.07850: a person is a peak in a heatmap at stride 4 and
four numbers read off at that peak. It differs from the paper in its trunk (about 0.5 M parameters,
plain convolutions down to stride 16, dilated ones there so that a 300 px person fits the receptive
field) and in the box, which is four distances as in FCOS (Tian et al., arXiv 1904.01355) instead of
size and offset.

Channel counts are multiples of 16: ONNX Runtime's blocked CPU convolution pads to that anyway.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field, Strict
from torch import Tensor, nn
from torch.nn import functional

from skyreid.contract.errors import InputError
from skyreid.contract.input_spec import InputSpec
from skyreid.contract.settings import check
from skyreid.train.checkpoint import fill
from skyreid.train.options import Options

STRIDE = 4
"""Pixels of the input per heatmap cell."""
MULTIPLE = 16
"""Height and width of the input must be multiples of this."""
PIXEL_SCALE = 64.0
"""Pixels are divided by it; batch normalisation takes care of the mean."""
INPUT_SPEC = InputSpec(
    height=0, width=0, mean=(0.0, 0.0, 0.0), std=(PIXEL_SCALE,) * 3, crop_margin=0.0
)
"""Any size; the scale is part of the graph."""


class DetectorConfig(Options):
    """The trunk's channels at stride 2, 4, 8 and 16."""

    stem: int = Field(16, ge=1)
    quarter: int = Field(32, ge=1)
    eighth: int = Field(48, ge=1)
    sixteenth: int = Field(96, ge=1)
    dilations: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Strict(False)] = (2, 4)
    """One residual block each, at stride 16."""


class PersonDetector(nn.Module):
    """Pictures to a peak heatmap and boxes.

    ``forward`` is what is exported: images uint8 [N, H, W, 3] RGB, H and W multiples of 16, to

    * heat: float32 [N, H/4, W/4], scores 0 to 1, zero where a cell is not the maximum of its
      3 x 3 neighbourhood;
    * box: float32 [N, 4, H/4, W/4], distances in input pixels from the cell's centre
      ``(x + .5) * 4`` to the left, top, right and bottom edge.
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        c = config
        self.stem = _convolve(3, c.stem, stride=2)
        self.quarter = _convolve(c.stem, c.quarter, stride=2)
        self.eighth = nn.Sequential(
            _convolve(c.quarter, c.eighth, stride=2), _Residual(c.eighth, 1)
        )
        self.sixteenth = nn.Sequential(
            _convolve(c.eighth, c.sixteenth, stride=2),
            *(_Residual(c.sixteenth, d) for d in c.dilations),
        )
        self.to_eighth = nn.Conv2d(c.sixteenth, c.eighth, 1)
        self.fuse_eighth = _convolve(c.eighth, c.eighth)
        self.to_quarter = nn.Conv2d(c.eighth, c.quarter, 1)
        self.fuse_quarter = _convolve(c.quarter, c.quarter)
        self.head = nn.Conv2d(c.quarter, 5, 1)
        # A prior of .01 for the heat (Lin et al., "Focal Loss", 2017): otherwise the first steps go
        # into pushing every background cell down. Boxes start at exp(1.5) * 4 = 18 px a side.
        nn.init.normal_(self.head.weight, std=0.01)
        with torch.no_grad():
            bias = self.head.bias
            assert bias is not None
            bias.copy_(torch.tensor([-4.6, 1.5, 1.5, 1.5, 1.5]))

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """For training: heat logits [N, H/4, W/4] and box distances [N, 4, H/4, W/4] in pixels."""
        x = images.float() * (1 / PIXEL_SCALE)  # uint8 may feed only a Cast (TensorRT)
        x = x.permute(0, 3, 1, 2)  # [N, H, W, 3] -> [N, 3, H, W]
        quarter = self.quarter(self.stem(x))
        eighth = self.eighth(quarter)
        sixteenth = self.sixteenth(eighth)
        eighth = self.fuse_eighth(eighth + _double(self.to_eighth(sixteenth)))
        quarter = self.fuse_quarter(quarter + _double(self.to_quarter(eighth)))
        out = self.head(quarter)
        return out[:, 0], out[:, 1:].clamp(max=6.0).exp() * STRIDE

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, box = self.raw(images)
        heat = logits.sigmoid()
        highest = functional.max_pool2d(heat[:, None], 3, stride=1, padding=1)[:, 0]
        return torch.where(heat == highest, heat, torch.zeros_like(heat)), box


def build(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> PersonDetector:
    """The detector of a checkpoint, in evaluation mode.

    Args:
        config: of the checkpoint: `trunk`, fields of `DetectorConfig`, beside what says how the
            network came about and at which score it was validated.
        state: its weights.

    Raises:
        SettingsError: the configuration is not this network's.
        InputError: the weights are not.
    """
    if "trunk" not in config:
        raise InputError("the checkpoint does not say how its detector is built; train it anew")
    model = PersonDetector(check(DetectorConfig, config["trunk"], "the checkpoint's trunk"))
    fill(model, state)
    return model.eval()


class _Residual(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.first = _convolve(channels, channels, dilation=dilation)
        self.second = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = functional.relu(x + self.second(self.first(x)))
        return out


def _convolve(inputs: int, outputs: int, *, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _double(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")
