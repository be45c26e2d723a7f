"""A small station made of numpy: a belt with rails and marks, boxes that come and go, a camera straight above."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from robin_perception.core.frame import Frame
from robin_perception.core.scene import Scene

WIDTH, HEIGHT, FOCAL_PX, CAMERA_Z_M = 640, 480, 600.0, 1.2


@dataclass(frozen=True)
class Spoilt:
    """light: factor; blur_px: sigma; dirt, holes: share; dirt_rim_px: around the dirt, less opaque and without depth;
    no_projector: only what has texture has depth; moved_px: of the picture; apart_px: depth to the right; unit: factor
    of depth."""

    light: float = 1.0
    blur_px: float = 0.0
    dirt: bool = False
    dirt_rim_px: int = 0
    no_projector: bool = False
    holes: float = 0.0
    moved_px: float = 0.0
    apart_px: int = 0
    unit: float = 1.0


@dataclass(frozen=True)
class Cell:
    """belt: its linear light. patterned: it has texture all over, and the boxes have none."""

    belt: float = 0.18
    patterned: bool = False


HEALTHY = Spoilt()
USUAL = Cell()


def station_frame(
    seed: int,
    spoilt: Spoilt = HEALTHY,
    stamp_s: float = 0.0,
    camera_id: str = "cell",
    cell: Cell = USUAL,
) -> tuple[Frame, Scene]:
    """One frame with boxes of ``seed``, and the scene that a perfect segmenter would make of it."""
    rng = np.random.default_rng([7, seed])
    light, depth, labels = (
        _cell(cell),
        np.full((HEIGHT, WIDTH), CAMERA_Z_M, np.float32),
        np.zeros((HEIGHT, WIDTH), np.uint16),
    )
    for number in range(1, int(rng.integers(3, 7))):
        x, y, w, h = rng.integers([180, 130, 40, 30], [400, 300, 90, 70])
        light[y : y + h, x : x + w] = rng.uniform(0.1, 0.7) if not cell.patterned else 0.3
        if not cell.patterned:
            light[y + 6 : y + h - 6 : 5, x + 6 : x + w - 6] *= 0.5
        depth[y : y + h, x : x + w] = CAMERA_Z_M - rng.uniform(0.05, 0.15)
        labels[y : y + h, x : x + w] = number
    return _photographed(light, depth, labels, spoilt, rng, stamp_s, camera_id)


def frozen(frame: Frame, stamp_s: float) -> Frame:
    """The same picture later."""
    return replace(frame, stamp_s=stamp_s)


def _cell(cell: Cell) -> NDArray[np.float32]:
    """Linear light of belt, rails and marks on them."""
    rng = np.random.default_rng(3)
    light = np.full((HEIGHT, WIDTH), cell.belt, np.float32)
    light *= cv2.resize(rng.uniform(0.9, 1.1, (60, 80)).astype(np.float32), (WIDTH, HEIGHT))
    for low in (30, 420):
        light[low : low + 30] = 0.45
    for x in range(20, WIDTH, 45):
        light[36:52, x : x + 14] = 0.05
        light[426:442, x + 9 : x + 26] = 0.08
    light[80:400, 60:72], light[80:400, 560:566] = 0.5, 0.04
    light[100:380:24, 90:130] = 0.4
    light[110:380:30, 500:540] = 0.06
    if cell.patterned:
        light[::8] *= 0.5
        light[:, ::8] *= 0.5
    return light


def _photographed(
    light: NDArray[np.float32],
    depth: NDArray[np.float32],
    labels: NDArray[np.uint16],
    spoilt: Spoilt,
    rng: np.random.Generator,
    stamp_s: float,
    camera_id: str,
) -> tuple[Frame, Scene]:
    if spoilt.moved_px:
        move = np.array([[1.0, 0.0, spoilt.moved_px], [0.0, 1.0, 0.0]])
        light, depth = _warped(light, move), _warped(depth, move)
    if spoilt.blur_px:
        light = np.asarray(cv2.GaussianBlur(light, (0, 0), spoilt.blur_px), dtype=np.float32)
    depth = np.where(rng.random(depth.shape) < 0.01, 0, depth + rng.normal(0, 0.002, depth.shape)).astype(np.float32)
    if spoilt.dirt:
        for x, y, radius in ((75, 240, 45), (300, 40, 40), (320, 240, 40)):
            disc = cv2.circle(np.zeros(light.shape, np.uint8), (x, y), radius, 1, -1) > 0
            wide = cv2.circle(np.zeros(light.shape, np.uint8), (x, y), radius + spoilt.dirt_rim_px, 1, -1) > 0
            light = np.where(disc, np.float32(0.25), np.where(wide, 0.1 + 0.6 * light, light)).astype(np.float32)
            depth = np.where(wide, np.float32(0), depth)
    if spoilt.no_projector:
        depth = np.where(_contrast(light) < 0.05, np.float32(0), depth)
    if spoilt.holes:
        blobs = cv2.resize(rng.random((24, 32)).astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
        depth = np.where(blobs < spoilt.holes, np.float32(0), depth)
    depth = np.roll(depth, spoilt.apart_px, axis=1) * np.float32(spoilt.unit)
    light = light * np.float32(spoilt.light)
    noise = 0.004 * max(1.0, spoilt.light**-0.7)
    light = np.clip(light + noise * rng.normal(size=light.shape), 0, 1)
    grey = np.rint(255 * np.clip(1.055 * light ** (1 / 2.4) - 0.055, 0, 1)).astype(np.uint8)
    T = np.diag((1.0, -1.0, -1.0, 1.0))
    T[2, 3] = CAMERA_Z_M
    K = np.array([[FOCAL_PX, 0, (WIDTH - 1) / 2], [0, FOCAL_PX, (HEIGHT - 1) / 2], [0, 0, 1.0]])
    frame = Frame(np.repeat(grey[..., None], 3, axis=2), depth.astype(np.float32), K, T, stamp_s, camera_id)
    return frame, Scene(stamp_s, "test", labels, (), np.zeros((1, 1), np.float32))


def _contrast(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """RMS of log brightness around each pixel."""
    log = np.log(light + 0.02)
    mean = cv2.blur(log, (9, 9))
    return np.asarray(np.sqrt(np.maximum(cv2.blur(log * log, (9, 9)) - mean * mean, 0.0)), dtype=np.float32)


def _warped(light: NDArray[np.float32], move: NDArray[np.float64]) -> NDArray[np.float32]:
    moved = cv2.warpAffine(light, move, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, dtype=np.float32)
