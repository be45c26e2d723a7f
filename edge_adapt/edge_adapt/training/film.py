"""How high film stands that the depth camera looks through: a network of its own, and its loss.

Through clear film a depth camera sees now the film, now what lies under it, and often nothing. The network tells, for
each cell of the detail grid, by how much the film is higher than the depth that is seen around it, and P(film). It
begins with the trunk of the bundle that it is for.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_adapt.training.geometry import MAX_DEPTH_M, NETWORK_HEIGHT, NETWORK_WIDTH, Preprocess, masked_mean
from edge_adapt.training.head import STRIDE_DETAIL
from edge_adapt.training.network import ConvNormRelu, Trunk

HEIGHT_UNIT_M = 0.03
GRID = (NETWORK_HEIGHT // STRIDE_DETAIL, NETWORK_WIDTH // STRIDE_DETAIL)
_KERNELS = (64, 32, 16, 8)  # pixels, from what holds everywhere to twice a cell; each half of the one before
_FEW = 0.15  # share of valid depth below which a wider mean has a say
_HARDLY_ANY = 0.02  # the same of the widest, below which the belt has
_FARTHEST = 6.0  # height units; a target beyond it is none of film on goods
_STEPS = (1, 3)  # cells between which slopes are compared
_HIDDEN = 64
_NOT_FILM = -2.0  # logit that training starts with


class HeightAround(nn.Module):
    """Depth to the height above the belt that is seen around each cell of the detail grid.

    Inputs as ``Preprocess``: depth float32 [B,384,512] metres, 0 invalid; intrinsics, belt_plane float32 [B,4]. Output
    float32 [B,1,96,128], metres: a mean over near pixels, over wider ones where few of these are valid.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("columns", torch.arange(NETWORK_WIDTH).float().view(1, 1, 1, -1), False)
        self.register_buffer("rows", torch.arange(NETWORK_HEIGHT).float().view(1, 1, -1, 1), False)

    def forward(self, depth: Tensor, intrinsics: Tensor, belt_plane: Tensor) -> Tensor:
        depth = depth.unsqueeze(1)
        height = depth * rise(self.columns, self.rows, intrinsics, belt_plane) + belt_plane[:, 3].view(-1, 1, 1, 1)
        valid = ((depth > 0.0) & (depth < MAX_DEPTH_M)).to(torch.float32)
        smooth, share = _smooth(height, valid, _KERNELS[0])
        around = smooth * (share / _HARDLY_ANY).clamp(max=1.0)
        for kernel in _KERNELS[1:]:
            smooth, share = _smooth(height, valid, kernel)
            weight = (share / _FEW).clamp(max=1.0)
            around = weight * smooth + (1 - weight) * _doubled(around)
        return _doubled(around)


class FilmNetwork(nn.Module):
    """Frame to film. preprocess, trunk: of a network that knows parcels, which it goes on from and then trains."""

    def __init__(self, preprocess: Preprocess, trunk: Trunk, channels4: int) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.trunk = trunk
        self.heights = HeightAround()
        self.detail = ConvNormRelu(channels4, _HIDDEN)
        self.told = nn.Conv2d(_HIDDEN, 2, 1)
        nn.init.zeros_(self.told.weight)
        self.told.bias = nn.Parameter(torch.tensor([0.0, _NOT_FILM]))

    def forward(self, rgb: Tensor, depth: Tensor, intrinsics: Tensor, belt_plane: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs as ``Preprocess``. Returns told [B,2,96,128], height over ``around`` in HEIGHT_UNIT_M and the logit of
        P(film), and around [B,1,96,128] metres."""
        with torch.autocast(rgb.device.type, enabled=False):
            colour, geometry = self.preprocess(rgb, depth, intrinsics, belt_plane)
            around = self.heights(depth, intrinsics, belt_plane)
        stride4, _ = self.trunk(colour, geometry)
        return self.told(self.detail(stride4)), around


class FilmGraph(nn.Module):
    """The graph for one frame, without a batch axis outside: rgb uint8 [384,512,3], depth [384,512], intrinsics [4] and
    belt_plane [4] to film [2,96,128]: height above the belt, metres, and P(film)."""

    def __init__(self, network: FilmNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, rgb: Tensor, depth: Tensor, intrinsics: Tensor, belt_plane: Tensor) -> Tensor:
        told, around = self.network(rgb[None], depth[None], intrinsics[None], belt_plane[None])
        return torch.cat((around + HEIGHT_UNIT_M * told[:, :1], torch.sigmoid(told[:, 1:])), dim=1)[0]


def _smooth(height: Tensor, valid: Tensor, kernel: int) -> tuple[Tensor, Tensor]:
    """Mean of ``height`` where it is ``valid`` in and beside blocks of ``kernel`` pixels, and the share that is."""
    return masked_mean(*masked_mean(height, valid, kernel, kernel), 3, 1)


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def rise(columns: Tensor, rows: Tensor, intrinsics: Tensor, belt_plane: Tensor) -> Tensor:
    """By how much the height above the belt changes for each metre of depth, [B,1,h,w], along the rays through pixels
    ``columns`` [1,1,1,w] and ``rows`` [1,1,h,1]. height = depth * rise + belt_plane[3]."""
    fx, fy, cx, cy = (intrinsics[:, i].view(-1, 1, 1, 1) for i in range(4))
    n0, n1, n2 = (belt_plane[:, i].view(-1, 1, 1, 1) for i in range(3))
    return n0 * (columns - cx) / fx + n1 * (rows - cy) / fy + n2


def film_heights(film: Tensor, intrinsics: Tensor, belt_plane: Tensor) -> Tensor:
    """Depth at the centres of the detail grid's cells [B,96,128] to heights above the belt, [B,1,96,128], metres."""
    first = (STRIDE_DETAIL - 1) / 2
    rows, columns = (torch.arange(size).float().mul(STRIDE_DETAIL).add(first) for size in GRID)
    slope = rise(columns.view(1, 1, 1, -1), rows.view(1, 1, -1, 1), intrinsics, belt_plane)
    return film.unsqueeze(1) * slope + belt_plane[:, 3].view(-1, 1, 1, 1)


def film_terms(told: Tensor, around: Tensor, film: Tensor, height: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """What training makes small, by name: height of film, its slopes, and where it is; error_mm is only told.

    told, around: of ``FilmNetwork``. film [B,96,128]: true depth where there is film, 0 where there is none, -1
    unknown; height [B,1,96,128]: its ``film_heights``. labels [B,96,128]: one of each cell, 0 and 255 for no parcel.
    """
    parcels = ((labels > 0) & (labels < 255) & (film >= 0)).unsqueeze(1)
    target = (height - around) / HEIGHT_UNIT_M
    there = parcels & (film.unsqueeze(1) > 0) & (target.abs() < _FARTHEST)
    level = F.smooth_l1_loss(told[:, :1], target, reduction="none", beta=0.15)
    slopes, pairs = told.new_zeros(()), told.new_zeros(())
    for step in _STEPS:
        for axis in (2, 3):
            (a, b), (c, d), (e, f), (g, h) = (
                _apart(values, axis, step) for values in (told[:, :1], target, there, labels.unsqueeze(1))
            )
            same = e & f & (g == h)
            slopes = slopes + (F.smooth_l1_loss(a - b, c - d, reduction="none", beta=0.05) * same).sum()
            pairs = pairs + same.sum()
    is_film = (film > 0).float().unsqueeze(1)
    entropy = F.binary_cross_entropy_with_logits(told[:, 1:], is_film, reduction="none")
    count = there.sum().clamp(min=1)
    return {
        "height": (level * there).sum() / count,
        "slope": slopes / pairs.clamp(min=1),
        "film": 0.3 * (entropy * parcels).sum() / parcels.sum().clamp(min=1),
        "error_mm": 1000 * HEIGHT_UNIT_M * ((told[:, :1] - target).abs() * there).sum().detach() / count,
    }


def _apart(values: Tensor, axis: int, step: int) -> tuple[Tensor, Tensor]:
    length = values.shape[axis] - step
    return values.narrow(axis, step, length), values.narrow(axis, 0, length)
