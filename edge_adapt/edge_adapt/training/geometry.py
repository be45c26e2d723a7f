"""From raw RGB-D to network channels, inside the graph: the same module trains, exports and runs on the robot.

Geometry is computed at half resolution (a masked 2x2 mean of the depth): a stereo camera resolves no more, the mean
closes small holes, and it costs a quarter. Colour stays at full resolution, where the thin gaps between flush parcels
are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GEOMETRY_CHANNELS = 9
NETWORK_HEIGHT = 384
NETWORK_WIDTH = 512

MAX_DEPTH_M = 6.0
_HEIGHT_UNIT_M = 0.2
_CONTRAST_UNIT_M = 0.03
_RANGE_UNIT_M = 0.02
_FOOTPRINT_UNIT_M = 0.005
_NORMAL_REACH = 2
_DIFFERENCE_UNIT_M = 0.02


def masked_mean(values: Tensor, weight: Tensor, kernel: int, stride: int) -> tuple[Tensor, Tensor]:
    """Mean of ``values`` [B,1,H,W] over the cells where ``weight`` > 0; also the mean weight."""
    padding = (kernel - 1) // 2 if stride == 1 else 0
    mean_weight = F.avg_pool2d(weight, kernel, stride, padding)
    mean = F.avg_pool2d(values * weight, kernel, stride, padding)
    return mean / mean_weight.clamp(min=1e-3), mean_weight


def _cross(a: Tensor, b: Tensor) -> Tensor:
    ax, ay, az = a[:, 0:1], a[:, 1:2], a[:, 2:3]
    bx, by, bz = b[:, 0:1], b[:, 1:2], b[:, 2:3]
    return torch.cat((ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx), dim=1)


def _unit(vectors: Tensor) -> Tensor:
    return vectors / (vectors * vectors).sum(dim=1, keepdim=True).clamp(min=1e-6).sqrt()


def _central_difference(points: Tensor, valid: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """points[+r] - points[-r] along ``axis`` in units of 2 cm, and where both ends are valid; zero at the border."""
    r = _NORMAL_REACH
    size = points.shape[axis]
    ahead = points.narrow(axis, 2 * r, size - 2 * r)
    behind = points.narrow(axis, 0, size - 2 * r)
    both = valid.narrow(axis, 2 * r, size - 2 * r) * valid.narrow(axis, 0, size - 2 * r)
    pad = [r, r, 0, 0] if axis == 3 else [0, 0, r, r]
    return F.pad((ahead - behind) * (both / _DIFFERENCE_UNIT_M), pad), F.pad(both, pad)


class Preprocess(nn.Module):
    """Raw inputs to (colour, geometry).

    Inputs: rgb uint8 [B,H,W,3]; depth float32 [B,H,W] metres, 0 invalid; intrinsics float32 [B,4] fx fy cx cy, pixels;
    belt_plane float32 [B,4] (n, d), height(P) = n.P + d, camera frame, metres.
    Outputs: colour float32 [B,3,H,W] in [-1, 1]; geometry float32 [B,9,H/2,W/2]: height above the belt, normal in the
    belt frame (z = belt normal, x = camera x laid into the belt), validity, validity of the normal, height against its
    neighbourhood, height range inside the 2x2 block, metres per pixel. All about unit range, 0 where depth is missing.
    """

    columns: Tensor
    rows: Tensor

    def __init__(self, height: int = NETWORK_HEIGHT, width: int = NETWORK_WIDTH) -> None:
        super().__init__()
        self.register_buffer("columns", torch.arange(width // 2).float().mul(2).add(0.5).view(1, 1, 1, -1), False)
        self.register_buffer("rows", torch.arange(height // 2).float().mul(2).add(0.5).view(1, 1, -1, 1), False)

    def forward(self, rgb: Tensor, depth: Tensor, intrinsics: Tensor, belt_plane: Tensor) -> tuple[Tensor, Tensor]:
        colour = rgb.permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1.0
        return colour, self.geometry(depth.unsqueeze(1), intrinsics, belt_plane)

    def geometry(self, depth: Tensor, intrinsics: Tensor, belt_plane: Tensor) -> Tensor:
        """Geometry channels at half resolution, [B, 9, 192, 256], of depth [B, 1, 384, 512] metres, intrinsics [B, 4]
        pixels and belt_plane [B, 4] in the camera frame; docs/model.md names the channels and their units."""
        valid_full = ((depth > 0.0) & (depth < MAX_DEPTH_M)).to(torch.float32)
        z, validity = masked_mean(depth, valid_full, 2, 2)
        valid = (validity > 0.0).to(torch.float32)
        fx, fy, cx, cy = (intrinsics[:, i].view(-1, 1, 1, 1) for i in range(4))
        n0, n1, n2, offset = (belt_plane[:, i].view(-1, 1, 1, 1) for i in range(4))
        ray_x = (self.columns - cx) / fx
        ray_y = (self.rows - cy) / fy
        slope = n0 * ray_x + n1 * ray_y + n2
        height = (z * slope + offset) * valid
        around = self._neighbourhood_mean(height, valid)
        contrast = ((height - around) * valid / _CONTRAST_UNIT_M).clamp(-2.0, 2.0)
        far = F.max_pool2d(depth * valid_full, 2)
        near = -F.max_pool2d(torch.where(valid_full > 0, -depth, -MAX_DEPTH_M), 2)
        spread = ((far - near) * valid / _RANGE_UNIT_M).clamp(0.0, 2.0)
        footprint = z * valid / (fx * _FOOTPRINT_UNIT_M)
        normal, normal_valid = self._normals(z, valid, ray_x, ray_y, belt_plane)
        scaled_height = (height / _HEIGHT_UNIT_M).clamp(-1.0, 4.0)
        return torch.cat((scaled_height, normal, validity, normal_valid, contrast, spread, footprint), dim=1)

    @staticmethod
    def _neighbourhood_mean(height: Tensor, valid: Tensor) -> Tensor:
        """Masked mean over 24 full-resolution pixels, smooth."""
        coarse, weight = masked_mean(height, valid, 4, 4)
        smooth, _ = masked_mean(coarse, weight, 3, 1)
        return F.interpolate(smooth, scale_factor=4.0, mode="bilinear", align_corners=False)

    @staticmethod
    def _normals(z: Tensor, valid: Tensor, ray_x: Tensor, ray_y: Tensor, plane: Tensor) -> tuple[Tensor, Tensor]:
        """Unit normals towards the camera [B,3,h,w] in the belt frame, from smoothed depth, and their validity."""
        smooth, weight = masked_mean(z, valid, 3, 1)
        present = (weight > 0.3).to(torch.float32)
        points = torch.cat((ray_x * smooth, ray_y * smooth, smooth), dim=1)
        along_u, valid_u = _central_difference(points, present, 3)
        along_v, valid_v = _central_difference(points, present, 2)
        normal = _unit(_cross(along_v, along_u))
        both = valid_u * valid_v
        up = plane[:, :3].view(-1, 3, 1, 1)
        camera_x = torch.cat((1.0 - up[:, 0:1] * up[:, 0:1], -up[:, 0:1] * up[:, 1:2], -up[:, 0:1] * up[:, 2:3]), dim=1)
        axis_x = _unit(camera_x)
        axis_y = _cross(up, axis_x)
        parts = [(normal * axis).sum(dim=1, keepdim=True) for axis in (axis_x, axis_y, up)]
        return torch.cat(parts, dim=1) * both, both
