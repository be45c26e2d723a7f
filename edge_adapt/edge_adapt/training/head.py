"""The head: matrix products, biases and ReLU only, so that its weights can be inputs of the exported graph.

A parcel's mask is one row of one matrix product, kernels [K, 41] x planes [41, h*w]. The planes: 32 learned features,
the monomials 1, X, Y, X2, XY, Y2 of the pixel's place, and the centre (Cx, Cy) that the pixel votes for. The kernel is
predicted about the peak: a quadratic form in the place relative to it, and -s |C - c|^2 about a refined centre c (Neven
et al. 2019, "Instance segmentation by jointly optimizing spatial embeddings"). Both are expanded here so that they stay
linear in the planes; they are what tells identical parcels side by side apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EMBEDDING_SIZE = 16
MASK_FEATURES = 32
POLYNOMIAL = 6
KERNEL_SIZE = MASK_FEATURES + POLYNOMIAL + 3
COORDINATE_UNIT_PX = 128.0
CENTRE_X_PX = 255.5
CENTRE_Y_PX = 191.5
STRIDE_DETAIL = 4
STRIDE_PEAK = 8

_POINT_HIDDEN = 160
_POINT_FEATURES = 128
_HEAT_HIDDEN = 64
_PIXEL_HIDDEN = 64
_QUADRATIC_GAIN = 10.0
_SPREAD_GAIN = 30.0
_HEAT_PRIOR = -4.0


def grid_coordinates(stride: int, height: int = 384, width: int = 512) -> Tensor:
    """Scaled (X, Y) of the cell centres, float32 [2, (height/stride)*(width/stride)], X = (x_px - 255.5) / 128."""
    x = (torch.arange(width // stride) * stride + (stride - 1) / 2 - CENTRE_X_PX) / COORDINATE_UNIT_PX
    y = (torch.arange(height // stride) * stride + (stride - 1) / 2 - CENTRE_Y_PX) / COORDINATE_UNIT_PX
    yy, xx = torch.meshgrid(y, x, indexing="ij")
    return torch.stack((xx.reshape(-1), yy.reshape(-1))).float()


@dataclass
class HeadOutputs:
    """Dense outputs of a batch. heat [B,1,h8,w8] logits; stride8 [B,C8,h8,w8]; mask_features [B,32,h4,w4];
    boundary [B,1,h4,w4] logits; offset [B,2,h4,w4] to the parcel's centre, scaled units."""

    heat: Tensor
    stride8: Tensor
    mask_features: Tensor
    boundary: Tensor
    offset: Tensor


@dataclass
class PointOutputs:
    """Per location: kernel [P,41] raw; classes [P,C], quality [P], visible [P] logits; embedding [P,16] unit length."""

    kernel: Tensor
    classes: Tensor
    quality: Tensor
    visible: Tensor
    embedding: Tensor


def head_layers(channels4: int, channels8: int, class_count: int) -> dict[str, tuple[int, int]]:
    """Name -> (outputs, inputs) of every layer; the graph's inputs are head.<name>.weight [out, in] and .bias [out]."""
    return {
        "heat1": (_HEAT_HIDDEN, channels8),
        "heat2": (1, _HEAT_HIDDEN),
        "point1": (_POINT_HIDDEN, channels8),
        "point2": (_POINT_FEATURES, _POINT_HIDDEN),
        "kernel": (KERNEL_SIZE, _POINT_FEATURES),
        "classes": (class_count, _POINT_FEATURES),
        "quality": (1, _POINT_FEATURES),
        "visible": (1, _POINT_FEATURES),
        "embedding": (EMBEDDING_SIZE, _POINT_FEATURES),
        "pixel1": (_PIXEL_HIDDEN, channels4),
        "mask_features": (MASK_FEATURES, _PIXEL_HIDDEN),
        "boundary": (1, _PIXEL_HIDDEN),
        "offset": (2, _PIXEL_HIDDEN),
    }


class Layer(nn.Module):
    """weight [out, in], bias [out]; what it is multiplied with is the caller's business."""

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")

    def maps(self, x: Tensor) -> Tensor:
        """Every pixel of [B,in,h,w]: rows of one matrix product, many times as fast as a 1x1 convolution with its
        gradient, the more so in half precision and where the channels lie next to each other in memory."""
        return self.rows(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:])

    def rows(self, x: Tensor) -> Tensor:
        """Rows [P,in]."""
        return F.linear(x, self.weight, self.bias)


class Head(nn.Module):
    """All layers by name; see ``head_layers``."""

    def __init__(self, channels4: int, channels8: int, class_count: int) -> None:
        super().__init__()
        layers = head_layers(channels4, channels8, class_count)
        self.layers = nn.ModuleDict({name: Layer(*size) for name, size in layers.items()})
        with torch.no_grad():
            for name in ("heat2", "kernel", "classes", "quality", "visible", "boundary", "offset"):
                self.layer(name).weight.mul_(0.1)
            self.layer("heat2").bias.fill_(_HEAT_PRIOR)
            self.layer("boundary").bias.fill_(-2.0)
            self.layer("kernel").bias[MASK_FEATURES] = 1.5

    def layer(self, name: str) -> Layer:
        layer = self.layers[name]
        assert isinstance(layer, Layer)
        return layer

    def forward(self, stride4: Tensor, stride8: Tensor) -> HeadOutputs:
        """Dense outputs of the trunk's features, stride4 [B, C4, 96, 128] and stride8 [B, C8, 48, 64]."""
        heat = self.layer("heat2").maps(F.relu(self.layer("heat1").maps(stride8)))
        pixel = F.relu(self.layer("pixel1").maps(stride4))
        return HeadOutputs(
            heat=heat,
            stride8=stride8,
            mask_features=self.layer("mask_features").maps(pixel),
            boundary=self.layer("boundary").maps(pixel),
            offset=self.layer("offset").maps(pixel),
        )

    def points(self, rows: Tensor) -> PointOutputs:
        """rows [P,C8]: stride-8 features gathered at the locations."""
        hidden = F.relu(self.layer("point1").rows(rows))
        hidden = F.relu(self.layer("point2").rows(hidden))
        embedding = self.layer("embedding").rows(hidden)
        return PointOutputs(
            kernel=self.layer("kernel").rows(hidden),
            classes=self.layer("classes").rows(hidden),
            quality=self.layer("quality").rows(hidden)[:, 0],
            visible=self.layer("visible").rows(hidden)[:, 0],
            embedding=unit_rows(embedding),
        )


def unit_rows(x: Tensor) -> Tensor:
    return x / (x * x).sum(dim=1, keepdim=True).clamp(min=1e-8).sqrt()


def expand_kernels(raw: Tensor, peaks: Tensor) -> Tensor:
    """Raw kernels [K,41] predicted about ``peaks`` [K,2] (scaled) -> coefficients [K,41] of the absolute planes."""
    x, y = peaks[:, 0:1], peaks[:, 1:2]
    f = MASK_FEATURES
    a0, a1, a2 = raw[:, f : f + 1], raw[:, f + 1 : f + 2], raw[:, f + 2 : f + 3]
    a3, a4, a5 = (raw[:, f + i : f + i + 1] * _QUADRATIC_GAIN for i in (3, 4, 5))
    cx = x + raw[:, f + 6 : f + 7]
    cy = y + raw[:, f + 7 : f + 8]
    s = _SPREAD_GAIN * torch.exp(raw[:, f + 8 : f + 9].clamp(-3.0, 3.0))
    constant = a0 - a1 * x - a2 * y + a3 * x * x + a4 * x * y + a5 * y * y - s * (cx * cx + cy * cy)
    linear_x = a1 - 2.0 * a3 * x - a4 * y
    linear_y = a2 - 2.0 * a5 * y - a4 * x
    vote = (2.0 * s * cx, 2.0 * s * cy, -s)
    return torch.cat((raw[:, :f], constant, linear_x, linear_y, a3, a4, a5, *vote), dim=1)


def mask_planes(features: Tensor, offset: Tensor, grid: Tensor) -> Tensor:
    """features [32,N], offset [2,N], grid [2,N] (scaled) -> planes [41,N] that the expanded kernels multiply."""
    x, y = grid[0:1], grid[1:2]
    vote = grid + offset
    square = (vote * vote).sum(dim=0, keepdim=True)
    return torch.cat((features, torch.ones_like(x), x, y, x * x, x * y, y * y, vote, square), dim=0)
