"""What the pipeline decides, as the values of ``robin_msgs`` messages: the same fields that the nodes publish."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from edge_adapt.bag.rosbag2 import Qos
from edge_adapt.decision import Decision
from edge_adapt.record_parts import LearnedRecord
from robin_grasp.holding import HOLD_FIELDS, HoldTerms
from robin_grasp.learned import NOT_LEARNED, LearnedState
from robin_grasp.picks.plan_server import IssuedPlan
from robin_grasp.plan import FailedPick, Grasp, Rejected
from robin_grasp.planner.term_table import TermTable, named_terms
from robin_grasp.tool import CellConfig
from robin_perception.bags.cdr import Message
from robin_perception.bags.frames import (
    BASE_FRAME,
    OPTICAL_FRAME,
    FrameTopics,
    header,
    header_ns,
    image_message,
    nanoseconds,
    stamp_ns,
)
from robin_perception.core.condition import Condition, Family, PickingEffect
from robin_perception.core.config import StrictConfig
from robin_perception.core.errors import Code, RobinError
from robin_perception.core.pose import pose_matrix
from robin_perception.core.scene import Instance, Scene, version_text

SCENE_TYPE = "robin_msgs/msg/SegmentedScene"
PLAN_TYPE = "robin_msgs/msg/GraspPlan"
OUTCOME_TYPE = "robin_msgs/msg/PickOutcome"
DECISION_TYPE = "robin_msgs/msg/Decision"
HELP_TYPE = "robin_msgs/msg/HelpRequest"
TEXT_TYPE = "std_msgs/msg/String"
SENSOR_QOS = Qos("best_effort", "volatile", 5)
LATCHED_QOS = Qos("reliable", "transient_local", 1)


class BagTopics(StrictConfig):
    """Names of a cell's topics in a bag. pipeline: latched JSON of what made the plans (``PipelineRecord``)."""

    frames: FrameTopics = FrameTopics()
    scene: str = "/scene"
    plan: str = "/plan"
    outcome: str = "/outcome"
    decision: str = "/decision"
    help: str = "/help"
    pipeline: str = "/pipeline"

    @classmethod
    def in_namespace(cls, namespace: str) -> BagTopics:
        """All names under ``/namespace`` but tf_static, which is the same for all."""
        prefix = f"/{namespace.strip('/')}" if namespace.strip("/") else ""
        plain = cls()
        frames = {name: f"{prefix}{value}" for name, value in plain.frames if name != "tf_static"}
        names = {name: f"{prefix}{value}" for name, value in plain if name != "frames"}
        return cls(frames=FrameTopics(**frames), **names)

    def reads(self, *topics: str) -> dict[str, tuple[str, ...]]:
        """``topics`` -> types of message that each may hold."""
        kinds = {topic: (kind,) for topic, (kind, _) in self.types().items()} | self.frames.all
        return {topic: kinds[topic] for topic in topics}

    def types(self) -> dict[str, tuple[str, Qos]]:
        """topic -> (message type, offered QoS)."""
        frames = self.frames
        return {
            frames.color: ("sensor_msgs/msg/Image", SENSOR_QOS),
            frames.color_compressed: ("sensor_msgs/msg/CompressedImage", SENSOR_QOS),
            frames.depth: ("sensor_msgs/msg/Image", SENSOR_QOS),
            frames.info: ("sensor_msgs/msg/CameraInfo", SENSOR_QOS),
            frames.tf_static: ("tf2_msgs/msg/TFMessage", LATCHED_QOS),
            self.scene: (SCENE_TYPE, SENSOR_QOS),
            self.plan: (PLAN_TYPE, Qos()),
            self.outcome: (OUTCOME_TYPE, Qos()),
            self.decision: (DECISION_TYPE, Qos()),
            self.help: (HELP_TYPE, LATCHED_QOS),
            self.pipeline: (TEXT_TYPE, LATCHED_QOS),
        }


def scene_message(scene: Scene, ns: int) -> Message:
    """robin_msgs/SegmentedScene without the boundary image."""
    head = header(ns, OPTICAL_FRAME)
    return {
        "header": head,
        "model_id": scene.model_id,
        "model_version": version_text(scene.model_version),
        "engine": scene.engine,
        "class_names": list(scene.class_names),
        "instances": [_instance(instance, scene) for instance in scene.instances],
        "label_image": image_message(scene.labels, "16UC1", head),
        "flags": list(scene.flags),
        "conditions": [_condition(condition) for condition in scene.conditions],
        "timings": _timings(scene.timings_ms),
        "segment_ms": scene.timings_ms.get("segment", 0.0),
    }


def plan_message(issued: IssuedPlan, cell: CellConfig) -> Message:
    """robin_msgs/GraspPlan: the plan, all that the planner was given beside frame and scene, and what the cell of that
    tool does with a grasp."""
    plan, table = issued.plan, TermTable()
    grasps = [_grasp(grasp, table) for grasp in plan.grasps]
    rejected = [_rejected(candidate, table) for candidate in plan.rejected]
    counts = sorted(plan.rejected_counts.items())
    return {
        "header": header(stamp_ns(issued.frame), BASE_FRAME),
        "plan_id": issued.plan_id,
        "requested": issued.requested,
        "model_id": issued.scene.model_id,
        "planner": plan.planner,
        "basis_digest": plan.basis.digest,
        "threshold_names": list(plan.basis.thresholds),
        "thresholds": np.array(list(plan.basis.thresholds.values()), dtype=np.float64),
        "code": int(plan.code),
        "text": plan.message,
        "flags": list(issued.flags),
        "term_names": table.names,
        "cup_centres": [{"x": x, "y": y, "z": z} for x, y, z in cell.tool.cups_m.tolist()],
        "motion": {**cell.motion.model_dump(), "transfer_axis_xy": np.array(cell.motion.transfer_axis_xy)},
        "grasps": grasps,
        "rejected": rejected,
        "rejected_codes": np.array([reason for reason, _ in counts], dtype=np.uint16),
        "rejected_counts": np.array([count for _, count in counts], dtype=np.uint32),
        "failed": [_failed(failed) for failed in issued.failed],
        "excluded_instances": np.array(issued.excluded, dtype=np.uint16),
        "holding": _learned(NOT_LEARNED if plan.holding is None else plan.holding.state),
        "hold_terms": [] if plan.holding is None else _hold_terms(plan.holding, issued.scene),
        "tool": _learned(plan.basis.tool),
        "timings": _timings(plan.timings_ms),
    }


def with_named_terms(plan: Mapping[str, Any]) -> Message:
    """A recorded GraspPlan whose candidates hold ``terms``, name -> value, in place of indices and values.

    Raises RobinError BAG_INVALID where they do not fit the plan's names, or it has none.
    """

    def named(candidate: Mapping[str, Any]) -> Message:
        terms = named_terms(plan["term_names"], candidate["term_indices"], candidate["term_values"])
        return {**{k: v for k, v in candidate.items() if k not in ("term_indices", "term_values")}, "terms": terms}

    try:
        candidates = {kind: [named(candidate) for candidate in plan[kind]] for kind in ("grasps", "rejected")}
    except (KeyError, ValueError) as exc:
        text = f"no field {exc}: was it recorded by another version?" if isinstance(exc, KeyError) else str(exc)
        raise RobinError(Code.BAG_INVALID, f"plan '{plan.get('plan_id', '')}': {text}") from None
    return {**{k: v for k, v in plan.items() if k != "term_names"}, **candidates}


def failed_picks(plan: Mapping[str, Any]) -> tuple[FailedPick, ...]:
    """The failures that a recorded GraspPlan was made with."""
    return tuple(
        FailedPick((f["position"]["x"], f["position"]["y"], f["position"]["z"]), int(f["cups"]), int(f["times"]))
        for f in plan["failed"]
    )


def recorded_grasp(plan: Mapping[str, Any], index: int = 0) -> Grasp | None:
    """A grasp of a recorded GraspPlan ``with_named_terms``, None where it has none of that index. Raises RobinError
    POSE_INVALID."""
    if index >= len(plan["grasps"]):
        return None
    found = plan["grasps"][index]
    pose = pose_of_values(found["pose"])
    seals = tuple(float(seal) for seal in found.get("cup_seal", ()))
    return Grasp(pose, int(found["cups"]), int(found["instance_id"]), float(found["score"]), found["terms"], seals)


def decision_message(decision: Decision, plan_id: str, ns: int) -> Message:
    """robin_msgs/Decision."""
    chosen = decision.chosen
    return {
        "header": header(ns, BASE_FRAME),
        "decision_id": decision.decision_id,
        "plan_id": plan_id,
        "model_id": decision.model_id,
        "model_version": version_text(decision.versions.see),
        "holding": _learned_record(decision.versions.hold),
        "tool": _learned_record(decision.versions.tool),
        "planner": decision.planner,
        "code": decision.code,
        "text": decision.message,
        "result": decision.result,
        "instance_id": 0 if chosen is None else chosen.instance,
        "cups": 0 if chosen is None else sum(1 << cup for cup in chosen.cups),
        "score": 0.0 if chosen is None or chosen.score is None else chosen.score,
        "record_json": decision.model_dump_json(),
    }


def _instance(instance: Instance, scene: Scene) -> Message:
    x0, y0, x1, y1 = instance.bbox
    class_id = int(np.argmax(instance.class_probabilities))
    return {
        "id": instance.id,
        "roi": {"x_offset": x0, "y_offset": y0, "height": y1 - y0, "width": x1 - x0},
        "area_px": int(instance.area_px),
        "class_id": class_id,
        "class_name": scene.class_name(instance),
        "class_probabilities": np.asarray(instance.class_probabilities, dtype=np.float32),
        "class_score": float(instance.class_probabilities[class_id]),
        "detection_score": instance.detection,
        "mask_quality": instance.mask_quality,
        "visible_fraction": instance.visible_fraction,
        "boundary_uncertainty_px": instance.boundary_uncertainty_px,
        "embedding": np.asarray(instance.embedding, dtype=np.float32),
        "novelty": instance.novelty,
        "film_depth": np.array(instance.film_depth, dtype=np.float32),
    }


def _condition(condition: Condition) -> Message:
    return {
        "code": int(condition.code),
        "name": condition.name,
        "family": condition.family.value,
        "value": condition.value,
        "limit": condition.limit,
        "unit": condition.unit,
        "since": header(nanoseconds(condition.since_s), "")["stamp"],
        "action": condition.effect.value,
        "instances": np.array(condition.instances, dtype=np.uint16),
        "text": condition.text,
    }


def recorded_conditions(scene: Mapping[str, Any]) -> tuple[Condition, ...]:
    """What held with a recorded scene; nothing in a bag from before conditions were told."""
    return tuple(
        Condition(
            Code(told["code"]),
            told["name"],
            Family(told["family"]),
            told["value"],
            told["limit"],
            told["unit"],
            header_ns({"header": {"stamp": told["since"]}}) / 1e9,
            PickingEffect(told["action"]),
            told["text"],
            tuple(int(i) for i in told["instances"]),
        )
        for told in scene.get("conditions", ())
    )


def _grasp(grasp: Grasp, table: TermTable) -> Message:
    return {
        "instance_id": grasp.instance_id,
        "pose": pose_values(grasp.T_base_tool),
        "cups": grasp.cups,
        "cup_seal": np.array(grasp.cup_seal, dtype=np.float32),
        "score": grasp.score,
        **_terms(grasp.terms, table),
    }


def _rejected(rejected: Rejected, table: TermTable) -> Message:
    return {
        "instance_id": rejected.instance_id,
        "pose": pose_values(rejected.T_base_tool),
        "cups": rejected.cups,
        "code": int(rejected.reason),
        "name": rejected.reason.name,
        **_terms(rejected.terms, table),
    }


def _learned(state: LearnedState) -> Message:
    return {"picks": state.picks, "digest": state.digest}


def _learned_record(learned: LearnedRecord | None) -> Message:
    return _learned(NOT_LEARNED) if learned is None else learned.model_dump()


def _hold_terms(holding: HoldTerms, scene: Scene) -> list[Message]:
    return [
        {"instance_id": one.id, **{name: getattr(holding, name)[row] for name in HOLD_FIELDS}}
        for row, one in enumerate(scene.instances)
    ]


def _failed(failed: FailedPick) -> Message:
    x, y, z = failed.position_m
    return {"position": {"x": x, "y": y, "z": z}, "cups": failed.cups, "times": failed.times}


def grasp_as_recorded(grasp: Grasp) -> Grasp:
    """What a reader of the bag gets for ``grasp``."""
    seals = tuple(float(np.float32(seal)) for seal in grasp.cup_seal)
    return replace(grasp, T_base_tool=pose_of_values(pose_values(grasp.T_base_tool)), cup_seal=seals)


def pose_of_values(values: Mapping[str, Any]) -> NDArray[np.float64]:
    """float64 [4, 4] of a geometry_msgs/Pose. Raises RobinError POSE_INVALID."""
    position, turned = values["position"], values["orientation"]
    return pose_matrix([position[axis] for axis in "xyz"], [turned[axis] for axis in "xyzw"])


def pose_values(pose: NDArray[np.float64]) -> Message:
    """geometry_msgs/Pose of float64 [4, 4]."""
    x, y, z = (float(v) for v in pose[:3, 3])
    qx, qy, qz, qw = (float(v) for v in Rotation.from_matrix(pose[:3, :3]).as_quat())
    return {"position": {"x": x, "y": y, "z": z}, "orientation": {"x": qx, "y": qy, "z": qz, "w": qw}}


def _terms(terms: Mapping[str, float], table: TermTable) -> Message:
    indices, values = table.split(terms)
    return {"term_indices": np.asarray(indices), "term_values": np.asarray(values)}


def _timings(timings_ms: Mapping[str, float]) -> list[Message]:
    items: Iterable[tuple[str, float]] = timings_ms.items()
    return [{"stage": stage, "ms": float(ms)} for stage, ms in items]
