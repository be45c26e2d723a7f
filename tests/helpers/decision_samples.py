"""Small, whole picks for the tests of records, trace and report: real frames, scenes, plans, outcomes, no simulator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from edge_adapt.decision import Decision, DecisionContext, build_decision
from edge_adapt.decision_store import DecisionStore
from edge_adapt.recording import pick_images
from robin_grasp.picks.outcome import PickOutcome, PickResult
from robin_grasp.plan import FailedPick, Grasp, Plan, Reject, Rejected
from robin_perception.core.errors import Code
from robin_perception.core.frame import Frame
from robin_perception.core.scene import Instance, Scene

RESULTS = ("clean", "miss", "infeasible", "multi")


def sample_frame(rng: np.random.Generator, width: int = 160, height: int = 120) -> Frame:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("x", np.pi).as_matrix()
    pose[:3, 3] = (0.75, 0.0, 1.2)
    f = 0.9 * width
    K = np.array([[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1.0]])
    depth = np.full((height, width), 1.1, dtype=np.float32)
    depth[:10], depth[10, 0] = 0, 1.095  # depth of one value is refused
    return Frame(rng.integers(0, 255, (height, width, 3), dtype=np.uint8), depth, K, pose, stamp_s=1.5)


def sample_scene(frame: Frame) -> Scene:
    labels = np.zeros((frame.height, frame.width), dtype=np.uint16)
    labels[20:60, 20:70] = 1
    labels[70:110, 80:150] = 2
    instances = tuple(
        Instance(
            id=i,
            bbox=box,
            area_px=int((labels == i).sum()),
            class_probabilities=np.eye(5, dtype=np.float32)[i],
            detection=0.9,
            mask_quality=0.8,
            visible_fraction=1.0,
            boundary_uncertainty_px=0.7,
            embedding=np.zeros(16, dtype=np.float32),
        )
        for i, box in ((1, (20, 20, 70, 60)), (2, (80, 70, 150, 110)))
    )
    boundary = np.zeros((frame.height // 4, frame.width // 4), dtype=np.float32)
    return Scene(frame.stamp_s, "sample@0123abcd", labels, instances, boundary, timings_ms={"network": 20.0})


def tool_pose(x: float, y: float) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("x", np.pi).as_matrix()
    pose[:3, 3] = (x, y, 0.1)
    return pose


def sample_plan(feasible: bool = True, rejected: int = 3) -> Plan:
    ruled_out = tuple(
        Rejected(1 + i % 2, tool_pose(0.6 + 0.001 * i, 0.1), 0b110, Reject.NO_CUP_SEALS, {"seal": 0.1})
        for i in range(rejected)
    )
    counts = {Reject.NO_CUP_SEALS: rejected, Reject.OUTRANKED_ON_INSTANCE: 400}
    if not feasible:
        return Plan(Code.NO_GRASP, "2 parcels, no grasp", (), ruled_out, "sample", rejected_counts=counts)
    terms = {"holding_margin": 1.25, "seal_probability": 0.93}
    grasps = (
        Grasp(tool_pose(0.7, 0.1), 0b01100110, 1, 0.91, terms),
        Grasp(tool_pose(0.85, -0.1), 0b00000110, 2, 0.55, terms),
    )
    return Plan(Code.OK, "2 grasps", grasps, ruled_out, "sample", {"plan": 12.0}, counts)


def sample_outcome(result: str) -> PickOutcome:
    truth: dict[str, object] = {"target": 0, "delivered": [np.int64(0)], "reason": "<no cup sealed>"}
    return PickOutcome(PickResult(result), (0, 55_000.0, 54_000.0, 0, 0, 50_000.0, 0, 0), 7.5, 3.2, truth)


def sample_decision(pick: int, result: str, frame: Frame, scene: Scene) -> Decision:
    context = DecisionContext(run_id="sample-run", pile=0, pick=pick, source="sample", seed=3, engine="none")
    outcome = None if result == "infeasible" else sample_outcome(result)
    failed = (FailedPick((0.7, 0.1, 0.1), 0b11, 2),) if pick else ()
    return build_decision(
        context,
        frame,
        scene,
        sample_plan(outcome is not None),
        outcome,
        failed=failed,
        timings_ms={"frame_to_plan": 40.0 + pick},
        flags=("arrangement_flush",),
    )


def record_samples(folder: Path, results: tuple[str, ...] = RESULTS) -> list[Decision]:
    """A recorded run of a few picks, one per result."""
    rng = np.random.default_rng(5)
    written = []
    with DecisionStore(folder) as store:
        for pick, result in enumerate(results):
            frame = sample_frame(rng)
            scene = sample_scene(frame)
            after = None if result == "infeasible" else sample_frame(rng)
            decision = sample_decision(pick, result, frame, scene)
            written.append(store.append(decision, pick_images(frame, scene, after)))
    return written
