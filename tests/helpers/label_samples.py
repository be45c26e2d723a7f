"""Frames before and after a pick, made by hand: textured parcels on a textured belt, noisy depth and colour."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from edge_adapt.labels.pick_label import SeenPick
from robin_grasp.picks.outcome import PickResult
from robin_grasp.picks.pick_check import PickJudgement
from robin_perception.core.frame import Frame
from robin_perception.core.scene import CLASSES, Instance, Scene

WIDTH, HEIGHT, BELT_M = 240, 180, 1.0


@dataclass(frozen=True)
class Block:
    """Pixels x, y, width, height; how high it is, m; its colour; what it is printed with."""

    x: int
    y: int
    width: int
    height: int
    high_m: float
    colour: tuple[int, int, int]
    print_seed: int = 1

    @property
    def mask(self) -> np.ndarray:
        mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
        mask[self.y : self.y + self.height, self.x : self.x + self.width] = True
        return mask

    def shifted(self, x: int) -> Block:
        return replace(self, x=self.x + x)


def texture(seed: int, shape: tuple[int, int], strength: float) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(*shape, 1)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)[..., None]
    return np.asarray(strength * smooth / smooth.std())


def picture(blocks: list[Block], seed: int, light: float = 1.0, shadow: np.ndarray | None = None) -> Frame:
    """The later block lies on the earlier ones. light: exposure. shadow: bool [H, W], at half the light."""
    rng = np.random.default_rng(seed)
    rgb = np.array((70.0, 90.0, 80.0)) + texture(99, (HEIGHT, WIDTH), 6.0)
    depth = np.full((HEIGHT, WIDTH), BELT_M, dtype=np.float32)
    for block in blocks:
        look = np.array(block.colour, dtype=np.float64) + texture(block.print_seed, (block.height, block.width), 8.0)
        rgb[block.mask] = look.reshape(-1, 3)
        depth[block.mask] -= block.high_m
    if shadow is not None:
        rgb[shadow] *= 0.5
    rgb = np.clip(light * rgb + rng.normal(0, 1.5, rgb.shape), 0, 255).astype(np.uint8)
    depth += rng.normal(0, 0.002, depth.shape).astype(np.float32)
    K = np.array([[220.0, 0, WIDTH / 2], [0, 220.0, HEIGHT / 2], [0, 0, 1]])
    pose = np.diag([1.0, -1.0, -1.0, 1.0])
    pose[2, 3] = BELT_M
    return Frame(rgb, depth, K, pose, stamp_s=float(seed))


def scene(masks: list[np.ndarray], stamp_s: float = 0.0) -> Scene:
    """Ids 1.. in order, the later mask on top."""
    labels = np.zeros((HEIGHT, WIDTH), dtype=np.uint16)
    for number, mask in enumerate(masks, start=1):
        labels[mask] = number
    instances = tuple(_instance(labels, number) for number in range(1, len(masks) + 1) if (labels == number).any())
    return Scene(stamp_s, "hand", labels, instances, np.zeros((HEIGHT // 4, WIDTH // 4), np.float32))


def _instance(labels: np.ndarray, number: int) -> Instance:
    ys, xs = np.nonzero(labels == number)
    box = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
    classes = np.full(len(CLASSES), 1 / len(CLASSES), np.float32)
    return Instance(number, box, len(xs), classes, 0.9, 0.9, 1.0, 1.0, np.zeros(4, np.float32))


def judgement(
    result: PickResult = PickResult.CLEAN, probability: float = 0.98, gone: tuple[int, ...] = ()
) -> PickJudgement:
    return PickJudgement(result, probability, (), 1.0, gone)


def picked(before: Frame, seen: Scene, after: Frame | None, target: int = 1) -> SeenPick:
    return SeenPick(target, seen, before, after, judgement())


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())
