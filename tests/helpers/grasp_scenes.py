"""Analytic scenes for planner tests: boxes and ridges over a belt, depth by formula, perfect labels, optional noise."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from robin_perception.core.frame import Frame
from robin_perception.core.scene import CLASSES, Instance, Scene

CAMERA_HEIGHT_M = 1.2


@dataclass(frozen=True)
class Box:
    """A block: centre x, y and yaw on the belt, size x, y, height of its top, slopes of its top along its own x and
    y."""

    x: float
    y: float
    size_x: float
    size_y: float
    top: float
    yaw: float = 0.0
    slope_x: float = 0.0
    slope_y: float = 0.0
    kind: str = "carton"
    visible: float = 1.0


def camera(width: int = 640, height: int = 480, x: float = 0.75, y: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Intrinsics and pose of a camera looking straight down: image x runs along base -y, image y along base -x."""
    f = 0.94 * width
    K = np.array([[f, 0, width / 2], [0, f, height / 2], [0, 0, 1.0]])
    T = np.eye(4)
    T[:3, :3] = np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
    T[:3, 3] = (x, y, CAMERA_HEIGHT_M)
    return K, T


def box_scene(
    boxes: list[Box],
    width: int = 640,
    height: int = 480,
    noise: float = 0.0,
    rng: np.random.Generator | None = None,
) -> tuple[Frame, Scene]:
    """Depth of the boxes' tops (walls are not drawn), labels 1.. in order. noise: disparity RMS in pixels of a D435."""
    K, T = camera(width, height)
    v, u = np.mgrid[0:height, 0:width].astype(np.float64)
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones_like(u)], axis=-1) @ T[:3, :3].T
    depth = np.full((height, width), CAMERA_HEIGHT_M)
    labels = np.zeros((height, width), np.uint16)
    for i, box in enumerate(boxes, start=1):
        c, s = np.cos(box.yaw), np.sin(box.yaw)
        gx, gy = box.slope_x * c - box.slope_y * s, box.slope_x * s + box.slope_y * c
        # z = top + gx (X - x) + gy (Y - y) along P = O + t ray
        height_at_origin = T[2, 3] - box.top - gx * (T[0, 3] - box.x) - gy * (T[1, 3] - box.y)
        t = height_at_origin / (gx * rays[..., 0] + gy * rays[..., 1] - rays[..., 2])
        px, py = T[0, 3] + t * rays[..., 0] - box.x, T[1, 3] + t * rays[..., 1] - box.y
        inside = (np.abs(c * px + s * py) <= box.size_x / 2) & (np.abs(-s * px + c * py) <= box.size_y / 2)
        nearer = inside & (t < depth)
        depth[nearer], labels[nearer] = t[nearer], i
    if noise > 0:
        rng = rng or np.random.default_rng(0)
        fb = 424.0 * 0.05
        field = cv2.GaussianBlur(rng.standard_normal(depth.shape), (0, 0), 2.0)
        depth = fb / (fb / depth + noise * field / field.std())
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[..., 0] = (labels * 37 % 200).astype(np.uint8)
    instances = tuple(instance(labels, i, box) for i, box in enumerate(boxes, start=1) if (labels == i).any())
    boundary = np.zeros((height // 4, width // 4), np.float32)
    frame = Frame(rgb, depth.astype(np.float32), K, T)
    return frame, Scene(0.0, "analytic", labels, instances, boundary)


def instance(labels: np.ndarray, label: int, box: Box) -> Instance:
    ys, xs = np.nonzero(labels == label)
    classes = np.zeros(5, np.float32)
    classes[CLASSES.index(box.kind)] = 1.0
    return Instance(
        id=label,
        bbox=(int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1),
        area_px=len(xs),
        class_probabilities=classes,
        detection=0.98,
        mask_quality=0.95,
        visible_fraction=box.visible,
        boundary_uncertainty_px=0.7,
        embedding=np.zeros(16, np.float32),
    )
