"""Toy scenes for the training tests: flat boxes of one colour each on a flat belt, seen from straight above."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

HEIGHT, WIDTH = 384, 512
CAMERA_HEIGHT_M = 1.2
FOCAL_PX = 380.0
KINDS = ("carton", "flat_mailer", "padded_mailer", "poly_bag", "tube")


def write_toy_scene(
    folder: Path, rng: np.random.Generator, boxes: int = 10, scale: float = 1.0, kinds: tuple[str, ...] = KINDS
) -> None:
    """One image folder in the dataset's layout, ``scale`` times 512x384."""
    height, width = round(HEIGHT * scale), round(WIDTH * scale)
    rgb = np.full((height, width, 3), 90, dtype=np.uint8)
    depth = np.full((height, width), CAMERA_HEIGHT_M, dtype=np.float32)
    labels = np.zeros((height, width), dtype=np.uint16)
    drawn = []
    for index in range(boxes):
        centre = (float(rng.uniform(0.15, 0.85) * width), float(rng.uniform(0.15, 0.85) * height))
        size = (float(rng.uniform(45, 110) * scale), float(rng.uniform(45, 90) * scale))
        corners = cv2.boxPoints((centre, size, float(rng.uniform(0, 180)))).astype(np.int32)
        mask = cv2.fillPoly(np.zeros((height, width), np.uint8), [corners], 1) > 0
        rgb[mask] = rng.integers(40, 250, 3)
        depth[mask] = CAMERA_HEIGHT_M - 0.04 - 0.02 * index
        labels[mask] = index + 1
        drawn.append(int(mask.sum()))
    visible = [np.count_nonzero(labels == i + 1) / drawn[i] for i in range(boxes)]
    for index, share in enumerate(visible):
        if share < 0.1:
            labels[labels == index + 1] = 65535
    rgb = np.clip(rgb.astype(np.int16) + rng.integers(-8, 9, rgb.shape), 0, 255).astype(np.uint8)
    folder.mkdir(parents=True)
    cv2.imwrite(str(folder / "color.png"), cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))
    cv2.imwrite(str(folder / "depth.png"), np.rint(depth * 1000).astype(np.uint16))
    cv2.imwrite(str(folder / "labels.png"), labels)
    pose = [[1.0, 0, 0, 0.75], [0, -1.0, 0, 0], [0, 0, -1.0, CAMERA_HEIGHT_M], [0, 0, 0, 1]]
    camera = {"fx": FOCAL_PX * scale, "fy": FOCAL_PX * scale, "cx": (width - 1) / 2, "cy": (height - 1) / 2}
    camera |= {"width": width, "height": height, "depth_scale": 0.001, "T_base_camera": pose}
    (folder / "camera.json").write_text(json.dumps(camera))
    instances = [
        {
            "id": i + 1,
            "kind": kinds[i % len(kinds)],
            "variant": "a",
            "visible_fraction": round(visible[i], 3),
            "strata": [],
        }
        for i in range(boxes)
    ]
    scene = {"seed": 0, "arrangement": "toy", "strata": [], "instances": instances}
    (folder / "scene.json").write_text(json.dumps(scene))


def write_toy_dataset(
    dataset: Path,
    scenes: int,
    seed: int = 0,
    boxes: int = 10,
    scale: float = 1.0,
    kinds: tuple[str, ...] = KINDS,
) -> Path:
    for index in range(scenes):
        write_toy_scene(dataset / f"{index:06d}", np.random.default_rng([seed, index]), boxes, scale, kinds)
    return dataset
