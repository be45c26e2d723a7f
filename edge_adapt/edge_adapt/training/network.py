"""The trunk: two branches, late fusion, a small pyramid. Frozen on the robot; the head (head.py) is not."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from edge_adapt.training.geometry import GEOMETRY_CHANNELS, Preprocess
from edge_adapt.training.head import Head, HeadOutputs
from robin_perception.core.config import StrictConfig
from robin_perception.core.scene import CLASSES


class NetworkConfig(StrictConfig):
    """Channel counts. stage4..stage32: at strides 4, 8, 16, 32; the cut hands out pyramid4 and pyramid8 channels."""

    branch: int = Field(default=32, ge=4, le=128)
    stage4: int = Field(default=48, ge=4, le=256)
    stage8: int = Field(default=96, ge=4, le=512)
    stage16: int = Field(default=160, ge=4, le=512)
    stage32: int = Field(default=224, ge=4, le=512)
    blocks: int = Field(default=2, ge=1, le=6)
    pyramid8: int = Field(default=96, ge=4, le=512)
    pyramid4: int = Field(default=48, ge=4, le=256)


SMALL_NETWORK = NetworkConfig(branch=8, stage4=8, stage8=16, stage16=16, stage32=16, blocks=1, pyramid8=16, pyramid4=8)


class ConvNormRelu(nn.Sequential):
    """Convolution, batch norm (folded away at export), ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class Residual(nn.Module):
    """x + two 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNormRelu(channels, channels)
        self.second = ConvNormRelu(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x))


class CrossStage(nn.Module):
    """Half of the channels pass residual blocks, half pass by (Wang et al. 2020, CSPNet)."""

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        half = channels // 2
        self.through = ConvNormRelu(channels, half, 1)
        self.past = ConvNormRelu(channels, half, 1)
        self.blocks = nn.Sequential(*(Residual(half) for _ in range(blocks)))
        self.join = ConvNormRelu(2 * half, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(torch.cat((self.blocks(self.through(x)), self.past(x)), dim=1))


class Context(nn.Module):
    """Pools of growing reach joined by one 1x1 convolution: what stands around a parcel helps to tell it apart."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = ConvNormRelu(channels, channels // 2, 1)
        self.join = ConvNormRelu(channels // 2 * 4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        pools = [self.reduce(x)]
        for _ in range(3):
            pools.append(F.max_pool2d(pools[-1], 5, 1, 2))
        return self.join(torch.cat(pools, dim=1))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


class Trunk(nn.Module):
    """(colour [B,3,H,W], geometry [B,9,H/2,W/2]) -> features at stride 4 [B,C4,H/4,W/4] and stride 8 [B,C8,H/8,W/8]."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        c = config
        self.geometry_stem = nn.Sequential(ConvNormRelu(GEOMETRY_CHANNELS, c.branch, 3, 2), Residual(c.branch))
        self.colour_stem = nn.Sequential(
            ConvNormRelu(3, c.branch // 2, 3, 2),
            ConvNormRelu(c.branch // 2, c.branch, 3, 2),
            ConvNormRelu(c.branch, c.branch),
        )
        self.fuse = ConvNormRelu(2 * c.branch, c.stage4, 1)
        self.stage4 = CrossStage(c.stage4, 1)
        self.stage8 = nn.Sequential(ConvNormRelu(c.stage4, c.stage8, 3, 2), CrossStage(c.stage8, c.blocks))
        self.stage16 = nn.Sequential(ConvNormRelu(c.stage8, c.stage16, 3, 2), CrossStage(c.stage16, c.blocks))
        self.stage32 = nn.Sequential(
            ConvNormRelu(c.stage16, c.stage32, 3, 2), CrossStage(c.stage32, c.blocks), Context(c.stage32)
        )
        self.side32 = ConvNormRelu(c.stage32, c.pyramid8, 1)
        self.side16 = ConvNormRelu(c.stage16, c.pyramid8, 1)
        self.side8 = ConvNormRelu(c.stage8, c.pyramid8, 1)
        self.side4 = ConvNormRelu(c.stage4, c.pyramid4, 1)
        self.smooth16 = ConvNormRelu(c.pyramid8, c.pyramid8)
        self.smooth8 = ConvNormRelu(c.pyramid8, c.pyramid8)
        self.down4 = ConvNormRelu(c.pyramid8, c.pyramid4, 1)
        self.smooth4 = ConvNormRelu(c.pyramid4, c.pyramid4)

    def forward(self, colour: Tensor, geometry: Tensor) -> tuple[Tensor, Tensor]:
        """colour [B, 3, 384, 512], geometry [B, 9, 192, 256] -> features at stride 4 [B, C4, 96, 128] and 8
        [B, C8, 48, 64]."""
        fused = self.fuse(torch.cat((self.geometry_stem(geometry), self.colour_stem(colour)), dim=1))
        x4 = self.stage4(fused)
        x8 = self.stage8(x4)
        x16 = self.stage16(x8)
        x32 = self.stage32(x16)
        p16 = self.smooth16(self.side16(x16) + _double(self.side32(x32)))
        p8 = self.smooth8(self.side8(x8) + _double(p16))
        p4 = self.smooth4(self.side4(x4) + _double(self.down4(p8)))
        return p4, p8


class SegmentationNetwork(nn.Module):
    """Preprocess, trunk and head. ``forward`` gives the dense outputs that training needs. classes: what it tells
    apart, in the order of its probabilities."""

    def __init__(self, config: NetworkConfig, classes: tuple[str, ...] = CLASSES) -> None:
        super().__init__()
        self.config = config
        self.classes = classes
        self.preprocess = Preprocess()
        self.trunk = Trunk(config)
        self.head = Head(config.pyramid4, config.pyramid8, len(classes))
        for parameter in self.trunk.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def features(self, rgb: Tensor, depth: Tensor, intrinsics: Tensor, belt_plane: Tensor) -> tuple[Tensor, Tensor]:
        """The cut: trunk features at stride 4 and stride 8."""
        with torch.autocast(rgb.device.type, enabled=False):
            colour, geometry = self.preprocess(rgb, depth, intrinsics, belt_plane)
        colour = colour.contiguous(memory_format=torch.channels_last)
        geometry = geometry.contiguous(memory_format=torch.channels_last)
        stride4, stride8 = self.trunk(colour, geometry)
        return stride4, stride8

    def forward(self, rgb: Tensor, depth: Tensor, intrinsics: Tensor, belt_plane: Tensor) -> HeadOutputs:
        stride4, stride8 = self.features(rgb, depth, intrinsics, belt_plane)
        return self.head(stride4, stride8)


def parameter_count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
