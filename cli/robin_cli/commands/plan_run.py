"""One image through segmenter and planner, and the answer as plain values."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from robin_grasp.plan import Grasp, Plan, Rejected
from robin_grasp.planner.registry import make_planner
from robin_grasp.tool import CellConfig, WorkspaceConfig, mask_to_cups
from robin_perception.core.config import load_config
from robin_perception.core.frame import Frame
from robin_perception.core.gate import GateConfig
from robin_perception.core.helper_thread import HelperThread
from robin_perception.core.image_folder import load_camera, load_frame_files
from robin_perception.core.scene import Instance, Scene
from robin_perception.core.support_check import SupportSeen
from robin_perception.segmentation.segmenter import SegmenterConfig, load_segmenter

REACH_LIMIT_M = 3.0
_HIGHEST_M = 1.0
_BORDER_M = 0.02


@dataclass(frozen=True)
class PlanRun:
    """pose_source: "camera_file" or "support_plane". engine_why: how the engine was chosen, in one line. planner_flags:
    what the planner says of itself. milliseconds: frame in memory to ranked plan."""

    frame: Frame
    scene: Scene
    plan: Plan
    cell: CellConfig
    pose_source: str
    engine: str
    engine_why: str
    planner_flags: tuple[str, ...]
    milliseconds: float

    def to_json(self) -> dict[str, Any]:
        """The content of plan.json. Lengths in metres, poses in base_link, cups as indices 0..7."""
        workspace = self.cell.workspace
        return {
            "code": int(self.plan.code),
            "reason": self.plan.code.name,
            "message": self.plan.message,
            "model": self.scene.model_id,
            "engine": self.engine,
            "engine_why": self.engine_why,
            "planner": self.plan.planner,
            "instances": [_instance(instance, self.scene) for instance in self.scene.instances],
            "grasps": [{"rank": rank, **_grasp(grasp)} for rank, grasp in enumerate(self.plan.grasps)],
            "rejected": [_rejected(rejected) for rejected in self.plan.rejected],
            "rejected_counts": {reason.name: count for reason, count in self.plan.rejected_counts.items()},
            "flags": [*self.scene.flags, *self.planner_flags],
            "frame": {
                "width": self.frame.width,
                "height": self.frame.height,
                "camera_id": self.frame.camera_id,
                "pose_source": self.pose_source,
                "depth_removed_px": dict(self.frame.gate.depth_removed),
                "warnings": [str(warning) for warning in self.frame.gate.warnings],
                "T_base_camera": self.frame.T_base_camera,
            },
            "support": _support(self.scene.support),
            "workspace": workspace.model_dump(mode="json"),
            "timings_ms": {**self.scene.timings_ms, **self.plan.timings_ms, "frame_to_plan": self.milliseconds},
        }


def run_plan(
    paths: tuple[Path, Path, Path],
    camera_id: str,
    cell_file: Path | None,
    gate_file: Path | None,
    planner: str,
    model: Path,
    engine: str,
) -> PlanRun:
    """paths: colour, depth, camera file. Raises RobinError for whatever is wrong with the files, bundle or names."""
    cell = load_config(CellConfig, cell_file)
    pose_given = load_camera(paths[2]).T_base_camera is not None
    frame = load_frame_files(*paths, camera_id=camera_id, gate=load_config(GateConfig, gate_file))
    if not pose_given:
        cell = cell.model_copy(update={"workspace": workspace_of(frame)})
    helper = HelperThread()
    chosen = make_planner(planner, cell, helper=helper)
    segmenter = load_segmenter(model, engine, SegmenterConfig(belt_z_m=cell.workspace.belt_z_m), helper=helper)
    started = time.perf_counter()
    scene = segmenter.segment(frame)
    plan = chosen.plan(frame, scene)
    elapsed = (time.perf_counter() - started) * 1e3
    source = "camera_file" if pose_given else "support_plane"
    flags = tuple(getattr(chosen, "flags", ()))
    name, why = segmenter.engine.name, segmenter.engine.selection.line()
    return PlanRun(frame, scene, plan, cell, source, name, why, flags, elapsed)


def workspace_of(frame: Frame) -> WorkspaceConfig:
    """The part of the support plane (z = 0) that ``frame`` shows something on or above: no walls, no reach limits.

    The bounding box of the valid depth points up to 1 m above the plane, without the outermost 1 % on each side (flying
    pixels), so that a table's far edge or a wall behind it does not widen it.
    """
    v, u = np.nonzero(frame.depth)
    z = frame.depth[v, u].astype(np.float64)
    rays = np.stack([(u - frame.K[0, 2]) / frame.K[0, 0], (v - frame.K[1, 2]) / frame.K[1, 1], np.ones_like(z)], axis=1)
    points = (rays * z[:, None]) @ frame.T_base_camera[:3, :3].T + frame.T_base_camera[:3, 3]
    low_m = -_BORDER_M
    kept = points[(points[:, 2] > low_m) & (points[:, 2] < _HIGHEST_M), :2]
    low, high = np.percentile(kept if len(kept) else points[:, :2], (1, 99), axis=0)
    centre, size = (low + high) / 2, (high - low) + 2 * _BORDER_M
    return WorkspaceConfig(
        centre_m=(float(centre[0]), float(centre[1])),
        size_m=(float(size[0]), float(size[1])),
        reach_min_m=0.0,
        reach_max_m=REACH_LIMIT_M,
    )


def _support(seen: SupportSeen | None) -> dict[str, Any] | None:
    """Where the surface under the parcels lies against z = belt_z_m; None where it was not seen."""
    if seen is None:
        return None
    return {"height_m": round(seen.height_m, 4), "tilt_rad": seen.tilt_rad and round(seen.tilt_rad, 4)}


def _instance(instance: Instance, scene: Scene) -> dict[str, Any]:
    probabilities = [round(float(p), 4) for p in instance.class_probabilities]
    return {
        "id": instance.id,
        "class": scene.class_name(instance),
        "class_probabilities": dict(zip(scene.class_names, probabilities, strict=True)),
        "detection": round(instance.detection, 4),
        "mask_quality": round(instance.mask_quality, 4),
        "visible_fraction": round(instance.visible_fraction, 4),
        "boundary_uncertainty_px": round(instance.boundary_uncertainty_px, 3),
        "bbox": list(instance.bbox),
        "area_px": instance.area_px,
    }


def _grasp(grasp: Grasp) -> dict[str, Any]:
    return {**_pose(grasp), "score": float(grasp.score), "terms": {k: float(v) for k, v in grasp.terms.items()}}


def _rejected(rejected: Rejected) -> dict[str, Any]:
    return {
        **_pose(rejected),
        "reason": rejected.reason.name,
        "reason_code": int(rejected.reason),
        "terms": {k: float(v) for k, v in rejected.terms.items()},
    }


def _pose(candidate: Grasp | Rejected) -> dict[str, Any]:
    quaternion = Rotation.from_matrix(candidate.T_base_tool[:3, :3]).as_quat()
    return {
        "instance": candidate.instance_id,
        "position_m": [round(float(value), 5) for value in candidate.T_base_tool[:3, 3]],
        "quaternion_xyzw": [round(float(value), 6) for value in quaternion],
        "cups": list(mask_to_cups(candidate.cups)),
    }
