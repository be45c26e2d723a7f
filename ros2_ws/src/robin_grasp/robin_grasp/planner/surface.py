"""The depth image as surfaces: thinned view, distances to mask edges, and least-squares planes in windows of any size.

A plane n·P = d is affine in inverse depth over the pixel grid, 1/Z = a u + b v + c, and the noise of stereo depth is
uniform in inverse depth. So planes are fitted there: exact for any tilt, correctly weighted, and a window's fit needs
ten sums only, which integral images give at any place and size.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_grasp.planner.fit import SurfaceFit
from robin_perception.core.frame import Frame
from robin_perception.core.helper_thread import HelperThread
from robin_perception.core.scene import Scene

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
FAR_PX = 1e4
RIM_PX = 40
FIT_STEP = 2  # planes are fitted on every second pixel: the noise is wider than that, and a fit costs a quarter


@dataclass(frozen=True)
class Planes:
    """Fitted planes. a, b: slope of inverse depth per pixel (1/m/px); q: inverse depth at the window's centre pixel
    (1/m); u, v: that pixel; rms: residual, 1/m; share: valid pixels over the window's pixels. All arrays of one
    shape."""

    u: Floats
    v: Floats
    a: Floats
    b: Floats
    q: Floats
    rms: Floats
    share: Floats


@dataclass(frozen=True)
class View:
    """A frame and its label image, thinned to the working width and cut to where parcels are.

    stride, left, top: working pixel (u, v) is frame pixel ((u + left) stride, (v + top) stride).
    inverse_depth: float32 [h, w] 1/m, 0 invalid. labels: int32 [h, w]. height: float32 [h, w] metres above the belt,
    0 where invalid. edge_px: float32 [h, w] distance to the nearest change of label. other_px: distance to the
    nearest place where two parcels touch. boundary: float32 [h, w]. inverse_depth_noise: 1-sigma of inverse depth
    under a lip, 1/m; times Z^2 it is that of a depth Z, metres.
    """

    stride: int
    left: int
    top: int
    fx: float
    fy: float
    cx: float
    cy: float
    R: Floats
    t: Floats
    inverse_depth: NDArray[np.float32]
    labels: NDArray[np.int32]
    height: NDArray[np.float32]
    edge_px: NDArray[np.float32]
    other_px: NDArray[np.float32]
    boundary: NDArray[np.float32]
    sums: Floats
    inverse_depth_noise: float

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.labels.shape[0]), int(self.labels.shape[1])

    def box(self, bbox: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        """A frame's box (x0, y0, x1, y1), half open, in working pixels."""
        h, w = self.shape
        x0, y0 = bbox[0] // self.stride - self.left, bbox[1] // self.stride - self.top
        x1, y1 = -(-bbox[2] // self.stride) - self.left, -(-bbox[3] // self.stride) - self.top
        return max(0, x0), max(0, y0), min(w, x1), min(h, y1)

    def project(self, points: Floats) -> tuple[Floats, Floats, Floats]:
        """Points in base_link [..., 3] -> (u, v) working pixels and depth Z in metres, each [...]."""
        camera = ((points - self.t).reshape(-1, 3) @ self.R).reshape(points.shape)
        z = np.maximum(camera[..., 2], 1e-3)
        return self.fx * camera[..., 0] / z + self.cx, self.fy * camera[..., 1] / z + self.cy, camera[..., 2]

    def points(self, u: Floats, v: Floats, inverse_depth: Floats) -> Floats:
        """Points in base_link [..., 3] of pixels with an inverse depth > 0."""
        rays = np.stack([(u - self.cx) / self.fx, (v - self.cy) / self.fy, np.ones_like(u)], axis=-1)
        return np.asarray((rays / np.asarray(inverse_depth)[..., None]) @ self.R.T + self.t)

    def pixel(self, u: Floats, v: Floats) -> tuple[Ints, NDArray[np.bool_]]:
        """Flat index of the nearest pixel (0 when outside) and whether it lies inside the image."""
        h, w = self.shape
        x, y = np.rint(u).astype(np.int64), np.rint(v).astype(np.int64)
        inside = (x.view(np.uint64) < w) & (y.view(np.uint64) < h)  # what is negative is large without its sign
        return (y * w + x) * inside, inside

    def metres_per_px(self, inverse_depth: Floats) -> Floats:
        return np.asarray(1.0 / (np.maximum(inverse_depth, 1e-3) * 0.5 * (self.fx + self.fy)))

    def axes(self, planes: Planes) -> Floats:
        """Unit normals that point away from the camera, into the surface, base_link [..., 3]: a tool's approach."""
        at_centre = planes.q + planes.a * (self.cx - planes.u) + planes.b * (self.cy - planes.v)
        n = np.stack([planes.a * self.fx, planes.b * self.fy, at_centre], axis=-1)
        n = n / np.maximum(np.linalg.norm(n, axis=-1, keepdims=True), 1e-12)
        return np.asarray(n @ self.R.T)

    def plane_axes(self, plane: Floats) -> Floats:
        """As ``axes``, for planes q = a u + b v + c given as [..., 3]."""
        a, b = plane[..., 0], plane[..., 1]
        n = np.stack([a * self.fx, b * self.fy, plane[..., 2] + a * self.cx + b * self.cy], axis=-1)
        return np.asarray((n / np.maximum(np.linalg.norm(n, axis=-1, keepdims=True), 1e-12)) @ self.R.T)

    def fit(self, u: Floats, v: Floats, half_px: Floats) -> Planes:
        """Planes in square windows around pixels (u, v), half side ``half_px``; windows are clipped at the image."""
        # Contacts are whole pixels, and odd ones lie between two coarse ones: rounding errors must not choose.
        coarse = fit_windows(self.sums, u / FIT_STEP + 1e-6, v / FIT_STEP + 1e-6, half_px / FIT_STEP)
        return replace(
            coarse,
            u=coarse.u * FIT_STEP,
            v=coarse.v * FIT_STEP,
            a=coarse.a / FIT_STEP,
            b=coarse.b / FIT_STEP,
        )


def make_view(frame: Frame, scene: Scene, fit: SurfaceFit, helper: HelperThread) -> View:
    """Thin the frame, measure distances to edges, build the integral images and estimate the depth noise."""
    stride = max(1, round(frame.width / fit.working_width_px))
    window, left, top = _where_parcels_are(scene, stride)
    depth = np.ascontiguousarray(frame.depth[::stride, ::stride][window])
    labels = scene.labels[::stride, ::stride][window].astype(np.int32)
    valid = depth > 0
    q = np.zeros(depth.shape, dtype=np.float32)
    np.divide(1.0, depth, out=q, where=valid)
    other = helper.submit(_contact_distance, labels)
    sums = helper.submit(_moment_integrals, q[::FIT_STEP, ::FIT_STEP])
    fx, fy = float(frame.K[0, 0]) / stride, float(frame.K[1, 1]) / stride
    cx, cy = float(frame.K[0, 2]) / stride - left, float(frame.K[1, 2]) / stride - top
    R, t = frame.T_base_camera[:3, :3].astype(np.float64), frame.T_base_camera[:3, 3].astype(np.float64)
    h, w = depth.shape
    full = (-(-frame.width // stride), -(-frame.height // stride))
    row = (R[2, 0] * (np.arange(w) - cx) / fx).astype(np.float32)
    column = (R[2, 1] * (np.arange(h) - cy) / fy + R[2, 2]).astype(np.float32)
    height = row[None, :] + column[:, None]
    height *= depth
    height += np.float32(t[2])
    height = np.where(valid, height, np.float32(0.0))
    edge = edge_distance(labels)
    boundary = np.asarray(cv2.resize(scene.boundary, full, interpolation=cv2.INTER_LINEAR)[window], dtype=np.float32)
    image = q, labels, height, edge, other.result(), boundary, sums.result()
    view = View(stride, left, top, fx, fy, cx, cy, R, t, *image, 0.0)
    return replace(view, inverse_depth_noise=_noise(view, fit))


def _where_parcels_are(scene: Scene, stride: int) -> tuple[tuple[slice, slice], int, int]:
    """Window of the thinned image around all boxes, with a rim for what the tool may hit, and its left and top."""
    h, w = -(-scene.labels.shape[0] // stride), -(-scene.labels.shape[1] // stride)
    boxes = np.array([instance.bbox for instance in scene.instances])
    x0, y0 = np.maximum(boxes[:, :2].min(axis=0) // stride - RIM_PX, 0)
    x1, y1 = np.minimum(-(-boxes[:, 2:].max(axis=0) // stride) + RIM_PX, (w, h))
    return (slice(int(y0), int(y1)), slice(int(x0), int(x1))), int(x0), int(y0)


def edge_distance(labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """Pixels to the nearest change of label; the image's rim counts as one: float32 [h, w], given on parcels only."""
    inner = np.ones(labels.shape, dtype=np.bool_)
    narrow = labels.astype(np.uint16)
    across, down = narrow[:, 1:] == narrow[:, :-1], narrow[1:, :] == narrow[:-1, :]
    inner[:, 1:] &= across
    inner[:, :-1] &= across
    inner[1:, :] &= down
    inner[:-1, :] &= down
    inner[0, :] = inner[-1, :] = False
    inner[:, 0] = inner[:, -1] = False
    return _distance(inner, narrow > 0)


def _contact_distance(labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """Pixels to the nearest place where two parcels touch or leave a slit of up to two pixels, FAR_PX where none do:
    float32 [h, w], given on parcels only."""
    apart = np.ones(labels.shape, dtype=np.bool_)
    narrow = labels.astype(np.uint16)
    parcel = narrow > 0
    for image, some, marks in ((narrow, parcel, apart), (narrow.T, parcel.T, apart.T)):
        free = (image[:, 1:] == image[:, :-1]) | ~(some[:, 1:] & some[:, :-1])
        marks[:, 1:] &= free
        marks[:, :-1] &= free
        free = (image[:, 3:] == image[:, :-3]) | ~(some[:, 3:] & some[:, :-3]) | (some[:, 1:-2] & some[:, 2:-1])
        marks[:, 3:] &= free
        marks[:, :-3] &= free
    if apart.all():
        return np.full(labels.shape, FAR_PX, dtype=np.float32)
    return _distance(apart, parcel)


def _distance(apart: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Pixels to the nearest False, which lies among the wanted ones or next to them, inside the box around these;
    0 elsewhere: float32 [h, w]."""
    x, y, w, h = cv2.boundingRect(wanted.view(np.uint8))
    box = (slice(max(0, y - 1), y + h + 1), slice(max(0, x - 1), x + w + 1))
    distance = np.zeros(apart.shape, dtype=np.float32)
    cv2.distanceTransform(apart[box].view(np.uint8), cv2.DIST_L2, 5, dst=distance[box])
    return distance


def _moment_integrals(q: NDArray[np.float32]) -> Floats:
    """Integral images of 1, u, v, uu, uv, vv, q, qu, qv, qq over valid pixels: float64 [10, h + 1, w + 1]. u and v are
    measured from the image's middle."""
    h, w = q.shape
    u = (np.arange(w, dtype=np.float32) - w // 2)[None, :]
    v = (np.arange(h, dtype=np.float32) - h // 2)[:, None]
    m = (q > 0).astype(np.float32)
    mu, mv = m * u, m * v
    sums = np.empty((10, h + 1, w + 1))
    for k, channel in enumerate((m, mu, mv, mu * u, mu * v, mv * v, q, q * u, q * v, q * q)):
        cv2.integral(channel, sums[k], sdepth=cv2.CV_64F)
    return sums


def fit_windows(sums: Floats, u: Floats, v: Floats, half_px: Floats) -> Planes:
    """Least-squares planes in inverse depth. See ``Planes``. Fewer than 6 valid pixels give share 0 and a zero
    plane."""
    channels, h, w = sums.shape[0], sums.shape[1] - 1, sums.shape[2] - 1
    x, y = np.rint(u).astype(np.int64), np.rint(v).astype(np.int64)
    half = np.maximum(np.rint(half_px).astype(np.int64), 1)
    x0, x1 = np.minimum(np.maximum(x - half, 0), w), np.minimum(np.maximum(x + half + 1, 0), w)
    y0, y1 = np.minimum(np.maximum(y - half, 0), h), np.minimum(np.maximum(y + half + 1, 0), h)
    y0, y1 = y0 * (w + 1), y1 * (w + 1)
    flat = sums.reshape(channels, -1)
    s = flat.take(y1 + x1, axis=1)
    s -= flat.take(y0 + x1, axis=1)
    s -= flat.take(y1 + x0, axis=1)
    s += flat.take(y0 + x0, axis=1)
    n = s[0]
    usable = n >= 6
    mu, mv, muu, muv, mvv, mq, mqu, mqv, mqq = s[1:] / np.where(usable, n, 1.0)
    uu, uv, vv = muu - mu * mu, muv - mu * mv, mvv - mv * mv
    qu, qv, qq = mqu - mq * mu, mqv - mq * mv, mqq - mq * mq
    det = uu * vv - uv * uv
    solid = usable & (det > 1e-3)
    det = np.where(solid, det, 1.0)
    a = np.where(solid, (vv * qu - uv * qv) / det, 0.0)
    b = np.where(solid, (uu * qv - uv * qu) / det, 0.0)
    rms = np.sqrt(np.maximum(qq - a * qu - b * qv, 0.0))
    centre = mq + a * (x - w // 2 - mu) + b * (y - h // 2 - mv)
    area = np.maximum((2 * half + 1) ** 2, 1)
    return Planes(
        x.astype(np.float64),
        y.astype(np.float64),
        a,
        b,
        np.where(solid, centre, 0.0),
        np.where(solid, rms, 0.0),
        np.where(solid, n / area, 0.0),
    )


def _noise(view: View, fit: SurfaceFit) -> float:
    """1-sigma of inverse depth: the median residual of small windows well inside the masks, so that crinkled or curved
    parcels stand out against the frame's own noise."""
    ys, xs = np.nonzero((view.edge_px[4::9, 4::9] > 9) & (view.labels[4::9, 4::9] > 0))
    if len(ys) < 12:
        return fit.least_inverse_depth_noise_per_m
    u, v = xs.astype(np.float64) * 9.0 + 4.0, ys.astype(np.float64) * 9.0 + 4.0
    planes = view.fit(u, v, np.full(len(xs), 6.0))
    rms = planes.rms[planes.share > 0.6]
    if len(rms) < 12:
        return fit.least_inverse_depth_noise_per_m
    return float(np.clip(np.median(rms), fit.least_inverse_depth_noise_per_m, fit.most_inverse_depth_noise_per_m))
