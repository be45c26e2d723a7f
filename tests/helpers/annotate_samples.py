"""A run of one picture with two masks that are one too few: what an annotator puts right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge_adapt.decision import Decision, DecisionContext, build_decision
from edge_adapt.decision_store import DecisionStore
from edge_adapt.record_parts import CupRecord
from edge_adapt.recording import pick_images
from helpers.decision_samples import sample_plan
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Instance, Scene

WIDTH, HEIGHT = 320, 240
HIGH, LOW, APART = (
    (slice(60, 160), slice(60, 150)),
    (slice(80, 140), slice(150, 230)),
    (slice(180, 220), slice(250, 300)),
)
"""Two boxes that touch, and one that nobody saw."""


def frame_of_boxes() -> Frame:
    depth = np.full((HEIGHT, WIDTH), 1.0, np.float32)
    rgb = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    for where, height_m, colour in ((HIGH, 0.2, 180), (LOW, 0.1, 150), (APART, 0.1, 200)):
        depth[where] = 1.0 - height_m
        rgb[where] = (colour, colour - 40, 60)
    K = np.array([[300.0, 0, (WIDTH - 1) / 2], [0, 300.0, (HEIGHT - 1) / 2], [0, 0, 1]])
    pose = np.array([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 1.0], [0, 0, 0, 1]])
    return Frame(rgb, depth, K, pose, stamp_s=10.0)


def scene_of_boxes(frame: Frame) -> Scene:
    """The two that touch as one."""
    labels = np.zeros(frame.depth.shape, np.uint16)
    labels[HIGH], labels[LOW] = 1, 1
    votes = np.array([0.9, 0.03, 0.03, 0.02, 0.02], np.float32)
    merged = Instance(
        1, (60, 60, 230, 160), int((labels == 1).sum()), votes, 0.8, 0.7, 0.6, 1.0, np.zeros(16, np.float32)
    )
    return Scene(10.0, "tiny@00000000", labels, (merged,), np.zeros((60, 80), np.float32))


def record_boxes(folder: Path, count: int = 1, cups: Sequence[CupRecord] = ()) -> list[Decision]:
    """``count`` picks, all of the same picture. cups: what was believed of them."""
    frame, written = frame_of_boxes(), []
    scene = scene_of_boxes(frame)
    with DecisionStore(folder) as store:
        for pick in range(count):
            context = DecisionContext(run_id="boxes", pile=0, pick=pick)
            decision = build_decision(context, frame, scene, sample_plan(feasible=False), None, cup_health=cups)
            written.append(store.append(decision, pick_images(frame, scene, None)))
    return written
