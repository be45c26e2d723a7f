"""What the tests of bags share: frames, messages and bags that need neither simulator nor network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from edge_adapt.bag.mcap_file import StorageConfig
from edge_adapt.bag.messages import BagTopics
from edge_adapt.bag.writer import BagWriter
from robin_grasp.tool import MotionConfig
from robin_perception.bags.frames import EncodedFrame, FrameTopics, ImageCoding, encode_frame
from robin_perception.core.frame import Frame

SECOND = 10**9
TOPICS = BagTopics()


def camera_frame(rng: np.random.Generator, stamp_s: float = 1.0, width: int = 64, height: int = 48) -> Frame:
    """Noise with a pose that no float holds exactly."""
    depth = rng.uniform(0.5, 1.5, (height, width)).astype(np.float32)
    depth[rng.random((height, width)) < 0.1] = 0
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", [3.0, 0.1, 0.2]).as_matrix()
    pose[:3, 3] = 0.7, 0.1, 1.3
    K = np.array([[80.0, 0.0, width / 2], [0.0, 80.1, height / 2], [0.0, 0.0, 1.0]])
    rgb = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Frame(rgb, depth, K, pose, stamp_s)


def encoded(frame: Frame, jpeg_quality: int = 0) -> EncodedFrame:
    return encode_frame(frame, FrameTopics(), ImageCoding(jpeg_quality=jpeg_quality))


def add_topics(writer: BagWriter) -> None:
    for topic, (kind, qos) in TOPICS.types().items():
        writer.add_topic(topic, kind, qos)


def write_frame(writer: BagWriter, sample: EncodedFrame, ns: int) -> None:
    for topic, (_, values) in sample.messages.items():
        writer.write(topic, values, ns)


def frames_bag(folder: Path, count: int, storage: StorageConfig | None = None, jpeg_quality: int = 0) -> list[Frame]:
    """A bag of ``count`` frames a second apart; returns what a reader must get."""
    rng = np.random.default_rng(7)
    kept = []
    with BagWriter(folder, storage or StorageConfig(chunk_bytes=20_000)) as writer:
        add_topics(writer)
        for index in range(count):
            sample = encoded(camera_frame(rng, 1.0 + index), jpeg_quality)
            if index == 0:
                writer.write(TOPICS.frames.tf_static, sample.pose, SECOND)
            write_frame(writer, sample, (1 + index) * SECOND)
            kept.append(sample.frame)
    return kept


def grasp_plan(rng: np.random.Generator) -> dict[str, Any]:
    """A GraspPlan with something in every field."""

    def pose() -> dict[str, Any]:
        x, y, z, qx, qy, qz, qw = rng.normal(size=7).tolist()
        return {"position": {"x": x, "y": y, "z": z}, "orientation": {"x": qx, "y": qy, "z": qz, "w": qw}}

    def terms(count: int) -> dict[str, Any]:
        return {"term_indices": rng.permutation(4)[:count].astype(np.uint16), "term_values": rng.normal(size=count)}

    def grasp(i: int) -> dict[str, Any]:
        seals = np.array([0.5, np.nan, 0.75, 1.0], dtype=np.float32)
        return {"instance_id": i, "pose": pose(), "cups": 13, "cup_seal": seals, "score": 0.1 * i, **terms(i)}

    return {
        "header": {"stamp": {"sec": 3, "nanosec": 141592653}, "frame_id": "base_link"},
        "plan_id": "p-ä-1",
        "requested": True,
        "model_id": "base-12345678",
        "planner": "geometric",
        "basis_digest": "d" * 64,
        "threshold_names": ["least_clean"],
        "thresholds": np.array([0.76]),
        "code": 0,
        "text": "two grasps",
        "flags": ["one", ""],
        "term_names": ["push_m", "tool_tilt_rad", "", "ä"],
        "cup_centres": [{"x": x, "y": y, "z": 0.0} for x in (-0.04, 0.04) for y in (-0.03, 0.03)],
        "motion": {**MotionConfig().model_dump(), "transfer_axis_xy": np.array([0.6, -0.8])},
        "grasps": [grasp(i) for i in (1, 2)],
        "rejected": [{"instance_id": 3, "pose": pose(), "cups": 0, "code": 5, "name": "N", **terms(3)}],
        "rejected_codes": np.array([5, 12], dtype=np.uint16),
        "rejected_counts": np.array([3, 70_000], dtype=np.uint32),
        "failed": [{"position": {"x": 0.1, "y": 0.2, "z": 0.3}, "cups": 255, "times": 2}],
        "excluded_instances": np.array([4, 9, 300], dtype=np.uint16),
        "holding": {"picks": 7, "digest": "ab"},
        "hold_terms": [],
        "tool": {"picks": 0, "digest": ""},
        "timings": [{"stage": "plan", "ms": 1.5}],
    }
